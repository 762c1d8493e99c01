"""Who is who, and whose past it is: etcd, a disk, or a machine that is not the one it was."""

from __future__ import annotations

import json
import shutil
import signal
from pathlib import Path

import pytest

from piehole.errors import PieholeError
from tests.conftest import OwnEtcd
from tests.support import git
from tests.support.assertions import accepted, refused
from tests.support.git import MAIN
from tests.support.groups import MakeGroup
from tests.support.sites import Site
from tests.support.wait import PATIENCE, until


def test_etcd_went_back(make_group: MakeGroup, own_etcd: OwnEtcd, tmp_path: Path) -> None:
    """Restored from an old backup, then emptied, then another one: no ref moves, nothing is written, a person is told."""
    etcd = own_etcd()
    group = make_group(2, etcd=etcd)
    work, first = group.begun("side")
    group.published()
    etcd.terminate()
    etcd.copy_data(tmp_path / "backup")
    etcd.start()
    second = git.commit(work, "second")
    accepted(git.push(work, group[0].repository, "HEAD:main", ":side", "HEAD:later"))
    group.in_step()
    group.published()
    everything = {MAIN: second, "refs/heads/later": second}

    etcd.kill()
    etcd.restore_data(tmp_path / "backup")
    etcd.start()
    for site in group:
        told_off = site.wait_event("site.halted", PATIENCE, token="went-back")  # noqa: S106 -- a word, not a password
        assert "piehole accept" in told_off["reason"]
    git.commit(work, "third")
    refused(git.push(work, group[0].repository, "HEAD:main"), "went-back")
    assert (group.value(), group.value("refs/heads/later")) == (first, None)

    etcd.kill()
    etcd.wipe()
    etcd.start()
    for site in group:
        site.wait_event("site.halted", PATIENCE, token="wrong-group")  # noqa: S106 -- a word, not a password
    refused(git.push(work, group[1].repository, "HEAD:main"), "wrong-group")
    assert group.etcd.get_prefix(group.prefix) == {}

    stranger = Site(group, "z", "").build()  # founds another group of the same name
    until(lambda: "is another one" in group[0].events("site.halted")[-1]["reason"], PATIENCE, "another group is told")
    refused(git.push(work, group[0].repository, "HEAD:main"), "wrong-group")
    assert (group.value(), stranger.refs()) == (None, {})
    for site in group:
        assert site.refs() == everything


def test_disk_restored(make_group: MakeGroup, tmp_path: Path) -> None:
    """A disk from a backup halts until a person decides; meanwhile it serves reads and takes nothing."""
    group = make_group(2)
    a, b = group
    work, first = group.begun("side")
    group.published()
    b.stop()
    shutil.copytree(b.repository, tmp_path / "backup", symlinks=True)
    b.start()
    second = git.commit(work, "second")
    accepted(git.push(work, a.repository, "HEAD:main", ":side"))
    group.in_step()
    group.published()
    b.stop()
    shutil.rmtree(b.repository)
    shutil.copytree(tmp_path / "backup", b.repository, symlinks=True)
    b.start()
    halted = b.wait_event("site.halted", PATIENCE, token="went-back")  # noqa: S106 -- a word, not a password
    assert "disk was restored" in halted["reason"]
    refused(git.push(work, b.repository, "HEAD:again"), "went-back")
    assert git.rev_parse(b.clone()) == first
    assert group.value() == second
    b.piehole("accept", "--yes")
    group.arrives(MAIN, second)
    group.arrives("refs/heads/side", "")
    assert first in b.kept()


def test_disk_restored_an_old_copy_brings_no_deleted_branch_back(make_group: MakeGroup) -> None:
    """A site is seeded from a copy that still has what the group has deleted since: that is listed, and stays local."""
    group = make_group(2)
    a, b = group
    work, first = group.begun("gone")
    copy = Site(group, "c", "")
    git.git(group.folder, "clone", "-q", "--mirror", str(a.repository), str(copy.repository))
    accepted(git.push(work, a.repository, ":gone"))
    second = git.commit(work, "second")
    accepted(git.push(work, a.repository, "HEAD:main"))
    until(lambda: group.value("refs/heads/gone") is None, PATIENCE, "the tombstone is reaped, so nothing remembers it")
    git.git(copy.repository, "config", "--add", "piehole.allowProtocol", "file")
    joined = group.piehole(
        *("install", str(copy.repository), "--group", "g", "--site", "c", "--url", str(copy.repository)),
        *("--etcd", group.endpoints[0], "--prefix", group.prefix),
    )
    assert "not adopted: refs/heads/gone" in joined.out
    group.sites.append(copy.start())
    group.arrives(MAIN, second)
    assert group.value("refs/heads/gone") is None
    assert [site.at("refs/heads/gone") for site in group] == ["", "", first]
    refused(git.push(copy.clone(), copy.repository, ":gone"), "unadopted")
    assert b.refs() == {MAIN: second}


