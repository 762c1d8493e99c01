"""`piehole kept drop`: a leaked secret goes at every site."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from piehole.deadline import Deadline
from piehole.fastpath import inflight
from piehole.replicate import drop as replicate_drop
from piehole.replicate import once
from piehole.transfer import removal
from tests.support import git
from tests.support.assertions import accepted
from tests.support.command_line import Answer, piehole_in_process
from tests.support.git import MAIN
from tests.support.groups import Group, MakeGroup
from tests.support.pushes import chain, finish, start_push, write_hook
from tests.support.wait import until

TOPIC = "refs/heads/topic"


@pytest.fixture
def pair(pair: Group) -> Iterator[Group]:
    """Controllers answer the pushes, which is quicker, and do nothing else."""
    with pair.answering("a", "b"):
        yield pair


def drop(group: Group, *arguments: str, site: str = "a") -> Answer:
    return piehole_in_process("kept", "drop", "-C", group[site].repository, *arguments)


def secret(group: Group, *sites: str) -> tuple[str, str]:
    """A commit with a secret that was overwritten everywhere, so that it is kept; and the secret's own oid."""
    base = group.commit("base") if not group.work.exists() else git.rev_parse(group.work)
    group.push("a", f"HEAD:{MAIN}", f"HEAD:{TOPIC}")
    oid = git.commit(group.work, "secret", file="password", content="hunter2\n")
    group.push("a", f"HEAD:{TOPIC}")
    followed(group, sites)
    assert all(group[site].at(TOPIC) == oid for site in sites)
    group.push("a", f"+{base}:{TOPIC}")
    followed(group, sites)
    blob = git.rev_parse(group.work, f"{oid}:password")
    git.git(group.work, "reset", "-q", "--hard", base)
    return oid, blob


def followed(group: Group, sites: tuple[str, ...]) -> None:
    if group["a"].running:
        group.in_step([group[site] for site in sites])
    else:
        assert group.reconcile(*sites).status == 0


def has(path: Path, *oids: str) -> list[bool]:
    return [git.has_object(path, oid) for oid in oids]


def status(group: Group, oid: str) -> str:
    """What site a says after another look at it."""
    assert group.reconcile("a").status == 0
    return drop(group, oid, "--wait", "0").out


def reflogs(repository: Path) -> str:
    return "".join(path.read_text() for path in (repository / "logs").rglob("*") if path.is_file())


def answered(group: Group, oid: str, count: int) -> Answer | None:
    """What the command says, once so many sites have done it."""
    shown = drop(group, oid, "--wait", "0")
    return shown if shown.out.count(": dropped at ") == count else None


@pytest.mark.parametrize(
    "packed", ["loose", pytest.param("packed", marks=pytest.mark.slow), pytest.param("bitmap", marks=pytest.mark.slow)]
)
def test_it_goes_at_three_sites_and_at_the_one_that_is_down_when_it_is_back(make_group: MakeGroup, packed: str) -> None:
    group = make_group(3)
    oid, blob = secret(group, "a", "b", "c")
    for site in group:
        until(lambda site=site: oid in site.kept(), 20, f"{site} keeps it")  # type: ignore[misc]
        if packed != "loose":
            git.git(site.repository, "pack-refs", "--all")
            more = ["--write-midx", "--write-bitmap-index"] if packed == "bitmap" else []
            git.git(site.repository, "repack", "-q", "-a", "-d", *more)
            git.git(site.repository, "commit-graph", "write", "--reachable")
    group["c"].stop()
    assert f"{oid}: goes with the kept tip {oid[:12]}" in drop(group, oid, "--yes", "--wait", "0").out
    done = until(lambda: answered(group, oid, 2), 20, "two sites have done it")
    assert done.status == 1
    assert f"{oid[:12]} c: no answer yet" in done.out
    for site in (group["a"], group["b"]):
        assert f"{oid[:12]} {site}: dropped at " in done.out
        assert has(site.repository, oid, blob) == [False, False]
        assert oid not in site.kept()
        site.fsck()
        assert not list((site.repository / "objects").glob("piehole-*"))
        assert oid not in reflogs(site.repository)
    assert has(group["c"].repository, oid, blob) == [True, True]
    group["c"].start()
    assert drop(group, oid[:8], "--wait", "20").status == 0
    assert has(group["c"].repository, oid, blob) == [False, False]
    group["c"].fsck()
    assert group["c"].at(TOPIC) == group["c"].at()
    work = group.clone(group["c"].repository)
    tip = git.commit(work)
    accepted(git.push(work, group["b"].repository, f"HEAD:{MAIN}"))
    group.arrives(MAIN, tip)


