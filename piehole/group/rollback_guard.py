"""Detects that etcd or this disk was restored from a backup, or that etcd holds another group: it compares two notes that must agree.

A site's progress record carries a random id that is written to disk *before* it is written to etcd. So the id that etcd holds is
one that the disk knows, unless one of the two was restored from a backup or another machine uses the same site's name. (The cluster's
id does not tell: a snapshot restored with the same token keeps it. Neither does the revision alone: it may have been overtaken.)
"""

from __future__ import annotations

import json
import uuid
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Final

from piehole import files
from piehole.errors import WENT_BACK, WRONG_GROUP, Halted, PieholeError
from piehole.fastpath.failpoints import Step, reached
from piehole.group.config import Config
from piehole.group.group_state import GroupState
from piehole.group.records import GroupRecord, Progress, RecordError, SiteRecord

FILE: Final = "piehole/state.json"
_ADVICE: Final = (
    "Nothing moves and pushes are refused until an administrator decides: `piehole accept` takes etcd as it is, `piehole clobber` makes this "
    "repository's refs the group's, `piehole clobber --newest` the newest that any site has."
)
_PENDING: Final = 20  # records sent without an answer that are remembered; more would mean minutes of failing writes


@dataclass(frozen=True, slots=True)
class Note:
    """A progress record as this disk knows it."""

    revision: int
    id: str


@dataclass(frozen=True, slots=True)
class DiskState:
    """What this disk knows of etcd. ``published`` is in etcd; each of ``pending`` was written here before it was sent, and may be there.

    ``pushed`` (its revision, and the id of its push record) is the newest push that this site accepted after ``published`` while no
    controller ran to publish it: a backup of etcd may hold the progress record and lack the push.
    """

    published: Note | None = None
    pending: tuple[Note, ...] = ()
    pushed: Note | None = None

    @property
    def notes(self) -> tuple[Note, ...]:
        return (*self.pending, *((self.published,) if self.published else ()))

    @property
    def ids(self) -> set[str]:
        return {note.id for note in self.notes}

    @property
    def revision(self) -> int:
        """The newest revision that this disk has known etcd to have."""
        return max((note.revision for note in (*self.notes, *((self.pushed,) if self.pushed else ()))), default=0)

    def with_pending(self, revision: int) -> DiskState:
        """The state to write to disk before a new progress record is sent."""
        return replace(self, pending=(*self.pending[-_PENDING:], Note(revision, str(uuid.uuid4()))))

    def with_found(self, name: str) -> DiskState:
        """The state after the record of this id was found in etcd. Records that were sent later stay pending."""
        note = next((note for note in self.pending if note.id == name), None)
        return self if note is None else DiskState(note, tuple(one for one in self.pending if one != note), self.pushed)

    def with_confirmed(self) -> DiskState:
        """The newest pending record is in etcd; it was sent under a compare that no earlier one can pass any more.

        What has it has every push that this disk knew when it was sent.
        """
        return DiskState(self.pending[-1], ())

    def with_push(self, push: Note) -> DiskState:
        """The state after this site accepted a push."""
        return self if self.pushed and self.pushed.revision > push.revision else replace(self, pushed=push)


def load(git_dir: Path) -> DiskState:
    """What this disk knows; an empty state where there is none yet.

    :raises PieholeError: the file is damaged
    """
    path = git_dir / FILE
    try:
        value = json.loads(path.read_bytes())
        published, pushed = value["published"], value.get("pushed")
        return DiskState(
            _note(published) if published else None,
            tuple(_note(one) for one in value["pending"]),
            _note(pushed) if pushed else None,
        )
    except FileNotFoundError:
        return DiskState()
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise PieholeError(
            f"{path} cannot be read ({error}). Compare with the other sites, then run `piehole accept` here to write it anew."
        ) from error


def published_revision(git_dir: Path) -> int:
    """The revision up to which this site has everything, as it has published; -1 where it has not, or where the file is damaged."""
    try:
        published = load(git_dir).published
    except PieholeError:
        return -1
    return published.revision if published else -1


