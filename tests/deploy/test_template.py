"""Repositories that begin with deploy/template take no push until they are sites of a group."""

from __future__ import annotations

from pathlib import Path

from tests.hooks.world import MAIN, World, accepted, refused
from tests.support.etcd import EtcdProcess
from tests.support.git import commit, git, push, refs

TEMPLATE = Path(__file__).parents[2] / "deploy" / "template"


def test_a_repository_from_the_template_is_closed_until_it_is_installed(
    etcd: EtcdProcess, prefix: str, tmp_path: Path
) -> None:
    world = World(tmp_path, etcd.endpoint, prefix)
    git(tmp_path, "config", "--global", "init.templateDir", str(TEMPLATE))
    git(tmp_path, "init", "--quiet", "--bare", "new.git")
    site = tmp_path / "new.git"
    work = world.user(site)
    first = commit(work)
    said = refused(push(work, site, "HEAD:main"), "no-access")
    assert "piehole install" in said
    assert refs(site) == {}
    git(site, "gc", "--quiet")
    world.site("a", repository=site)
    accepted(push(work, site, "HEAD:main"))
    assert world.value(MAIN) == first
    world.end()
