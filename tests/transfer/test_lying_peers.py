"""lying_peer: whatever a peer sends, nothing of it becomes visible unless it is what was pushed, and whole."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from piehole.errors import TransferError, TransferRejected
from piehole.transfer.watchdog import Limits
from tests.support.fetch_bed import QUICK, FetchBed, leftovers, packs
from tests.support.git import git, has_object
from tests.support.wait import until
from tests.transfer.liar import (
    Talk,
    falls_silent_in_the_pack,
    introduces_itself_for_ever,
    lying_peer,
    says_nothing,
    sends_for_ever,
    sends_pack,
)


def pack_of(repository: Path, *oids: str) -> bytes:
    """A pack of exactly these objects."""
    return subprocess.run(
        ["git", "pack-objects", "--stdout", "-q"],
        cwd=repository,
        input="".join(f"{oid}\n" for oid in oids).encode(),
        capture_output=True,
        check=True,
    ).stdout


def closure(repository: Path, tip: str, *without: str) -> list[str]:
    listed = git(repository, "rev-list", "--objects", tip).stdout.splitlines()
    return [line.split(" ")[0] for line in listed if line.split(" ")[0] not in without]


def refuses(
    world: FetchBed,
    talk: Talk,
    want: str,
    error: type[TransferError],
    words: str,
    limits: Limits = QUICK,
    haves: Sequence[str] = (),
) -> None:
    before = packs(world.local)
    with lying_peer(talk) as url, pytest.raises(error, match=words) as failed:
        world.bring(url, [want], haves, limits=limits)
    assert type(failed.value) is error
    assert "git://127.0.0.1" in str(failed.value)
    assert packs(world.local) == before
    assert not has_object(world.local, want)
    assert leftovers(world.local) == []


def test_the_liar_can_tell_the_truth(world: FetchBed) -> None:
    """Else the refusals below would prove nothing."""
    tip = world.advance("two")
    with lying_peer(sends_pack(pack_of(world.work, *closure(world.work, tip)))) as url:
        world.bring(url, [tip])
    assert has_object(world.local, tip)


@pytest.mark.parametrize("here", ["nothing", "something"])
@pytest.mark.parametrize("kind", ["blob", "tree", "parent", "tip"])
def test_a_tip_without_its_closure_is_rejected(world: FetchBed, kind: str, here: str) -> None:
    haves = [world.follow()] if here == "something" else []
    world.advance("two")
    tip = world.advance("three")
    lacking = {
        "blob": git(world.work, "rev-parse", f"{tip}:file.txt"),
        "tree": git(world.work, "rev-parse", f"{tip}^{{tree}}"),
        "parent": git(world.work, "rev-parse", f"{tip}^"),
        "tip": git(world.work, "rev-parse", tip),
    }[kind].stdout.strip()
    pack = pack_of(world.work, *closure(world.work, tip, lacking))
    refuses(world, sends_pack(pack), tip, TransferRejected, "incomplete history", haves=haves)


def test_a_corrupt_pack_is_rejected(world: FetchBed) -> None:
    tip = world.advance("large", content=os.urandom(20_000).hex())
    pack = bytearray(pack_of(world.work, *closure(world.work, tip)))
    pack[len(pack) // 2] ^= 0xFF
    refuses(world, sends_pack(bytes(pack)), tip, TransferRejected, "a pack that git refuses")


def test_a_pack_that_ends_too_early_is_rejected(world: FetchBed) -> None:
    tip = world.advance("large", content=os.urandom(20_000).hex())
    pack = pack_of(world.work, *closure(world.work, tip))
    refuses(world, sends_pack(pack[: len(pack) // 2]), tip, TransferRejected, "a pack that git refuses")


def test_a_connection_that_breaks_off_is_no_success(world: FetchBed) -> None:
    tip = world.advance("large", content=os.urandom(20_000).hex())
    pack = pack_of(world.work, *closure(world.work, tip))
    refuses(world, sends_pack(pack[: len(pack) // 2], cut=True), tip, TransferError, "broke off in the middle")


def test_something_that_is_no_pack_is_rejected(world: FetchBed) -> None:
    refuses(world, sends_pack(b"not a pack at all" * 100), "12" * 20, TransferRejected, "a pack that git refuses")


def test_a_pack_of_other_objects_is_rejected(world: FetchBed) -> None:
    tip = world.advance("two")
    pack = pack_of(world.work, *closure(world.work, tip))
    refuses(world, sends_pack(pack), "12" * 20, TransferRejected, "incomplete history")


def test_an_endless_pack_ends_at_the_limit(world: FetchBed) -> None:
    limits = Limits(max_bytes=3_000_000, stall=5, total=30)
    refuses(world, sends_for_ever, "12" * 20, TransferRejected, "3000000 bytes that are allowed", limits)


def test_an_endless_introduction_ends_at_the_limit(world: FetchBed) -> None:
    refuses(world, introduces_itself_for_ever, "12" * 20, TransferRejected, "without beginning a pack")


@pytest.mark.parametrize("talk", [says_nothing, falls_silent_in_the_pack])
def test_a_peer_that_hangs_is_given_up(world: FetchBed, talk: Talk) -> None:
    started = time.monotonic()
    refuses(world, talk, "12" * 20, TransferError, "no byte arrived for 0.5 s", Limits(stall=0.5, total=20))
    assert time.monotonic() - started < 5


def test_the_total_time_is_limited_though_bytes_arrive(world: FetchBed) -> None:
    limits = Limits(max_bytes=1 << 40, stall=5, total=0.7)
    refuses(world, sends_for_ever, "12" * 20, TransferError, "took longer than 0.7 s", limits)


@pytest.mark.parametrize("talk", [says_nothing, falls_silent_in_the_pack, sends_for_ever])
def test_a_stop_aborts_at_once(world: FetchBed, talk: Talk) -> None:
    stop = threading.Event()
    stopped: list[float] = []

    def set_stop() -> None:
        stopped.append(time.monotonic())
        stop.set()

    timer = threading.Timer(0.3, set_stop)
    with lying_peer(talk) as url, pytest.raises(TransferError, match="was stopped"):
        timer.start()
        world.bring(url, ["12" * 20], limits=Limits(max_bytes=1 << 40), stop=stop)
    ended = time.monotonic()
    timer.join()
    assert ended - stopped[0] < 1.7
    assert leftovers(world.local) == []


def test_a_peer_that_lost_an_object_is_no_danger(world: FetchBed) -> None:
    tip = world.advance("two")
    blob = git(world.peer, "rev-parse", f"{tip}:file.txt").stdout.strip()
    (world.peer / "objects" / blob[:2] / blob[2:]).unlink()
    with pytest.raises(TransferError):
        world.bring(str(world.peer), [tip])
    assert packs(world.local) == set()
    assert leftovers(world.local) == []


def test_the_limit_of_bytes_holds_for_git_too(world: FetchBed) -> None:
    """A peer that only git can talk to is no way around it."""
    tip = world.advance("large", content=os.urandom(2_000_000).hex())
    with lying_peer(_rejects_dulwich(world.peer)) as url:
        assert world.bring(url, [tip], limits=Limits(stall=5, total=30)).via == "git"
        world.local = world.folder / "second.git"
        git(world.folder, "init", "-q", "--bare", str(world.local))
        with pytest.raises(TransferRejected, match="100000 bytes that are allowed"):
            world.bring(url, [tip], limits=Limits(max_bytes=100_000, stall=5, total=30))
    assert packs(world.local) == set()
    assert leftovers(world.local) == []


@pytest.mark.parametrize("limits", [Limits(stall=0.5, total=20), Limits(stall=20, total=1)])
def test_the_limits_of_time_hold_for_git_too(world: FetchBed, limits: Limits) -> None:
    with (
        lying_peer(_nonsense_twice_then(says_nothing)) as url,
        pytest.raises(TransferError, match=r"no byte arrived|took longer"),
    ):
        world.bring(url, ["12" * 20], limits=limits)
    assert leftovers(world.local) == []


def test_a_prune_does_not_disturb_a_fetch(world: FetchBed) -> None:
    """git's own quarantines do not survive this."""
    tip = world.advance("large", content=os.urandom(200_000).hex())
    pack = pack_of(world.work, *closure(world.work, tip))

    def prunes_first(connection: socket.socket) -> None:
        git(world.local, "prune", "--expire=now")
        git(world.local, "gc", "-q", "--prune=now")
        sends_pack(pack)(connection)

    with lying_peer(prunes_first) as url:
        world.bring(url, [tip])
    assert has_object(world.local, tip)


