"""`piehole clobber --newest`: etcd was restored from a snapshot that is older than the repositories."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from piehole.commands.clobber_newest import newest
from tests.conftest import OwnEtcd
from tests.support.command_line import piehole
from tests.support.etcd import EtcdProcess
from tests.support.git import MAIN, ZERO_SHA1, commit, git, push
from tests.support.groups import Group


class Restored(Group):
    """Three sites of a group; ``back_up`` remembers etcd as it is, ``restore`` brings that back, as after a disaster."""

    def __init__(self, folder: Path, member: EtcdProcess) -> None:
        super().__init__(folder, [member.endpoint], "/piehole")
        self.member = member
        self.install("a", "b", "c")

    def back_up(self) -> None:
        self.member.terminate()
        self.member.copy_data(self.folder / "backup")
        self.member.start()

    def restore(self) -> None:
        self.member.kill()
        self.member.restore_data(self.folder / "backup")
        self.member.start()

    def pushed(self, site: str, message: str, *refspecs: str) -> str:
        """Push a new commit to one site, and to no other."""
        oid = self.commit(message)
        self.push(site, *refspecs)
        return oid

    def reconciled(self) -> None:
        assert self.reconcile("a", "b", "c").status == 0

    def commits(self) -> set[str]:
        """Every commit that any site has in a ref or a kept tip."""
        found: set[str] = set()
        for name in "abc":
            found.update(git(self[name].repository, "rev-list", "--all").stdout.split())
        return found


@pytest.fixture
def group(tmp_path: Path, own_etcd: OwnEtcd) -> Iterator[Restored]:
    yield Restored(tmp_path, own_etcd())


@pytest.mark.slow
def test_an_older_snapshot_is_brought_up_to_what_any_site_holds_and_nothing_moves_back(group: Restored) -> None:
    old = group.pushed("a", "one")
    group.reconciled()
    group.back_up()
    two = group.pushed("a", "two", f"HEAD:{MAIN}", "HEAD:refs/heads/later")
    assert group.reconcile("b").status == 0
    three = group.pushed("b", "three")  # c still has the first, a the second
    before = group.commits()
    group.restore()
    assert group.value(MAIN) == old
    assert group.reconcile("a", "b", "c").status == 1, "all stand still"

    shown = piehole("clobber", "--newest", "-C", group["c"].repository)
    assert shown.status == 1, "nobody was there to say yes"
    assert f"{old[:12]} -> {three[:12]} (forward)" in shown.line(f"{MAIN}: ")
    assert f"no opinion -> {two[:12]} (new)" in shown.line("refs/heads/later: ")
    assert group.value(MAIN) == old

    done = piehole("clobber", "--newest", "-C", group["c"].repository, "--yes")
    assert done.status == 0, done
    assert (group.value(MAIN), group.value("refs/heads/later")) == (three, two)
    assert group.reconcile("c").status == 0, "this site follows again"
    assert [group["c"].at(ref) for ref in (MAIN, "refs/heads/later")] == [three, two]
    for name in "ab":
        asked = piehole("accept", "-C", group[name].repository)
        assert "(back)" not in asked.out
        assert "(aside)" not in asked.out
        assert piehole("accept", "-C", group[name].repository, "--yes").status == 0
    group.reconciled()
    assert {group[name].at() for name in "abc"} == {three}
    assert before <= group.commits()


def test_run_again_there_is_nothing_to_do(group: Restored) -> None:
    group.pushed("a", "one")
    group.reconciled()
    revision = group.etcd.revision()
    answer = piehole("clobber", "--newest", "-C", group["b"].repository)
    assert answer.status == 0, answer
    assert "the group has the newest that any site has" in answer.out
    assert group.etcd.revision() == revision


@pytest.mark.slow
def test_a_fork_is_listed_for_a_person_and_the_site_goes_on_standing_still(group: Restored) -> None:
    group.pushed("a", "one", f"HEAD:{MAIN}", "HEAD:refs/heads/side")
    group.reconciled()
    group.back_up()
    mine = group.pushed("a", "mine")
    group.restore()
    for name in "bc":
        assert piehole("accept", "-C", group[name].repository, "--yes").status == 0
    assert group.reconcile("b", "c").status == 0
    other = group.folder / "other"
    git(group.folder, "clone", "-q", str(group["b"].repository), str(other))
    theirs = commit(other, "theirs")
    assert push(other, group["b"].repository, f"HEAD:{MAIN}", "HEAD:refs/heads/side").returncode == 0

    answer = piehole("clobber", "--newest", "-C", group["a"].repository, "--yes")
    assert answer.status == 1, answer
    line = answer.line(f"{MAIN}: diverged")
    assert all(part in line for part in (f"a has {mine[:12]}", f"b has {theirs[:12]}", f"piehole clobber {MAIN}"))
    assert "1 of the refs above are for you to decide" in answer.out
    assert group.value(MAIN) == theirs
    assert group.reconcile("a").status == 1, "following would have chosen"
    assert group["a"].at() == mine

    assert piehole("clobber", MAIN, "-C", group["a"].repository, "--yes").status == 0
    group.reconciled()
    assert {group[name].at() for name in "abc"} == {mine}
    assert group["b"].at(f"refs/piehole/kept/{theirs}")


@pytest.mark.slow
def test_what_was_deleted_after_the_snapshot_is_left_for_a_person(group: Restored) -> None:
    tip = group.pushed("a", "one", f"HEAD:{MAIN}", "HEAD:refs/heads/gone")
    group.reconciled()
    group.back_up()
    group.push("a", ":refs/heads/gone")
    group.reconciled()
    group.restore()
    answer = piehole("clobber", "--newest", "-C", group["a"].repository, "--yes")
    assert answer.status == 1, answer
    assert "no site has this ref" in answer.line("refs/heads/gone: ")
    assert group.value("refs/heads/gone") == tip
    assert not group["a"].at("refs/heads/gone")
    assert piehole("clobber", "--delete", "refs/heads/gone", "-C", group["a"].repository, "--yes").status == 0
    assert group.value("refs/heads/gone") == ZERO_SHA1


def test_a_tombstone_of_the_snapshot_does_not_delete_what_came_after_it(group: Restored) -> None:
    group.pushed("a", "one", f"HEAD:{MAIN}", "HEAD:refs/heads/again")
    group.push("a", ":refs/heads/again")
    group.back_up()
    again = group.pushed("a", "two", "HEAD:refs/heads/again")
    group.restore()
    answer = piehole("clobber", "--newest", "-C", group["b"].repository, "--yes")
    assert answer.status == 1, answer
    assert f"deleted in the group, but a has {again[:12]}" in answer.line("refs/heads/again: ")
    assert group["a"].at("refs/heads/again") == again


@pytest.mark.slow
def test_a_site_that_cannot_be_asked_stops_it_unless_it_is_left_out(group: Restored) -> None:
    old = group.pushed("a", "one")
    group.reconciled()
    group.back_up()
    two = group.pushed("a", "two")
    group.restore()
    shutil.move(group["b"].repository, group.folder / "elsewhere")
    refused = piehole("clobber", "--newest", "-C", group["c"].repository, "--yes")
    assert refused.status == 1, refused
    assert "not every site can be asked which refs it has (b: " in refused.err
    assert "--without b" in refused.err
    assert group.value(MAIN) == old
    assert piehole("clobber", "--newest", "--without", "b", "-C", group["c"].repository, "--yes").status == 0
    assert group.value(MAIN) == two


def test_what_no_site_can_give_is_not_taken_back(group: Restored) -> None:
    group.pushed("a", "one")
    group.reconciled()
    lost = group.pushed("a", "two")
    shutil.rmtree(group["a"].repository)
    assert piehole("leave", "--site", "a", "-C", group["b"].repository, "--yes").status == 0
    answer = piehole("clobber", "--newest", "-C", group["b"].repository, "--yes")
    assert answer.status == 1, answer
    assert f"{lost[:12]} cannot be fetched" in answer.line(f"{MAIN}: ")
    assert group.value(MAIN) == lost


def test_a_locked_ref_stays_locked(group: Restored) -> None:
    group.pushed("a", "one")
    group.etcd.put(group.key(MAIN), "locked by the release team")
    answer = piehole("clobber", "--newest", "-C", group["a"].repository, "--yes")
    assert answer.status == 1, answer
    assert "locked in the group" in answer.line(f"{MAIN}: ")
    assert group.value(MAIN) == "locked by the release team"


def test_after_etcd_was_emptied_run_at_each_site_it_ends_with_the_newest(group: Restored) -> None:
    group.pushed("a", "one")
    group.reconciled()
    newest_oid = group.pushed("b", "two")  # b alone has it
    group.member.kill()
    group.member.wipe()
    group.member.start()
    for name in "acb":
        answer = piehole("clobber", "--newest", "-C", group[name].repository, "--yes")
        assert answer.status == 0, answer
    group.reconciled()
    assert {group[name].at() for name in "abc"} == {newest_oid}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--newest", "--delete"], "never deletes"),
        (["--without", "b"], "goes with --newest"),
        (["--newest", "--without", "nowhere"], "no such site"),
        (["--newest", "HEAD"], "HEAD has no newest value"),
    ],
)
def test_wrong_arguments_are_named(group: Restored, arguments: list[str], words: str) -> None:
    answer = piehole("clobber", *arguments, "-C", group["a"].repository)
    assert answer.status == 2, answer
    assert words in answer.err


@given(st.lists(st.integers(0, 6), min_size=1, max_size=5, unique=True), st.integers(0, 6))
def test_the_newest_has_all_others_in_its_history(numbers: list[int], trunk: int) -> None:
    """Commits up to ``trunk`` lie on one line; each later one is a branch of its own."""

    def contains(new: str, old: str) -> bool:
        return new == old or (int(old) < int(new) and int(old) <= trunk)

    oids = [str(number) for number in numbers]
    tops = [number for number in numbers if number > trunk]
    expected = str(max(numbers)) if len(tops) <= 1 else ""
    assert newest(oids, contains) == expected
