"""A site that was seeded goes on from there: only what is missing is fetched, and an old seed moves nothing back."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.life.bed import Life, begun, bytes_fetched, history, live
from tests.life.page import commands
from tests.support import git
from tests.support.assertions import accepted, refused
from tests.support.git import MAIN
from tests.support.groups import MakeGroup
from tests.support.sites import Site
from tests.support.wait import PATIENCE, until

_COMMITS = 1500
_SMALL = 40_000  # bytes: more than what is missing takes, and a tenth of what is not

BUNDLE, COPY, IMAGE = "A site joins from a bundle", "A site joins from a copy", "A site joins from a disk image"


def _old_and_new(life: Life) -> tuple[Path, str]:
    """A clone, with branches that will be moved and deleted once the seed is made, on top of a long history."""
    work = begun(life, _COMMITS)
    accepted(git.push(work, life.group[0].repository, "HEAD:moved", "HEAD:gone", "HEAD:seen-gone"))
    life.group.in_step()
    return work, git.rev_parse(work)


def _goes_on(life: Life, work: Path) -> dict[str, str]:
    """What happens after the seed was made: main and another branch move on, two are deleted, one of them is forgotten."""
    oslo = life["oslo"].repository
    accepted(git.push(work, oslo, ":gone"))
    until(lambda: life.group.value("refs/heads/gone") is None, PATIENCE, "all sites have seen that gone is deleted")
    life["lima"].stop()  # from now on tombstones stay
    newest = history(work, 20)
    accepted(git.push(work, oslo, "refs/heads/main", "refs/heads/main:moved", ":seen-gone"))
    return {MAIN: newest, "refs/heads/moved": newest}


def _joined(life: Life, quito: Site, wanted: dict[str, str], old: str, said: str) -> None:
    """The site has joined from its seed: it has the group's refs, fetched next to nothing, and the group is as it was."""
    before = life.group.etcd.get_prefix(life.group.key("refs/"))
    assert "not adopted: refs/heads/gone" in said, said
    quito.start()
    life["lima"].start()
    for ref, oid in wanted.items():
        life.group.arrives(ref, oid, timeout=PATIENCE)
    life.group.arrives("refs/heads/seen-gone", "", timeout=PATIENCE)
    assert 0 < bytes_fetched(quito) < _SMALL
    assert quito.at("refs/heads/gone") == old, (
        "what the group has forgotten is no part of it, and not piehole's to delete"
    )
    life.admin.run(quito, commands(BUNDLE, 2))
    life.group.in_step()
    after = life.group.etcd.get_prefix(life.group.key("refs/"))
    assert [key for key in before if after.get(key) != before[key] and not key.endswith("/seen-gone")] == []
    assert set(after) <= set(before)
    quito.fsck()
    clone = quito.clone()
    oid = git.commit(clone, "to the seeded site")
    accepted(git.push(clone, quito.repository, "HEAD:main"))
    life.group.arrives(MAIN, oid)
    assert git.push(clone, quito.repository, "HEAD:gone").returncode == 0, "the name is free again"


@pytest.mark.slow
def test_a_site_joins_from_an_old_bundle(make_group: MakeGroup, tmp_path: Path) -> None:
    life = live(make_group, tmp_path, ("oslo", "lima"))
    work, old = _old_and_new(life)
    life.admin.run(life["lima"], commands(BUNDLE, 0))
    wanted = _goes_on(life, work)
    quito = life.site("quito")
    _joined(life, quito, wanted, old, life.admin.run(quito, commands(BUNDLE, 1)).stdout)


@pytest.mark.slow
def test_a_site_joins_from_an_old_copy_of_refs_and_objects(make_group: MakeGroup, tmp_path: Path) -> None:
    life = live(make_group, tmp_path, ("oslo", "lima"))
    work, old = _old_and_new(life)
    quito = life.site("quito")
    copied, _, install = commands(COPY).rpartition("piehole install")
    life.admin.run(quito, copied)
    wanted = _goes_on(life, work)
    _joined(life, quito, wanted, old, life.admin.run(quito, "piehole install" + install).stdout)
    assert git.git(quito.repository, "config", "--local", "piehole.site").stdout == "quito\n"


def _image(life: Life, to: Path) -> None:
    to.parent.mkdir(parents=True, exist_ok=True)
    shutil.copytree(life["oslo"].repository, to, symlinks=True)


