"""The in-flight record: what ``update`` announced for one receive-pack, and what its swap may compare.

One file per receive-pack below ``<git dir>/piehole/inflight/``, named after that very process (:func:`piehole.fastpath.processes.identity`)
and created exclusively. It ends with its receive-pack, never with ``aborted``: deleting a loose ref calls ``aborted 0 0 ref``
before ``prepared``. A record is lines that are only ever appended; of several lines for a ref the last one counts::

    piehole 1 PUSH-ID
    helper PID REQUESTS ANSWERS     one of the first lines: who answers this push's hooks (hooks/helper.py), by which descriptors
    want REF OLD NEW SNAPSHOT       the mod_revisions that a proposal of this ref compares
    free REF OLD NEW -              not managed: git may move it, the consensus has no say
    waited MILLISECONDS             how much of the push's patience etcd has used up
    settled REF                     the swap of this ref is in etcd
    silent                          the controller did not answer: this push asks it no more

Imports nothing heavy: it is on the hooks' path.
"""

from __future__ import annotations

import os
from errno import EFBIG, EIO, ENOSPC
from stat import S_ISREG
from time import monotonic, time

from piehole.fastpath import processes
from piehole.fastpath.failpoints import Step, reached

TYPE_CHECKING = False  # importing typing costs a hook 4 ms; type checkers take this name as true
if TYPE_CHECKING:
    from collections.abc import Iterator

FOLDER = "piehole/inflight"
# Beside it, in the same form: which refs a `git update-ref` of piehole's own locks, named after that process.
MOVING = "piehole/moving"
_DIGITS = 9  # of a number of milliseconds; more is none of ours
LARGEST = 64 << 20  # bytes of a record; it has some 200 for each ref
# An answer that comes within this time (seconds) costs a push nothing of its patience, however many refs it has: where etcd's members
# are far apart, each ref's swap takes some tenths of a second.
_PROMPT = 0.75
# Seconds without a new line, after which a record of another pid namespace no longer holds its refs.
_SILENT = 60.0


class Announcement:
    """One ref that ``update`` let pass; ``snapshot`` is opaque to the hook (``-`` where the ref is not managed)."""

    __slots__ = ("managed", "new", "old", "ref", "settled", "snapshot")

    def __init__(self, ref: str, old: str, new: str, snapshot: str, *, managed: bool) -> None:
        self.ref = ref
        self.old = old
        self.new = new
        self.snapshot = snapshot
        self.managed = managed
        self.settled = False


