"""A copy that has lost objects, or holds damaged ones, is no copy: it is found, said, no source for others, and repaired from one that is whole."""

from __future__ import annotations

import hashlib
import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from piehole.deadline import Deadline
from piehole.group import progress
from piehole.repository import verification
from tests.support.assertions import accepted, arrives
from tests.support.command_line import piehole_in_process as piehole
from tests.support.git import MAIN, clone, commit, git, push
from tests.support.groups import Group, MakeGroup
from tests.support.wait import PATIENCE, until

Damage = Callable[[Path], None]


def the_pack(repository: Path) -> Path:
    git(repository, "repack", "-adq")
    (pack,) = (repository / "objects" / "pack").glob("*.pack")
    return pack


def lose_the_old_pack(repository: Path) -> None:
    pack = the_pack(repository)
    for path in pack.parent.glob(f"{pack.stem}.*"):
        path.unlink()


def overwrite(path: Path, start: int, data: bytes) -> None:
    path.chmod(0o644)
    with path.open("r+b") as file:
        file.seek(start)
        file.write(data)


def zero_20_bytes(repository: Path) -> None:
    pack = the_pack(repository)
    overwrite(pack, pack.stat().st_size // 2, bytes(20))


def cut_a_pack(repository: Path) -> None:
    pack = the_pack(repository)
    pack.chmod(0o644)
    with pack.open("r+b") as file:
        file.truncate(pack.stat().st_size - 100)


def empty_a_blob(repository: Path) -> None:
    git(repository, "repack", "-adq")
    pack = the_pack(repository)
    away = repository / "away.pack"
    pack.rename(away)
    for path in pack.parent.iterdir():
        path.unlink()
    with away.open("rb") as file:
        subprocess.run(["git", "unpack-objects", "-q"], cwd=repository, stdin=file, check=True)
    away.unlink()
    blob = git(repository, "rev-parse", "refs/heads/main~1:file.txt").stdout.strip()
    loose = repository / "objects" / blob[:2] / blob[2:]
    loose.chmod(0o644)
    loose.write_bytes(b"")


DAMAGES = [
    lose_the_old_pack,
    zero_20_bytes,
    pytest.param(cut_a_pack, marks=pytest.mark.slow),
    pytest.param(empty_a_blob, marks=pytest.mark.slow),
]


def noise(work: Path, number: int) -> str:
    """A commit whose file does not compress, so that the middle of a pack is in it."""
    return commit(work, f"commit {number}", file="file.txt", content=hashlib.shake_128(b"%d" % number).hexdigest(3000))


def two(make_group: MakeGroup, *, started: bool) -> tuple[Group, Path]:
    """Two sites with a history of four commits; b holds it in one pack."""
    group = make_group(2, started=started)
    work = group.clone(group["a"].repository)
    for number in range(4):
        tip = noise(work, number)
        accepted(push(work, group["a"].repository, "HEAD:main"))
    if started:
        arrives(group, MAIN, tip)
        group.published()
    else:
        assert group.reconcile("a", "b").status == 0
    return group, work


def is_whole(repository: Path) -> bool:
    return git(repository, "fsck", "--full", "--connectivity-only", check=False).returncode == 0 and (
        git(repository, "rev-list", "--objects", "--all", check=False).returncode == 0
    )


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda one: one.__name__)
def test_a_corrupt_copy_is_said_and_repaired_without_the_daemon(
    make_group: MakeGroup, damage: Damage, tmp_path: Path
) -> None:
    group, work = two(make_group, started=False)
    a, b = group["a"], group["b"]
    damage(b.repository)
    tip = noise(work, 9)
    accepted(push(work, a.repository, "HEAD:main"))
    # No source is up for b: it can only say what it is.
    away = a.repository.rename(a.repository.with_name("away.git"))
    told = piehole("status", "-C", b.repository)
    assert told.status == 1, told
    assert told.line(": corrupt: ")
    assert "corrupt" in told.line(": site b: corrupt")
    checked = piehole("check", b.repository)
    assert checked.status == 1
    assert "piehole reconcile --once" in checked.line("fault: corrupt: ")
    assert "it fills no new site while there is another" in checked.line("fault: corrupt: ")
    once = group.reconcile("b")
    assert once.status == 1
    assert "corrupt: " in once.err
    assert (b.repository / "piehole" / "corrupt").exists()
    # The other site is told, and b is no copy: the last whole one does not leave without a word.
    away.rename(a.repository)
    assert "corrupt" in piehole("status", "-C", a.repository).line(": site b: corrupt")
    assert piehole("status", "-C", a.repository).status == 1
    assert "'b' has lost or damaged objects, so it counts as no copy" in piehole("check", a.repository).line(
        "warning: corrupt: "
    )
    left = piehole("leave", "-C", a.repository)
    assert left.status != 0
    assert "only at a" in left.out
    # A source is back.
    once = group.reconcile("a", "b")
    assert once.status == 0, once
    assert b.at() == tip
    assert not (b.repository / "piehole" / "corrupt").exists()
    assert is_whole(b.repository)
    clone(b.repository, tmp_path / "clone", "--no-local")
    with group.answering():
        for site in (a, b):
            assert piehole("status", "-C", site.repository).status == 0
    assert ": corrupt: " not in piehole("check", b.repository).out