def test_a_fetch_whose_quarantine_is_removed_blames_nobody_else(world: FetchBed) -> None:
    tip = world.advance("large", content=os.urandom(200_000).hex())
    pack = pack_of(world.work, *closure(world.work, tip))

    def removes(connection: socket.socket) -> None:
        for quarantine in world.local.glob("objects/piehole-quarantine-*"):
            shutil.rmtree(quarantine)
        sends_pack(pack)(connection)

    refuses(world, removes, tip, TransferError, "lost its quarantine")


def test_nothing_of_an_aborted_fetch_keeps_running(world: FetchBed) -> None:
    stop = threading.Event()
    with lying_peer(falls_silent_in_the_pack) as url:
        failed: list[TransferError] = []

        def bring() -> None:
            try:
                world.bring(url, ["12" * 20], limits=Limits(), stop=stop)
            except TransferError as error:
                failed.append(error)

        thread = threading.Thread(target=bring)
        thread.start()
        until(lambda: _gits_at(world.local), what="index-pack runs")
        stop.set()
        thread.join(5)
    assert failed
    assert not _gits_at(world.local)


def _gits_at(repository: Path) -> list[str]:
    found = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = entry.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if str(repository) in line and "git" in line:
            found.append(line)
    return found


def _rejects_dulwich(peer: Path) -> Talk:
    """Two of three connections get nonsense (dulwich's), the third a real upload-pack (git's)."""

    def upload_pack(connection: socket.socket) -> None:
        size = int(connection.recv(4), 16)
        connection.recv(size - 4)
        subprocess.run(
            ["git", "upload-pack", str(peer)],
            stdin=connection.fileno(),
            stdout=connection.fileno(),
            stderr=subprocess.DEVNULL,
            env={**os.environ, "GIT_PROTOCOL": "version=2"},
            check=False,
        )

    return _nonsense_twice_then(upload_pack)


def _nonsense_twice_then(talk: Talk) -> Talk:
    count = iter(range(1_000))

    def nonsense_or_talk(connection: socket.socket) -> None:
        if next(count) % 3 < 2:
            connection.recv(4096)
            connection.sendall(b"000aversio")
        else:
            talk(connection)

    return nonsense_or_talk
