"""Packs made at random: damage leaves a pack to git, and what is proven closed is closed for git as well."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha1
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from piehole.transfer.quarantine import Quarantine
from piehole.transfer.small_pack import SmallPackIntake
from tests.fault.hostile.bombs import BLOB, TREE, oid_of, pack, plain
from tests.support.fetch_bed import FetchBed
from tests.support.git import git, make_home, rev_parse
from tests.transfer.small_pushes import INNER, TEXT, saved, settled, tip_of


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
        world = FetchBed(folder)
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