def _note(value: dict[str, object]) -> Note:
    revision, name = value["revision"], value["id"]
    if not isinstance(revision, int) or not isinstance(name, str):
        raise TypeError(f"{value!r} is no note of a progress record")
    return Note(revision, name)


def state_at(revision: int) -> DiskState:
    """The state of a disk that knows only that etcd had reached this revision."""
    return DiskState(Note(revision, str(uuid.uuid4())))


def stamp(git_dir: Path) -> int:
    """A number that changes with each :func:`save`; 0 where nothing was saved yet."""
    try:
        return (git_dir / FILE).stat().st_mtime_ns
    except OSError:
        return 0


def save(git_dir: Path, state: DiskState) -> None:
    """Write the state so that it survives a power failure from the moment this returns. The caller holds the state's lock.

    :raises OSError: the disk is full or cannot be written
    """
    path = git_dir / FILE
    path.parent.mkdir(exist_ok=True)
    text = json.dumps({name: value for name, value in asdict(state).items() if name != "pushed" or value})
    # Whoever may enter the folder may read it: where no controller answers, the hooks of all pushers do.
    mode = 0o600 | path.parent.stat().st_mode & 0o044
    files.replace_file(path, text + "\n", mode, written=lambda: reached(Step.STATE_WRITTEN))


def check_group(config: Config, raw: bytes | None) -> Halted | None:
    """Check that the group's record belongs to the group that this repository joined."""
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
    renamed = check_renamed(config.group, record)
    if renamed is not None:
        return renamed
    if record.id != config.group_id:
        return Halted(
            WRONG_GROUP,
            f"the group {config.group!r} in etcd is another one (id {record.id}) than this repository joined (id {config.group_id or 'none'}). "
            "Check `piehole.etcd` and `piehole.prefix`; if the group was founded anew, run `piehole install` here again.",
        )
    return None


def check_renamed(group: str, record: GroupRecord) -> Halted | None:
    """Check that the group is open: it was not renamed to another name, and is not just being created by a rename."""
    if record.renamed:
        return Halted(
            WRONG_GROUP,
            f"the group {group!r} was renamed to {record.renamed!r}. Here, run `piehole install --group {record.renamed}`.",
        )
    if record.copying:
        return Halted(
            WRONG_GROUP,
            f"the group {record.copying!r} is being renamed to {group!r}, and the rename is not complete. "
            f"Run `piehole rename {group}` again at a site of {record.copying!r}.",
        )
    return None


def check_site(config: Config, raw: bytes | None) -> Halted | None:
    """Check that the site's record is this repository's. A missing record is no fault: the site registers itself again."""
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
    """Check that etcd and this disk agree on what this site has published.

    :param found: the site's own progress record in etcd
    :param revision: etcd's revision when that was read
    """
    back = went_back(config.site)
    if found is None and disk.published is None:
        return None  # no record is known to have reached etcd
    if found is None or revision < disk.revision:
        return back
    try:
        progress = Progress.parse(found)
    except RecordError as error:
        return Halted(WENT_BACK, f"this site's progress record cannot be used: {error} {_ADVICE}")
    if progress.id in disk.ids:
        return None
    if progress.revision < disk.revision:
        return back
    # A record that was published again at the same revision ends here, too: then etcd may as well be what went back.
    return Halted(
        WENT_BACK,
        f"etcd holds a progress record of the site {config.site!r} that this disk has not written: the disk was restored from a backup, "
        f"or etcd was, or another machine uses the same site's name. {_ADVICE}",
    )


def went_back(site: str) -> Halted:
    """The error of a site whose disk knows a newer state of etcd than etcd itself."""
    return Halted(
        WENT_BACK,
        f"etcd went back: it was restored from a backup that is older than this site ({site!r}) remembers. {_ADVICE}",
    )


def check(config: Config, disk: DiskState, state: GroupState) -> Halted | None:
    """Check group, site and progress from one linearizable read. A site that has published nothing yet is no fault."""
    return (
        check_group(config, state.group.value if state.group else None)
        or check_site(config, state.site.value if state.site else None)
        or check_progress(config, disk, state.progress.value if state.progress else None, state.revision)
    )
