"""Kept tips: commits that a move of a ref has left behind, held below ``refs/piehole/kept/`` until ``piehole.keepFor`` has passed."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from piehole import git
from piehole.deadline import seconds
from piehole.errors import GitError, UsageError
from piehole.fastpath import processes
from piehole.files import replace_file
from piehole.refs import KEPT_REFS, Command, decode
from piehole.repository.ref_transaction import NO_WAITING, update_ref_input
from piehole.repository.repository import Repository
from piehole.repository.settings import default

_AT_ONCE: Final = 500  # tips of one transaction, whose locks keep other moves waiting
_CLOCK: Final = "piehole/kept-clock"
# Git knows this tree without having it stored.
_EMPTY_TREES: Final = {
    "sha1": "4b825dc642cb6eb9a060e54bf8d69288fbee4904",
    "sha256": "6ef19b41225c5369f1c104d45d8d85efa9b057b53b14b4b9b939dd74decc5321",
}


def keep(repository: Repository, oids: Sequence[str]) -> None:
    """Keep tips that a move is about to leave behind. Keeping a tip again starts its time again."""
    if not oids:
        return
    names = [f"{KEPT_REFS}{oid}" for oid in oids]
    there = repository.kinds(names)  # by their values: all kept tips may be many
    again = [name for name, oid in zip(names, oids, strict=True) if oid in there]
    # Git writes no reflog where a value stays the same, so these go there and back: the tip is still held by the ref that is
    # about to move. (Deleting them would take the lock of the packed refs, which a push that deletes holds by now.)
    if again:
        # Git knows the empty tree without having it, but fsck wants what a reflog names.
        repository.git("hash-object", "-t", "tree", "-w", "--stdin")
    empty_tree = _EMPTY_TREES[repository.object_format]
    _update(repository, [f"update {name}\0{empty_tree}\0\0" for name in again], "piehole: kept anew")
    _update(repository, [f"update {name}\0{oid}\0\0" for name, oid in zip(names, oids, strict=True)], "piehole: kept")


def not_kept(repository: Repository, oids: Sequence[str]) -> list[str]:
    """Those of these tips that no ref keeps."""
    there = repository.values([f"{KEPT_REFS}{oid}" for oid in oids]).values()
    return [oid for oid in oids if oid not in there]


def kept_since(repository: Repository, *, quick: bool = False) -> dict[str, int]:
    """The refs of all kept tips, each with the time it was kept at: seconds since the epoch by this machine's clock, 0 where unknown.

    :param quick: 0 as well where each time would take a process
    """
    unknown = quick and repository.has_reftable
    return {name: 0 if unknown else _kept_at(repository, name) for name in _names(repository)}


def expire(repository: Repository) -> None:
    """Delete the refs of tips that were kept for longer than ``piehole.keepFor``; the time of those of unknown age starts again.

    :raises UsageError: the setting is a time in minutes or seconds
    :raises GitError: it is no expiry date that git understands
    """
    last = _Clock.load(repository.git_dir)
    clock = last.now()
    expiry = _expiry(repository, clock.time)
    expired = []
    for name, kept_at in kept_since(repository).items():
        # One that should have gone the last time was not there yet, so the clock was wrong when it was kept.
        if kept_at < max(1, min(last.expiry, expiry)):
            keep(repository, [name.removeprefix(KEPT_REFS)])
        elif kept_at < expiry:
            expired.append(name)
    gone = [_delete(repository, expired[at : at + _AT_ONCE], expiry) for at in range(0, len(expired), _AT_ONCE)]
    if all(gone):
        clock = replace(clock, expiry=expiry)
    clock.save(repository.git_dir)


def _expiry(repository: Repository, now: float) -> int:
    """The time before which kept tips have expired."""
    asked = ["--default", default("keepFor"), "--get", "piehole.keepFor"]
    own = _own_time(git.lines(repository.git("config", *asked))[0])
    if own is not None:
        return int(now - own)
    return int(git.lines(repository.git("config", "--type=expiry-date", *asked))[0]) - int(time.time() - now)


def _own_time(text: str) -> float | None:
    """The seconds of a time such as ``12h``; None where git reads the text. Git takes 30d for the 30th of a month, so that all would go at once."""
    if not re.fullmatch(r"[0-9.]+(ms|[smhdw])", text):
        return None
    if text.endswith(("m", "s")):
        raise UsageError(
            f"piehole.keepFor is {text!r}, so no kept tip goes: give hours, days or weeks (12h, 90d, 12w), or a time as git reads it "
            "(3.months, never)."
        )
    return seconds("piehole.keepFor", text)


def check_keep_for(text: str) -> None:
    """:raises UsageError: this cannot be piehole.keepFor"""
    if _own_time(text) is not None:
        return
    try:
        git.run(None, ["config", "--type=expiry-date", "--default", text, "--get", "piehole.none"])
    except GitError as error:
        raise UsageError(
            f"piehole.keepFor is {text!r}, which is no time: write 12h, 90d or 12w, or a time as git reads it (3.months, never)."
        ) from error


def _delete(repository: Repository, names: Sequence[str], expiry: int) -> bool:
    """Delete these refs, but for those that are kept anew meanwhile: their ages are read again under git's locks. Whether all are gone."""
    from piehole.repository.ref_moves import RefMover  # a hook keeps tips, and expires none

    def are_old(moves: Sequence[Command]) -> set[str]:
        return {move.ref for move in moves if _kept_at(repository, move.ref) < expiry}

    moves = [Command(name, name.removeprefix(KEPT_REFS), repository.zero) for name in names]
    unmoved = RefMover(repository, "piehole: expired", are_old).move(moves)
    return not (unmoved.failed or unmoved.unwanted)


