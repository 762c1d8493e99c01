"""Kept tips: commits that a move of a ref has left behind, held below ``refs/piehole/kept/`` until ``piehole.keepFor`` has passed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from piehole import git
from piehole.refs import KEPT_REFS, decode
from piehole.repository.ref_transaction import NO_WAITING, update_ref_input
from piehole.repository.repository import Repository

# Git knows this tree without having it stored.
_EMPTY_TREES: Final = {
    "sha1": "4b825dc642cb6eb9a060e54bf8d69288fbee4904",
    "sha256": "6ef19b41225c5369f1c104d45d8d85efa9b057b53b14b4b9b939dd74decc5321",
}


def keep(repository: Repository, oids: Sequence[str]) -> None:
    """Keep tips that a move is about to leave behind. Keeping a tip again starts its time again."""
    if not oids:
        return
    there = set(_names(repository))
    names = [f"{KEPT_REFS}{oid}" for oid in oids]
    again = [name for name in names if name in there]
    # Git writes no reflog where a value stays the same, so these go there and back: the tip is still held by the ref that is
    # about to move. (Deleting them would take the lock of the packed refs, which a push that deletes holds by now.)
    if again:
        # Git knows the empty tree without having it, but fsck wants what a reflog names.
        repository.git("hash-object", "-t", "tree", "-w", "--stdin")
    empty_tree = _EMPTY_TREES[repository.object_format]
    _update(repository, [f"update {name}\0{empty_tree}\0\0" for name in again], "piehole: kept anew")
    _update(repository, [f"update {name}\0{oid}\0\0" for name, oid in zip(names, oids, strict=True)], "piehole: kept")


def kept_since(repository: Repository) -> dict[str, int]:
    """The refs of all kept tips, each with the time it was kept at: seconds since the epoch by this machine's clock, 0 where unknown."""
    return {name: _kept_at(repository, name) for name in _names(repository)}


def expire(repository: Repository) -> None:
    """Delete the refs of tips that were kept for longer than ``piehole.keepFor``; the time of those of unknown age starts again.

    :raises GitError: the setting is no expiry date that git understands
    """
    shown = repository.git("config", "--type=expiry-date", "--default=90.days", "--get", "piehole.keepFor")
    expiry = int(git.lines(shown)[0])
    expired = []
    for name, kept_at in kept_since(repository).items():
        if kept_at == 0:
            keep(repository, [name.removeprefix(KEPT_REFS)])
        elif kept_at < expiry:
            expired.append(name)
    _update(repository, [f"delete {name}\0\0" for name in expired], "piehole: expired")


def _names(repository: Repository) -> list[str]:
    return git.lines(repository.git("for-each-ref", "--format=%(refname)", KEPT_REFS))


def _kept_at(repository: Repository, name: str) -> int:
    if (repository.git_dir / "reftable").exists():
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
