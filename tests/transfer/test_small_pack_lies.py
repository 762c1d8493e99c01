"""A small pack that lies is refused, in git's own words, and never costs more than its budget."""

from __future__ import annotations

import subprocess
import tracemalloc
import zlib
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from piehole.errors import TransferRejected
from piehole.transfer.quarantine import Quarantine
from piehole.transfer.small_pack import SMALL, SmallPackIntake
from tests.fault.hostile.bombs import BLOB, TAG, TREE, delta_bomb, oid_of, pack, plain
from tests.support.fetch_bed import FetchBed, leftovers, packs
from tests.support.git import rev_parse
from tests.transfer.liar import lying_peer, sends_pack
from tests.transfer.small_pushes import INNER, between, saved, settled, sound, tip_of
from tests.transfer.test_lying_peers import pack_of, refuses


@dataclass
class Lie:
    """A repository that has ``old``, and the objects of a commit upon it."""

    world: FetchBed
    old: str
    new: str
    objects: list[str]

    def refuses(self, sent: bytes, words: str) -> None:
        refuses(self.world, sends_pack(sent), self.new, TransferRejected, words, haves=[self.old])


@pytest.fixture
def lie(world: FetchBed) -> Lie:
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
    lie.refuses(pack_of(lie.world.work, *(oid for oid in lie.objects if oid != lacking)), "incomplete history")
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
    lie.refuses(sent, "incomplete history")
    assert spawned == ["rev-list"]


def test_a_damaged_pack_is_refused_in_gits_words(lie: Lie, spawned: list[str]) -> None:
    sent = bytearray(pack_of(lie.world.work, *lie.objects))
    sent[len(sent) // 2] ^= 0xFF
    lie.refuses(bytes(sent), "a pack that git refuses: .+")
    sent = bytearray(pack_of(lie.world.work, *lie.objects))
    sent[-1] ^= 1  # of its checksum
    lie.refuses(bytes(sent), "a pack that git refuses: .+")
    assert spawned == ["index-pack"] * 2


def test_a_pack_that_ends_too_early_is_refused_in_gits_words(lie: Lie, spawned: list[str]) -> None:
    sent = pack_of(lie.world.work, *lie.objects)
    lie.refuses(sent[: len(sent) // 2], "a pack that git refuses: .+")
    lie.refuses(sent[:5], "a pack that git refuses: .+")
    assert set(spawned) == {"index-pack"}


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
    lie.refuses(pack([body]), "incomplete history")
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
