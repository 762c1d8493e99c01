"""A controller from its start to its end, whatever etcd does meanwhile."""

from __future__ import annotations

import os
import shutil
import signal
from pathlib import Path

import pytest

from tests.conftest import OwnEtcd
from tests.support import git
from tests.support.assertions import accepted, refused
from tests.support.git import MAIN
from tests.support.groups import Group, MakeGroup
from tests.support.ports import free_ports
from tests.support.process import descendants
from tests.support.sites import Site
from tests.support.wait import until


def pushed(site: Site, message: str, work: Path | None = None) -> str:
    """A commit that somebody pushes to this site's main."""
    work = work or site.clone()
    oid = git.commit(work, message)
    accepted(git.push(work, site.url, "HEAD:main"))
    return oid


def test_sigterm_ends_it_with_status_0_and_leaves_nothing(make_group: MakeGroup) -> None:
    group = make_group(1)
    site = group[0]
    pushed(site, "one")
    assert site.controller is not None
    pid = site.controller.pid
    assert site.stop() == 0
    assert not descendants(pid)
    assert list((group.runtime / "piehole").iterdir()) == []
    assert not (site.repository / "piehole" / "controller").exists()
    assert list((site.repository / "objects" / "pack").glob("*.keep")) == []
    assert site.events()[-1]["event"] == "controller.stopped"


def test_sigint_ends_it_like_sigterm(make_group: MakeGroup) -> None:
    group = make_group(1)
    group[0].signal(signal.SIGINT)
    assert group[0].controller is not None
    assert group[0].controller.wait(20) == 0


def test_many_signals_in_a_row_never_hang_it(make_group: MakeGroup) -> None:
    site = make_group(1)[0]
    for _ in range(300):
        site.signal(signal.SIGHUP)
    assert site.stop() == 0


@pytest.mark.slow
def test_it_starts_without_etcd_keeps_running_and_recovers_when_it_comes(
    make_group: MakeGroup, own_etcd: OwnEtcd
) -> None:
    etcd = own_etcd()
    group = make_group(2, etcd=etcd, started=False)
    etcd.kill()
    group.start()
    group[0].wait_event("etcd.trouble")
    work = group[0].clone()
    git.commit(work, "while etcd is away")
    refused(git.push(work, "origin", "HEAD:main"), "no-quorum")
    etcd.start()
    oid = git.rev_parse(work)
    accepted(git.push(work, "origin", "HEAD:main"))
    group.arrives(MAIN, oid)
    for site in group:
        assert site.running
        said = [event["error"] for event in site.events("etcd.trouble")]
        assert len(said) == len(set(said)), "an etcd that stays away is told once, not at each try"


def test_it_ends_promptly_while_etcd_hangs(make_group: MakeGroup, own_etcd: OwnEtcd) -> None:
    etcd = own_etcd()
    group = make_group(1, etcd=etcd)
    pushed(group[0], "one")
    etcd.pause()
    assert group[0].stop() == 0
    etcd.resume()


@pytest.mark.slow
def test_repositories_that_come_and_go_are_served_and_left_while_it_runs(make_group: MakeGroup) -> None:
    group = make_group(2)
    first = pushed(group[0], "one")
    group.arrives(MAIN, first)
    other = Group(group.folder / "other", group.endpoints, group.prefix, name="h")
    try:
        sites = [other.add(site.name, root=site.root / "more") for site in group]
        for site in sites:
            site.build()
        for site in sites:
            until(lambda site=site: (site.repository / "piehole" / "controller").exists(), 15, "the new one is served")  # type: ignore[misc]
        oid = pushed(sites[0], "in the new repository")
        other.arrives(MAIN, oid)
    finally:
        other.end()
    git.git(sites[1].repository, "config", "--unset-all", "piehole.group")
    group[1].wait_event("repository.left", repository=str(sites[1].repository))
    assert not (sites[1].repository / "piehole" / "controller").exists()
    group.arrives(MAIN, pushed(group[1], "two"))


