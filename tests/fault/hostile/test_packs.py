"""Packs that shall exhaust whoever takes them. What is corrupt, cut off, endless or slow is in tests/transfer/test_lying_peers.py."""

from __future__ import annotations

import resource
import socket
import time
from collections.abc import Callable
from hashlib import sha1
from pathlib import Path

import pytest

from piehole.errors import TransferError, TransferRejected
from piehole.transfer.watchdog import Limits
from tests.fault.hostile.bombs import BLOB, COMMIT, TREE, delta_bomb, oid_of, pack, plain, zeros
from tests.support.fetch_bed import FetchBed, complete, leftovers, packs
from tests.support.git import git, has_object
from tests.transfer.liar import chats_in_the_pack, lying_peer, pkt, sends_pack
from tests.transfer.test_lying_peers import closure, pack_of

MIB = 1 << 20
TIGHT = Limits(max_bytes=8 * MIB, max_memory=96 * MIB, stall=20, total=60)
ANY = "12" * 20


@pytest.fixture
def world(tmp_path: Path) -> FetchBed:
    return FetchBed(tmp_path)


def refuses(world: FetchBed, sent: bytes, want: str, words: str) -> None:
    before = packs(world.local)
    with lying_peer(sends_pack(sent)) as url, pytest.raises(TransferRejected, match=words):
        world.bring(url, [want], limits=TIGHT)
    assert packs(world.local) == before
    assert not has_object(world.local, want)
    assert leftovers(world.local) == []
    largest = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss >> 10
    # A child counts with this process's memory until it has become git.
    own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
    assert largest < max(400, own + 1), f"some git had {largest} MiB"


BASE = bytes(1 << 16)
BOMBS: dict[str, Callable[[], bytes]] = {
    "a delta that becomes 1 GiB": lambda: pack([plain(BLOB, BASE), delta_bomb(BASE, 1 << 14)]),
    "a delta that becomes 1 TiB": lambda: pack([plain(BLOB, BASE), delta_bomb(BASE, 1 << 24)]),
    "a tree of 400 MiB": lambda: pack([zeros(TREE, 400 * MIB)]),
    "a commit of 400 MiB": lambda: pack([zeros(COMMIT, 400 * MIB)]),
    "a blob of 400 MiB": lambda: pack([zeros(BLOB, 400 * MIB)]),
    "two thousand million objects": lambda: pack([plain(BLOB, b"x")], promised=0x7FFFFFFF),
}


@pytest.mark.parametrize("bomb", BOMBS)
def test_a_pack_that_inflates_beyond_the_limit_of_memory_is_refused(world: FetchBed, bomb: str) -> None:
    sent = BOMBS[bomb]()
    assert len(sent) < TIGHT.max_bytes
    refuses(world, sent, ANY, "git refuses: .*(emory|overflow)")


def test_without_that_limit_a_bomb_is_taken_apart(world: FetchBed) -> None:
    """Else the refusals above would prove nothing: this one is no bomb for the limit that is usual."""
    blob = oid_of(BLOB, bytes(1 << 28)).hex()
    with lying_peer(sends_pack(pack([plain(BLOB, BASE), delta_bomb(BASE, 1 << 12)]))) as url:
        world.bring(url, [blob], limits=Limits(stall=30, total=60))
    assert has_object(world.local, blob)


def test_a_blob_too_large_for_memory_goes_to_the_disk(world: FetchBed) -> None:
    """Git streams blobs beyond core.bigFileThreshold: the limit of memory is no limit of what people may keep in git."""
    git(world.local, "config", "core.bigFileThreshold", "10m")
    sent = zeros(BLOB, 200 * MIB)
    blob = sha1(b"blob %d\0" % (200 * MIB) + bytes(200 * MIB)).hexdigest()  # noqa: S324 -- git's own
    with lying_peer(sends_pack(pack([sent]))) as url:
        world.bring(url, [blob], limits=TIGHT)
    assert has_object(world.local, blob)


