"""Commands that write refs into the consensus keep the promise of copies: the other sites answer by hand here, and at the end for real."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from piehole.group import bulk_write
from tests.cli.settings import group as group_command
from tests.support.command_line import Answer, piehole_in_process
from tests.support.copies import held
from tests.support.copying import holding, keys, promise
from tests.support.git import MAIN, git
from tests.support.groups import Group, MakeGroup
from tests.support.wait import until

NEW = "refs/heads/new"


@pytest.fixture
def pair(pair: Group) -> Group:
    """Two sites in step that promise two copies, and a commit at a that no other site has."""
    for site in pair:
        git(site.repository, "config", "piehole.copiesTimeout", "1")
    promise(pair, 2)
    bring(pair)
    return pair


def bring(pair: Group, site: str = "a", ref: str = NEW) -> str:
    """A new commit at one site, past the hooks."""
    oid = pair.commit(f"of {site}")
    git(pair[site].repository, "fetch", "-q", str(pair.work), "HEAD")
    pair[site].move(ref, oid)
    return oid


def clobber(pair: Group, *arguments: str, site: str = "a") -> Answer:
    return piehole_in_process("clobber", "--yes", "-C", pair[site].repository, *arguments)


def test_clobber_has_others_hold_what_is_new_first(pair: Group) -> None:
    new = pair["a"].at(NEW)
    with holding(pair, "b") as seen:
        answer = clobber(pair, NEW)
    assert answer.status == 0, answer
    (asked,) = seen
    assert (asked["site"], asked["oids"], asked["bases"]) == ("a", [new], [])
    assert pair.value(NEW) == new
    assert keys(pair) == []
    # With the id of the request: so the others know that it was written, and release nothing before their refs contain it.
    assert re.fullmatch("[0-9a-f]{32}", list(pair.pushes().values())[-1]["id"])


def test_clobber_is_refused_where_too_few_sites_hold_it(pair: Group) -> None:
    with pair.unchanged(pair["a"].repository):
        answer = clobber(pair, NEW)
    assert answer.status == 1
    assert answer.err.startswith("piehole: copies: the group promises 2 copies")
    assert "b: no controller there has given a sign of life" in answer.err
    assert "`piehole group set copies N`" in answer.err
    assert keys(pair) == []
    assert group_command(pair, "set", "copies", "1", "--yes").status == 0
    assert clobber(pair, NEW).status == 0
    assert pair.value(NEW) == pair["a"].at(NEW)


def test_clobber_is_written_with_a_warning_where_the_group_wants_it_so(pair: Group) -> None:
    promise(pair, 2, "warn")
    answer = clobber(pair, NEW)
    assert answer.status == 0, answer
    assert "b: no controller there has given a sign of life" in answer.line("goes on all the same")
    assert pair.value(NEW) == pair["a"].at(NEW)


@pytest.mark.parametrize("what", ["what another site has", "a deletion", "HEAD"])
def test_nobody_is_asked_for_what_needs_no_copy(pair: Group, what: str) -> None:
    if what == "a deletion":
        pair.put("refs/heads/old", pair["a"].at())
        arguments = ["--delete", "refs/heads/old"]
    elif what == "HEAD":
        git(pair["a"].repository, "symbolic-ref", "HEAD", NEW)
        arguments = ["HEAD"]
    else:
        pair["a"].move(NEW, pair["a"].at())
        arguments = [NEW]
    answer = clobber(pair, *arguments)  # nobody would answer
    assert answer.status == 0, answer


def test_an_answer_that_was_taken_back_makes_the_write_fail(pair: Group, monkeypatch: pytest.MonkeyPatch) -> None:
    """And then the others are asked again."""
    real = bulk_write.write
    values: list[str | None] = []

    def taken_back(*arguments: Any, **options: Any) -> Any:
        if not values:
            pair.etcd.delete_prefix(pair.key("@copies/"))
        left = real(*arguments, **options)
        values.append(pair.value(NEW))
        return left

    monkeypatch.setattr(bulk_write, "write", taken_back)
    with holding(pair, "b") as seen:
        assert clobber(pair, NEW).status == 0
    assert values == [None, pair["a"].at(NEW)]
    assert len(seen) == 2


def test_a_ref_that_somebody_moves_meanwhile_is_shown_again_and_the_rest_is_written(
    pair: Group, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = bulk_write.write
    after: list[tuple[str | None, list[str]]] = []

    def moved(*arguments: Any, **options: Any) -> Any:
        if not after:
            pair.put("refs/heads/other", pair["a"].at())
        left = real(*arguments, **options)
        after.append((pair.value(NEW), [one.name for one in left]))
        return left

    other = bring(pair, "a", "refs/heads/other")
    monkeypatch.setattr(bulk_write, "write", moved)
    with holding(pair, "b") as seen:
        answer = clobber(pair, NEW, "refs/heads/other")
    assert answer.status == 0, answer
    assert after == [(pair["a"].at(NEW), ["refs/heads/other"]), (pair["a"].at(NEW), [])]
    assert len({record["id"] for record in pair.pushes().values() if record.get("kind") == "clobber"}) == 2
    assert [one["oids"] for one in seen] == [[pair["a"].at(NEW), other], [other]]
    assert keys(pair) == []


def test_a_site_that_leaves_meanwhile_makes_the_write_fail(pair: Group, monkeypatch: pytest.MonkeyPatch) -> None:
    real = bulk_write.write
    left: list[object] = []

    def without_b(*arguments: Any, **options: Any) -> Any:
        if not left:
            assert piehole_in_process("leave", "--yes", "-C", pair["b"].repository).status == 0
        left.append(real(*arguments, **options))
        return left[-1]

    monkeypatch.setattr(bulk_write, "write", without_b)
    with holding(pair, "b"):
        answer = clobber(pair, NEW)
    assert (answer.status, len(left)) == (1, 1), answer
    assert "the group promises 2 copies and has 1 site: a" in answer.err
    assert pair.value(NEW) is None


def test_the_newest_that_other_sites_show_is_not_asked_for(pair: Group) -> None:
    """etcd has an older value, as after a restore, and no controller runs."""
    new = bring(pair, "a", MAIN)
    git(pair["b"].repository, "fetch", "-q", str(pair["a"].repository), "+refs/heads/main:refs/heads/main")
    assert clobber(pair, "--newest", MAIN).status == 0
    assert pair.value() == new
    alone = bring(pair, "b", MAIN)
    refused = clobber(pair, "--newest", MAIN, site="b")
    assert (refused.status, "copies: the group promises 2 copies" in refused.err) == (1, True), refused
    assert (pair.value(), pair["b"].at()) == (new, alone)


def test_the_promise_is_lowered_at_a_site_that_halts_since_etcd_went_back(pair: Group) -> None:
    """Or no command that ends the halt could write what this site alone has."""
    key = f"{pair.prefix}/progress/g/a"
    pair.etcd.put(key, json.dumps(json.loads(pair.etcd.get(key) or "") | {"id": "of a backup", "revision": 1}))
    assert clobber(pair, NEW).err.startswith("piehole: copies: ")
    for setting in (("copies", "all"), ("head", MAIN)):
        assert "went back" in group_command(pair, "set", *setting).err
    assert group_command(pair, "set", "copies", "1", "--yes").status == 0
    assert clobber(pair, NEW).status == 0
    assert pair.value(NEW) == pair["a"].at(NEW)


def test_a_joiner_adopts_only_what_others_hold(pair: Group) -> None:
    c = pair["c"].make({"piehole.copiesTimeout": "1"})
    alone = bring(pair, "c", "refs/heads/mine")
    words = ["--group", "g", "--site", "c", "--url", c.url, "--etcd", pair.endpoints[0], "--prefix", pair.prefix]
    refused = piehole_in_process("install", c.repository, *words, "--adopt")
    assert refused.status == 1
    assert "the site is installed, and no ref was adopted: copies: the group promises 2 copies" in refused.err
    assert pair.value("refs/heads/mine") is None
    with holding(pair, "b") as seen:
        answer = piehole_in_process("install", c.repository, "--adopt")
    assert answer.status == 0, answer
    assert [one["oids"] for one in seen] == [[alone]]
    assert pair.value("refs/heads/mine") == alone


def test_what_is_restored_from_kept_tips_is_at_other_sites_first(pair: Group) -> None:
    promise(pair, 1)
    pair.push("a", "HEAD:refs/heads/gone")
    pair.push("a", ":refs/heads/gone")
    gone = commit_of(pair)
    pair.reconcile("a", "b")
    promise(pair, 2)

    def restore() -> Answer:
        return piehole_in_process("kept", "restore", gone, "refs/heads/gone", "--yes", "-C", pair["a"].repository)

    assert "copies: the group promises 2 copies" in restore().err
    with holding(pair, "b"):
        answer = restore()
    assert answer.status == 0, answer
    assert pair.value("refs/heads/gone") == gone


def commit_of(pair: Group) -> str:
    return git(pair.work, "rev-parse", "HEAD").stdout.strip()


def test_sites_hold_what_is_clobbered_before_the_group_names_it(make_group: MakeGroup) -> None:
    """With controllers. The one that made the copy dies right after, and has it on its disk."""
    group = make_group(2)
    group.commit("one")
    group.push("a")
    group.published()
    assert group.piehole("group", "set", "copies", "2", "-C", str(group["a"].repository)).status == 0
    many = [bring(group, "a", f"refs/heads/new{number}") for number in range(3)]
    answer = group["a"].piehole("clobber", "--yes", check=False)
    group["b"].kill()
    assert answer.status == 0, answer
    for oid in many:
        git(group["b"].repository, "cat-file", "-e", oid)
    assert keys(group) == []
    group["b"].start()
    group.in_step()
    until(lambda: not held(group["b"]), 15, "what was held goes, since refs contain it")
    group["b"].kill()
    last = bring(group, "a", "refs/heads/last")
    git(group["a"].repository, "config", "piehole.copiesTimeout", "1")
    refused = group["a"].piehole("clobber", "--yes", check=False)
    assert (refused.status, group.value("refs/heads/last")) == (1, None), refused
    group["b"].start()
    git(group["a"].repository, "config", "piehole.copiesTimeout", "10")
    group["a"].piehole("clobber", "--yes")
    group.arrives("refs/heads/last", last)