def test_sighup_has_every_configuration_read_anew(make_group: MakeGroup) -> None:
    group = make_group(1)
    site = group[0]
    # Not in the repository's own file, which a controller looks at by itself.
    home = Path(os.environ["HOME"]) / ".gitconfig"
    home.write_text(home.read_text() + "[piehole]\n\texclude = refs/heads/private/*\n")
    site.signal(signal.SIGHUP)
    site.wait_event("controller.reloading")
    until(lambda: len(site.events("repository.served")) == 2, 15, "it is served anew")
    work = site.clone()
    git.commit(work, "mine")
    accepted(git.push(work, "origin", "HEAD:private/x"))
    assert group.value("refs/heads/private/x") is None
    assert site.at("refs/heads/private/x") == git.rev_parse(work)


@pytest.mark.slow
def test_a_changed_configuration_is_seen_without_a_signal(make_group: MakeGroup) -> None:
    group = make_group(2)
    work = group[0].clone()
    git.commit(work, "one")
    git.git(group[0].repository, "config", "piehole.exclude", "refs/heads/private/*")
    until(lambda: len(group[0].events("repository.served")) == 2, 15, "it is served anew")
    accepted(git.push(work, "origin", "HEAD:private/x"))
    assert group.value("refs/heads/private/x") is None


@pytest.mark.slow
def test_a_broken_configuration_is_told_once_and_mended_by_itself(make_group: MakeGroup) -> None:
    group = make_group(1, started=False)
    site = group[0]
    site_name = git.git(site.repository, "config", "piehole.site").stdout.strip()
    git.git(site.repository, "config", "piehole.site", "no such/name")
    site.launch()
    told = site.wait_event("repository.refused")
    assert "no such/name" in told["reason"]
    git.git(site.repository, "config", "piehole.site", site_name)
    site.wait_served()
    pushed(site, "one")
    assert len(site.events("repository.refused")) == 1


@pytest.mark.slow
def test_a_copy_that_claims_to_be_the_same_site_is_not_served(make_group: MakeGroup) -> None:
    group = make_group(1, started=False)
    site = group[0]
    copy = site.root / "zcopy.git"
    shutil.copytree(site.repository, copy)
    site.start()
    told = site.wait_event("repository.refused", repository=str(copy))
    assert str(site.repository) in told["reason"]
    assert not (copy / "piehole" / "controller").exists()
    pushed(site, "the other one is served")
    shutil.rmtree(site.repository)
    until(lambda: (copy / "piehole" / "controller").exists(), 15, "it takes its place once that one is gone")


def test_two_controllers_on_one_machine_do_not_collide(make_group: MakeGroup) -> None:
    group = make_group(2)
    sockets = {(site.repository / "piehole" / "controller").read_text() for site in group}
    assert len(sockets) == 2
    assert group[0].stop() == 0
    oid = pushed(group[1], "one")
    group.arrives(MAIN, oid, [group[1]])
    assert group[1].log_text().count('"answer') == 0


def test_a_second_controller_of_the_same_folders_is_refused(make_group: MakeGroup) -> None:
    group = make_group(1)
    site = group[0]
    second = group.piehole("controller", "--root", str(site.root), check=False)
    assert second.status == 1
    assert "another controller" in second.err
    pushed(site, "the first one still answers")
    assert site.stop() == 0


def test_what_a_killed_controller_leaves_does_not_hinder_the_next(make_group: MakeGroup) -> None:
    group = make_group(2)
    for site in group:
        site.kill()
    oid = pushed(group[0], "while both are dead")
    group.start()
    group.arrives(MAIN, oid)


def test_a_wrong_folder_is_a_wrong_argument(make_group: MakeGroup) -> None:
    group = make_group(1, started=False)
    assert group.piehole("controller", "--root", str(group.folder / "nowhere"), check=False).status == 2
    assert group.piehole("controller", check=False).status == 2


def test_an_etcd_on_the_command_line_counts_for_every_repository(make_group: MakeGroup) -> None:
    group = make_group(2, started=False)
    a, b = group
    git.git(b.repository, "config", "--replace-all", "piehole.etcd", f"http://127.0.0.1:{free_ports(1)[0]}")
    a.start()
    b.start("--etcd", f"127.0.0.1:{free_ports(1)[0]},{group.etcd.endpoint}")
    work = a.clone()
    oid = git.commit(work, "one")
    accepted(git.push(work, "origin", "HEAD:main"))
    group.arrives(MAIN, oid)