@dataclass(frozen=True, slots=True)
class _Clock:
    """The time by which tips expire: this machine's clock, as long as it does not jump.

    It never goes back, and from one expiry to the next it goes forward at most twice as fast as the kernel counts (or for twice the time
    since the machine was started). So a clock that is wrong by months expires nothing that is not due soon, and is followed in the end.

    :param boot: which boot of the machine, and the kernel's seconds since then, when this was so
    :param expiry: what had been kept before this time was removed by then
    """

    time: float
    expiry: int
    boot: str
    seconds: float

    @classmethod
    def load(cls, git_dir: Path) -> _Clock:
        """What the last expiry has saved; the first one has to believe the clock."""
        try:
            time_, expiry, boot, seconds = (git_dir / _CLOCK).read_text().split()
            return cls(float(time_), int(expiry), boot, float(seconds))
        except (OSError, ValueError):
            return cls(time.time(), 0, "", 0.0)

    def now(self) -> _Clock:
        boot, seconds = processes.boot_id(), time.clock_gettime(time.CLOCK_BOOTTIME)
        passed = seconds - (self.seconds if boot == self.boot else 0.0)
        return replace(self, time=max(self.time, min(time.time(), self.time + 2 * passed)), boot=boot, seconds=seconds)

    def save(self, git_dir: Path) -> None:
        with suppress(OSError):  # then the next expiry goes on from an older time, which keeps tips for longer
            replace_file(git_dir / _CLOCK, f"{self.time} {self.expiry} {self.boot} {self.seconds}\n", 0o644)


def _names(repository: Repository) -> list[str]:
    return git.lines(repository.git("for-each-ref", "--format=%(refname)", KEPT_REFS))


def _kept_at(repository: Repository, name: str) -> int:
    if repository.has_reftable:
        shown = git.lines(repository.git("log", "-g", "-1", "--format=%gd", "--date=unix", name, "--", ok=(0, 128)))
        stamp = shown[0].rpartition("@{")[2].rstrip("}") if shown else ""
    else:
        # A reflog's line: "OLD NEW NAME <MAIL> SECONDS ZONE\tMESSAGE". A process for each of thousands would take minutes.
        try:
            line = (repository.git_dir / "logs" / name).read_bytes().splitlines()[-1]
        except (OSError, IndexError):
            return 0
        words = line.partition(b"\t")[0].split(b" ")
        stamp = decode(words[-2]) if len(words) > 1 else ""
    return int(stamp) if stamp.isdecimal() else 0


def _update(repository: Repository, lines: Sequence[str], message: str) -> None:
    if lines:
        update = [*NO_WAITING, "update-ref", "--stdin", "-z", "--create-reflog", "-m", message]
        repository.git(*update, stdin=update_ref_input(lines))
