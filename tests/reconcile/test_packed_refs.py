"""Very many new refs at once come into a new repository as one file; whatever is in the way, none is lost and none comes that is not wanted."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Collection, Sequence
from pathlib import Path

import pytest

from piehole.errors import EtcdError, GitError
from piehole.refs import Command
from piehole.repository import packed_refs
from piehole.repository.ref_moves import RefMover, Unmoved
from piehole.repository.ref_transaction import RefTransaction
from piehole.repository.repository import Repository
from piehole.repository.stale_locks import clear
from tests.support.git import ZERO_SHA1, git, make_bare, refs
from tests.support.groups import Group
from tests.support.process import descendants

_MANY = 1200


class Source:
    """Commits and tags, in the store of a repository without a ref."""

    def __init__(self, folder: Path) -> None:
        self.git_dir = make_bare(folder / "r.git")
        tree = git(self.git_dir, "hash-object", "-t", "tree", "-w", "--stdin").stdout.strip()
        identity = ("-c", "user.name=A", "-c", "user.email=a@b")
        self.commit, self.other = (
            git(self.git_dir, *identity, "commit-tree", "-m", message, tree).stdout.strip() for message in "ab"
        )
        git(self.git_dir, *identity, "tag", "-a", "-m", "a tag", "v1", self.commit)
        self.tag = git(self.git_dir, "rev-parse", "v1").stdout.strip()
        git(self.git_dir, "tag", "-d", "v1")  # which leaves a file of packed refs that has a header alone
        self.repository = Repository(self.git_dir)
        self.moves = [Command(f"refs/heads/d{n % 7}/b-{n:04}", ZERO_SHA1, self.commit) for n in range(_MANY)]
        self.moves += [Command("refs/heads/é", ZERO_SHA1, self.other), Command("refs/tags/v1", ZERO_SHA1, self.tag)]
        self.wanted = {move.ref: move.new for move in self.moves}

    def loose(self) -> list[Path]:
        return [path for path in (self.git_dir / "refs").rglob("*") if path.is_file()]

    def leftovers(self) -> list[Path]:
        patterns = ("*.lock", "packed-refs.*", "piehole-quarantine-*", "piehole/moving/*")
        return sorted({path for pattern in patterns for path in self.git_dir.rglob(pattern)})


@pytest.fixture
def source(tmp_path: Path) -> Source:
    return Source(tmp_path)


def all_of_them(moves: Sequence[Command]) -> Collection[str]:
    return {move.ref for move in moves}


def test_they_come_as_one_file_that_is_as_git_writes_it(source: Source) -> None:
    assert RefMover(source.repository, "m", all_of_them).move(source.moves) == Unmoved()
    assert refs(source.git_dir) == source.wanted
    assert source.loose() == []
    assert source.leftovers() == []
    made = (source.git_dir / "packed-refs").read_bytes()
    git(source.git_dir, "update-ref", "refs/heads/one-more", source.commit)
    git(source.git_dir, "pack-refs", "--all")
    git(source.git_dir, "update-ref", "-d", "refs/heads/one-more")
    assert (source.git_dir / "packed-refs").read_bytes() == made
    assert f"\n^{source.commit}\n".encode() in made
    git(source.git_dir, "fsck", "--strict")


def test_the_group_is_asked_under_the_locks_of_all_of_them(source: Source) -> None:
    tried: list[str] = []

    def asked(moves: Sequence[Command]) -> Collection[str]:
        for command in (
            ("update-ref", moves[0].ref, source.other),
            ("update-ref", moves[-1].ref, source.other),
            ("pack-refs", "--all"),
        ):
            done = git(
                source.git_dir,
                "-c",
                "core.packedRefsTimeout=0",
                "-c",
                "core.filesRefLockTimeout=0",
                *command,
                check=False,
            )
            tried.append(done.stderr)
        return all_of_them(moves)

    assert RefMover(source.repository, "m", asked).move(source.moves) == Unmoved()
    assert len(tried) == 3
    assert all(".lock': File exists" in words for words in tried), tried
    assert refs(source.git_dir) == source.wanted


def test_what_is_wanted_no_more_does_not_come(source: Source) -> None:
    given_up = {source.moves[3].ref, "refs/tags/v1"}
    unmoved = RefMover(source.repository, "m", lambda moves: {*all_of_them(moves)} - given_up).move(source.moves)
    assert unmoved == Unmoved(unwanted=frozenset(given_up))
    assert refs(source.git_dir) == {ref: oid for ref, oid in source.wanted.items() if ref not in given_up}
    assert len(source.loose()) == 0


def test_a_ref_that_came_meanwhile_stays_as_it_is_and_the_others_come(source: Source) -> None:
    git(source.git_dir, "update-ref", source.moves[5].ref, source.other)
    unmoved = RefMover(source.repository, "m", all_of_them).move(source.moves)
    assert set(unmoved.failed) == {source.moves[5].ref}
    assert refs(source.git_dir) == {**source.wanted, source.moves[5].ref: source.other}
    assert source.leftovers() == []


@pytest.mark.slow
def test_a_name_that_stands_in_the_way_of_one_holds_up_no_other(source: Source) -> None:
    git(source.git_dir, "update-ref", "refs/heads/d0", source.other)
    unmoved = RefMover(source.repository, "m", all_of_them).move(source.moves)
    beside = {ref for ref in source.wanted if ref.startswith("refs/heads/d0/")}
    assert set(unmoved.failed) == beside
    assert set(refs(source.git_dir)) == source.wanted.keys() - beside | {"refs/heads/d0"}


def test_a_symbolic_ref_to_nowhere_is_not_covered(source: Source) -> None:
    git(source.git_dir, "symbolic-ref", source.moves[0].ref, "refs/heads/nowhere")
    unmoved = RefMover(source.repository, "m", all_of_them).move(source.moves)
    assert set(unmoved.failed) == {source.moves[0].ref}
    assert set(refs(source.git_dir)) == source.wanted.keys() - {source.moves[0].ref}


@pytest.mark.parametrize("there", ["packed-refs", "packed-refs.lock"])
def test_packed_refs_that_are_there_or_locked_are_left_alone(source: Source, there: str) -> None:
    git(source.git_dir, "update-ref", "refs/heads/old", source.other)
    git(source.git_dir, "pack-refs", "--all")
    before = (source.git_dir / "packed-refs").read_bytes()
    if there == "packed-refs.lock":
        (source.git_dir / "packed-refs").rename(source.git_dir / there)
        before = b""
    few = source.moves[:1000]
    git(source.git_dir, "config", "core.packedRefsTimeout", "0")
    assert RefMover(source.repository, "m", all_of_them).move(few) == Unmoved()
    path = source.git_dir / "packed-refs"
    assert (path.read_bytes() if path.exists() else b"") == before
    assert len(source.loose()) == 1000


def test_packed_refs_that_come_while_git_prepares_are_not_replaced(source: Source) -> None:
    with packed_refs.PackedRefs(source.git_dir, "sha1", source.wanted) as made:
        git(source.git_dir, "update-ref", "refs/heads/old", source.other)
        git(source.git_dir, "pack-refs", "--all")
        with RefTransaction(source.git_dir, "", 1) as locks:
            locks.prepare(made.locks)
            with pytest.raises(GitError, match="by now"):
                made.check()
    assert refs(source.git_dir) == {"refs/heads/old": source.other}


def test_etcd_that_gives_no_answer_leaves_nothing_behind(source: Source) -> None:
    def silent(_: Sequence[Command]) -> Collection[str]:
        raise EtcdError("no answer")

    with pytest.raises(EtcdError):
        RefMover(source.repository, "m", silent).move(source.moves)
    assert refs(source.git_dir) == {}
    assert source.leftovers() == []


def test_a_git_that_is_killed_under_the_locks_leaves_what_is_cleared_away(source: Source) -> None:
    def kill(moves: Sequence[Command]) -> Collection[str]:
        for pid in descendants(os.getpid()):
            if b"update-ref" in Path(f"/proc/{pid}/cmdline").read_bytes():
                os.kill(pid, signal.SIGKILL)
        raise EtcdError("no answer")

    with pytest.raises(EtcdError):
        RefMover(source.repository, "m", kill).move(source.moves)
    assert len([path for path in source.leftovers() if path.suffix == ".lock"]) == len(source.moves) + 2
    clear(source.git_dir)
    assert source.leftovers() == []
    assert RefMover(source.repository, "m", all_of_them).move(source.moves) == Unmoved()
    assert refs(source.git_dir) == source.wanted


def test_a_repository_that_many_accounts_share_gets_a_file_that_all_may_read(source: Source) -> None:
    git(source.git_dir, "config", "core.sharedRepository", "0664")
    before = os.umask(0o077)
    try:
        RefMover(source.repository, "m", all_of_them).move(source.moves)
    finally:
        os.umask(before)
    assert (source.git_dir / "packed-refs").stat().st_mode & 0o777 == 0o664


@pytest.mark.parametrize("object_format", ["sha1", "sha256"])
def test_a_new_site_gets_all_refs_of_the_group_and_goes_on_from_there(bed: Group, object_format: str) -> None:
    bed.object_format = object_format
    bed["a"].make()
    tip = bed.commit()
    branches = [f"refs/heads/many/b-{n:04}" for n in range(_MANY)]
    lines = "".join(f"create {name} {tip}\n" for name in ("refs/heads/main", *branches))
    git(bed.work, "push", "-q", str(bed["a"].repository), "HEAD:refs/heads/main")
    subprocess.run(
        ["git", "update-ref", "--stdin"], cwd=bed["a"].repository, input=lines.partition("\n")[2], text=True, check=True
    )
    bed.install("a", "b")
    assert bed.reconcile("a", "b").status == 0
    assert bed["b"].refs() == bed["a"].refs()
    assert (bed["b"].repository / "packed-refs").exists()
    newer = bed.commit("newer")
    bed.push("a", f"HEAD:{branches[0]}", f":{branches[1]}")
    assert bed.reconcile("b").status == 0
    assert bed["b"].at(branches[0]) == newer
    assert bed["b"].at(branches[1]) == ""
    bed["b"].fsck()
