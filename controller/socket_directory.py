"""Where the socket for the hooks lies: a directory that only this account can write, with a lock for each controller."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from piehole.errors import PieholeError
from piehole.files import try_lock


def is_in_place(path: Path, made: os.stat_result) -> bool:
    """Whether this file still has its name; true also where that cannot be told."""
    try:
        found = path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        return True
    return (found.st_dev, found.st_ino) == (made.st_dev, made.st_ino)


def take_lock(path: Path, name: str) -> int:
    """A descriptor that holds the lock as long as it is open.

    :raises PieholeError: another controller holds it
    """
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        if not try_lock(descriptor):
            os.close(descriptor)
            raise PieholeError(f"another controller of this account serves {name} already.")
        if os.fstat(descriptor).st_nlink:
            return descriptor
        os.close(descriptor)  # its previous holder has just removed it


def socket_directory() -> Path:
    """A directory that only this account can write; its path is short, since a socket's has at most 107 bytes."""
    # systemd separates several by colons. A session's own directory is closed to the accounts of pushers, and goes with the session.
    runtime = os.environ.get("RUNTIME_DIRECTORY", "").partition(":")[0]
    uid = os.geteuid()
    choices = [Path(runtime) / "piehole"] if runtime and len(runtime) < 70 else []
    choices.append(Path(tempfile.gettempdir()) / f"piehole-{uid}")
    for path in choices:
        try:
            path.mkdir(mode=0o755, exist_ok=True)
            found = path.lstat()
            if found.st_uid == uid and not path.is_symlink():
                path.chmod(0o755)  # past the umask: others may connect
        except OSError:
            continue
        if found.st_uid == uid and not found.st_mode & 0o022 and path.is_dir() and not path.is_symlink():
            return path
    raise PieholeError(
        f"{choices[-1]} is not a directory that only this account can write; remove it, or set RUNTIME_DIRECTORY."
    )
