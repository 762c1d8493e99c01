"""What setup does to this machine, and its memory of that: files, commands, services."""

from __future__ import annotations

import hashlib
import json
import os
import pwd
import re
import shutil
import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from piehole.errors import PieholeError
from piehole.files import replace_file

RECORD: Final = Path("/var/lib/piehole-setup.json")
_PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_REMEMBERED: Final = 3  # contents of each file
_LONGEST: Final = 900.0  # seconds that a command may take: apt-get downloads


class CannotSee(PieholeError):
    """This account may not look at something that only another one may read."""


class CannotDo(PieholeError):
    """Setup cannot do this here; the sentence says what an administrator has to type."""


class Machine:
    """This machine. ``record`` is the file that says what setup has written here, and what it has yet to restart."""

    def __init__(self, tell: Callable[[str], None], record: Path = RECORD) -> None:
        """
        :param tell: gets each line that a command of piehole printed
        """
        self._record = record
        self._tell = tell
        self.is_root = os.geteuid() == 0

    # ---- files

    def read(self, path: Path) -> bytes | None:
        """What the file holds; None where there is none.

        :raises CannotSee: this account may not read it
        """
        try:
            return path.read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            return None
        except PermissionError as error:
            raise CannotSee(f"{path} can be read only by another account") from error

    def write(self, path: Path, content: bytes, mode: int, owner: str) -> None:
        """Replace the file by one rename. What is written is remembered first, so that it is known as ours however this ends."""
        if not path.parent.exists():
            path.parent.mkdir(mode=0o755 if owner.startswith("root:") else 0o700, parents=True)
            if self.is_root:
                shutil.chown(path.parent, *owner.split(":"))
        files = self._remembered()
        known = [one for one in files.get(str(path), []) if one != _digest(content)]
        files[str(path)] = [*known, _digest(content)][-_REMEMBERED:]
        self._remember(files=files)
        scratch = path.with_name(f".{path.name}.piehole-setup")
        scratch.unlink(missing_ok=True)
        with open(os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:  # noqa: PTH123 - not readable for a moment
            file.write(content)
            file.flush()
            if self.is_root:
                shutil.chown(scratch, *owner.split(":"))
            os.fchmod(file.fileno(), mode)
            os.fsync(file.fileno())
        scratch.replace(path)

    def is_ours(self, path: Path, content: bytes) -> bool:
        """Whether an administrator has nothing in the file: setup wrote it, or a package brought it."""
        return _digest(content) in self._remembered().get(str(path), []) or self._is_packaged(path, content)

    def _is_packaged(self, path: Path, content: bytes) -> bool:
        """Whether it is a configuration file of a Debian package, as that brought it."""
        if self.program("dpkg-query") is None:
            return False
        owner = self.run(["dpkg-query", "--search", str(path)], check=False).stdout.partition(":")[0]
        if not owner:
            return False
        files = self.run(["dpkg-query", "--show", "--showformat=${Conffiles}\n", owner], check=False).stdout
        brought = hashlib.md5(content, usedforsecurity=False).hexdigest()
        return re.search(rf"^ {re.escape(str(path))} {brought}\b", files, re.MULTILINE) is not None

    @staticmethod
    def is_as(path: Path, mode: int, owner: str) -> bool:
        """Whether the file has this mode and belongs to this account."""
        found = path.stat()
        account = owner.partition(":")[0]
        try:
            return found.st_mode & 0o7777 == mode and found.st_uid == pwd.getpwnam(account).pw_uid
        except KeyError:
            return False

    # ---- what is to be restarted yet

    def to_restart(self, unit: str) -> bool:
        """Whether a file of this service was written after the service was last started by setup."""
        return unit in self._load().get("restart", [])

    def remember_restart(self, unit: str, *, done: bool) -> None:
        """Note, on the disk, that the service is to be restarted, or that it was."""
        units = [one for one in self._load().get("restart", []) if one != unit]
        self._remember(restart=units if done else [*units, unit])

    def _remembered(self) -> dict[str, list[str]]:
        files: dict[str, list[str]] = self._load().get("files", {})
        return files

    def _load(self) -> dict[str, Any]:
        try:
            found: dict[str, Any] = json.loads(self._record.read_text())
        except FileNotFoundError:
            return {}
        except ValueError as error:
            raise PieholeError(
                f"{self._record} is damaged ({error}). Remove it: then setup asks before it replaces a file."
            ) from error
        return found

    def _remember(self, **fields: object) -> None:
        self._record.parent.mkdir(parents=True, exist_ok=True)
        replace_file(self._record, json.dumps({"format": 1} | self._load() | fields, indent=1) + "\n", 0o644)

    # ---- commands

    @staticmethod
    def program(name: str) -> str | None:
        """Where a program is; the PATH of an ordinary account lacks the folders of servers."""
        return shutil.which(name) or shutil.which(name, path=_PATH)

    def run(
        self,
        argv: Sequence[str],
        *,
        user: str = "",
        check: bool = True,
        stdin: str = "",
        env: Mapping[str, str] | None = None,
        timeout: float = _LONGEST,
    ) -> subprocess.CompletedProcess[str]:
        """Run a command, as another account where one is named.

        :raises PieholeError: it failed, and ``check`` says that it must not
        :raises CannotSee: this account cannot become that one
        """
        if user and user != "root" and pwd.getpwuid(os.geteuid()).pw_name != user:
            if not self.is_root:
                raise CannotSee(f"`{' '.join(argv)}` can be run only by the account {user}, or root")
            found = self.account(user)
            if found is None:
                raise PieholeError(f"there is no account {user} to run `{' '.join(argv)}`")
            gid = str(found.pw_gid)
            argv = ["setpriv", "--reuid", user, "--regid", gid, "--init-groups", "--reset-env", "--", *argv]
        try:
            done = subprocess.run(
                argv,
                input=stdin,
                capture_output=True,
                text=True,
                errors="replace",
                cwd="/",
                env={
                    **os.environ,
                    "PATH": f"{os.environ.get('PATH', '')}:{_PATH}".strip(":"),
                    "LC_ALL": "C.UTF-8",
                    **(env or {}),
                },
                timeout=timeout,
                check=False,
            )
        except FileNotFoundError as error:
            raise PieholeError(f"there is no program {argv[0]} on this machine, and setup needs it.") from error
        except subprocess.TimeoutExpired as error:
            raise PieholeError(f"`{' '.join(argv)}` did not end within {timeout:.0f} s.") from error
        if check and done.returncode:
            said = (done.stderr.strip() or done.stdout.strip() or "it said nothing")[-2000:]
            raise PieholeError(f"`{' '.join(argv)}` ended with status {done.returncode}: {said}")
        return done

    def tell(self, text: str) -> None:
        for line in text.splitlines():
            self._tell(f"      {line}")

    @staticmethod
    def account(name: str) -> pwd.struct_passwd | None:
        try:
            return pwd.getpwnam(name)
        except KeyError:
            return None

    def is_locked(self, account: str) -> bool:
        """Whether no ssh key is accepted for the account, either (``!`` in shadow(5)).

        :raises CannotSee: this account may not read that
        """
        if not self.is_root:
            raise CannotSee("/etc/shadow can be read only by root")
        return self.run(["getent", "shadow", account], check=False).stdout.split(":")[1:2] != ["*"]

    @property
    def has_systemd(self) -> bool:
        """Whether systemd runs this machine (sd_booted(3))."""
        return Path("/run/systemd/system").is_dir() and self.program("systemctl") is not None


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
