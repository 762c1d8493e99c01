"""Which controller serves a repository: the pointer to its socket, and a note of a second controller that was refused.

A pushers' account may be able to write these files. They are only hints: hooks trust nobody but the repository's owner at the socket.
"""

from __future__ import annotations

import os
import socket
from pathlib import Path
from time import monotonic
from typing import Final

from piehole import files
from piehole.deadline import Deadline
from piehole.errors import PieholeError
from piehole.fastpath import controller_socket, hook_messages, processes

_SECOND: Final = "piehole/controller.second"
_LOCK: Final = "piehole/controller.lock"
_PATIENCE: Final = 1.0  # seconds for another controller that takes the repository at this moment


class ServedElsewhere(PieholeError):
    """Another controller that lives serves this repository."""


class ControllerPointer:
    """Points the hooks of repositories to the socket of this controller, each only while no other controller serves it.

    :param socket: the path of the hooks' socket
    :param name: what this controller serves, for people
    """

    def __init__(self, socket: Path, name: str) -> None:
        self._socket = str(socket)
        self._name = name

    def is_set(self, git_dir: Path) -> bool:
        """Whether the hooks of this repository find this controller; false also where that cannot be read."""
        return controller_socket.controller_socket(str(git_dir)) == self._socket

    def check(self, git_dir: Path) -> None:
        """
        :raises ServedElsewhere: another controller serves this repository, or nobody can tell that none does
        """
        other = controller_socket.controller_socket(str(git_dir))
        if not other or other == self._socket:
            return
        why = _serves(other, git_dir)
        if why:
            raise ServedElsewhere(
                f"another controller ({other}) {why}, so this one does not. Stop one of the two, or give each its own --root; "
                "when the other one ends, this one takes over."
            )

    def set(self, git_dir: Path) -> None:
        """
        :raises ServedElsewhere: another controller serves this repository
        :raises OSError: the pointer cannot be written
        """
        with files.locked(git_dir / _LOCK, 0o600, Deadline(_PATIENCE)) as obtained:
            if not obtained:
                raise ServedElsewhere("another controller takes this repository at this very moment.")
            self.check(git_dir)
            if not self.is_set(git_dir):
                pointer = git_dir / controller_socket.POINTER
                files.replace_file(pointer, f"{self._socket}\n", 0o644, suffix=f".{os.getpid()}.tmp")
        self.forget_refusal(git_dir)

    def clear(self, git_dir: Path) -> None:
        """Remove the pointer, where it is this controller's: another one may have taken the repository over meanwhile."""
        if self.is_set(git_dir):
            (git_dir / controller_socket.POINTER).unlink(missing_ok=True)

    def note_refusal(self, git_dir: Path) -> None:
        """Leave a note for administrators: this controller would serve the repository, too."""
        note = f"{processes.identity(os.getpid())} {self._name}\n"
        if _read(git_dir / _SECOND) != note:
            files.replace_file(git_dir / _SECOND, note, 0o644, suffix=f".{os.getpid()}.tmp")

    def forget_refusal(self, git_dir: Path) -> None:
        if _read(git_dir / _SECOND).startswith(f"{processes.identity(os.getpid())} "):
            (git_dir / _SECOND).unlink(missing_ok=True)


Stamp = tuple[int, int, int]


def stamp(git_dir: Path) -> Stamp | None:
    """What tells the repository that is at this path now from any other one that takes its place; None where it has no pointer.

    A pointer is written once. A new repository has none, a copy of this one has another file. (The number of a folder would not do: file
    systems give that of a removed folder to the next one.)
    """
    try:
        found = (git_dir / controller_socket.POINTER).lstat()
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_ctime_ns


def second_controller(git_dir: Path) -> str:
    """What another controller is called that lives and was refused here, ``""`` where there is none."""
    process, _, name = _read(git_dir / _SECOND).strip().partition(" ")
    if not process or processes.lives(process) is False:
        return ""
    return f"process {process.split('.')[2]}, --root {name}" if process.count(".") == 3 else ""


def _read(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:  # there is none, or it is not for this account
        return ""


def _serves(other: str, git_dir: Path) -> str:
    """In which sense the controller at this socket serves the repository; ``""`` where it certainly does not."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(controller_socket.HERE_TIMEOUT)
        try:
            connection.connect(other)
        except (FileNotFoundError, NotADirectoryError, ConnectionRefusedError):
            return "runs, and its socket is gone for the moment" if _holds_lock(other) else ""
        except PermissionError:  # another account's
            return ""
        except OSError as error:
            if error.errno is None:  # no path of a socket
                return ""
            return f"may serve this repository ({error.strerror})"
        except ValueError:
            return ""
        _, uid = controller_socket.caller(connection)
        if uid != os.geteuid():
            return ""
        try:
            connection.sendall(controller_socket.pack(hook_messages.pack_status_question(str(git_dir))))
            reader = controller_socket.Reader(connection)
            until = monotonic() + controller_socket.HERE_TIMEOUT
            hook_messages.parse_here(reader.message(until))
            served = hook_messages.is_served(reader.message(until))
        except (OSError, ValueError, LookupError):
            return "runs and does not say whether it serves this repository"
    return "serves this repository" if served else ""


def _holds_lock(other: str) -> bool:
    """Whether the process that made this socket lives: it holds a lock beside it (controller.hook_server)."""
    try:
        descriptor = os.open(Path(other).with_suffix(".lock"), os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return False
    try:
        return not files.try_lock(descriptor)
    finally:
        os.close(descriptor)