@pytest.mark.slow
def test_a_site_joins_from_an_old_image_of_another_sites_disk(make_group: MakeGroup, tmp_path: Path) -> None:
    life = live(make_group, tmp_path, ("oslo", "lima"))
    work, old = _old_and_new(life)
    quito = life.site("quito")
    _image(life, life.group.folder / "staging" / "tools.git")
    wanted = _goes_on(life, work)
    _joined(life, quito, wanted, old, life.admin.run(quito, commands(IMAGE)).stdout)
    assert "left" not in (life.group.etcd.get(f"{life.group.prefix}/site/tools/oslo") or "")


@pytest.mark.slow
def test_an_image_that_is_installed_as_it_is_begins_anew_under_its_own_name(
    make_group: MakeGroup, tmp_path: Path
) -> None:
    life = live(make_group, tmp_path, ("oslo", "lima"))
    work, old = _old_and_new(life)
    quito = life.site("quito")
    _image(life, quito.repository)
    wanted = _goes_on(life, work)
    _, _, install = commands(IMAGE).rpartition("piehole install")
    said = life.admin.run(quito, "piehole install" + install).stdout
    assert "this repository was the site 'oslo'" in said
    _joined(life, quito, wanted, old, said)
    assert life["oslo"].events("site.halted") == []


def test_an_image_needs_a_url_of_its_own(make_group: MakeGroup, tmp_path: Path) -> None:
    """Without one, peers would fetch from the other site and take it for this one."""
    life = live(make_group, tmp_path, ("oslo",))
    begun(life)
    quito = life.site("quito")
    _image(life, quito.repository)
    before = life.group.etcd.get_prefix(f"{life.group.prefix}/site/")
    done = life.admin.run(quito, "piehole install /srv/git/tools.git --site quito", check=False)
    assert done.returncode == 2, done.stdout
    assert "Give --url" in done.stderr
    assert life.group.etcd.get_prefix(f"{life.group.prefix}/site/") == before


def test_a_copy_with_gaps_is_refused_until_it_is_whole(make_group: MakeGroup, tmp_path: Path) -> None:
    """A tip that is here vouches for its history, and peers would never send what it lacks."""
    life = live(make_group, tmp_path, ("oslo",), started=False)
    life["oslo"].start()
    work = begun(life)
    git.commit(work, "the one that will be missing")
    lost = git.rev_parse(work, "HEAD")
    git.commit(work, "newest")
    accepted(git.push(work, life["oslo"].repository, "HEAD:main"))
    quito = life.site("quito")
    copied, _, install = commands(COPY).rpartition("piehole install")
    life.admin.run(quito, copied)
    hole = quito.repository / "objects" / lost[:2] / lost[2:]
    hole.unlink()
    before = life.group.etcd.get_prefix(f"{life.group.prefix}/site/")
    done = life.admin.run(quito, "piehole install" + install, check=False)
    assert done.returncode == 1, done.stdout
    assert "copy once more" in done.stderr
    assert life.group.etcd.get_prefix(f"{life.group.prefix}/site/") == before
    life.admin.run(quito, copied.partition("\n")[2])
    life.admin.run(quito, "piehole install" + install)
    quito.start()
    life.group.in_step()
    quito.fsck()


def test_a_controller_that_finds_an_image_before_it_is_installed_is_noticed(
    make_group: MakeGroup, tmp_path: Path
) -> None:
    """It is a twin of the other site: what it does there is seen, and a person is told. No ref goes back."""
    life = live(make_group, tmp_path, ("oslo", "lima"))
    work = begun(life)
    quito = life.site("quito")
    _image(life, quito.repository)
    newest = git.commit(work, "after the image")
    accepted(git.push(work, life["lima"].repository, "HEAD:main"))
    life.group.arrives(MAIN, newest, [life["oslo"], life["lima"]])
    until(lambda: life["oslo"].progress() >= life.group.etcd.look(life.group.key(MAIN)).mod_revision, PATIENCE)  # type: ignore[union-attr]
    quito.start()
    assert "same site's name" in quito.wait_event("site.halted", PATIENCE)["reason"]
    refused(git.push(work, quito.repository, "HEAD:other"), "went-back")
    quito.kill()
    life.admin.run(quito, "piehole install /srv/git/tools.git --site quito --url /srv/git/tools.git")
    quito.start()
    life.group.in_step(timeout=PATIENCE)
    assert life["oslo"].events("site.halted") == []
