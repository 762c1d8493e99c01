from __future__ import annotations

import json
import os

from tests.cli.terminal import Terminal
from tests.support.command_line import piehole
from tests.support.git import ZERO_SHA1, git, rev_parse
from tests.support.groups import Group


def test_all_local_refs_and_head_become_the_groups(pair: Group) -> None:
    a = pair["a"].repository
    main = pair["a"].at()
    git(a, "update-ref", "refs/heads/next", main)
    git(a, "symbolic-ref", "HEAD", "refs/heads/next")
    answer = piehole("clobber", "-C", a, "--yes")
    assert answer.status == 0, answer
    assert pair.value("refs/heads/next") == main
    assert pair.value("HEAD") == "ref: refs/heads/next"
    assert pair.reconcile("b").status == 0
    assert pair["b"].at("refs/heads/next") == main
    assert git(pair["b"].repository, "symbolic-ref", "HEAD").stdout.strip() == "refs/heads/next"


def test_only_the_named_refs_change(pair: Group) -> None:
    a = pair["a"].repository
    for name in ("refs/heads/one", "refs/heads/two"):
        git(a, "update-ref", name, pair["a"].at())
    assert piehole("clobber", "-C", a, "refs/heads/one", "--yes").status == 0
    assert pair.value("refs/heads/one") == pair["a"].at()
    assert pair.value("refs/heads/two") is None


def test_a_ref_can_be_taken_back(pair: Group) -> None:
    old = pair["b"].at()
    new = pair.commit("two")
    pair.push("a", "HEAD:refs/heads/main")
    answer = piehole("clobber", "-C", pair["b"].repository, "refs/heads/main", "--yes")
    assert answer.status == 0, answer
    assert "refs/heads/main" in answer.line(f"{new[:12]} -> {old[:12]}")
    assert pair.value("refs/heads/main") == old
    assert pair.reconcile("a").status == 0
    assert pair["a"].at() == old
    assert pair["a"].at(f"refs/piehole/kept/{new}")


def test_what_is_missing_here_is_listed_and_left_alone_unless_told_to_delete(pair: Group) -> None:
    main = pair["a"].at()
    a, b = pair["a"].repository, pair["b"].repository
    pair.push("a", "HEAD:refs/heads/extra", "HEAD:refs/heads/more")
    answer = piehole("clobber", "-C", b, "--yes")
    assert answer.status == 0, answer
    assert "left alone" in answer.line("refs/heads/extra: missing here")
    assert pair.value("refs/heads/extra") == main
    assert piehole("clobber", "-C", b, "refs/heads/extra", "--delete", "--yes").status == 0
    assert (pair.value("refs/heads/extra"), pair.value("refs/heads/more")) == (ZERO_SHA1, main)
    assert piehole("clobber", "-C", b, "--delete", "--yes").status == 0
    assert pair.value("refs/heads/more") == ZERO_SHA1
    assert pair.reconcile("a").status == 0
    assert set(git(a, "for-each-ref", "--format=%(refname)", "refs/heads").stdout.split()) == {"refs/heads/main"}


def test_a_named_ref_that_is_missing_and_not_deleted_is_not_done(pair: Group) -> None:
    assert piehole("clobber", "-C", pair["a"].repository, "refs/heads/nowhere", "--yes").status == 1


def test_without_a_terminal_it_shows_the_change_and_refuses(pair: Group) -> None:
    git(pair["a"].repository, "update-ref", "refs/heads/next", pair["a"].at())
    answer = piehole("clobber", "-C", pair["a"].repository)
    assert answer.status == 1
    assert "refs/heads/next: no opinion -> " in answer.out
    assert "--yes" in answer.err
    assert pair.value("refs/heads/next") is None


def test_at_a_terminal_only_yes_means_yes(pair: Group) -> None:
    a = pair["a"].repository
    git(a, "update-ref", "refs/heads/next", pair["a"].at())
    with Terminal("clobber", "-C", a) as terminal:
        terminal.sees("[y/N]")
        terminal.types("")
        assert terminal.end() == 1
    assert pair.value("refs/heads/next") is None
    with Terminal("clobber", "-C", a) as terminal:
        terminal.sees("[y/N]")
        terminal.types("y")
        assert terminal.end() == 0
    assert pair.value("refs/heads/next") == pair["a"].at()


def test_a_change_while_it_asks_is_shown_and_asked_about_again(pair: Group) -> None:
    a = pair["a"].repository
    git(a, "update-ref", "refs/heads/next", pair["a"].at())
    with Terminal("clobber", "-C", a) as terminal:
        terminal.sees("[y/N]")
        pair.etcd.put(pair.key("refs/heads/next"), "somebody was here")
        terminal.types("y")
        terminal.sees("refs/heads/next: somebody was")
        terminal.sees("[y/N]")
        assert pair.value("refs/heads/next") == "somebody was here"
        terminal.types("y")
        assert terminal.end() == 0
    assert pair.value("refs/heads/next") == pair["a"].at()


def test_it_unlocks_what_is_no_oid(pair: Group) -> None:
    pair.etcd.put(pair.key("refs/heads/main"), "closed for the release")
    answer = piehole("clobber", "-C", pair["a"].repository, "--yes")
    assert answer.status == 0, answer
    assert "(was locked)" in answer.line("refs/heads/main")
    assert pair.value("refs/heads/main") == pair["a"].at()