@pytest.mark.parametrize("kind", ["blob", "tag"])
def test_other_objects_than_commits_go_with_the_kept_tips_that_have_them(pair: Group, kind: str) -> None:
    oid, blob = secret(pair, "a", "b")
    if kind == "tag":
        git.git(pair.work, "tag", "-a", "-m", "secret", "v1", "HEAD")
        pair.push("a", "v1")
        oid = blob = git.rev_parse(pair.work, "v1")
        followed(pair, ("a", "b"))
        pair.push("a", ":refs/tags/v1")
        followed(pair, ("a", "b"))
    assert oid in pair["b"].kept()
    assert f"{blob[:12]} a: dropped" in drop(pair, blob, "--yes", "--wait", "0").out
    followed(pair, ("a", "b"))
    assert drop(pair, blob, "--wait", "0").status == 0
    for site in pair:
        assert has(site.repository, oid, blob) == [False, False]
        assert oid not in site.kept()
        site.fsck()


def test_kept_tips_that_were_built_upon_it_go_and_what_is_needed_elsewhere_stays(pair: Group) -> None:
    base = pair.commit("base")
    pair.push("a", f"HEAD:{MAIN}", f"HEAD:{TOPIC}")
    apart = git.commit(pair.work, "apart", file="elsewhere/deep", content="more work\n")
    pair.push("a", "HEAD:refs/heads/apart")
    git.git(pair.work, "reset", "-q", "--hard", base)
    shared = git.commit(pair.work, "innocent", file="shared", content="of both\n")
    oid = git.commit(pair.work, "secret", file="password", content="hunter2\n")
    child = git.commit(pair.work, "more work", file="same", content="more work\n")
    common = git.rev_parse(pair.work, f"{child}:same")
    assert common == git.rev_parse(pair.work, f"{apart}:elsewhere/deep")
    pair.push("a", f"{shared}:refs/heads/other", f"{child}:{TOPIC}")
    pair.push("a", f"+{oid}:{TOPIC}")
    pair.push("a", f"+{base}:{TOPIC}")
    followed(pair, ("a", "b"))
    assert pair["a"].kept() == {oid, child}
    shown = drop(pair, oid, "--yes", "--wait", "0").out
    assert f"with the kept tips {', '.join(one[:12] for one in sorted((oid, child)))}" in shown
    assert has(pair["a"].repository, oid, child, shared, common) == [False, False, True, True]
    pair["a"].fsck()
    assert git.git(pair["a"].repository, "log", "--format=%s", "refs/heads/other").stdout.split() == [
        "innocent",
        "base",
        "one",
    ]


def test_what_only_a_reflog_remembers_goes_and_the_other_entries_stay(pair: Group) -> None:
    oid, blob = secret(pair, "a", "b")
    site = pair["a"].repository
    git.git(site, "update-ref", "-d", f"refs/piehole/kept/{oid}")
    assert oid in reflogs(site)
    assert drop(pair, oid, "--yes", "--wait", "0").status == 1
    assert oid not in reflogs(site)
    assert len(git.git(site, "reflog", TOPIC).stdout.splitlines()) == 2
    assert has(site, oid, blob) == [False, False]
    git.git(site, "gc", "-q")
    pair["a"].fsck()


def test_it_is_refused_while_a_ref_contains_it(pair: Group) -> None:
    oid, _ = secret(pair, "a", "b")
    pair.push("a", f"{oid}:refs/heads/again")
    answer = drop(pair, oid, "--yes")
    assert (answer.status, "in the history of refs/heads/again" in answer.err) == (1, True), answer
    assert drop(pair, oid, "--yes", site="b").status == 1  # which is behind
    assert "has not reached refs/heads/again" in drop(pair, oid, "--yes", site="b").err
    assert not [name for name in pair.values() if name.startswith("@drop")]
    pair.push("a", ":refs/heads/again")
    followed(pair, ("a", "b"))
    site = pair["a"].repository
    git.git(site, "config", "piehole.exclude", "refs/heads/mine")
    git.git(site, "update-ref", "refs/heads/mine", oid)
    answer = drop(pair, oid, "--yes")
    assert "update-ref -d refs/heads/mine" in answer.err
    assert has(site, oid) == [True]


def test_a_site_where_it_was_pushed_again_is_blocked_and_goes_on_when_it_is_gone(pair: Group) -> None:
    oid, _ = secret(pair, "a", "b")
    assert drop(pair, oid, "--yes", "--wait", "0").status == 1
    git.git(pair.work, "push", "-q", str(pair["b"].repository), f"{oid}:refs/heads/again")
    followed(pair, ("b",))
    assert f"{oid[:12]} b: blocked: refs/heads/again contains it" in drop(pair, oid, "--wait", "0").out
    assert pair["b"].at("refs/heads/again") == oid
    followed(pair, ("a",))
    assert pair["a"].at("refs/heads/again") == oid
    git.git(pair.work, "push", "-q", str(pair["b"].repository), ":refs/heads/again")
    followed(pair, ("a", "b"))
    assert drop(pair, oid, "--wait", "0").status == 0
    assert [has(site.repository, oid) for site in pair] == [[False], [False]]


