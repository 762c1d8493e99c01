"""What a step of setup is made of: each part finds out what this machine lacks, shows what it would do about it, and does it."""

from __future__ import annotations

import pwd
import shlex
import socket
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Protocol

from piehole.commands.setup.machine import CannotDo, CannotSee, Machine
from piehole.errors import PieholeError

_POLL: Final = 0.5  # seconds
_CONNECTING: Final = 2.0


class Part(Protocol):
    """One thing that is so on this machine, or is made so."""

    def lacking(self, machine: Machine) -> str:
        """What is missing, in a sentence without its full stop; ``""`` where nothing is.

        :raises CannotSee: this account cannot find out
        """

    def shown(self) -> str:
        """What ``do`` does: the file that it writes, or the command that it runs."""

    def do(self, machine: Machine) -> None:
        """
        :raises CannotDo: an administrator has to do it
        :raises PieholeError: it failed
        """


@dataclass(frozen=True, slots=True)
class SetupStep:
    """What belongs together, and why it is done."""

    name: str
    why: str
    parts: tuple[Part, ...]


@dataclass(frozen=True, slots=True)
class ProgramsAreThere:
    """Programs are installed, by Debian's packages of these names."""

    packages: tuple[tuple[str, str], ...]  # program, package

    def lacking(self, machine: Machine) -> str:
        names = [program for program, _ in self.packages if machine.program(program) is None]
        return f"there is no program {', '.join(names)}" if names else ""

    def shown(self) -> str:
        return f"apt-get install the missing ones of {' '.join(dict.fromkeys(package for _, package in self.packages))}"

    def do(self, machine: Machine) -> None:
        lacking = dict.fromkeys(package for program, package in self.packages if machine.program(program) is None)
        if machine.program("apt-get") is None:
            raise CannotDo(f"install these programs (the names are those of Debian's packages): {' '.join(lacking)}")
        quiet = {"DEBIAN_FRONTEND": "noninteractive"}
        install = ["apt-get", "install", "-y", "--no-install-recommends", *lacking]
        if machine.run(install, env=quiet, check=False).returncode:
            machine.run(["apt-get", "update"], env=quiet)
            machine.run(install, env=quiet)


@dataclass(frozen=True, slots=True)
class CommandDone:
    """A command has been run, as can be seen from what it does."""

    what: str
    argv: tuple[str, ...]
    is_done: Callable[[Machine], bool]
    user: str = ""

    def lacking(self, machine: Machine) -> str:
        return "" if self.is_done(machine) else self.what

    def shown(self) -> str:
        return shown_command(self.argv, self.user)

    def do(self, machine: Machine) -> None:
        machine.run(self.argv, user=self.user)


@dataclass(frozen=True, slots=True)
class GitSettingIs:
    """A variable of git's configuration, of the system or of an account, has this value."""

    name: str
    value: str
    user: str = ""  # whose; "": the system's
    among: bool = False  # beside other values

    def lacking(self, machine: Machine) -> str:
        if self.user and not _has_account(self.user):
            return f"{self.name} is not set, as there is no account {self.user}"
        found = machine.run(
            ["git", "config", self._scope, "--get-all", self.name], user=self.user, check=False
        ).stdout.splitlines()
        if self.value in found and (self.among or len(found) == 1):
            return ""
        return (
            f"{self.name} is {' and '.join(found)}, not {self.value}"
            if found and not self.among
            else f"{self.name} lacks {self.value}"
        )

    def shown(self) -> str:
        return shown_command(self._command, self.user)

    def do(self, machine: Machine) -> None:
        machine.run(self._command, user=self.user)

    @property
    def _scope(self) -> str:
        return "--global" if self.user else "--system"

    @property
    def _command(self) -> tuple[str, ...]:
        how = ("--add",) if self.among else ("--replace-all",)
        return "git", "config", self._scope, *how, self.name, self.value


