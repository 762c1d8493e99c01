"""The parts of setup that write files."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from pathlib import Path

from piehole.commands.setup.machine import CannotDo, Machine


@dataclass(frozen=True, slots=True)
class FileIs:
    """A file holds exactly this.

    :ivar packaged: a package's own file, which does the same where it has the same content
    :ivar restarts: the services that read it when they start
    :ivar secret: its content is not for the terminal
    """

    path: Path
    content: bytes
    mode: int = 0o644
    owner: str = "root:root"
    restarts: tuple[str, ...] = ()
    packaged: Path | None = None
    secret: bool = False

    def lacking(self, machine: Machine) -> str:
        found = machine.read(self.path)
        if found is None:
            same = self.packaged is not None and machine.read(self.packaged) == self.content
            return "" if same else f"{self.path} does not exist"
        if found != self.content:
            return f"{self.path} has another content"
        return "" if machine.is_as(self.path, self.mode, self.owner) else f"{self.path} has another owner or mode"

    def is_kept(self, machine: Machine) -> bool:
        """Whether an administrator has changed the file, so that it is not replaced unasked."""
        found = machine.read(self.path)
        return found is not None and found != self.content and not machine.is_ours(self.path, found)

    def difference(self, machine: Machine) -> list[str]:
        """From what is there to what setup would write."""
        if self.secret:
            return [f"{self.path}: its content is not shown"]
        old, new = (
            (text or b"").decode(errors="replace").splitlines() for text in (machine.read(self.path), self.content)
        )
        return list(difflib.unified_diff(old, new, str(self.path), f"{self.path} (piehole setup)", lineterm=""))

    def shown(self) -> str:
        return f"write it ({self.owner}, {self.mode:04o})"

    def do(self, machine: Machine) -> None:
        for unit in self.restarts:
            machine.remember_restart(unit, done=False)
        machine.write(self.path, self.content, self.mode, self.owner)


@dataclass(frozen=True, slots=True)
class FileThere:
    """A file is there, whatever it holds, and only its account can read it; ``by_hand``: where it comes from."""

    path: Path
    mode: int
    owner: str
    by_hand: str

    def lacking(self, machine: Machine) -> str:
        if not self.path.exists():
            return f"{self.path} does not exist"
        return "" if machine.is_as(self.path, self.mode, self.owner) else f"{self.path} has another owner or mode"

    def shown(self) -> str:
        return f"chown {self.owner} {self.path}; chmod {self.mode:04o} {self.path}"

    def do(self, machine: Machine) -> None:
        if not self.path.exists():
            raise CannotDo(f"{self.path} is needed: {self.by_hand}")
        machine.run(["chown", self.owner, str(self.path)])
        machine.run(["chmod", f"{self.mode:04o}", str(self.path)])


@dataclass(frozen=True, slots=True)
class BlockIs:
    """A file of an account has these lines between two marks; what others wrote around them stays."""

    path: Path
    lines: tuple[str, ...]
    mode: int
    owner: str
    name: str

    def lacking(self, machine: Machine) -> str:
        found = (machine.read(self.path) or b"").decode(errors="replace")
        if self._block not in found if self.lines else self._marks[0] in found:
            return f"{self.path} lacks {self.name}"
        return ""

    def shown(self) -> str:
        return f"write {len(self.lines)} lines between two marks, and leave the others"

    def do(self, machine: Machine) -> None:
        found = (machine.read(self.path) or b"").decode(errors="replace")
        begin, end = self._marks
        before, _, rest = found.partition(begin)
        after = rest.partition(end)[2].lstrip("\n")
        if before and not before.endswith("\n"):
            before += "\n"
        machine.write(self.path, (before + (self._block if self.lines else "") + after).encode(), self.mode, self.owner)

    @property
    def _marks(self) -> tuple[str, str]:
        return f"# piehole setup begins: {self.name}\n", f"# piehole setup ends: {self.name}\n"

    @property
    def _block(self) -> str:
        begin, end = self._marks
        return begin + "".join(f"{line}\n" for line in self.lines) + end


def unit_file(name: str, text: str, *, restarts: str) -> FileIs:
    """A unit of systemd. A package's own unit is enough where it is the same."""
    return FileIs(
        Path("/etc/systemd/system") / name,
        text.encode(),
        restarts=(restarts,),
        packaged=Path("/usr/lib/systemd/system") / name,
    )
