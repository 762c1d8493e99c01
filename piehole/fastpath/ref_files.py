"""Refs as the files of a repository hold them, loose or packed: read in a hook, where a git process costs too much.

A repository with reftable has no such files. Imports nothing heavy: it is on the hooks' path.
"""

from __future__ import annotations

import os

from piehole.fastpath import paths

TYPE_CHECKING = False  # importing typing costs a hook 4 ms; type checkers take this name as true
if TYPE_CHECKING:
    from io import BufferedReader

_LONGEST = 4096  # bytes of a loose ref that are read; an oid or the name of another ref is shorter
_BLOCK = 4096  # bytes of the packed refs that are read line by line


class NewNames:
    """Names of refs that one push creates, which must be able to stand beside each other (directory/file)."""

    def __init__(self) -> None:
        self._names: set[str] = set()
        self._folders: dict[str, str] = {}

    def add(self, ref: str) -> str:
        """Add a name and return ``""``; or return a name that was added before and excludes it."""
        above = _above(ref)
        rival = self._folders.get(ref) or next((name for name in above if name in self._names), "")
        if not rival:
            self._names.add(ref)
            self._folders |= dict.fromkeys(above, ref)
        return rival


def _above(ref: str) -> list[str]:
    """The names that must not be refs for this one to exist, the longest first."""
    found = []
    while ref.count("/") > 1:
        ref = ref.rpartition("/")[0]
        found.append(ref)
    return found


def value(git_dir: str, ref: str) -> str:
    """The content of a ref: an oid, or ``ref: NAME`` where it is symbolic. ``""`` where there is no such ref.

    :raises OSError: it cannot be read
    """
    try:
        descriptor = os.open(f"{git_dir}/{ref}", os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except (FileNotFoundError, NotADirectoryError):
        return _packed_value(git_dir, ref)
    try:
        found = os.read(descriptor, _LONGEST).decode("utf-8", "surrogateescape").strip()
    except IsADirectoryError:
        return _packed_value(git_dir, ref)
    finally:
        os.close(descriptor)
    return found or "an empty file"


def blocker(git_dir: str, ref: str) -> str:
    """A ref beside which ``ref`` cannot be created, since one name cannot be both a ref and a folder of refs; ``""``: there is none.

    :raises OSError: the packed refs cannot be read
    """
    for above in _above(ref):
        # `refs/heads` and the like are folders in every repository.
        if above.count("/") > 1 and value(git_dir, above):
            return above
    for path, is_folder in paths.below(f"{git_dir}/{ref}"):
        if not is_folder and not path.endswith(".lock"):
            return path[len(git_dir) + 1 :]
    name, _ = _first_packed(git_dir, f"{ref}/")
    return name if name.startswith(f"{ref}/") else ""


def any_below(git_dir: str, folder: str) -> bool:
    """Whether there may be a ref whose name begins with ``folder``, which ends with ``/``.

    :raises OSError: the packed refs cannot be read
    """
    return os.path.isdir(f"{git_dir}/{folder}") or _first_packed(git_dir, folder)[0].startswith(folder)


def reflog_obstacle(git_dir: str, ref: str) -> str:
    """The path for which git could not write this ref's reflog; ``""``: there is none."""
    log = path = f"{git_dir}/logs/{ref}"
    while not os.path.lexists(path):
        path = os.path.dirname(path)
    free = os.path.isdir(path)
    if path == log:
        # Git removes a folder that is in a reflog's way where it holds nothing but folders.
        free = all(folder for _, folder in paths.below(log))
    return "" if free and os.access(path, os.W_OK) else path


def _packed_value(git_dir: str, ref: str) -> str:
    name, oid = _first_packed(git_dir, ref)
    return oid if name == ref else ""


def _first_packed(git_dir: str, wanted: str) -> tuple[str, str]:
    """Name and oid of the first packed ref whose name is not before ``wanted``; twice ``""`` where there is none."""
    name = wanted.encode("utf-8", "surrogateescape")
    try:
        file = open(f"{git_dir}/packed-refs", "rb")  # noqa: SIM115 -- closed below
    except FileNotFoundError:
        return "", ""
    with file:
        sorted_by_name = b" sorted" in file.readline()
        file.seek(_start(file, name) if sorted_by_name else 0)
        records = (line.rstrip(b"\n").split(b" ", 1) for line in file if line[:1] not in (b"#", b"^"))
        after = ((pair[1], pair[0]) for pair in records if len(pair) == 2 and pair[1] >= name)
        first = next(after, None) if sorted_by_name else min(after, default=None)
    return ("", "") if first is None else (first[0].decode("utf-8", "surrogateescape"), first[1].decode())


def _start(file: BufferedReader, name: bytes) -> int:
    """A place in the sorted file before the first record that is not before ``name``, and soon before it."""
    low, high = 0, os.fstat(file.fileno()).st_size
    while high - low > _BLOCK:
        middle = (low + high) // 2
        file.seek(middle - 1)
        file.readline()  # the rest of a line that begins before the middle
        line = file.readline()
        while line[:1] in (b"#", b"^"):
            line = file.readline()
        if line and line.rstrip(b"\n").partition(b" ")[2] < name:
            low = file.tell()
        else:
            high = middle
    return low
