"""The promises that piehole's ancestor was tested for, each under the name that it had there, and the ways to reach a site."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from piehole.errors import PieholeError
from tests.support import git
from tests.support.assertions import accepted, refused
from tests.support.git import MAIN
from tests.support.gitdaemon import GitDaemon
from tests.support.groups import Group, MakeGroup
from tests.support.httpd import HttpServer
from tests.support.sites import Site
from tests.support.sshd import SshServer
from tests.support.wait import until

HOOKS = ("update", "reference-transaction")


def pushed(site: Site, work: Path, message: str = "a change", refspec: str = "HEAD:main") -> str:
    """A commit that somebody pushes to this site."""
    oid = git.commit(work, message)
    accepted(git.push(work, site.url, refspec))
    return oid


def founded(group: Group) -> tuple[Path, str]:
    """A clone of the first site, and the first commit, which all sites have."""
    work = group[0].clone()
    oid = pushed(group[0], work, "first")
    group.arrives(MAIN, oid)
    return work, oid


def test_basics_over_three_repositories(make_group: MakeGroup) -> None:
    group = make_group(3)
    a, b, c = group
    work, first = founded(group)
    second = pushed(b, work, "second")
    group.arrives(MAIN, second)
    accepted(git.push(work, c.url, f"{first}:refs/heads/topic"))
    group.arrives("refs/heads/topic", first)
    git.git(work, "reset", "-q", "--hard", first)
    rewritten = git.commit(work, "second, said better")
    assert git.push(work, a.url, "HEAD:main").returncode != 0, "no fast-forward, so git itself refuses"
    accepted(git.push(work, a.url, "--force", "HEAD:main"))
    group.arrives(MAIN, rewritten)
    accepted(git.push(work, b.url, ":topic"))
    group.arrives("refs/heads/topic", "")
    assert group.in_step() == {MAIN: rewritten}
    for site in group:
        site.fsck()
        assert second in site.kept(), "what a forced push replaced can be had back at every site"


def test_tag_replication(make_group: MakeGroup) -> None:
    group = make_group(2)
    a, b = group
    work, first = founded(group)
    git.git(work, "tag", "light")
    git.git(work, "tag", "-a", "-m", "a release", "v1")
    git.git(work, "tag", "-a", "-m", "a tag of a tag", "nested", "v1")
    git.git(work, "tag", "of-a-tree", "HEAD^{tree}")
    accepted(git.push(work, a.url, "--tags"))
    for name in ("light", "v1", "nested", "of-a-tree"):
        group.arrives(f"refs/tags/{name}", git.rev_parse(work, f"refs/tags/{name}"))
    assert b.at("refs/tags/nested^{commit}") == first
    git.commit(work, "later")
    git.git(work, "tag", "-f", "-a", "-m", "again", "v1")
    accepted(git.push(work, b.url, "--force", "refs/tags/v1"))
    group.arrives("refs/tags/v1", git.rev_parse(work, "refs/tags/v1"))
    accepted(git.push(work, b.url, ":refs/tags/light"))
    group.arrives("refs/tags/light", "")
    for site in group:
        site.fsck()


def test_existing_hook_left_alone(make_group: MakeGroup) -> None:
    group = make_group(1)
    work, first = founded(group)
    site = group.add("b")
    git.make_bare(site.repository)
    ran = group.folder / "ran"
    (site.repository / "hooks").mkdir(exist_ok=True)
    hook, after = (site.repository / "hooks" / name for name in ("update", "post-receive"))
    foreign = f'#!/bin/sh\necho "$1" >>{ran}\n'
    for path in (hook, after):
        path.write_text(foreign)
        path.chmod(0o755)
    with pytest.raises(PieholeError, match=r"update\.piehole"):
        site.build()
    assert hook.read_text() == after.read_text() == foreign
    assert not (site.repository / "hooks" / "reference-transaction").exists()
    chained = f'{foreign}exec "$(dirname "$0")/update.piehole" "$@"\n'
    hook.write_text(chained)
    site.build().start()
    group.arrives(MAIN, first)
    second = pushed(site, work, "second")
    group.arrives(MAIN, second)
    assert (hook.read_text(), after.read_text()) == (chained, foreign)
    assert ran.read_text() == f"{MAIN}\n\n", "both of them ran, once for the push and never for the replication"


@pytest.mark.parametrize("hooks", [(HOOKS[0],), (HOOKS[1],), HOOKS], ids="+".join)
def test_bad_hook_permissions(make_group: MakeGroup, hooks: tuple[str, ...]) -> None:
    """One hook that git passes over is noticed by the other; where both are, the consensus wins, and `piehole check` tells."""
    both = hooks == HOOKS
    site = make_group(1, started=False)[0]
    group = site.group
    work = site.clone()
    first = pushed(site, work, "first")
    for hook in hooks:
        (site.repository / "hooks" / hook).chmod(0o644)
    second = git.commit(work, "past the hooks")
    done = git.push(work, site.url, "HEAD:main")
    if both:
        accepted(done)
        site.piehole("reconcile", "--once")
        assert second in site.kept()
    else:
        refused(done, "no-access")
    assert site.at() == first
    assert group.value() == first
    checked = site.piehole("check", check=False)
    assert checked.status == 1
    for hook in hooks:
        assert f"{site.repository / 'hooks' / hook} is not executable: run `piehole install` again" in checked.out
    site.install()
    accepted(git.push(work, site.url, "HEAD:main"))
    assert group.value() == second


def test_reflog_off_is_a_fault_that_check_names(make_group: MakeGroup) -> None:
    site = make_group(1)[0]
    assert site.piehole("check").status == 0
    git.git(site.repository, "config", "core.logAllRefUpdates", "false")
    checked = site.piehole("check", check=False)
    assert checked.status == 1
    assert "fault: core.logAllRefUpdates is false, not always" in checked.out
    assert "run `piehole install` again" in checked.out
    site.install()
    assert site.piehole("check").status == 0


def test_daemon_down(make_group: MakeGroup) -> None:
    group = make_group(2)
    a, b = group
    work, first = founded(group)
    assert a.stop() == 0
    second = pushed(a, work, "while the daemon of this site is down")
    group.arrives(MAIN, second)
    assert b.stop() == 0
    third = pushed(b, work, "while both are down")
    assert (a.at(), b.at(), group.value()) == (second, third, third)
    a.start()
    group.arrives(MAIN, third)
    del first


def test_site_dropped_from_the_records_registers_itself_again(make_group: MakeGroup) -> None:
    group = make_group(2)
    key = f"{group.prefix}/site/g/b"
    work, _ = founded(group)
    before = json.loads(group.etcd.get(key) or "")
    group.etcd.delete(key)
    oid = pushed(group[0], work, "while one site is unknown")
    group.arrives(MAIN, oid)
    until(lambda: group.etcd.get(key), 20, "the site registers itself again")
    assert json.loads(group.etcd.get(key) or "") == before
    group.arrives(MAIN, pushed(group[1], work, "through the one that was forgotten"))


def test_site_emptied_and_installed_anew_catches_up(make_group: MakeGroup) -> None:
    group = make_group(2)
    a, b = group
    work, _ = founded(group)
    accepted(git.push(work, a.url, "HEAD:refs/heads/topic"))
    newest = pushed(a, work, "second")
    wanted = group.in_step()
    b.kill()
    shutil.rmtree(b.root)
    b.build().start()
    assert group.in_step() == wanted
    assert b.at() == newest
    b.fsck()
    group.arrives(MAIN, pushed(b, work, "through the one that was emptied"))


def test_consensus_rewound_to_an_earlier_known_commit_and_caught_up(make_group: MakeGroup) -> None:
    group = make_group(3)
    a, b, _ = group
    work, first = founded(group)
    newest = pushed(a, work, "second")
    group.arrives(MAIN, newest)
    group.put(MAIN, f"{first}\n")
    group.arrives(MAIN, first)
    assert all(newest in site.kept() for site in group)
    assert accepted(git.push(work, b.url, "HEAD:main")), "what the administrator took back can be pushed again"
    group.arrives(MAIN, newest)
    group.put(MAIN, first)
    group.arrives(MAIN, first)
    group.put(MAIN, newest)
    group.arrives(MAIN, newest)


@pytest.mark.parametrize("impossible", ["locked by the administrator", "f" * 40], ids=["no oid", "of no commit"])
def test_lockout_by_an_impossible_consensus_ref(make_group: MakeGroup, impossible: str) -> None:
    group = make_group(2, settings={"piehole.catchUp": "0.3"})
    work, first = founded(group)
    group.put(MAIN, impossible)
    second = git.commit(work, "into the locked branch")
    for site in group:
        said = refused(git.push(work, site.url, "HEAD:main"), "stale" if impossible.startswith("f") else "locked")
        assert impossible[:12] in said
        assert git.git(work, "ls-remote", site.url, MAIN).stdout.split() == [first, MAIN], "reading goes on"
    accepted(git.push(work, group[0].url, "HEAD:refs/heads/another"))
    group.arrives("refs/heads/another", second)
    group.put(MAIN, first)
    accepted(git.push(work, group[1].url, "HEAD:main"))
    group.arrives(MAIN, second)


def test_clobber_unsticks(make_group: MakeGroup) -> None:
    group = make_group(2, settings={"piehole.catchUp": "0.3"})
    a, b = group
    work, first = founded(group)
    group.put(MAIN, "e" * 40)
    stuck = a.piehole("reconcile", "--once", check=False)
    assert stuck.status == 1
    assert MAIN in stuck.out + stuck.err
    second = git.commit(work, "afterwards")
    refused(git.push(work, a.url, "HEAD:main"), "stale")
    b.piehole("clobber", "--yes", MAIN)
    assert group.value() == first
    accepted(git.push(work, a.url, "HEAD:main"))
    group.arrives(MAIN, second)
    assert a.piehole("reconcile", "--once").status == 0


# ---- pushes and peers over each way that git has


def reachable(group: Group) -> None:
    """A push to each site arrives at the other, first and later, and the other way round."""
    for site in (*group, group[0]):
        work = site.clone()
        group.arrives(MAIN, pushed(site, work, f"at {site.name}"))
    for site, other in zip(group, reversed(group.sites), strict=True):
        site.wait_event("reconcile", peer=other.name)
        site.fsck()


def test_ssh_peer_url(make_group: MakeGroup, sshd: SshServer, monkeypatch: pytest.MonkeyPatch) -> None:
    group = make_group(2, url=sshd.url_for, settings={"core.sshCommand": sshd.git_ssh_command})
    monkeypatch.setenv("GIT_SSH_COMMAND", sshd.git_ssh_command)  # the users'; the controllers have started without it
    reachable(group)


def test_http_peer_url(make_group: MakeGroup, httpd: HttpServer) -> None:
    group = make_group(2, url=httpd.url_for)
    reachable(group)
    record = json.loads(group.etcd.get(group.key("@push")) or "")
    assert record["pusher"] == "pusher", "the name that the web server knows"


def test_git_peer_url(make_group: MakeGroup, git_daemon: GitDaemon) -> None:
    reachable(make_group(2, url=git_daemon.url_for))