def innocent(group: Group, blob: str) -> str:
    """A commit with a file that has the same content. Git does not write that blob where it is here already."""
    new = git.commit(group.work, "innocent", file="another", content="hunter2\n")
    assert git.rev_parse(group.work, f"{new}:another") == blob
    return new


@pytest.mark.parametrize("hook", ["pre-receive", "update"])
def test_what_a_known_push_needs_stays(pair: Group, hook: str) -> None:
    oid, blob = secret(pair, "a", "b")
    site = pair["a"].repository
    go = pair.folder / "go"
    chain(site, hook, f'"$piehole" "$@" || exit 1; until [ -e {go} ]; do sleep 0.05; done')
    new = innocent(pair, blob)
    push = start_push(pair.work, site, f"HEAD:{MAIN}")
    until(lambda: [one for one in inflight.records(str(site)) if one.coming], 20, "the push has begun")
    assert "a: waiting: a push that needs a part of it" in drop(pair, oid, "--yes", "--wait", "0").out
    assert has(site, oid, blob) == [True, True]
    go.touch()
    accepted(finish(push))
    assert status(pair, oid).startswith(f"{oid[:12]} a: dropped")
    assert has(site, oid, blob, new) == [False, True, True]
    pair["a"].fsck()


def test_what_an_unknown_push_needs_is_put_back(pair: Group, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its `pre-receive` is somebody's own, so nobody knows what it brings; and it takes longer than is waited for such a push."""
    oid, blob = secret(pair, "a", "b")
    site = pair["a"].repository
    go, begun = pair.folder / "go", pair.folder / "begun"
    write_hook(
        site, "pre-receive", f"#!/bin/sh\ncat >/dev/null\ntouch {begun}\nuntil [ -e {go} ]; do sleep 0.05; done\n"
    )
    new = innocent(pair, blob)
    push = start_push(pair.work, site, f"HEAD:{MAIN}")
    until(begun.exists, 20, "the push has begun")
    assert "a: waiting: pushes are under way" in drop(pair, oid, "--yes", "--wait", "0").out
    assert has(site, oid, blob) == [True, True]
    monkeypatch.setattr(replicate_drop, "_QUIET", 0.0)
    monkeypatch.setattr(once, "_DROPPING", 0.0)
    assert "waiting: a push that had begun before" in status(pair, oid)
    assert has(site, oid, blob) == [False, False]
    go.touch()
    accepted(finish(push))
    assert status(pair, oid).startswith(f"{oid[:12]} a: dropped")
    assert has(site, oid, blob) == [False, True]
    pair["a"].fsck()
    followed(pair, ("b",))
    assert pair["b"].at() == new


def test_a_receive_pack_that_nobody_has_asked_yet_is_waited_for(pair: Group) -> None:
    oid, _ = secret(pair, "a", "b")
    with subprocess.Popen(
        ["git", "receive-pack", str(pair["a"].repository)], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL
    ) as begun:
        assert "a: waiting: pushes are under way" in drop(pair, oid, "--yes", "--wait", "0").out
        assert has(pair["a"].repository, oid) == [True]
        begun.terminate()
    assert status(pair, oid).startswith(f"{oid[:12]} a: dropped")


def test_a_copy_of_a_repository_that_joins_later_cannot_bring_it_back(pair: Group) -> None:
    oid, blob = secret(pair, "a", "b")
    later = pair["c"]
    shutil.copytree(pair["b"].repository, later.repository)
    for name in ("siteId", "groupId", "group", "site", "url"):
        git.git(later.repository, "config", "--unset-all", f"piehole.{name}", check=False)
    drop(pair, oid, "--yes", "--wait", "0")
    followed(pair, ("b",))
    assert drop(pair, oid, "--wait", "0").status == 0
    assert drop(pair, "--forget", oid[:9]).status == 0
    assert "nothing was asked for" in drop(pair).out
    drop(pair, oid, "--yes", "--wait", "0")
    followed(pair, ("b",))
    later.build()
    assert has(later.repository, oid, blob) == [True, True]
    assert f"{oid[:12]} c: no answer yet" in drop(pair, oid, "--wait", "0").out
    followed(pair, ("c",))
    assert has(later.repository, oid, blob) == [False, False]
    assert drop(pair).status == 0


def test_what_borrows_objects_is_blocked_and_a_damaged_copy_goes(pair: Group) -> None:
    oid, blob = secret(pair, "a", "b")
    site = pair["a"].repository
    other = git.make_bare(pair.folder / "other.git")
    git.git(other, "fetch", "-q", str(site), "+refs/piehole/*:refs/piehole/*", oid)
    damaged = site / "piehole" / "damaged"
    damaged.mkdir()
    packed = git.git(site, "pack-objects", "-q", str(damaged / "pack"), stdin=f"{oid}\n").stdout.strip()
    shutil.copy(site / "objects" / oid[:2] / oid[2:], damaged / oid)
    (damaged / "pack-x.pack.1").write_bytes(b"PACK")
    (site / "objects" / "info" / "alternates").write_text(f"{other}/objects\n")
    assert f"a: blocked: it may be in {other}/objects" in drop(pair, oid, "--yes", "--wait", "0").out
    assert sorted(path.name for path in damaged.iterdir()) == ["pack-x.pack.1"], packed
    (site / "objects" / "info" / "alternates").unlink()
    assert "a: dropped" in (said := status(pair, oid))
    assert "piehole/damaged/pack-x.pack.1 cannot be read" in said
    assert has(site, oid, blob) == [False, False]


def test_held_refs_of_pushes_that_are_over_go_too(pair: Group) -> None:
    oid, _ = secret(pair, "a", "b")
    git.git(pair["a"].repository, "update-ref", f"refs/piehole/held/dead/{oid}", oid)
    pair.etcd.put(pair.key("@copies/dead"), "{}")
    assert "a: waiting: a push that contains it" in drop(pair, oid, "--yes", "--wait", "0").out
    pair.etcd.delete(pair.key("@copies/dead"))
    assert status(pair, oid).startswith(f"{oid[:12]} a: dropped")


def test_bad_input_is_refused_in_words_and_keys_written_by_hand_do_nothing(pair: Group) -> None:
    oid, _ = secret(pair, "a", "b")
    for arguments, code, words in (
        (("HEAD", "--yes"), 2, "is no object id"),
        (("--forget",), 2, "--forget needs"),
        ((oid, "--wait", "-1"), 2, "must be a number of seconds"),
        (("0123", "--yes"), 1, "no tip that is kept"),
        ((oid,), 1, "--yes"),
    ):
        answer = drop(pair, *arguments)
        assert (answer.status, words in answer.err) == (code, True), answer
    for name, value in ((oid, "yes"), (oid, "[]"), ("refs", "{}"), (oid.upper(), "{}"), (oid, '{"format": 99}')):
        pair.etcd.put(pair.key(f"@drop/{name}"), value)
        followed(pair, ("a", "b"))
    assert [has(site.repository, oid) for site in pair] == [[True], [True]]
    assert "nothing was asked for" in drop(pair).out
    missing = "1" * 40
    answer = drop(pair, missing, "--yes", "--wait", "0")
    assert f"{missing}: not here" in answer.out
    assert "it was not here" in answer.out
    assert "has yet to drop" in drop(pair, "--forget", missing).err
    shown = drop(pair, missing, "--json", "--wait", "0").json["sites"]
    assert [(one["site"], one["result"]) for one in shown] == [("a", "dropped"), ("b", "")]


def test_nothing_is_set_aside_during_a_reconcile_and_no_reconcile_runs_meanwhile(make_group: MakeGroup) -> None:
    group = make_group(2)
    group.commit("one")
    group.push("a")
    group.in_step()
    oid, _ = secret(group, "a", "b")
    site = group["b"].repository
    replica = group["b"].replica()
    until(lambda: oid in group["b"].kept(), 20, "it is kept")
    with removal.excluded(site):
        outcome = replicate_drop.drop(replica, oid)
    assert (outcome.result, outcome.why) == ("waiting", "a reconcile is under way")
    with removal.alone(site, Deadline(5)) as alone:
        assert alone
        tip = group.commit("two")
        group.push("a")
        time.sleep(1)  # a push arrives within some hundredths of a second: only the time can tell that it does not
        assert group["b"].at() != tip
    group.arrives(MAIN, tip)
    assert replicate_drop.drop(replica, oid).result == "dropped"


def test_check_names_it_until_all_have_done_it_and_a_renamed_group_goes_on_asking(pair: Group) -> None:
    oid, _ = secret(pair, "a", "b")
    fault = f"{oid} is to be dropped at every site, and b has yet to do it"
    assert drop(pair, oid, "--yes", "--wait", "0").status == 1
    assert fault in pair["a"].piehole("check", check=False).out
    followed(pair, ("b",))
    assert "is to be dropped" not in pair["a"].piehole("check", check=False).out
    pair["a"].piehole("rename", "new", "--yes")
    assert pair.etcd.get(f"{pair.prefix}/ref/new/@drop/{oid}") is not None