@dataclass(frozen=True, slots=True)
class ServiceRuns:
    """A service of systemd is enabled, runs, and was started after its files were written.

    :ivar probe: where it answers: HOST:PORT, or a file that names a Unix socket; asked where there is no systemd
    :ivar verb: what makes it read its files again
    :ivar blocks: whether its start ends soon, also without other servers
    :ivar test: a command that finds faults in its configuration before it reads that
    """

    unit: str
    probe: str
    by_hand: str
    verb: str = "restart"
    blocks: bool = True
    test: tuple[str, ...] = ()

    def lacking(self, machine: Machine) -> str:
        if not machine.has_systemd:
            return "" if answers(self.probe) else f"{self.unit} does not run"
        state = machine.run(["systemctl", "is-active", self.unit], check=False)
        if state.returncode and "activating" not in state.stdout + state.stderr:
            return f"{self.unit} does not run"
        if machine.to_restart(self.unit):
            return f"{self.unit} has not read its new files"
        enabled = machine.run(["systemctl", "is-enabled", self.unit], check=False).returncode == 0
        return "" if enabled else f"{self.unit} would not be started when this server starts"

    def shown(self) -> str:
        return f"systemctl daemon-reload; systemctl enable {self.unit}; systemctl {self.verb} {self.unit}"

    def do(self, machine: Machine) -> None:
        if not machine.has_systemd:
            raise CannotDo(f"no systemd runs this machine, so start {self.unit} by your own means: {self.by_hand}")
        if self.test:
            tried = machine.run(self.test, check=False)
            if tried.returncode or "conflicting" in tried.stderr:
                raise CannotDo(
                    f"{self.unit} was left as it runs, because `{' '.join(self.test)}` says: {tried.stderr.strip()[-1000:]}. "
                    "Correct that, then run `piehole setup` again"
                )
        machine.run(["systemctl", "daemon-reload"])
        machine.run(["systemctl", "enable", self.unit])
        machine.run(["systemctl", self.verb, *([] if self.blocks else ["--no-block"]), self.unit])
        machine.remember_restart(self.unit, done=True)


@dataclass(frozen=True, slots=True)
class WaitUntil:
    """Something that other servers do, or that takes its time, is so.

    :ivar what: it, as the end of "waiting until …"
    :ivar why_not: ``""`` where it is so; else a sentence
    :ivar hints: what may be in the way, looked for when waiting was in vain
    """

    what: str
    why_not: Callable[[Machine], str]
    patience: float
    hints: Callable[[], Sequence[str]] = field(default=lambda: ())

    def lacking(self, machine: Machine) -> str:
        return self.why_not(machine)

    def shown(self) -> str:
        return f"wait until {self.what} ({self.patience:.0f} s at most)"

    def do(self, machine: Machine) -> None:
        until = time.monotonic() + self.patience
        while said := self.why_not(machine):
            if time.monotonic() >= until:
                raise PieholeError(
                    ". ".join([f"waited {self.patience:.0f} s in vain until {self.what}: {said}", *self.hints()])
                )
            time.sleep(_POLL)


def shown_command(argv: Sequence[str], user: str = "") -> str:
    return shlex.join(argv) + (f" (as {user})" if user else "")


def answers(probe: str) -> bool:
    """Whether somebody accepts connections at HOST:PORT, or at the Unix socket whose path a file holds."""
    try:
        if probe.startswith("/"):
            with socket.socket(socket.AF_UNIX) as one:
                one.settimeout(_CONNECTING)
                one.connect(Path(probe).read_text().strip())
        else:
            host, _, port = probe.rpartition(":")
            socket.create_connection((host.strip("[]"), int(port)), _CONNECTING).close()
    except PermissionError as error:
        raise CannotSee(f"{probe} cannot be asked by this account") from error
    except OSError:
        return False
    return True


def _has_account(name: str) -> bool:
    try:
        pwd.getpwnam(name)
    except KeyError:
        return False
    return True
