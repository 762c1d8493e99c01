"""A site leaves, is lost, comes back, gets another machine or another URL; and `piehole sites` tells of it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from tests.life.bed import Life, begun, live, move_host, named
from tests.life.page import commands
from tests.support import git
from tests.support.assertions import accepted, refused
from tests.support.git import MAIN
from tests.support.groups import MakeGroup
from tests.support.wait import PATIENCE, until

REPLACED = "A machine is replaced"


def _sites(life: Life, at: str = "oslo") -> dict[str, str]:
    """The lines of `piehole sites` at one site, by the names in them."""
    lines = life[at].piehole("sites").out.splitlines()
    return {line[2:].split("  ")[0]: line for line in lines}


def _record(life: Life, name: str) -> dict[str, object]:
    found: dict[str, object] = json.loads(life.group.etcd.get(f"{life.group.prefix}/site/tools/{name}") or "{}")
    return found


@pytest.mark.slow
def test_a_site_leaves_refuses_pushes_and_comes_back(make_group: MakeGroup, tmp_path: Path) -> None:
    life = live(make_group, tmp_path)
    kyoto = life["kyoto"]
    work = begun(life)
    life.group.published()
    life.admin.run(kyoto, f"{commands('A site leaves').rstrip()} --yes")  # nobody answers the question here
    assert "made to leave" in kyoto.wait_event("site.halted", PATIENCE)["reason"]
    second = git.commit(work, "without kyoto")
    refused(git.push(work, kyoto.repository, "HEAD:main"), "wrong-group")
    accepted(git.push(work, life["oslo"].repository, "HEAD:main", "HEAD:side"))
    life.group.arrives(MAIN, second, [life["oslo"], life["lima"]])
    assert _sites(life)["kyoto"].startswith("  kyoto  left  ")
    assert kyoto.at() != second
    accepted(git.push(work, life["oslo"].repository, ":side"))
    until(lambda: life.group.value("refs/heads/side") is None, PATIENCE, "nobody waits for kyoto")
    life.admin.run(kyoto, commands("A site comes back"))
    life.group.in_step(timeout=PATIENCE)
    third = git.commit(work, "with kyoto")
    accepted(git.push(work, kyoto.repository, "HEAD:main"))
    life.group.arrives(MAIN, third)


@pytest.mark.slow
def test_an_uninstalled_site_is_an_ordinary_repository_and_can_come_back(make_group: MakeGroup, tmp_path: Path) -> None:
    life = live(make_group, tmp_path)
    kyoto = life["kyoto"]
    work = begun(life)
    life.group.published()
    life.admin.run(kyoto, commands("An ordinary repository again"))
    until(lambda: kyoto.events("repository.left"), PATIENCE, "its controller lets go of it")
    own = git.commit(work, "to the ordinary repository")
    accepted(git.push(work, kyoto.repository, "HEAD:main", "HEAD:own"))
    git.git(work, "reset", "--hard", "--quiet", "HEAD~1")
    newest = git.commit(work, "to the group")
    accepted(git.push(work, life["oslo"].repository, "HEAD:main"))
    said = life.admin.run(kyoto, commands("Back after an uninstall")).stdout
    assert "not adopted: refs/heads/own" in said
    life.group.arrives(MAIN, newest, timeout=PATIENCE)
    assert own in kyoto.kept()
    assert life.group.value("refs/heads/own") is None


@pytest.mark.slow
def test_a_site_that_is_lost_for_good_is_let_go_by_another_one(make_group: MakeGroup, tmp_path: Path) -> None:
    life = live(make_group, tmp_path)
    work = begun(life, 2)
    accepted(git.push(work, life["oslo"].repository, "HEAD:side"))
    life.group.in_step()
    life.group.published("refs/heads/side")
    life["kyoto"].kill()
    shutil.rmtree(life["kyoto"].root)
    oid = git.commit(work, "kyoto is gone")
    accepted(git.push(work, life["oslo"].repository, "HEAD:main", ":side"))
    life.group.arrives(MAIN, oid, [life["oslo"], life["lima"]])
    assert life.group.value("refs/heads/side") is not None, "the tombstone waits for kyoto"
    life.admin.run(life["lima"], commands("A site is lost for good"))
    assert "  left  " in _sites(life)["kyoto"]
    accepted(git.push(work, life["oslo"].repository, "HEAD:another"))
    until(lambda: life.group.value("refs/heads/side") is None, PATIENCE, "the tombstone is reaped")


@pytest.mark.parametrize("how", ["empty disk, same URL", "empty disk, new URL", "copied disk"])
def test_a_machine_is_replaced_and_the_old_one_refuses_from_then_on(
    make_group: MakeGroup, tmp_path: Path, how: str
) -> None:
    life = live(make_group, tmp_path)
    old = life["kyoto"]
    work = begun(life)
    life.group.published()
    before = _record(life, "kyoto")
    life.group.sites.remove(old)
    new = named(life.group, "kyoto", disk="new-kyoto")
    new.log = life.group.folder / "new-kyoto.log"
    text, words = commands(REPLACED), {}
    try:
        if how == "copied disk":
            shutil.copytree(old.repository, new.repository, symlinks=True)
            text = text.partition("\n")[2]
        if how == "empty disk, new URL":
            words = {"kyoto.example": "kyoto2.example"}
            move_host(life.group, "kyoto2", new.root)
        else:
            move_host(life.group, "kyoto", new.root)
        life.admin.run(new, text, words)
        assert _record(life, "kyoto")["id"] != before["id"]
        assert "another machine has the name" in old.wait_event("site.halted", PATIENCE)["reason"]
        git.commit(work, "to the old machine")
        assert "another machine has the name" in refused(git.push(work, old.repository, "HEAD:main"), "wrong-group")
        new.start()
        life.group.arrives(MAIN, git.rev_parse(work, "HEAD~1"), [new], timeout=PATIENCE)
        git.git(work, "reset", "--hard", "--quiet", "HEAD~1")
        oid = git.commit(work, "to the new machine")
        accepted(git.push(work, new.repository, "HEAD:main"))
        life.group.arrives(MAIN, oid, timeout=PATIENCE)
        assert old.at() != oid
        assert "  (replaced 2" in _sites(life)["kyoto"]
        assert _sites(life)["kyoto"].startswith("  kyoto  ")
        at_the_old_one = old.piehole("sites").out.splitlines()[0]
        assert at_the_old_one.startswith("  kyoto  ")
        assert at_the_old_one.endswith("(another machine than this one has the name)")
    finally:
        old.end()


def test_a_name_is_not_taken_over_without_replace(make_group: MakeGroup, tmp_path: Path) -> None:
    life = live(make_group, tmp_path)
    new = named(life.group, "kyoto", disk="new-kyoto")
    life.group.sites.remove(new)
    before = life.group.etcd.get_prefix(f"{life.group.prefix}/site/")
    text = commands(REPLACED).replace(" --replace", "")
    done = life.admin.run(new, text, {"kyoto.example": "kyoto2.example"}, check=False)
    assert done.returncode == 1, done.stdout
    assert "is taken" in done.stderr
    assert life.group.etcd.get_prefix(f"{life.group.prefix}/site/") == before


def test_a_url_changes_and_those_that_wait_for_this_site_ask_at_the_new_one_at_once(
    make_group: MakeGroup, tmp_path: Path
) -> None:
    life = live(make_group, tmp_path)
    oslo, lima = life["oslo"], life["lima"]
    work = begun(life)
    before = _record(life, "oslo")
    move_host(life.group, "oslo", None)
    oid = git.commit(work, "nobody can fetch this")
    accepted(git.push(work, oslo.repository, "HEAD:main"))
    lima.stuck(MAIN)
    move_host(life.group, "new", oslo.root)
    life.admin.run(oslo, commands("A URL changes"))
    life.group.arrives(MAIN, oid, timeout=10.0)
    after = _record(life, "oslo")
    assert after == {**before, "url": str(life.group.folder / "new" / "tools.git")}
    assert str(after["url"]) in _sites(life, "lima")["oslo"]
    # All controllers watch the refs' prefix, and hear of the record's change by the fence that was written with it.
    records = [f"{life.group.prefix}/site/tools/oslo", life.group.key("@fence")]
    found = [life.group.etcd.look(key) for key in records]
    assert len({one.mod_revision for one in found if one is not None}) == 1


def test_sites_tells_who_joins_who_was_never_seen_and_who_is_behind(make_group: MakeGroup, tmp_path: Path) -> None:
    life = live(make_group, tmp_path)
    work = begun(life)
    life.group.published()
    life.group.etcd.put(f"{life.group.prefix}/site/tools/nemo", '{"id": "x", "url": "/nowhere"}')
    quito = life.site("quito")
    life.admin.run(quito, commands("A site joins"))
    life["kyoto"].kill()
    oid = git.commit(work, "kyoto is down")
    accepted(git.push(work, life["oslo"].repository, "HEAD:main"))
    life.group.arrives(MAIN, oid, [life["oslo"], life["lima"]])
    until(lambda: "in step" in _sites(life)["oslo"], PATIENCE, "oslo has told")
    lines = _sites(life)
    assert lines["oslo"].startswith("* oslo  revision ")
    assert ", behind  " in lines["kyoto"]
    assert lines["nemo"].startswith("  nemo  never seen  /nowhere  x")
    assert lines["quito"].startswith("  quito  joining  ")
    shown = {one["site"]: one for one in json.loads(life["oslo"].piehole("sites", "--json").out)["sites"]}
    assert [shown[name]["in_step"] for name in ("oslo", "kyoto", "nemo", "quito")] == [True, False, False, False]
    assert {one["replaced"] for one in shown.values()} == {None}
