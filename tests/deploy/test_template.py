"""Repositories that begin with deploy/template take no push until they are sites of a group."""

from __future__ import annotations

from pathlib import Path

from tests.support.assertions import accepted, refused
from tests.support.etcd import EtcdProcess
from tests.support.git import MAIN, commit, git, push, refs
from tests.support.groups import Group

TEMPLATE = Path(__file__).parents[2] / "deploy" / "template"


def test_a_repository_from_the_template_is_closed_until_it_is_installed(
    etcd: EtcdProcess, prefix: str, tmp_path: Path
) -> None:
    world = Group(tmp_path, [etcd.endpoint], prefix)
    git(tmp_path, "config", "--global", "init.templateDir", str(TEMPLATE))
    site = world["a"].repository
    git(tmp_path, "init", "--quiet", "--bare", str(site))
    work = world.clone(site)
    first = commit(work)
    said = refused(push(work, site, "HEAD:main"), "no-access")
    assert "piehole install" in said
    assert refs(site) == {}
    git(site, "gc", "--quiet")
    world["a"].build()
    accepted(push(work, site, "HEAD:main"))
    assert world.value(MAIN) == first
    world.end()