class Record:
    """The in-flight record of one receive-pack, as a process that may write it sees it.

    :raises OSError: from any method that says nothing else, when the record cannot be read or written
    """

    def __init__(self, git_dir: str, name: str, folder: str = FOLDER) -> None:
        self.name = name
        self.path = f"{git_dir}/{folder}/{name}"
        self.push_id = ""
        self.waited = 0.0
        self.silent = False
        self.has_helper = False
        self.announced: dict[str, Announcement] = {}
        # Refs that the consensus has to agree to, and has not yet.
        self.waiting: set[str] = set()
        self._size = 0

    def open(self) -> Record:
        """Read the record, creating it where this is the push's first hook."""
        folder = os.path.dirname(self.path)
        # A record is readable and writable for whoever may write the folder, as core.sharedRepository had it made.
        mode = os.stat(folder).st_mode & 0o666
        try:
            handle = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, mode)
        except FileExistsError:
            self.load()
            return self
        try:
            os.fchmod(handle, mode)  # past the umask
            reached(Step.RECORD_CREATED)
            self.push_id = os.urandom(16).hex()
            self._size = _write(handle, f"piehole 1 {self.push_id}\n")
        finally:
            os.close(handle)
        return self

    def load(self) -> Record:
        """Read the record.

        :raises FileNotFoundError: nothing was announced for this receive-pack
        """
        # Not blocking: whoever may write the folder could have put a pipe there.
        handle = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
        with os.fdopen(handle, "rb") as file:
            if not S_ISREG(os.fstat(handle).st_mode):
                raise OSError(EIO, "the in-flight record is no file", self.path)
            content = file.read(LARGEST + 1)
            if len(content) > LARGEST:
                raise OSError(EFBIG, "the in-flight record is too large", self.path)
            # A line without its end was cut off by a kill -9 and announces nothing.
            lines = content.decode("utf-8", "surrogateescape").split("\n")[:-1]
        for line in lines:
            word, _, rest = line.partition(" ")
            fields = rest.split(" ")
            if word in ("want", "free") and len(fields) == 4:
                ref, old, new, snapshot = fields
                self._note(Announcement(ref, old, new, snapshot, managed=word == "want"))
            elif word == "settled" and rest in self.announced:
                self._note_settled(rest)
            elif word == "silent":
                self.silent = True
            elif word == "helper":
                self.has_helper = True
            elif word == "waited" and rest.isascii() and rest.isdigit() and len(rest) <= _DIGITS:
                self.waited += int(rest) / 1000
            elif word == "piehole" and len(fields) == 2 and fields[0] == "1":
                self.push_id = fields[1]
        if not self.push_id:
            raise OSError(EIO, "the in-flight record has no first line", self.path)
        self._size = len(content)
        return self

    def refresh(self) -> Record:
        """Read the record where another process has written to it since this one did."""
        if self._size and os.stat(self.path).st_size == self._size:
            return self
        self.announced.clear()
        self.waiting.clear()
        self.waited = 0.0
        return self.load()

    def announce(self, one: Announcement) -> None:
        self._append(_line(one))
        self._note(one)

    def note_helper(self, pid: int, requests: int, answers: int) -> None:
        self._append(f"helper {pid} {requests} {answers}\n")

    def add_wait(self, seconds: float) -> None:
        """Note what the push has waited, where the disk takes it: a veto after the swap would be worse than a push with more patience."""
        self.waited += seconds
        self._append_if_possible(f"waited {int(seconds * 1000)}\n")

    def add_wait_since(self, started: float) -> None:
        """Note what the push has waited since ``started`` (monotonic seconds), where that was more than a moment."""
        seconds = monotonic() - started
        if seconds > _PROMPT:
            self.add_wait(seconds)

    def note_silence(self) -> None:
        """Note that the controller took a question of this push and fell silent; where that fails, the next hook finds out for itself."""
        self.silent = True
        self._append_if_possible("silent\n")

    def settle(self, refs: list[str]) -> None:
        self._append("".join(f"settled {ref}\n" for ref in refs))
        for ref in refs:
            self._note_settled(ref)

    def _note(self, one: Announcement) -> None:
        self.announced[one.ref] = one
        if one.managed:
            self.waiting.add(one.ref)
        else:
            self.waiting.discard(one.ref)

    def _note_settled(self, ref: str) -> None:
        self.announced[ref].settled = True
        self.waiting.discard(ref)

    def _append_if_possible(self, text: str) -> None:
        try:
            self._append(text)
        except OSError:
            pass

    def _append(self, text: str) -> None:
        handle = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW)
        try:
            self._size += _write(handle, text)
        finally:
            os.close(handle)


def note_moves(git_dir: str, name: str, announcements: list[Announcement]) -> str:
    """Write the record of a process that moves these refs with no push behind it, and return its path."""
    folder = f"{git_dir}/{MOVING}"
    os.makedirs(folder, exist_ok=True)
    path = f"{folder}/{name}"
    with open(path, "x", encoding="utf-8", errors="surrogateescape") as file:
        file.write(f"piehole 1 {os.urandom(16).hex()}\n{''.join(map(_line, announcements))}")
    return path


def _line(one: Announcement) -> str:
    return f"{'want' if one.managed else 'free'} {one.ref} {one.old} {one.new} {one.snapshot}\n"


def _write(handle: int, text: str) -> int:
    """How many bytes were written."""
    whole = text.encode("utf-8", "surrogateescape")
    if os.write(handle, whole) != len(whole):
        raise OSError(ENOSPC, "the disk is full: the in-flight record could not be written")
    return len(whole)


def records(git_dir: str, folder: str = FOLDER) -> Iterator[Record]:
    """All readable records of a repository in this folder, dead ones included."""
    try:
        names = os.listdir(f"{git_dir}/{folder}")
    except FileNotFoundError:
        return
    for name in names:
        try:
            yield Record(git_dir, name, folder).load()
        except OSError:  # it ended meanwhile, or is being written
            continue


def refs_in_flight(git_dir: str, *, cleared: bool) -> set[str]:
    """Refs that pushes are about to move themselves, under git's locks.

    :param cleared: dead processes' locks and records were removed just now, so a record that is left of one means a lock that is too
        young to be removed, and holds its refs; without that, dead processes hold nothing
    """
    return {ref for record in records(git_dir) if _holds_refs(record, cleared) for ref in record.announced}


def _holds_refs(record: Record, cleared: bool) -> bool:
    alive = processes.lives(record.name)
    if alive is not None:
        return alive or cleared
    # Nobody can tell whether a process in another pid namespace lives. Git's locks keep its refs from being moved too early, whatever
    # is answered here; so a record that is done, or has been silent for long, does not hold its refs back forever.
    try:
        silent = time() - os.stat(record.path).st_mtime
    except OSError:
        return False
    return abs(silent) < _SILENT and not all(one.settled for one in record.announced.values())