@pytest.mark.parametrize("damage", [lose_the_old_pack, zero_20_bytes], ids=lambda one: one.__name__)
def test_the_controller_repairs_a_corrupt_copy(make_group: MakeGroup, damage: Damage, tmp_path: Path) -> None:
    group, work = two(make_group, started=True)
    b = group["b"]
    damage(b.repository)
    if damage is lose_the_old_pack:
        # The newest commit is loose. (Without it nothing would be offered to a peer, and the next fetch would bring everything.)
        raw = git(work, "cat-file", "commit", "HEAD").stdout
        git(b.repository, "hash-object", "-w", "-t", "commit", "--stdin", stdin=raw)
    tip = noise(work, 9)
    accepted(push(work, group["a"].repository, "HEAD:main"))
    arrives(group, MAIN, tip)
    # It says so, unless it could not use what came, and has found and repaired the damage by itself.
    piehole("status", "-C", b.repository)
    assert b.wait_event("repository.repaired", PATIENCE)["reason"]
    until(lambda: not (b.repository / "piehole" / "corrupt").exists(), PATIENCE, "b is repaired")
    until(lambda: piehole("status", "-C", group["a"].repository).status == 0, PATIENCE, "all sites are in step")
    clone(b.repository, tmp_path / "clone", "--no-local")
    accepted(push(work, group["a"].repository, f"{noise(work, 10)}:main"))
    group.published()
    record = json.loads(group.etcd.get(f"{group.prefix}/progress/g/b") or "{}")
    assert record["verified"]["result"] == "sound"


def test_nothing_of_a_damaged_pack_is_deleted_and_what_is_only_there_is_kept(make_group: MakeGroup) -> None:
    group, work = two(make_group, started=False)
    b = group["b"].repository
    git(work, "checkout", "-q", "-b", "mine")
    mine = noise(work, 77)
    git(b, "fetch", "-q", str(work), "mine:refs/heads/mine")
    git(b, "repack", "-adq")
    (pack,) = (b / "objects" / "pack").glob("*.pack")
    # The blob of an old commit that other sites have, too.
    blob = git(b, "rev-parse", "refs/heads/main~3:file.txt").stdout.strip()
    listed = git(b, "verify-pack", "-v", str(pack)).stdout.splitlines()
    (place,) = (int(line.split()[4]) for line in listed if line.startswith(blob))
    overwrite(pack, place + 10, bytes(20))
    before = pack.read_bytes()
    once = group.reconcile("b")
    assert once.status == 0, once
    assert (b / "piehole" / "damaged" / pack.name).read_bytes() == before
    assert git(b, "rev-parse", "refs/heads/mine").stdout.strip() == mine
    git(b, "fsck", "--full", "--strict", "--no-dangling")


