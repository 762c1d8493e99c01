"""What the first version has left is upgraded by `piehole install`, with nothing lost; and works beside what is not upgraded yet."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.conftest import OwnEtcd
from tests.fault.skew import first_version
from tests.fault.skew.previous import unpack
from tests.support import git
from tests.support.assertions import accepted, arrives
from tests.support.git import MAIN, ZERO_SHA1
from tests.support.groups import Group
from tests.support.servers import NOT_POSSIBLE
from tests.support.sites import Site

Load = Callable[..., Group]
pytestmark = pytest.mark.slow


@pytest.fixture
def load(own_etcd: OwnEtcd, tmp_path: Path) -> Iterator[Load]:
    """``load()``: the group as the first version has left it, its hooks as after an upgrade of the package in its place."""
    with ExitStack() as ends:

        def loaded(programs: Mapping[str, Path] | None = None) -> Group:
            group = first_version.load(tmp_path / "sites", own_etcd(), programs or {})
            ends.callback(group.end)
            return group

        yield loaded


def _transactions() -> list[dict[str, str]]:
    found: list[dict[str, str]] = json.loads(first_version.TRANSACTIONS.read_text())
    return found


def _agreed() -> dict[str, str]:
    """The group's refs by the last values that were written to etcd."""
    written: dict[str, str] = {}
    for transaction in _transactions():
        written |= {key: value for key, value in transaction.items() if "/ref/g/refs/" in key}
    return {key.removeprefix("/piehole/ref/g/"): value for key, value in written.items() if value != ZERO_SHA1}


def _settings(site: Site) -> str:
    return git.git(site.repository, "config", "--local", "--get-regexp", r"^piehole\.").stdout


def _upgrade(*sites: Site) -> None:
    for site in sites:
        site.group.piehole("install", str(site.repository))


def _nothing_is_lost(group: Group) -> None:
    """What was pushed to the first version is there, everywhere; what it deleted is not back; what it overwrote is kept."""
    for ref, oid in _agreed().items():
        arrives(group, ref, oid)
    for site in group:
        assert site.refs().keys() - _agreed().keys() == ({"refs/heads/ci/1"} if site.name == "a" else set())
        site.fsck()
    first = git.rev_parse(group["a"].repository, f"{MAIN}~2")
    rewritten = git.rev_parse(group["a"].repository, f"{MAIN}~1")
    assert git.rev_parse(group["a"].repository, "refs/heads/rewritten~1") == first
    assert all({first, rewritten} <= site.kept() for site in group)


def _in_order(group: Group) -> None:
    for site in group:
        assert "no fault" in site.piehole("check", check=True).out
        assert site.piehole("status", "--wait", "20", check=True).status == 0
    assert group["a"].piehole("audit", check=True).status == 0


def _pushes_go_on(group: Group, site: Site, clone: Path) -> None:
    """A new commit, an overwritten ref, a new one and a deletion through this site reach all."""
    git.git(clone, "fetch", "-q", str(site.repository), "main")
    git.git(clone, "reset", "-q", "--hard", "FETCH_HEAD")
    one = git.commit(clone, f"through {site}")
    new = f"refs/heads/new-{site}"
    pushed = accepted(git.push(clone, str(site.repository), "--atomic", "HEAD:main", "+HEAD:rewritten", f"HEAD:{new}"))
    assert "piehole: accepted: " in pushed.stderr
    for ref in (MAIN, "refs/heads/rewritten", new):
        arrives(group, ref, one)
    accepted(git.push(clone, str(site.repository), f":{new}"))
    arrives(group, new, "")


def test_an_upgrade_from_the_first_version_loses_nothing(load: Load, tmp_path: Path) -> None:
    group = load()
    settings = [_settings(site) for site in group]
    _upgrade(*group)
    assert [_settings(site) for site in group] == settings
    group.start()
    _nothing_is_lost(group)
    _in_order(group)
    log = group["c"].piehole("log", "--json", "rewritten", check=True).json["changes"]
    assert [(change["site"], change["new"], change["revision"]) for change in log] == [
        (
            json.loads(transaction["/piehole/ref/g/@push"])["site"],
            transaction["/piehole/ref/g/refs/heads/rewritten"],
            revision,
        )
        for revision, transaction in reversed([*enumerate(_transactions(), 2)])
        if "/piehole/ref/g/refs/heads/rewritten" in transaction
    ]
    for site in group:
        _pushes_go_on(group, site, git.clone(site.repository, tmp_path / f"work-{site}"))
    _in_order(group)


def test_hooks_of_the_first_version_go_on_beside_upgraded_sites(load: Load, tmp_path: Path) -> None:
    """The package is upgraded in its place everywhere, but `piehole install` has not been run at b."""
    group = load()
    _upgrade(group["a"], group["c"])
    group.start()
    _nothing_is_lost(group)
    work = git.clone(group["b"].repository, tmp_path / "work")
    for site in (group["b"], group["c"], group["b"]):
        _pushes_go_on(group, site, work)
    found = group["b"].piehole("check", check=False)
    assert found.status == 1
    assert (
        "hooks/update was written by another version or for another interpreter: run `piehole install` again"
        in found.out
    )
    _upgrade(group["b"])
    _in_order(group)


def test_a_whole_site_of_the_first_version_goes_on_beside_upgraded_ones(load: Load, tmp_path: Path) -> None:
    old = tmp_path / "program"
    if not unpack(old, first_version.COMMIT):
        pytest.skip(f"{NOT_POSSIBLE}this checkout has no history, and so not the first version")
    group = load({"b": old})
    _upgrade(group["a"], group["c"])
    group.start()
    _nothing_is_lost(group)
    work = git.clone(group["b"].repository, tmp_path / "work")
    for site in group:
        _pushes_go_on(group, site, work)