def test_a_vanished_group_record_is_restored_with_its_old_id(pair: Group) -> None:
    key = f"{pair.prefix}/group/g"
    before = json.loads(pair.etcd.get(key) or "")
    pair.etcd.delete(key)
    assert pair.reconcile("a").status == 1
    answer = piehole("clobber", "-C", pair["a"].repository, "--yes")
    assert answer.status == 0, answer
    assert json.loads(pair.etcd.get(key) or "")["id"] == before["id"]
    assert pair.reconcile("a", "b").status == 0


def test_an_emptied_etcd_is_filled_again_and_the_site_moves_on(pair: Group) -> None:
    main = pair["a"].at()
    pair.etcd.delete_prefix(f"{pair.prefix}/")
    assert pair.reconcile("a", "b").status == 1
    answer = piehole("clobber", "-C", pair["a"].repository, "--yes")
    assert answer.status == 0, answer
    assert pair.value("refs/heads/main") == main
    assert pair.etcd.get(f"{pair.prefix}/site/g/a") is not None
    assert pair.reconcile("a").status == 0
    # The other site has not been looked at by anybody.
    assert "went back" in pair.reconcile("b").err
    assert piehole("accept", "-C", pair["b"].repository, "--yes").status == 0
    assert pair.reconcile("b").status == 0


def test_a_group_of_another_id_is_never_written(pair: Group) -> None:
    record = json.loads(pair.etcd.get(f"{pair.prefix}/group/g") or "")
    pair.etcd.put(f"{pair.prefix}/group/g", json.dumps({**record, "id": "another"}))
    git(pair["a"].repository, "update-ref", "refs/heads/next", pair["a"].at())
    answer = piehole("clobber", "-C", pair["a"].repository, "--yes")
    assert answer.status == 1
    assert "is another one" in answer.err
    assert pair.value("refs/heads/next") is None


def test_refs_whose_history_is_not_whole_here_are_refused_by_name(pair: Group) -> None:
    a = pair["a"].repository
    pair.commit("two")
    pair.push("a", "HEAD:refs/heads/broken")
    blob = rev_parse(a, "refs/heads/broken:file.txt")
    pair.etcd.delete(pair.key("refs/heads/broken"))
    git(a, "cat-file", "-e", blob)
    os.unlink(a / "objects" / blob[:2] / blob[2:])
    answer = piehole("clobber", "-C", a, "--yes")
    assert answer.status == 1
    assert "refs/heads/broken" in answer.err
    assert "refs/heads/main" not in answer.err
    assert pair.value("refs/heads/broken") is None


def test_names_that_conflict_with_the_groups_are_refused(pair: Group) -> None:
    pair.push("a", "HEAD:refs/heads/x")
    b = pair["b"].repository
    git(b, "update-ref", "refs/heads/x/y", pair["b"].at())
    answer = piehole("clobber", "-C", b, "refs/heads/x/y", "--yes")
    assert answer.status == 1
    assert "refs/heads/x," in answer.err
    assert piehole("clobber", "-C", b, "--delete", "--yes").status == 0
    assert pair.value("refs/heads/x/y") == pair["b"].at()


def test_names_that_the_group_cannot_have_are_wrong_arguments(pair: Group) -> None:
    for name in ("refs/piehole/kept/x", "refs/heads/../x"):
        assert piehole("clobber", "-C", pair["a"].repository, name, "--yes").status == 2


def test_the_other_sites_fetch_from_the_one_that_clobbered(pair: Group) -> None:
    a = pair["a"].repository
    new = pair.commit("past the hooks")
    git(pair.work, "push", "-q", str(a), "HEAD:refs/piehole-test", check=False)
    git(a, "fetch", "-q", str(pair.work), "HEAD")
    git(a, "update-ref", "refs/heads/other", new)
    assert piehole("clobber", "-C", a, "refs/heads/other", "--yes").status == 0
    assert json.loads(pair.etcd.get(pair.key("@push")) or "")["site"] == "a"
    assert pair.reconcile("b").status == 0
    assert pair["b"].at("refs/heads/other") == new


def test_what_it_leaves_alone_is_said_as_it_is(pair: Group) -> None:
    """A symbolic ref, a detached HEAD and a ref that is here are not "missing here"."""
    a = pair["a"].repository
    git(a, "symbolic-ref", "refs/heads/alias", "refs/heads/main")
    alias = piehole("clobber", "-C", a, "refs/heads/alias", "--yes")
    assert alias.status == 1
    assert alias.line(
        "refs/heads/alias: a symbolic ref here (to refs/heads/main), which is no part of the group: left alone"
    )
    here = piehole("clobber", "-C", a, "--delete", "refs/heads/main", "--yes")
    assert pair.value() == pair["a"].at()
    assert "`git push . :refs/heads/main` here deletes it in the group" in here.line(
        "refs/heads/main: is here, so it is not deleted"
    )
    git(a, "update-ref", "--no-deref", "HEAD", pair["a"].at())
    head = piehole("clobber", "-C", a, "HEAD", "--yes")
    assert head.status == 1
    assert "git symbolic-ref HEAD" in head.line("HEAD: names no branch here: left alone")
    assert "--delete deletes it" not in head.out
