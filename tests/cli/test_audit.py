"""`piehole audit`: what the group agreed on, compared with what each site holds."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from piehole.commands import audit as auditing
from piehole.transfer import git_fetch
from tests.support.assertions import accepted
from tests.support.command_line import piehole_in_process as piehole
from tests.support.git import MAIN, commit, git, push
from tests.support.groups import Group, MakeGroup
from tests.support.wait import PATIENCE, until


def record(group: Group, site: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(group.etcd.get(f"{group.prefix}/progress/g/{site}") or "{}")
    return found


def digest(refs: dict[str, str]) -> str:
    return hashlib.sha256("".join(sorted(f"{oid} {ref}\n" for ref, oid in refs.items())).encode()).hexdigest()


def digested(group: Group, *sites: str) -> None:
    """Reconcile these sites again and again, until their digests are published: a reconcile that moves refs has none to publish."""
    for _ in range(2):
        assert group.reconcile(*sites).status == 0


def pair(make_group: MakeGroup) -> tuple[Group, Path, str]:
    """Two sites without controllers, in step, whose digests are published."""
    group = make_group(2, started=False)
    work = group.clone(group["a"].repository)
    tip = commit(work)
    accepted(push(work, group["a"].repository, "HEAD:main", "HEAD:other"))
    digested(group, "a", "b")
    return group, work, tip


def sites(answer: Any) -> dict[str, Any]:
    (one,) = answer.json["repositories"]
    return {site["site"]: site for site in one["sites"]}


def test_a_digest_is_of_the_refs_at_its_revision_and_says_so_without_a_fetch(make_group: MakeGroup) -> None:
    group, _, tip = pair(make_group)
    expected = digest({MAIN: tip, "refs/heads/other": tip})
    for name in ("a", "b"):
        assert record(group, name)["digest"] == expected
    # Nobody could ask b: its repository is away.
    b = group["b"].repository
    b.rename(b.with_name("away.git"))
    found = piehole("audit", "-C", group["a"].repository, "--json")
    assert found.status == 0, found
    assert {name: (one["state"], one["by"]) for name, one in sites(found).items()} == {
        "a": ("in sync", "disk"),
        "b": ("in sync", "digest"),
    }
    asked = piehole("audit", "-C", group["a"].repository, "--ask")
    assert asked.status == 1
    assert "git ls-remote" in asked.line("site b: unreachable: ")


@pytest.mark.slow
def test_a_controller_publishes_the_digest_once_pushes_pause_and_then_nothing_more(make_group: MakeGroup) -> None:
    group = make_group(2)
    work = group.clone(group["a"].repository)
    tip = commit(work)
    accepted(push(work, group["a"].repository, "HEAD:main"))
    expected = digest({MAIN: tip})
    until(lambda: all(record(group, one).get("digest") == expected for one in "ab"), PATIENCE, "both have a digest")
    before = {one: record(group, one) for one in "ab"}
    for site in group:
        site.stop()
        site.start()
        site.wait_event("controller.started")
    # A start reads what is published, and does not write it again. A push must get through after it, so it was looked at.
    tip = commit(work)
    accepted(push(work, group["a"].repository, "HEAD:main"))
    until(
        lambda: all(record(group, one).get("digest") == digest({MAIN: tip}) for one in "ab"), PATIENCE, "the new digest"
    )
    for one in "ab":
        changes = [json.loads(put.value or "{}") for put in group.etcd.history(f"{group.prefix}/progress/g/{one}")]
        after = changes[changes.index(before[one]) + 1 :]
        assert len(after) == 2, after


def test_what_a_site_excludes_and_what_is_locked_is_in_no_digest(make_group: MakeGroup) -> None:
    group, work, tip = pair(make_group)
    b = group["b"].repository
    git(b, "config", "piehole.exclude", "refs/pull/*")
    git(b, "update-ref", "refs/pull/7/head", tip)
    accepted(push(work, group["a"].repository, "HEAD:refs/pull/8/head"))
    group.put("refs/heads/other", "locked by the administrator")
    digested(group, "a", "b")
    assert record(group, "b")["exclude"] == ["refs/pull/*"]
    assert record(group, "b")["digest"] == digest({MAIN: tip})
    assert record(group, "a")["digest"] == digest({MAIN: tip, "refs/pull/8/head": tip})
    found = piehole("audit", "-C", group["a"].repository, "--json")
    assert found.status == 0, found
    assert sites(found)["b"]["by"] == "digest"
    assert "refs/heads/other" in found.json["repositories"][0]["locked"]


def test_there_is_no_digest_while_a_ref_is_stuck_and_the_site_is_asked(make_group: MakeGroup) -> None:
    group, work, tip = pair(make_group)
    b = group["b"].repository
    git(b, "symbolic-ref", "refs/heads/new", MAIN)
    accepted(push(work, group["a"].repository, "HEAD:new"))
    assert group.reconcile("b").status == 1
    found = piehole("audit", "-C", group["a"].repository)
    assert found.status == 0, "the symbolic ref shows the group's value"
    git(b, "symbolic-ref", "refs/heads/new", "refs/heads/nowhere")
    found = piehole("audit", "-C", group["a"].repository)
    assert found.status == 1
    assert "refs/heads/new is at nothing at b" in found.line("site b: behind: ")
    assert tip


@pytest.mark.parametrize("state", ["behind", "ahead", "missing", "unknown"])
def test_each_difference_is_named_with_the_command_that_fixes_it(make_group: MakeGroup, state: str) -> None:
    group, work, tip = pair(make_group)
    a, b = group["a"], group["b"]
    if state == "behind":
        tip = commit(work)
        accepted(push(work, a.repository, "HEAD:main"))
    elif state == "ahead":
        git(b.repository, "fetch", "-q", str(work), "HEAD")
        commit(work)
        git(b.repository, "fetch", "-q", str(work), "HEAD:refs/heads/other")
    elif state == "missing":
        b.move(MAIN, "")
    else:
        b.move("refs/heads/mine", tip)
    found = piehole("audit", "-C", a.repository, "--ask")
    if state == "unknown":
        assert found.status == 0
        assert "`piehole clobber REF` at b" in found.line("site b: unknown to the group: 1 refs (refs/heads/mine)")
        return
    assert found.status == 1, found
    line = found.line(f"site b: {state}: ")
    assert "`piehole reconcile --once` at b" in line
    assert (sites(piehole("audit", "-C", b.repository, "--json"))["b"]["state"]) == state
    assert group.reconcile("a", "b").status == 0
    assert piehole("audit", "-C", a.repository, "--ask").status == 0


def test_a_ref_that_one_site_alone_has_ends_the_proof_by_digest(make_group: MakeGroup) -> None:
    group, _, tip = pair(make_group)
    group["b"].move("refs/heads/mine", tip)
    digested(group, "b")
    found = piehole("audit", "-C", group["a"].repository, "--json")
    assert found.status == 0
    assert (sites(found)["b"]["by"], sites(found)["b"]["unknown"]) == ("refs", ["refs/heads/mine"])


def test_sites_that_leave_and_join_during_the_audit_are_said(
    make_group: MakeGroup, monkeypatch: pytest.MonkeyPatch
) -> None:
    group, work, _ = pair(make_group)
    commit(work)
    accepted(push(work, group["a"].repository, "HEAD:main"))
    listed = git_fetch.list_refs

    def meanwhile(*args: Any, **kwargs: Any) -> Any:
        found = listed(*args, **kwargs)
        assert piehole("leave", "-C", group["a"].repository, "--site", "b", "--yes").status == 0
        group["c"].build()
        return found

    monkeypatch.setattr(auditing, "list_refs", meanwhile)
    found = piehole("audit", "-C", group["a"].repository)
    assert found.status == 0, found
    assert "it left the group while this ran" in found.out
    assert "the site 'c' joined while this ran" in found.line("note: ")


def test_a_push_during_the_audit_is_no_difference(make_group: MakeGroup, monkeypatch: pytest.MonkeyPatch) -> None:
    group, work, _ = pair(make_group)
    listed = git_fetch.list_refs

    def meanwhile(*args: Any, **kwargs: Any) -> Any:
        commit(work)
        accepted(push(work, group["b"].repository, "HEAD:main"))
        return listed(*args, **kwargs)

    monkeypatch.setattr(auditing, "list_refs", meanwhile)
    found = piehole("audit", "-C", group["a"].repository, "--ask", "--json")
    assert sites(found)["b"]["state"] == "in sync", found


def test_the_audit_of_many_goes_on_where_one_cannot_be_audited(
    make_group: MakeGroup, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    group, _, _ = pair(make_group)
    monkeypatch.setattr(auditing, "_PATIENCE", 0.5)
    found = piehole("audit", tmp_path / "none.git", group["a"].repository, group["b"].repository)
    assert found.status == 1
    assert "there is no folder" in found.err
    assert found.out.count("in sync") == 2
    assert piehole("audit", "--etcd", "http://127.0.0.1:1", group["a"].repository).status == 3
    assert piehole("audit", "--nonsense").status == 2


def test_a_group_that_etcd_does_not_hold_is_said(make_group: MakeGroup) -> None:
    group, _, _ = pair(make_group)
    git(group["a"].repository, "config", "piehole.prefix", "/elsewhere")
    found = piehole("audit", "-C", group["a"].repository)
    assert found.status == 1
    assert "wrong-group: etcd has no record of the group" in found.out
