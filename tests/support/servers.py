"""What the servers over git have in common: not being there, and being ready."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

from tests.support.ports import PortTaken, answers, free_ports
from tests.support.process import ManagedProcess
from tests.support.wait import until

# Where Debian keeps servers; the PATH of an unprivileged account lacks them.
_SYSTEM_PATH = "/usr/local/sbin:/usr/sbin:/sbin:/usr/local/bin:/usr/bin:/bin"
_ATTEMPTS = 5


# How the reason of a skip begins where nothing that could be installed would help: it is told, and no failure even where all is required.
NOT_POSSIBLE = "not possible here: "


class Unavailable(Exception):
    """This machine lacks the server; the text says what, and fixtures skip with it."""


def find_program(name: str) -> Path:
    """The absolute path of a server program.

    :raises Unavailable: it is not installed
    """
    found = shutil.which(name) or shutil.which(name, path=_SYSTEM_PATH)
    if found is None:
        raise Unavailable(f"no {name} on this machine")
    return Path(found)


def start_on_free_port(start: Callable[[int], ManagedProcess]) -> tuple[int, ManagedProcess]:
    """Start a server on a free port and wait until it accepts connections; another port if it ends at once.

    :raises PortTaken: it ended each time; the message holds the end of its log
    """
    said = ""
    for _ in range(_ATTEMPTS):
        (port,) = free_ports(1)
        process = start(port)
        try:
            _wait_listening(process, port)
        except BaseException:
            process.end()
            raise
        if process.alive:
            return port, process
        said = process.tail()
    raise PortTaken(f"the server did not stay up in {_ATTEMPTS} attempts:\n{said}")


def _wait_listening(process: ManagedProcess, port: int) -> None:
    until(lambda: not process.alive or answers(port), what=f"{process.argv[0]} listens on {port}")
