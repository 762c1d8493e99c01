"""A small push arrives without a git process that takes it in or looks through it, and nothing unsound comes that way."""

from __future__ import annotations

import os
import shutil
import subprocess
import tracemalloc
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from hashlib import sha1
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from piehole.errors import TransferRejected
from piehole.transfer import index_pack, process
from piehole.transfer.fetch import Fetched
from piehole.transfer.quarantine import Quarantine
from piehole.transfer.small_pack import SMALL, SmallPackIntake
from tests.fault.hostile.bombs import BLOB, COMMIT, TAG, TREE, delta_bomb, oid_of, pack, plain
from tests.support.git import git, make_bare, make_home, rev_parse
from tests.transfer.liar import lying_peer, sends_pack
from tests.transfer.test_lying_peers import pack_of, refuses
from tests.transfer.world import World, complete, leftovers, packs

TEXT = "".join(f"line {n} of a text that is worth a delta\n" for n in range(300))
GITS = ("index-pack", "rev-list")


@pytest.fixture
def spawned(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The git commands among GITS that were started for a transfer."""
    seen: list[str] = []
    real = process.spawn

    def spawn(watchdog: object, command: list[str], **options: object) -> subprocess.Popen[bytes]:
        seen.extend(word for word in command if word in GITS)
        return real(watchdog, command, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(process, "spawn", spawn)
    monkeypatch.setattr(index_pack, "spawn", spawn)
    return seen


def save(world: World, message: str = "a change") -> None:
    git(world.work, "add", "-A")
    git(world.work, "commit", "-q", "--allow-empty", "-m", message)


def edit(world: World, path: str, text: str) -> None:
    file = world.work / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)


def settled(world: World, *, repacked: bool = False) -> str:
    """A history with folders and a large file, which local has."""
    for path in ("large.txt", "a/one.txt", "a/two.txt", "a/deep/er/three.txt", "b/four.txt"):
        edit(world, path, TEXT + path)
    save(world)
    git(world.work, "push", "-q", str(world.peer), "HEAD:refs/heads/main")
    old = world.follow()
    if repacked:
        git(world.local, "repack", "-a", "-d", "-q")
    return old


def published(world: World, revision: str = "HEAD") -> str:
    """What the revision names, at the peer."""
    oid = rev_parse(world.work, revision)
    git(world.work, "push", "-q", str(world.peer), f"{oid}:refs/heads/x-{oid}")
    return oid


def side(world: World, *names: str) -> list[str]:
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


def merged(world: World, *names: str) -> None:
    git(world.work, "merge", "-q", "--no-ff", "-m", "merge", *side(world, *names))


def removed(world: World, *paths: str) -> None:
    git(world.work, "rm", "-q", "-r", "--", *paths)
    save(world)


def moved(world: World, old: str, new: str) -> None:
    (world.work / new).parent.mkdir(parents=True, exist_ok=True)
    git(world.work, "mv", old, new)
    save(world)


def saved(world: World, path: str, text: str) -> None:
    edit(world, path, text)
    save(world)


def twice(world: World) -> None:
    saved(world, "a/one.txt", "once")
    saved(world, "a/one.txt", "twice")
    saved(world, "b/four.txt", "thrice")


def mode(world: World) -> None:
    (world.work / "a/one.txt").chmod(0o755)
    save(world)


def symlink(world: World) -> None:
    (world.work / "link").symlink_to("a/one.txt")
    save(world)


def submodule(world: World) -> None:
    git(
        world.work,
        "update-index",
        "--add",
        "--cacheinfo",
        f"160000,{'12' * (32 if world.object_format == 'sha256' else 20)},sub",
    )
    git(world.work, "commit", "-q", "-m", "a submodule")


def folder(world: World) -> None:
    (world.work / "large.txt").unlink()
    saved(world, "large.txt/x", "x")


def orphan(world: World) -> None:
    git(world.work, "checkout", "-q", "--orphan", "fresh")
    git(world.work, "rm", "-q", "-r", "-f", ".")
    saved(world, "fresh/new.txt", "fresh")


SHAPES: dict[str, Callable[[World], None]] = {
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
    world = World(tmp_path, object_format)
    old = settled(world, repacked=repacked)
    SHAPES[shape](world)
    new = published(world)
    tips = git(world.local, "for-each-ref", "--format=%(objectname)").stdout.split()
    fetched = world.bring(str(world.peer), [new], [old, *tips])
    assert spawned == []
    sound(world, fetched, new)
    listed = git(world.work, "rev-list", "--parents", new, "--not", *tips).stdout.splitlines()
    assert fetched.parents == {line.split()[0]: tuple(line.split()[1:]) for line in listed}


def sound(world: World, fetched: Fetched, *tips: str) -> None:
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


@pytest.mark.parametrize("on", ["what is here", "what comes"])
def test_an_annotated_tag_needs_no_git(world: World, spawned: list[str], on: str) -> None:
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


def test_many_wants_of_one_fetch_need_no_git(world: World, spawned: list[str]) -> None:
    old = settled(world)
    saved(world, "new.txt", "new")
    first = published(world)
    saved(world, "new.txt", "newer")
    tips = [first, published(world)]
    sound(world, world.bring(str(world.peer), tips, [old]), *tips)
    assert spawned == []


def test_the_base_of_a_delta_may_lie_in_any_pack(world: World, spawned: list[str]) -> None:
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


def idx_files(world: World) -> list[Path]:
    return sorted((world.local / "objects" / "pack").glob("*.idx"))


@pytest.mark.parametrize(("shared", "wanted"), [("", 0o400), ("group", 0o440), ("0640", 0o440), ("all", 0o444)])
def test_small_packs_have_the_modes_of_a_shared_repository(
    world: World, spawned: list[str], shared: str, wanted: int
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


# What is left to git: both steps, or the second alone.


def test_a_large_pack_goes_to_git(world: World, spawned: list[str]) -> None:
    old = settled(world)
    saved(world, "noise", os.urandom(SMALL).hex())
    new = published(world)
    fetched = world.bring(str(world.peer), [new], [old])
    assert fetched.bytes > SMALL
    assert spawned == ["index-pack", "rev-list"]
    assert fetched.parents == {}
    sound(world, fetched, new)


def test_the_limit_is_a_number_of_bytes(world: World, spawned: list[str]) -> None:
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


def test_a_repository_without_haves_is_filled_by_git(world: World, spawned: list[str]) -> None:
    world.bring(str(world.peer), [rev_parse(world.work)])
    assert "index-pack" in spawned


def test_without_the_mode_of_files_git_writes_them(world: World, spawned: list[str]) -> None:
    old = settled(world)
    saved(world, "new.txt", "new")
    new = published(world)
    sound(world, world.bring(str(world.peer), [new], [old], shared=None), new)
    assert spawned == ["index-pack", "rev-list"]


def test_many_objects_go_to_git(world: World, spawned: list[str]) -> None:
    old = settled(world)
    for number in range(201):
        edit(world, f"many/{number}", str(number))
    save(world)
    new = published(world)
    fetched = world.bring(str(world.peer), [new], [old])
    assert fetched.bytes < SMALL
    sound(world, fetched, new)
    assert spawned == ["index-pack", "rev-list"]


def test_a_parent_that_is_no_have_is_looked_for_by_git(world: World, spawned: list[str]) -> None:
    old = settled(world)
    saved(world, "new.txt", "new")
    middle = published(world)
    saved(world, "new.txt", "newer")
    new = published(world)
    world.bring(str(world.peer), [middle], [old])
    with lying_peer(sends_pack(pack_of(world.work, *between(world, middle, new)))) as url:
        sound(world, world.bring(url, [new], [old]), new)
    assert spawned == ["rev-list"]


def between(world: World, old: str, new: str) -> list[str]:
    return [
        line.split(" ")[0] for line in git(world.work, "rev-list", "--objects", f"{old}..{new}").stdout.splitlines()
    ]


def test_what_an_older_tree_had_is_looked_for_by_git(world: World, spawned: list[str]) -> None:
    settled(world)
    removed(world, "a")
    git(world.work, "push", "-q", str(world.peer), "HEAD:refs/heads/main")
    old = world.follow()
    git(world.work, "revert", "--no-edit", "HEAD")
    new = rev_parse(world.work)
    with lying_peer(sends_pack(pack_of(world.work, new))) as url:
        sound(world, world.bring(url, [new], [old]), new)
    assert spawned == ["rev-list"]


def test_an_alternate_is_read_by_git(world: World, spawned: list[str]) -> None:
    old = settled(world)
    borrowing = make_bare(world.folder / "borrowing.git")
    (borrowing / "objects" / "info" / "alternates").write_text(f"{world.local}/objects\n")
    git(borrowing, "update-ref", "refs/heads/main", old)
    world.local = borrowing
    saved(world, "large.txt", TEXT + "more\n")
    new = published(world)
    sound(world, world.bring(str(world.peer), [new], [old]), new)
    assert spawned == ["index-pack", "rev-list"]


def test_a_shallow_repository_is_looked_through_by_git(world: World, spawned: list[str]) -> None:
    old = settled(world)
    saved(world, "new.txt", "new")
    new = published(world)
    (world.local / "shallow").write_text(f"{old}\n")
    world.bring(str(world.peer), [new], [old])
    assert spawned == ["rev-list"]


def test_a_full_disk_is_for_git_to_name(world: World, spawned: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
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


# Lies.


@dataclass
class Lie:
    """A repository that has ``old``, and the objects of a commit upon it."""

    world: World
    old: str
    new: str
    objects: list[str]

    def refused(self, sent: bytes, words: str) -> None:
        refuses(self.world, sends_pack(sent), self.new, TransferRejected, words, haves=[self.old])


@pytest.fixture
def lie(world: World) -> Lie:
    old = settled(world)
    saved(world, "c/d/e.txt", "new")
    new = rev_parse(world.work)
    return Lie(world, old, new, between(world, old, new))


def test_the_truth_is_taken(lie: Lie, spawned: list[str]) -> None:
    """Else the refusals below would prove nothing."""
    with lying_peer(sends_pack(pack_of(lie.world.work, *lie.objects))) as url:
        sound(lie.world, lie.world.bring(url, [lie.new], [lie.old]), lie.new)
    assert spawned == []


@pytest.mark.parametrize("what", ["", "^{tree}", ":c", ":c/d", ":c/d/e.txt"])
def test_what_lacks_an_object_is_refused_by_git(lie: Lie, spawned: list[str], what: str) -> None:
    lacking = rev_parse(lie.world.work, f"{lie.new}{what}")
    lie.refused(pack_of(lie.world.work, *(oid for oid in lie.objects if oid != lacking)), "incomplete history")
    assert spawned == ["rev-list"]


@pytest.mark.parametrize("what", [":c", ":c/d"])
def test_an_object_that_no_ref_holds_vouches_for_nothing(lie: Lie, spawned: list[str], what: str) -> None:
    """It is in the store, but not what it needs."""
    tree = rev_parse(lie.world.work, f"{lie.new}{what}")
    blob = rev_parse(lie.world.work, f"{lie.new}:c/d/e.txt")
    scattered = pack_of(lie.world.work, *(oid for oid in lie.objects if oid != blob))
    subprocess.run(["git", "unpack-objects", "-q"], cwd=lie.world.local, input=scattered, check=True)
    sent = pack_of(lie.world.work, *(oid for oid in lie.objects if oid not in (tree, blob)))
    with lying_peer(sends_pack(sent)) as url, pytest.raises(TransferRejected, match="incomplete history"):
        lie.world.bring(url, [lie.new], [lie.old])
    assert spawned == ["rev-list"]
    assert packs(lie.world.local) == set()
    assert leftovers(lie.world.local) == []


def test_a_parent_that_is_missing_is_noticed(lie: Lie, spawned: list[str]) -> None:
    saved(lie.world, "c/d/e.txt", "newer")
    tip = rev_parse(lie.world.work)
    sent = pack_of(lie.world.work, *between(lie.world, lie.new, tip))
    lie.new = tip
    lie.refused(sent, "incomplete history")
    assert spawned == ["rev-list"]


def test_a_damaged_pack_is_refused_in_gits_words(lie: Lie, spawned: list[str]) -> None:
    sent = bytearray(pack_of(lie.world.work, *lie.objects))
    sent[len(sent) // 2] ^= 0xFF
    lie.refused(bytes(sent), "a pack that git refuses: .+")
    sent = bytearray(pack_of(lie.world.work, *lie.objects))
    sent[-1] ^= 1  # of its checksum
    lie.refused(bytes(sent), "a pack that git refuses: .+")
    assert spawned == ["index-pack"] * 2


def test_a_pack_that_ends_too_early_is_refused_in_gits_words(lie: Lie, spawned: list[str]) -> None:
    sent = pack_of(lie.world.work, *lie.objects)
    lie.refused(sent[: len(sent) // 2], "a pack that git refuses: .+")
    lie.refused(sent[:5], "a pack that git refuses: .+")
    assert set(spawned) == {"index-pack"}


def tip_of(tree: bytes, *parents: str) -> tuple[str, bytes]:
    """A commit of this tree, and its body in a pack."""
    lines = "".join(f"parent {parent}\n" for parent in parents).encode()
    who = b"A <a@example.org> 1 +0000"
    body = b"tree %s\n%sauthor %s\ncommitter %s\n\nx\n" % (tree.hex().encode(), lines, who, who)
    return oid_of(COMMIT, body).hex(), plain(COMMIT, body)


INNER = b"100644 f\0" + oid_of(BLOB, b"x")
ODD_TREES = {
    "a file that is a tree": b"100644 odd\0" + oid_of(TREE, INNER),
    "a folder that is a file": b"40000 odd\0" + oid_of(BLOB, b"x"),
    "a mode that git does not write": b"100600 odd\0" + oid_of(BLOB, b"x"),
    "a mode with a zero before it": b"040000 odd\0" + oid_of(TREE, INNER),
    "an end in the middle": b"40000 odd\0" + oid_of(TREE, INNER)[:9],
    "something else between": INNER + b"odd" + INNER,
    "an empty name": b"40000 \0" + oid_of(TREE, INNER),
    "a mode without an end": b"0" * 300_000 + b"100644 a/b\0" + bytes(20),
}


def test_one_parent_that_is_here_does_not_stand_for_another(lie: Lie, spawned: list[str]) -> None:
    tree = bytes.fromhex(rev_parse(lie.world.local, f"{lie.old}^{{tree}}"))
    lie.new, body = tip_of(tree, lie.old, "12" * 20)
    lie.refused(pack([body]), "incomplete history")
    assert spawned == ["rev-list"]


def test_a_tag_is_no_parent(lie: Lie, spawned: list[str]) -> None:
    """Also where the tag itself is wanted, and has been looked at before."""
    tag = f"object {lie.old}\ntype commit\ntag v\ntagger A <a@example.org> 1 +0000\n\nx\n".encode()
    oid = oid_of(TAG, tag).hex()
    tree = bytes.fromhex(rev_parse(lie.world.local, f"{lie.old}^{{tree}}"))
    tip, body = tip_of(tree, oid, lie.old)
    for wants in ([oid, tip], [tip, oid]):
        with lying_peer(sends_pack(pack([body, plain(TAG, tag)]))) as url, pytest.raises(TransferRejected):
            lie.world.bring(url, wants, [lie.old])
    assert spawned == ["rev-list"] * 2


@pytest.mark.parametrize("odd", ODD_TREES)
def test_an_odd_tree_is_for_git_to_judge(lie: Lie, spawned: list[str], odd: str) -> None:
    tree = ODD_TREES[odd]
    tip, body = tip_of(oid_of(TREE, tree), lie.old)
    sent = pack([body, plain(TREE, tree), plain(TREE, INNER), plain(BLOB, b"x")])
    with lying_peer(sends_pack(sent)) as url:
        try:
            lie.world.bring(url, [tip], [lie.old])
        except TransferRejected:
            assert packs(lie.world.local) == set()
    assert spawned == ["rev-list"]


MIB = 1 << 20
BOMBS: dict[str, Callable[[], list[bytes]]] = {
    "a blob of zeros": lambda: [plain(BLOB, bytes(30 * MIB))],
    "many blobs of zeros": lambda: [plain(BLOB, bytes(MIB + number)) for number in range(20)],
    "a delta that copies": lambda: [plain(BLOB, bytes(1 << 16)), delta_bomb(bytes(1 << 16), 5000)],
    "a delta of zeros": lambda: [
        plain(BLOB, b"x"),
        b"\xf0" + b"\x80" * 3 + b"\x20" + oid_of(BLOB, b"x") + zlib.compress(bytes(30 * MIB)),
    ],
    "more than is said": lambda: [b"\x3a" + zlib.compress(bytes(60 * MIB))],
    "less than is said": lambda: [b"\x3a" + zlib.compress(b"x")],
    "a size without end": lambda: [b"\xbf" + b"\xff" * 60_000],
    "a distance without end": lambda: [b"\x65" + b"\xff" * 60_000],
    "a delta against itself": lambda: [b"\x65\x00" + zlib.compress(b"12345")],
    "a delta against what is not there": lambda: [b"\x75" + bytes(20) + zlib.compress(b"12345")],
}


@pytest.mark.parametrize("bomb", BOMBS)
def test_a_bomb_is_left_to_git(lie: Lie, bomb: str) -> None:
    sent = pack(BOMBS[bomb]())
    assert len(sent) <= SMALL
    with Quarantine(lie.world.local) as quarantine:
        tracemalloc.start()
        try:
            assert not SmallPackIntake(quarantine, "sha1", "").take(sent)
            assert tracemalloc.get_traced_memory()[1] < 12 * MIB
        finally:
            tracemalloc.stop()
        assert list(quarantine.pack_directory.iterdir()) == []


def test_a_base_that_is_too_large_is_not_read(lie: Lie) -> None:
    """A few bytes can name it."""
    base = bytes(20 * MIB)
    (lie.world.work / "zeros").write_bytes(base)
    subprocess.run(["git", "hash-object", "-w", str(lie.world.work / "zeros")], cwd=lie.world.local, check=True)
    with Quarantine(lie.world.local) as quarantine:
        assert not SmallPackIntake(quarantine, "sha1", "").take(pack([delta_bomb(base, 1)]))


# The same, by chance: what is found to be closed is closed for git.


@dataclass
class Small:
    local: Path
    old: str
    sent: bytes
    trees: list[bytes]
    blobs: list[bytes]


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Small]:
    folder = tmp_path_factory.mktemp("small")
    home = make_home(folder / "home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOME", str(home))
        world = World(folder)
        old = settled(world)
        saved(world, "large.txt", TEXT + "more\n")
        saved(world, "c/d/e.txt", TEXT)
        new = rev_parse(world.work)
        thin = ["git", "pack-objects", "--stdout", "-q", "--thin", "--revs", "--delta-base-offset"]
        asked = f"{new}\n^{old}\n".encode()
        sent = subprocess.run(thin, cwd=world.work, input=asked, capture_output=True, check=True).stdout
        listed = git(world.local, "ls-tree", "-r", "-t", old).stdout.splitlines()
        found = [(line.split()[1], bytes.fromhex(line.split()[2])) for line in listed]
        trees = [oid for kind, oid in found if kind == "tree"] + [
            bytes.fromhex(rev_parse(world.local, f"{old}^{{tree}}"))
        ]
        yield Small(world.local, old, sent, trees, [oid for kind, oid in found if kind == "blob"])
        shutil.rmtree(folder)


def judged(small: Small, sent: bytes, want: str) -> bool | None:
    """Whether it was proven, or not even taken (None). Git's judgement is never another than "closed" where it was proven."""
    with Quarantine(small.local) as quarantine:
        intake = SmallPackIntake(quarantine, "sha1", "")
        if not intake.take(sent):
            return None
        env = quarantine.environment()
        proven = intake.proves([want], [small.old])
        if proven:
            asked = f"{want}\n^{small.old}\n".encode()
            walk = ["git", f"--git-dir={small.local}", "rev-list", "--objects", "--quiet", "--stdin"]
            assert subprocess.run(walk, input=asked, env=env, capture_output=True, check=False).returncode == 0
            (index,) = quarantine.received()
            verify = ["git", f"--git-dir={small.local}", "verify-pack", str(index)]
            subprocess.run(verify, env=env, capture_output=True, check=True)
        return proven


@given(st.data())
@settings(max_examples=400, deadline=None)
def test_no_damage_to_a_pack_does_more_than_leave_it_to_git(small: Small, data: st.DataObject) -> None:
    body = bytearray(small.sent[:-20])
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.integers(0, len(body) - 1))
        kind = data.draw(st.sampled_from(["flip", "cut", "insert"]))
        if kind == "flip":
            body[place] ^= data.draw(st.integers(1, 255))
        elif kind == "cut":
            del body[place : place + data.draw(st.integers(1, 40))]
        else:
            body[place:place] = data.draw(st.binary(max_size=20))
        if not body:
            return
    sealed = bytes(body) + sha1(body).digest()  # noqa: S324 -- git's own
    with Quarantine(small.local) as quarantine:
        SmallPackIntake(quarantine, "sha1", "").take(sealed)
        assert not SmallPackIntake(quarantine, "sha1", "").take(bytes(body) + small.sent[-20:]) or sealed == small.sent


