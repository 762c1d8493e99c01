"""docs/guides/sites.md as it stands: what is typed, and what is printed."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.guide.runner import Page, Terminals
from tests.life.bed import Life, begun, live, move_host
from tests.support.etcd import EtcdProcess, find_etcdctl
from tests.support.groups import MakeGroup
from tests.support.sites import Site
from tests.support.wait import PATIENCE

pytestmark = pytest.mark.slow


def _terminals(life: Life) -> Terminals:
    places = {f"git@{site.name}$": life.admin.place(site) for site in life.group}
    return Terminals({**places, "root@oslo#": life.admin.place(life["oslo"])})


def _without(life: Life, site: Site) -> None:
    """The site leaves, and its disk is empty again."""
    site.stop()
    site.piehole("uninstall", "--yes", str(site.repository))
    shutil.rmtree(site.repository)


@pytest.mark.page(
    "docs/guides/sites.md",
    "A site joins",
    "A site joins from a bundle",
    "A site joins from a copy",
    "A site joins from a disk image",
)
def test_sites_join(make_group: MakeGroup, tmp_path: Path, page: Page) -> None:
    life = live(make_group, tmp_path, ("oslo", "lima"))
    begun(life)
    quito = life.site("quito")
    with _terminals(life) as terminals:
        for section in dict.fromkeys(block.section for block in page.blocks):
            if section.endswith("image"):
                shutil.copytree(life["oslo"].repository, life.group.folder / "staging" / "tools.git", symlinks=True)
            page.type(terminals, sections=[section])
            quito.start()
            life.group.in_step(timeout=PATIENCE)
            _without(life, quito)


@pytest.mark.page(
    "docs/guides/sites.md",
    "A site leaves",
    "An ordinary repository again",
    "A site is lost for good",
    "A site comes back",
    "Back after an uninstall",
    "A machine is replaced",
    "A URL changes",
    "A group is renamed",
    "A group is removed",
)
def test_sites_leave_and_change(make_group: MakeGroup, etcd: EtcdProcess, tmp_path: Path, page: Page) -> None:
    etcdctl = find_etcdctl(etcd.binary)
    if etcdctl is None:
        pytest.skip("no etcdctl on this machine")
    life = live(make_group, tmp_path)
    begun(life)
    life.group.published()
    life.admin.use_etcdctl(etcdctl, etcd.endpoint)
    kyoto = life["kyoto"]
    with _terminals(life) as terminals:
        page.type(terminals, sections=["A site leaves", "A site comes back"])
        life.group.in_step(timeout=PATIENCE)
        page.type(terminals, sections=["An ordinary repository again", "Back after an uninstall"])
        life.group.in_step(timeout=PATIENCE)
        kyoto.kill()
        shutil.rmtree(kyoto.repository)
        page.type(terminals, sections=["A machine is replaced"])
        kyoto.start()
        life.group.in_step(timeout=PATIENCE)
        kyoto.kill()
        page.type(terminals, sections=["A site is lost for good"])
        move_host(life.group, "new", life["oslo"].root)
        page.type(terminals, sections=["A URL changes", "A group is renamed", "A group is removed"])
    assert not [key for key in life.group.etcd.get_prefix(life.group.prefix) if "/tools" in key]