def tip_of(tree: bytes) -> tuple[str, bytes]:
    """A commit of this tree, and its body in a pack."""
    who = b"A <a@example.org> 1 +0000"
    body = b"tree %s\nauthor %s\ncommitter %s\n\nx\n" % (tree.hex().encode(), who, who)
    return oid_of(COMMIT, body).hex(), plain(COMMIT, body)


@pytest.mark.parametrize("tree", [b"100644", b"100644 a\0short", b"\0" * 64, b"100644 \0" + bytes(20), b"9" * 5000])
def test_a_tree_that_is_none_is_rejected(world: FetchBed, tree: bytes) -> None:
    tip, commit = tip_of(oid_of(TREE, tree))
    refuses(world, pack([plain(TREE, tree), commit]), tip, "incomplete history|git refuses")


def test_a_tree_a_hundred_thousand_folders_deep_holds_up_nobody(world: FetchBed) -> None:
    tree = b"100644 a\0" + oid_of(BLOB, b"x")
    bodies = [plain(BLOB, b"x")]
    for _ in range(100_000):
        bodies.append(plain(TREE, tree))
        tree = b"40000 a\0" + oid_of(TREE, tree)
    tip, commit = tip_of(oid_of(TREE, tree))
    sent = pack([*bodies, plain(TREE, tree), commit])
    started = time.monotonic()
    with lying_peer(sends_pack(sent)) as url:
        try:
            world.bring(url, [tip], limits=Limits(stall=30, total=60))
        except TransferRejected:  # git gives up at its core.maxTreeDepth, or where its stack ends
            assert packs(world.local) == set()
    assert time.monotonic() - started < 60
    assert leftovers(world.local) == []


def test_a_peer_that_chats_for_ever_in_the_pack_ends_at_the_deadline(world: FetchBed) -> None:
    limits = Limits(stall=5, total=1.5)
    with lying_peer(chats_in_the_pack) as url, pytest.raises(TransferError, match=r"took longer than 1\.5 s"):
        world.bring(url, [ANY], limits=limits)
    assert leftovers(world.local) == []


OPTIONS = (
    b"refs/heads/--upload-pack=touch${IFS}pwned",
    b"--output=pwned",
    b"-c",
    b"refs/heads/..",
    b"refs/heads/x\\ny",
    b"../../../pwned",
    b"HEAD",
    b"refs/heads/\xff\xfe",
)


def test_refs_of_a_peer_that_look_like_options_are_not_looked_at(world: FetchBed) -> None:
    """An old peer names all its refs, whether they are wanted or not. The group's keys say what is fetched, and nothing else."""
    tip = world.advance("two")
    sent = pack_of(world.work, *closure(world.work, tip))

    def talk(connection: socket.socket) -> None:
        stream = connection.makefile("rb")
        size = int(stream.read(4), 16)
        stream.read(size - 4)
        able = b"\0side-band-64k ofs-delta allow-tip-sha1-in-want allow-reachable-sha1-in-want object-format=sha1"
        for number, name in enumerate(OPTIONS):
            connection.sendall(pkt(tip.encode() + b" " + name + (able if number == 0 else b"") + b"\n"))
        connection.sendall(b"0000")
        asked = b""
        while b"done" not in asked:
            asked = stream.read(max(int(stream.read(4), 16) - 4, 0))
        connection.sendall(pkt(b"NAK\n"))
        for start in range(0, len(sent), 1000):
            connection.sendall(pkt(b"\1" + sent[start : start + 1000]))
        connection.sendall(b"0000")

    before = git(world.local, "for-each-ref").stdout
    with lying_peer(talk) as url:
        world.bring(url, [tip])
    assert complete(world.local, tip)
    assert git(world.local, "for-each-ref").stdout == before
    assert not list(world.folder.rglob("*pwned*"))
