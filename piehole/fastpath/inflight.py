"""The in-flight record: what ``update`` announced for one receive-pack, and what its swap may compare.

One file per receive-pack below ``<git dir>/piehole/inflight/``, named after that very process and its machine (:func:`file_name`) and
created exclusively. It ends with its receive-pack, never with ``aborted``: deleting a loose ref calls ``aborted 0 0 ref``
before ``prepared``. A record is lines that are only ever appended; of several lines for a ref the last one counts::

    piehole 1 PUSH-ID
    coming REF OLD NEW ...          each command of the push, before `update` was asked about it; on one line where they are few
    helper PID REQUESTS ANSWERS     one of the first lines: who answers this push's hooks (hooks/helper.py), by which descriptors
    want REF OLD NEW SNAPSHOT       the mod_revisions that a proposal of this ref compares
    free REF OLD NEW -              not managed: git may move it, the consensus has no say
    waited MILLISECONDS             how much of the push's patience etcd has used up
    settled REF                     the swap of this ref is in etcd
    silent                          the controller did not answer: this push asks it no more
    lock NAME INODE MODIFIED        a lock file that git holds, noted while it does; in nanoseconds
    ended                           receive-pack has ended: its own machine says so (hooks/helper.py)

Imports nothing heavy: it is on the hooks' path.
"""

from __future__ import annotations

import os
from errno import EFBIG, EIO, ENOSPC
from stat import S_ISREG
from time import monotonic, sleep

from piehole.fastpath import processes
from piehole.fastpath.failpoints import Step, reached

TYPE_CHECKING = False  # importing typing costs a hook 4 ms; type checkers take this name as true
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

FOLDER = "piehole/inflight"
# Beside it, in the same form: what a `git update-ref` of piehole's own is about to move, and the locks that it holds; named after that process.
MOVING = "piehole/moving"
_DIGITS = 9  # of a number of milliseconds; more is none of ours
LARGEST = 64 << 20  # bytes of a record; it has some 200 for each ref
# An answer that comes within this time (seconds) costs a push nothing of its patience, however many refs it has: where etcd's members
# are far apart, each ref's swap takes some tenths of a second.
_PROMPT = 0.75
_TRIES = 10
# Commands that are noted before the helper: the shell hooks read that far, byte by byte.
_FEW = 4


def file_name(process: str) -> str:
    """The name of the record of a process (:func:`piehole.fastpath.processes.identity`)."""
    return f"{process}.{processes.machine()}"


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
        """:param name: as :func:`file_name` makes it; earlier versions left out the machine"""
        self.name = name
        self.path = f"{git_dir}/{folder}/{name}"
        self.git_dir = git_dir
        self.push_id = ""
        self.ended = False
        # Lock files, each with its mark (:func:`piehole.fastpath.held_locks.mark`).
        self.locks: dict[str, str] = {}
        self.waited = 0.0
        self.silent = False
        self.has_helper = False
        self.announced: dict[str, Announcement] = {}
        # New values of refs that `update` was not asked about yet, or refused.
        self.coming: dict[str, str] = {}
        # Refs that the consensus has to agree to, and has not yet.
        self.waiting: set[str] = set()
        self._size = 0

    @property
    def process(self) -> str:
        """The receive-pack's name, as :func:`piehole.fastpath.processes.identity` has it."""
        return ".".join(self.name.split(".")[:4])

    @property
    def lives(self) -> bool | None:
        """Whether its process lives. None: this cannot be known from here."""
        return False if self.ended else processes.lives(self.name)

    def open(self, coming: list[tuple[str, str, str]] | None = None) -> Record:
        """Read the record, creating it where this is the push's first hook. ``coming``: the commands of the push, REF OLD NEW of each."""
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
            few = coming is not None and len(coming) <= _FEW
            self._size = _write(handle, f"piehole 1 {self.push_id}\n{_coming(coming) if coming and few else ''}")
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
            elif word == "coming" and len(fields) % 3 == 0:
                self.coming |= dict(zip(fields[::3], fields[2::3], strict=True))
            elif word == "settled" and rest in self.announced:
                self._note_settled(rest)
            elif word == "lock" and len(fields) == 3:
                self.locks[fields[0]] = f"{fields[1]} {fields[2]}"
            elif word == "silent":
                self.silent = True
            elif word == "helper":
                self.has_helper = True
            elif word == "ended":
                self.ended = True
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

    def note_coming(self, coming: list[tuple[str, str, str]]) -> None:
        """Note the commands of the push, where :meth:`open` has not since they are many."""
        if len(coming) > _FEW:
            self._append("".join(_coming([one]) for one in coming))

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

    def note_locks(self, refs: list[str], *, deletes: bool) -> None:
        """Note the locks that this push's git holds, being prepared to move these refs: if it is killed, they are known to be its own.

        Where that fails, somebody has to remove the locks of a git that is killed; the push goes on.
        """
        from piehole.fastpath import held_locks  # not above: the hook that begins a push needs it not

        lines = held_locks.lines(self.git_dir, refs, deletes=deletes)
        # A git that has ended holds nothing any more, and what was found may be anybody's.
        if lines and processes.lives(self.name):
            self._append_if_possible(lines)

    def note_end(self) -> None:
        """Note that receive-pack has ended, for those who cannot find out."""
        self.ended = True
        self._append_if_possible("ended\n")

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


def note_moves(git_dir: str, process: str, moves: Iterable[tuple[str, str, str]]) -> Record:
    """Write the record of a process that is about to lock and to move refs (REF OLD NEW of each) with no push behind it."""
    os.makedirs(f"{git_dir}/{MOVING}", exist_ok=True)
    record = Record(git_dir, file_name(process), MOVING)
    lines = "".join(_line(Announcement(ref, old, new, "-", managed=True)) for ref, old, new in moves)
    with open(record.path, "x", encoding="utf-8", errors="surrogateescape") as file:
        file.write(f"piehole 1 {os.urandom(16).hex()}\n{lines}")
    return record


def _line(one: Announcement) -> str:
    return f"{'want' if one.managed else 'free'} {one.ref} {one.old} {one.new} {one.snapshot}\n"


def _coming(commands: list[tuple[str, str, str]]) -> str:
    return f"coming {' '.join(word for command in commands for word in command)}\n"


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


def attend(path: str) -> None:
    """Have others see that the helper of this record's push lives, in whichever pid namespace: as long as this process does."""
    import fcntl

    try:
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        for _ in range(_TRIES):
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:  # somebody looks right now
                sleep(0.001)
            else:
                break
    except OSError:  # a file system without locks
        pass


def is_attended(path: str) -> bool:
    """Whether the helper of this record's push is seen to live (:func:`attend`)."""
    import fcntl

    try:
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    finally:
        os.close(handle)
    return False