def test_disk_restored_two_machines_under_one_name(make_group: MakeGroup) -> None:
    """A copied disk runs beside its original: they cannot both be the site, and the one that comes second stops."""
    group = make_group(2)
    a, b = group
    work, first = group.begun()
    group.published()
    twin = Site(group, "b", b.url, root=group.folder / "twin")
    twin.log = group.folder / "twin.log"
    b.stop()
    shutil.copytree(b.root, twin.root, symlinks=True)
    group.sites.append(twin)
    twin.start()
    second = git.commit(work, "second")
    accepted(git.push(work, a.repository, "HEAD:main"))
    group.arrives(MAIN, second, [twin])
    until(lambda: twin.progress() >= group.etcd.look(group.key(MAIN)).mod_revision, PATIENCE)  # type: ignore[union-attr]
    b.start()
    assert "same site's name" in b.wait_event("site.halted", PATIENCE)["reason"]
    assert b.at() == first
    refused(git.push(work, b.repository, "HEAD:other"), "went-back")


def test_identity_clash(make_group: MakeGroup) -> None:
    """A name that is taken is refused, or taken over on purpose, and then its former owner stops."""
    group = make_group(2)
    a, b = group
    work, _ = group.begun()
    twin = Site(group, "a", "", root=group.folder / "twin")
    before = group.etcd.get_prefix(group.prefix)
    with pytest.raises(PieholeError, match="is taken"):
        twin.build()
    assert group.etcd.get_prefix(group.prefix) == before
    twin.build(replace=True)
    second = git.commit(work, "second")
    accepted(git.push(work, b.repository, "HEAD:main"))
    group.arrives(MAIN, second, [b])
    assert "another machine has the name" in a.wait_event("site.halted", PATIENCE)["reason"]
    git.commit(work, "third")
    refused(git.push(work, a.repository, "HEAD:main"), "wrong-group")
    assert group.value() == second


def test_identity_clash_of_two_repositories_on_one_server(make_group: MakeGroup) -> None:
    """The same repository twice below one root: one is served, and the other named."""
    group = make_group(1)
    (a,) = group
    group.begun()
    copy = a.root / "second.git"
    shutil.copytree(a.repository, copy, symlinks=True)
    a.signal(signal.SIGHUP)
    refusal = a.wait_event("repository.refused", PATIENCE, repository=str(copy))
    assert str(a.repository) in refusal["reason"]
    assert a.at() == group.value()


def test_identity_clash_a_site_that_leaves_and_comes_back_begins_anew(make_group: MakeGroup) -> None:
    group = make_group(2)
    a, b = group
    work, first = group.begun("side")
    group.published()
    b.stop()
    b.piehole("leave", "--yes")
    record = f"{group.prefix}/site/{group.name}/b"
    assert json.loads(group.etcd.get(record) or "")["left"] is True
    second = git.commit(work, "second")
    accepted(git.push(work, a.repository, "HEAD:main", ":side"))
    b.start().wait_event("site.halted", PATIENCE)
    refused(git.push(work, b.repository, "HEAD:again"), "wrong-group")
    assert b.refs() == {MAIN: first, "refs/heads/side": first}
    until(lambda: group.value("refs/heads/side") is None, PATIENCE, "nobody waits for a site that left")
    b.install()
    group.arrives(MAIN, second, timeout=PATIENCE)
    assert "left" not in json.loads(group.etcd.get(record) or "")
    assert b.at("refs/heads/side") == first  # it cannot know what was deleted while it was no site, so it stays local
    assert group.value("refs/heads/side") is None