@given(st.data())
@settings(max_examples=300, deadline=None)
def test_what_is_proven_is_closed_for_git(small: Small, data: st.DataObject) -> None:
    """Trees and commits at random: of what comes, of what is here, of what is nowhere, in the right and in the wrong place."""
    blobs = [b"blob %d" % number for number in range(2)]
    known = {"blob": [oid_of(BLOB, blob) for blob in blobs], "tree": [oid_of(TREE, INNER), oid_of(TREE, b"")]}
    bodies = [*(plain(BLOB, blob) for blob in blobs), plain(TREE, b"")]
    absent = bytes(range(20))
    for _ in range(data.draw(st.integers(1, 3))):
        text = b""
        for name in data.draw(st.lists(st.sampled_from([b"a", b"b", b"large.txt", b"x"]), unique=True, max_size=4)):
            mode = data.draw(st.sampled_from([b"40000", b"100644", b"100755", b"160000"]))
            right = known["tree"] + small.trees if mode == b"40000" else known["blob"] + small.blobs
            rarely = data.draw(st.integers(0, 9)) == 0
            any_of = [*known["tree"], *known["blob"], *small.trees, *small.blobs, bytes.fromhex(small.old), absent]
            text += mode + b" " + name + b"\0" + data.draw(st.sampled_from(any_of if rarely else right))
        known["tree"].append(oid_of(TREE, text))
        bodies.append(plain(TREE, text))
    parents = data.draw(st.sampled_from([(), (small.old,), (small.old,), (absent.hex(),), (small.old, small.old)]))
    tip, body = tip_of(known["tree"][-1], *parents)
    bodies.append(body)
    if data.draw(st.booleans()):
        tip, body = tip_of(data.draw(st.sampled_from(known["tree"] + small.trees)), tip, small.old)
        bodies.append(body)
    if data.draw(st.integers(0, 4)) == 0:
        del bodies[data.draw(st.integers(0, len(bodies) - 1))]
    judged(small, pack(dict.fromkeys(bodies)), tip)


def test_chance_meets_packs_that_are_proven(small: Small) -> None:
    """Else the promise above would be empty."""
    here = bytes.fromhex(rev_parse(small.local, f"{small.old}:large.txt"))
    text = b"40000 a\0" + small.trees[0] + b"100644 x\0" + here
    inner = b"100644 x\0" + oid_of(BLOB, b"x")
    whole = text + b"40000 y\0" + oid_of(TREE, inner)
    tip, body = tip_of(oid_of(TREE, whole), small.old)
    sent = pack([body, plain(TREE, whole), plain(TREE, inner), plain(BLOB, b"x")])
    assert judged(small, sent, tip) is True
    assert judged(small, sent, "12" * 20) is False
