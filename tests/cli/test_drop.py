"""`piehole kept drop`: a leaked secret goes at every site."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support import git
from tests.support.assertions import accepted
from tests.support.command_line import Answer, piehole_in_process
from tests.support.git import MAIN
from tests.support.groups import Group, MakeGroup
from tests.support.wait import until

TOPIC = "refs/heads/topic"


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


def reflogs(repository: Path) -> str:
    return "".join(path.read_text() for path in (repository / "logs").rglob("*") if path.is_file())


def answered(group: Group, oid: str, count: int) -> Answer | None:
    """What the command says, once so many sites have done it."""
    shown = drop(group, oid, "--wait", "0")
    return shown if shown.out.count(": dropped at ") == count else None


@pytest.mark.parametrize("packed", ["loose", "packed", "bitmap"])
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
