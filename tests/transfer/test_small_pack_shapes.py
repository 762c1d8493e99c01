"""A small push arrives without a git process that stores it or walks through it, whatever its shape."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from piehole.transfer.small_pack import SMALL, SmallPackIntake
from tests.support.fetch_bed import FetchBed
from tests.support.git import git, make_bare, rev_parse
from tests.transfer.liar import lying_peer, sends_pack
from tests.transfer.small_pushes import TEXT, between, edit, published, save, saved, settled, sound
from tests.transfer.test_lying_peers import pack_of


def side(world: FetchBed, *names: str) -> list[str]:
    """Branches with a commit each, which local gets as well."""
    start = rev_parse(world.work)
    tips = []
    for name in names:
        git(world.work, "checkout", "-q", "--detach", start)
        edit(world, f"side/{name}", name)
        save(world)
        tips.append(rev_parse(world.work))
        git(world.work, "push", "-q", str(world.peer), f"{tips[-1]}:refs/heads/{name}")
    world.follow()
    git(world.work, "checkout", "-q", "--detach", start)
    return tips


def merged(world: FetchBed, *names: str) -> None:
    git(world.work, "merge", "-q", "--no-ff", "-m", "merge", *side(world, *names))


def removed(world: FetchBed, *paths: str) -> None:
    git(world.work, "rm", "-q", "-r", "--", *paths)
    save(world)


def moved(world: FetchBed, old: str, new: str) -> None:
    (world.work / new).parent.mkdir(parents=True, exist_ok=True)
    git(world.work, "mv", old, new)
    save(world)


def twice(world: FetchBed) -> None:
    saved(world, "a/one.txt", "once")
    saved(world, "a/one.txt", "twice")
    saved(world, "b/four.txt", "thrice")


def mode(world: FetchBed) -> None:
    (world.work / "a/one.txt").chmod(0o755)
    save(world)


def symlink(world: FetchBed) -> None:
    (world.work / "link").symlink_to("a/one.txt")
    save(world)


def submodule(world: FetchBed) -> None:
    git(
        world.work,
        "update-index",
        "--add",
        "--cacheinfo",
        f"160000,{'12' * (32 if world.object_format == 'sha256' else 20)},sub",
    )
    git(world.work, "commit", "-q", "-m", "a submodule")


def folder(world: FetchBed) -> None:
    (world.work / "large.txt").unlink()
    saved(world, "large.txt/x", "x")


def orphan(world: FetchBed) -> None:
    git(world.work, "checkout", "-q", "--orphan", "fresh")
    git(world.work, "rm", "-q", "-r", "-f", ".")
    saved(world, "fresh/new.txt", "fresh")


SHAPES: dict[str, Callable[[FetchBed], None]] = {
    "a new file": lambda world: saved(world, "new.txt", "new"),
    "a changed line": lambda world: saved(world, "large.txt", TEXT + "large.txt, and more\n"),
    "a change far below": lambda world: saved(world, "a/deep/er/three.txt", TEXT + "three"),
    "a new folder": lambda world: saved(world, "c/d/e.txt", "new"),
    "a deletion": lambda world: removed(world, "a/two.txt"),
    "the deletion of a folder": lambda world: removed(world, "a/deep"),
    "a rename": lambda world: moved(world, "large.txt", "larger.txt"),
    "a move to another folder": lambda world: moved(world, "a/one.txt", "b/one.txt"),
    "a folder that moves": lambda world: moved(world, "a", "c"),
    "a merge": lambda world: merged(world, "x"),
    "an octopus": lambda world: merged(world, "x", "y", "z"),
    "another mode": mode,
    "a symbolic link": symlink,
    "a submodule": submodule,
    "an empty commit": save,
    "three commits": twice,
    "a history of its own": orphan,
    "a file that becomes a folder": folder,
}


@pytest.mark.parametrize("object_format", ["sha1", "sha256"])
@pytest.mark.parametrize("repacked", [False, True], ids=["loose", "packed"])
@pytest.mark.parametrize("shape", SHAPES)
def test_a_small_push_needs_no_git(
    tmp_path: Path, spawned: list[str], shape: str, repacked: bool, object_format: str
) -> None:
    world = FetchBed(tmp_path, object_format)
    old = settled(world, repacked=repacked)
    SHAPES[shape](world)
    new = published(world)
    tips = git(world.local, "for-each-ref", "--format=%(objectname)").stdout.split()
    fetched = world.bring(str(world.peer), [new], [old, *tips])
    assert spawned == []
    sound(world, fetched, new)
    listed = git(world.work, "rev-list", "--parents", new, "--not", *tips).stdout.splitlines()
    assert fetched.parents == {line.split()[0]: tuple(line.split()[1:]) for line in listed}


@pytest.mark.parametrize("on", ["what is here", "what comes"])
def test_an_annotated_tag_needs_no_git(world: FetchBed, spawned: list[str], on: str) -> None:
    old = settled(world)
    if on == "what comes":
        saved(world, "new.txt", "new")
    git(world.work, "tag", "-a", "-m", "a tag", "v1")
    git(world.work, "tag", "-a", "-m", "a tag of a tag", "v2", "v1")
    git(world.work, "push", "-q", str(world.peer), "v2", "v1")
    tag = rev_parse(world.work, "refs/tags/v2")
    fetched = world.bring(str(world.peer), [tag], [old])
    assert spawned == []
    sound(world, fetched, tag)


def test_many_wants_of_one_fetch_need_no_git(world: FetchBed, spawned: list[str]) -> None:
    old = settled(world)
    saved(world, "new.txt", "new")
    first = published(world)
    saved(world, "new.txt", "newer")
    tips = [first, published(world)]
    sound(world, world.bring(str(world.peer), tips, [old]), *tips)
    assert spawned == []


def test_the_base_of_a_delta_may_lie_in_any_pack(world: FetchBed, spawned: list[str]) -> None:
    """And be a delta itself, there."""
    old = settled(world, repacked=True)
    for number in range(5):
        saved(world, "large.txt", TEXT + "more\n" * (number + 1))
        new = published(world)
        world.bring(str(world.peer), [new], [old])
        old = new
    git(world.local, "update-ref", "refs/heads/main", old)
    git(world.local, "repack", "-a", "-d", "-q", "-f")
    assert "chain length = 2" in git(world.local, "verify-pack", "-v", *(str(p) for p in idx_files(world))).stdout
    saved(world, "large.txt", TEXT + "more\n" * 3 + "and at last\n")
    new = published(world)
    sound(world, world.bring(str(world.peer), [new], [old]), new)
    assert spawned == []


def idx_files(world: FetchBed) -> list[Path]:
    return sorted((world.local / "objects" / "pack").glob("*.idx"))


@pytest.mark.parametrize(("shared", "wanted"), [("", 0o400), ("group", 0o440), ("0640", 0o440), ("all", 0o444)])
def test_small_packs_have_the_modes_of_a_shared_repository(
    world: FetchBed, spawned: list[str], shared: str, wanted: int
) -> None:
    old = settled(world)
    if shared:
        git(world.local, "config", "core.sharedRepository", shared)
    before = os.umask(0o077)
    try:
        modes = []
        for given in (shared, None):
            saved(world, "new.txt", str(given))
            new = published(world)
            (path,) = world.bring(str(world.peer), [new], [old], shared=given).packs
            modes += [path.stat().st_mode & 0o777, path.with_suffix(".idx").stat().st_mode & 0o777]
    finally:
        os.umask(before)
    assert modes == [wanted] * 4
    assert spawned.count("index-pack") == 1


def test_a_large_pack_goes_to_git(world: FetchBed, spawned: list[str]) -> None:
    old = settled(world)
    saved(world, "noise", os.urandom(SMALL).hex())
    new = published(world)
    fetched = world.bring(str(world.peer), [new], [old])
    assert fetched.bytes > SMALL
    assert spawned == ["index-pack", "rev-list"]
    assert fetched.parents == {}
    sound(world, fetched, new)


def test_the_limit_is_a_number_of_bytes(world: FetchBed, spawned: list[str]) -> None:
    old = settled(world)
    for size in (SMALL - 1500, SMALL + 10):
        saved(world, "noise", "")
        (world.work / "noise").write_bytes(os.urandom(size))
        save(world)
        new = published(world)
        fetched = world.bring(str(world.peer), [new], [old])
        assert (spawned == []) == (fetched.bytes <= SMALL)
        sound(world, fetched, new)
        old = new
    assert spawned == ["index-pack", "rev-list"]


def test_a_repository_without_haves_is_filled_by_git(world: FetchBed, spawned: list[str]) -> None:
    world.bring(str(world.peer), [rev_parse(world.work)])
    assert "index-pack" in spawned


def test_without_the_mode_of_files_git_writes_them(world: FetchBed, spawned: list[str]) -> None:
    old = settled(world)
    saved(world, "new.txt", "new")
    new = published(world)
    sound(world, world.bring(str(world.peer), [new], [old], shared=None), new)
    assert spawned == ["index-pack", "rev-list"]


def test_many_objects_go_to_git(world: FetchBed, spawned: list[str]) -> None:
    old = settled(world)
    for number in range(201):
        edit(world, f"many/{number}", str(number))
    save(world)
    new = published(world)
    fetched = world.bring(str(world.peer), [new], [old])
    assert fetched.bytes < SMALL
    sound(world, fetched, new)
    assert spawned == ["index-pack", "rev-list"]


def test_a_parent_that_is_no_have_is_looked_for_by_git(world: FetchBed, spawned: list[str]) -> None:
    old = settled(world)
    saved(world, "new.txt", "new")
    middle = published(world)
    saved(world, "new.txt", "newer")
    new = published(world)
    world.bring(str(world.peer), [middle], [old])
    with lying_peer(sends_pack(pack_of(world.work, *between(world, middle, new)))) as url:
        sound(world, world.bring(url, [new], [old]), new)
    assert spawned == ["rev-list"]


def test_what_an_older_tree_had_is_looked_for_by_git(world: FetchBed, spawned: list[str]) -> None:
    settled(world)
    removed(world, "a")
    git(world.work, "push", "-q", str(world.peer), "HEAD:refs/heads/main")
    old = world.follow()
    git(world.work, "revert", "--no-edit", "HEAD")
    new = rev_parse(world.work)
    with lying_peer(sends_pack(pack_of(world.work, new))) as url:
        sound(world, world.bring(url, [new], [old]), new)
    assert spawned == ["rev-list"]


def test_an_alternate_is_read_by_git(world: FetchBed, spawned: list[str]) -> None:
    old = settled(world)
    borrowing = make_bare(world.folder / "borrowing.git")
    (borrowing / "objects" / "info" / "alternates").write_text(f"{world.local}/objects\n")
    git(borrowing, "update-ref", "refs/heads/main", old)
    world.local = borrowing
    saved(world, "large.txt", TEXT + "more\n")
    new = published(world)
    sound(world, world.bring(str(world.peer), [new], [old]), new)
    assert spawned == ["index-pack", "rev-list"]


def test_a_shallow_repository_is_looked_through_by_git(world: FetchBed, spawned: list[str]) -> None:
    old = settled(world)
    saved(world, "new.txt", "new")
    new = published(world)
    (world.local / "shallow").write_text(f"{old}\n")
    world.bring(str(world.peer), [new], [old])
    assert spawned == ["rev-list"]


def test_a_full_disk_is_for_git_to_name(world: FetchBed, spawned: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    old = settled(world)
    saved(world, "new.txt", "new")
    new = published(world)

    def full(self: SmallPackIntake, path: Path, content: bytes) -> None:
        if path.suffix == ".idx":
            raise OSError(28, "No space left on device")
        path.write_bytes(content)

    monkeypatch.setattr(SmallPackIntake, "_create", full)
    fetched = world.bring(str(world.peer), [new], [old])
    assert len(fetched.packs) == 1
    sound(world, fetched, new)
    assert spawned == ["index-pack", "rev-list"]
