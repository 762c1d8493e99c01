"""Small pushes to a peer, and the packs and objects that they consist of."""

from __future__ import annotations

from piehole.transfer.fetch import Fetched
from tests.fault.hostile.bombs import BLOB, COMMIT, oid_of, plain
from tests.support.fetch_bed import FetchBed, complete, leftovers
from tests.support.git import git, rev_parse

TEXT = "".join(f"line {n} of a text that is worth a delta\n" for n in range(300))


def save(world: FetchBed, message: str = "a change") -> None:
    git(world.work, "add", "-A")
    git(world.work, "commit", "-q", "--allow-empty", "-m", message)


def edit(world: FetchBed, path: str, text: str) -> None:
    file = world.work / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)


def settled(world: FetchBed, *, repacked: bool = False) -> str:
    """A history with folders and a large file, which local has."""
    for path in ("large.txt", "a/one.txt", "a/two.txt", "a/deep/er/three.txt", "b/four.txt"):
        edit(world, path, TEXT + path)
    save(world)
    git(world.work, "push", "-q", str(world.peer), "HEAD:refs/heads/main")
    old = world.follow()
    if repacked:
        git(world.local, "repack", "-a", "-d", "-q")
    return old


def published(world: FetchBed, revision: str = "HEAD") -> str:
    """What the revision names, at the peer."""
    oid = rev_parse(world.work, revision)
    git(world.work, "push", "-q", str(world.peer), f"{oid}:refs/heads/x-{oid}")
    return oid


def saved(world: FetchBed, path: str, text: str) -> None:
    edit(world, path, text)
    save(world)


def sound(world: FetchBed, fetched: Fetched, *tips: str) -> None:
    """Git finds nothing wrong with what came, and it is all there."""
    for number, tip in enumerate(tips):
        git(world.local, "update-ref", f"refs/came/{number}", tip)
    for path in fetched.packs:
        git(world.local, "verify-pack", str(path))
        git(world.local, "index-pack", "--strict", "-o", f"{world.folder}/again.idx", str(path))
        assert path.with_suffix(".idx").read_bytes() == (world.folder / "again.idx").read_bytes()
        assert {path.stat().st_mode & 0o777, path.with_suffix(".idx").stat().st_mode & 0o777} == {0o444}
    git(world.local, "fsck", "--strict", "--no-dangling")
    assert complete(world.local, *tips)
    assert leftovers(world.local) == []


def between(world: FetchBed, old: str, new: str) -> list[str]:
    return [
        line.split(" ")[0] for line in git(world.work, "rev-list", "--objects", f"{old}..{new}").stdout.splitlines()
    ]


def tip_of(tree: bytes, *parents: str) -> tuple[str, bytes]:
    """A commit of this tree, and its body in a pack."""
    lines = "".join(f"parent {parent}\n" for parent in parents).encode()
    who = b"A <a@example.org> 1 +0000"
    body = b"tree %s\n%sauthor %s\ncommitter %s\n\nx\n" % (tree.hex().encode(), lines, who, who)
    return oid_of(COMMIT, body).hex(), plain(COMMIT, body)


INNER = b"100644 f\0" + oid_of(BLOB, b"x")
