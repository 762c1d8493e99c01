"""Did etcd go back? Did this disk? Is this the group that the repository joined? Decided from two notes that must agree.

A site's progress record carries a random id that is written to disk *before* it is written to etcd. So the id that etcd holds is
one that the disk knows, unless one of the two was restored from a backup or another machine uses the same site's name. (The cluster's
id does not tell: a snapshot restored with the same token keeps it. Neither does the revision alone: it may have been overtaken.)
"""

from __future__ import annotations

import json
import os
import uuid
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from piehole.config import Config
from piehole.errors import Halted, PieholeError
from piehole.judge import WENT_BACK, WRONG_GROUP
from piehole.readout import Readout
from piehole.records import GroupRecord, Progress, RecordError, SiteRecord

_FILE: Final = "piehole/state.json"
_PENDING: Final = 20  # records sent without an answer that are remembered; more would mean minutes of failing writes


@dataclass(frozen=True, slots=True)
class Note:
    """A progress record as this disk knows it."""

    revision: int
    id: str


@dataclass(frozen=True, slots=True)
class DiskState:
    """``published`` is known to be in etcd; each of ``pending`` may be there, or may yet come (written here before it was sent)."""

    published: Note | None = None
    pending: tuple[Note, ...] = ()

    @property
    def notes(self) -> tuple[Note, ...]:
        return (*self.pending, *((self.published,) if self.published else ()))

    @property
    def ids(self) -> set[str]:
        return {note.id for note in self.notes}

    @property
    def revision(self) -> int:
        """The newest revision that this disk has known etcd to have."""
        return max((note.revision for note in self.notes), default=0)

    def announcing(self, revision: int) -> DiskState:
        """The state to write to disk before a new progress record is sent."""
        return DiskState(self.published, (*self.pending[-_PENDING:], Note(revision, str(uuid.uuid4()))))

    def seen(self, name: str) -> DiskState:
        """The state once the record of this id was found in etcd: whatever else was sent before it, this one is remembered."""
        note = next((note for note in self.pending if note.id == name), None)
        return self if note is None else DiskState(note, tuple(one for one in self.pending if one != note))

    def confirmed(self) -> DiskState:
        """The newest pending record is in etcd; it was sent under a compare that no earlier one can pass any more."""
        return DiskState(self.pending[-1], ())


def load(git_dir: Path) -> DiskState:
    """What this disk knows; an empty state where there is none yet.

    :raises PieholeError: the file is damaged
    """
    path = git_dir / _FILE
    try:
        value = json.loads(path.read_bytes())
        published = value["published"]
        return DiskState(_note(published) if published else None, tuple(_note(one) for one in value["pending"]))
    except FileNotFoundError:
        return DiskState()
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise PieholeError(
            f"{path} cannot be read ({error}). Compare with the other sites, then run `piehole accept` here to write it anew."
        ) from error


def _note(value: dict[str, object]) -> Note:
    revision, name = value["revision"], value["id"]
    if not isinstance(revision, int) or not isinstance(name, str):
        raise TypeError(f"{value!r} is no note of a progress record")
    return Note(revision, name)


def witness(revision: int) -> DiskState:
    """The state of a disk that knows more than any progress record tells: etcd was seen at this revision."""
    return DiskState(Note(revision, str(uuid.uuid4())))


def stamp(git_dir: Path) -> int:
    """A number that is another one after each :func:`save`; 0 where nothing was saved yet."""
    try:
        return (git_dir / _FILE).stat().st_mtime_ns
    except OSError:
        return 0


def save(git_dir: Path, state: DiskState) -> None:
    """Write the state so that it survives a power failure from the moment this returns.

    :raises OSError: the disk is full or cannot be written
    """
    path = git_dir / _FILE
    path.parent.mkdir(exist_ok=True)
    pending = [asdict(note) for note in state.pending]
    text = json.dumps({"published": asdict(state.published) if state.published else None, "pending": pending})
    scratch = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    with scratch.open("w") as file:
        # Whoever may enter the folder may read it: where no controller answers, the hooks of all pushers do.
        os.fchmod(file.fileno(), 0o600 | path.parent.stat().st_mode & 0o044)
        file.write(text + "\n")
        file.flush()
        os.fsync(file.fileno())
    scratch.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def check_group(config: Config, raw: bytes | None) -> Halted | None:
    """Whether the group's record is the one of the group that this repository joined."""
    if raw is None:
        return Halted(
            WRONG_GROUP,
            f"etcd has no record of the group {config.group!r}: it was emptied, is another etcd, or `piehole.prefix` is wrong. "
            "Nothing moves. If this etcd is right, `piehole clobber` at the site that is right restores the record.",
        )
    try:
        record = GroupRecord.parse(raw)
    except RecordError as error:
        return Halted(WRONG_GROUP, f"the record of the group {config.group!r} cannot be used: {error}")
    if record.id != config.group_id:
        return Halted(
            WRONG_GROUP,
            f"the group {config.group!r} in etcd is another one (id {record.id}) than this repository joined (id {config.group_id or 'none'}). "
            "Check `piehole.etcd` and `piehole.prefix`; if the group was founded anew, run `piehole install` here again.",
        )
    return None


def check_site(config: Config, raw: bytes | None) -> Halted | None:
    """Whether the site's record is this repository's. A record that vanished is no fault: the site registers itself again."""
    if raw is None:
        return None
    try:
        record = SiteRecord.parse(raw)
    except RecordError as error:
        return Halted(WRONG_GROUP, f"the record of the site {config.site!r} cannot be used: {error}")
    if record.id != config.site_id:
        return Halted(
            WRONG_GROUP,
            f"another machine has the name of the site {config.site!r} now (its URL is {record.url}). "
            "Install this repository under another name, or take the name back with `piehole install --replace`.",
        )
    if record.left:
        return Halted(
            WRONG_GROUP,
            f"the site {config.site!r} was made to leave the group {config.group!r}. To come back, run `piehole install` again.",
        )
    return None


def check_progress(config: Config, disk: DiskState, found: bytes | None, revision: int) -> Halted | None:
    """Whether etcd and this disk remember the same past.

    :param found: the site's own progress record in etcd
    :param revision: etcd's revision when that was read
    """
    advice = (
        "Nothing moves and pushes are refused until a person decides: "
        "`piehole accept` takes etcd as it is, `piehole clobber` makes this repository's refs the group's."
    )
    back = Halted(
        WENT_BACK,
        f"etcd went back: it was restored from a backup that is older than this site ({config.site!r}) remembers. {advice}",
    )
    if found is None and disk.published is None:
        return None  # nothing that was sent is known to have arrived
    if found is None or revision < disk.revision:
        return back
    try:
        progress = Progress.parse(found)
    except RecordError as error:
        return Halted(WENT_BACK, f"this site's progress record cannot be used: {error} {advice}")
    if progress.id in disk.ids:
        return None
    if progress.revision < disk.revision:
        return back
    return Halted(
        WENT_BACK,
        f"etcd holds a progress record of the site {config.site!r} that this disk has not written: the disk was restored from a backup, "
        f"or another machine uses the same site's name. {advice}",
    )


def check(config: Config, disk: DiskState, readout: Readout) -> Halted | None:
    """All of it, from one linearizable read. A site that knows nothing of the past yet (not installed to its end) is no fault."""
    return (
        check_group(config, readout.group.value if readout.group else None)
        or check_site(config, readout.site.value if readout.site else None)
        or check_progress(config, disk, readout.progress.value if readout.progress else None, readout.revision)
    )