def test_a_new_site_is_not_filled_from_a_corrupt_one(make_group: MakeGroup) -> None:
    group, _ = two(make_group, started=False)
    a, b = group["a"].repository, group["b"].repository
    cut_a_pack(b)
    away = a.rename(a.with_name("away.git"))
    d = group["d"].build()
    once = group.reconcile("d")
    assert once.status == 1
    assert not d.refs()
    away.rename(a)
    assert group.reconcile("d").status == 0
    assert is_whole(d.repository)


def test_a_site_that_says_that_it_is_corrupt_fills_no_new_one_but_with_what_only_it_has(make_group: MakeGroup) -> None:
    group, work = two(make_group, started=False)
    a, b = group["a"].repository, group["b"].repository
    away = a.rename(a.with_name("away.git"))
    only = noise(work, 20)
    accepted(push(work, b, f"{only}:refs/heads/only-at-b"))
    # It is whole, so that only the rule keeps others from it.
    verification.record(b, verification.CORRUPT, "a test says so")
    progress.republish(group["b"].replica(), Deadline(5))
    d = group["d"].build()
    once = group.reconcile("d")
    assert once.status == 1
    assert "b: it is corrupt, so it fills no new site" in once.err
    assert not d.refs()
    # What a has comes from a; and what a says it lacks from b.
    away.rename(a)
    once = group.reconcile("d")
    assert once.status == 0, once
    assert d.at("refs/heads/only-at-b") == only
    assert is_whole(d.repository)


def test_the_last_site_fills_a_new_one_even_if_it_is_corrupt(make_group: MakeGroup) -> None:
    group, _ = two(make_group, started=False)
    b = group["b"].repository
    verification.record(b, verification.CORRUPT, "a test says so")
    progress.republish(group["b"].replica(), Deadline(5))
    assert piehole("leave", "-C", group["a"].repository, "--yes").status == 0
    group["a"].repository.rename(group["a"].repository.with_name("away.git"))
    d = group["d"].build()
    assert group.reconcile("d").status == 0
    assert is_whole(d.repository)


def test_a_site_that_cannot_use_what_comes_finds_itself_corrupt_and_repairs_itself(make_group: MakeGroup) -> None:
    """Nobody runs a command: the reconcile meets the gap, since the next commit keeps a file that the site has lost."""
    group = make_group(2)
    a, b = group
    work = group.clone(a.repository)
    commit(work, "kept", file="kept.txt", content=hashlib.shake_128(b"kept").hexdigest(3000))
    noise(work, 1)
    accepted(push(work, a.repository, "HEAD:main"))
    arrives(group, MAIN, git(work, "rev-parse", "HEAD").stdout.strip())
    lose_the_old_pack(b.repository)
    tip = git(a.repository, "rev-parse", MAIN).stdout.strip()
    # The newest commit alone is left, as a loose object.
    raw = git(work, "cat-file", "commit", tip).stdout
    assert git(b.repository, "hash-object", "-w", "-t", "commit", "--stdin", stdin=raw).stdout.strip() == tip
    tip = noise(work, 2)
    accepted(push(work, a.repository, "HEAD:main"))
    arrives([b], MAIN, tip, PATIENCE)
    until(lambda: is_whole(b.repository), PATIENCE, "b is whole again")
    assert not (b.repository / "piehole" / "corrupt").exists()


def test_the_last_whole_copy_does_not_leave_while_the_other_is_known_to_be_corrupt(make_group: MakeGroup) -> None:
    group, _ = two(make_group, started=False)
    a, b = group["a"].repository, group["b"].repository
    lose_the_old_pack(b)
    away = a.rename(a.with_name("away.git"))
    assert group.reconcile("b").status == 1
    away.rename(a)
    left = piehole("leave", "-C", a)
    assert left.status != 0
    assert f"only at a: {MAIN}" in left.out
    # Once b is whole again, it is a copy.
    assert group.reconcile("b").status == 0
    assert piehole("leave", "-C", a, "--yes").status == 0
