"""Every refusal has its own token and sentence, and changes nothing."""

from __future__ import annotations

import json
import os
from pathlib import Path
from time import monotonic

import pytest

from piehole.repository.hook_files import HOOKS
from tests.conftest import OwnEtcd
from tests.support.assertions import accepted, refused
from tests.support.etcd import EtcdOptions
from tests.support.git import MAIN, commit, git, push, refs
from tests.support.groups import Group
from tests.support.httpd import HttpServer
from tests.support.pushes import write_hook
from tests.support.sshd import SshServer

ROOT = os.getuid() == 0


def refuses(world: Group, site: Path, work: Path, token: str) -> str:
    """Push one further commit, which must be refused with this token and leave group and site as they are."""
    commit(work)
    with world.unchanged(site):
        return refused(push(work, site, "HEAD:main"), token)


def test_no_quorum_where_etcd_is_stopped(own_etcd: OwnEtcd, prefix: str, tmp_path: Path) -> None:
    etcd = own_etcd()
    world = Group(tmp_path, [etcd.endpoint], prefix)
    site, work, first = world.founded()
    git(site, "config", "piehole.hookTimeout", "1")
    etcd.kill()
    commit(work)
    said = refused(push(work, site, "HEAD:main"), "no-quorum")
    assert "nothing changed" in said
    assert "nothing changed" in said
    assert refs(site)[MAIN] == first
    assert git(work, "ls-remote", str(site), MAIN).stdout.startswith(first)


def test_no_quorum_within_the_hooks_timeout_where_etcd_hangs(own_etcd: OwnEtcd, prefix: str, tmp_path: Path) -> None:
    etcd = own_etcd()
    world = Group(tmp_path, [etcd.endpoint], prefix)
    site, work, _ = world.founded()
    git(site, "config", "piehole.hookTimeout", "2")
    commit(work)
    etcd.pause()
    began = monotonic()
    refused(push(work, site, "HEAD:main"), "no-quorum")
    assert 1.5 < monotonic() - began < 10


@pytest.mark.slow
def test_the_deadline_is_the_push_s_and_not_each_ref_s(own_etcd: OwnEtcd, prefix: str, tmp_path: Path) -> None:
    etcd = own_etcd()
    world = Group(tmp_path, [etcd.endpoint], prefix)
    site, work, _ = world.founded()
    git(site, "config", "piehole.hookTimeout", "6")
    etcd.pause()
    began = monotonic()
    refused(push(work, site, *(f"HEAD:refs/heads/b{n}" for n in range(5))), "no-quorum")
    assert monotonic() - began < 5 * 6 * 0.7


def test_wrong_group_where_the_group_s_record_is_missing(world: Group) -> None:
    site, work, _ = world.founded()
    world.etcd.delete(f"{world.prefix}/group/{world.name}")
    refuses(world, site, work, "wrong-group")


def test_wrong_group_where_the_group_has_another_id(world: Group) -> None:
    site, work, _ = world.founded()
    key = f"{world.prefix}/group/{world.name}"
    world.etcd.put(key, json.dumps({**json.loads(world.etcd.get(key) or ""), "id": "another"}))
    refuses(world, site, work, "wrong-group")


def test_wrong_group_where_the_site_was_made_to_leave(world: Group) -> None:
    site, work, _ = world.founded()
    key = f"{world.prefix}/site/{world.name}/a"
    world.etcd.put(key, json.dumps({**json.loads(world.etcd.get(key) or ""), "left": True}))
    refuses(world, site, work, "wrong-group")


def test_went_back_where_etcd_holds_an_older_progress_record(world: Group) -> None:
    site, work, _ = world.founded()
    key = f"{world.prefix}/progress/{world.name}/a"
    older = world.etcd.get(key) or ""
    assert world.reconcile(site).status == 0
    assert world.etcd.get(key) != older
    world.etcd.put(key, older)
    said = refuses(world, site, work, "went-back")
    assert "piehole accept" in said


def test_went_back_where_etcd_lost_the_progress_record(world: Group) -> None:
    site, work, _ = world.founded()
    world.etcd.delete(f"{world.prefix}/progress/{world.name}/a")
    refuses(world, site, work, "went-back")


@pytest.mark.parametrize("value", ["frozen until Monday", "ABCDEF" + "0" * 34, "abc123", "0" * 64, ""])
def test_locked_where_the_group_s_value_is_no_oid(world: Group, value: str) -> None:
    site, work, _ = world.founded()
    world.etcd.put(world.key(MAIN), value)
    refuses(world, site, work, "locked")


def test_reserved_is_every_name_below_refs_piehole(world: Group) -> None:
    site, work, _ = world.founded()
    before = refs(site)
    refused(push(work, site, "HEAD:refs/piehole/x"), "reserved")
    assert refs(site) == before
    assert not [name for name in world.refs() if "piehole" in name]


def test_reserved_are_names_below_refs_piehole_even_where_they_are_excluded(world: Group) -> None:
    site, work, _ = world.founded()
    git(site, "config", "piehole.exclude", "refs/*")
    refused(push(work, site, "HEAD:refs/piehole/x"), "reserved")


@pytest.mark.parametrize("exclude", ["", "refs/alias/*"], ids=["managed", "excluded"])
def test_symref_flip(world: Group, exclude: str) -> None:
    """A push to a symbolic ref below refs/ is refused and moves nothing, wherever it points."""
    site, work, first = world.founded()
    git(site, "symbolic-ref", "refs/alias/main", MAIN)
    if exclude:
        git(site, "config", "piehole.exclude", exclude)
    commit(work)
    refused(push(work, site, "HEAD:refs/alias/main"), "reserved")
    assert world.refs() == {MAIN: first}
    assert refs(site)[MAIN] == first


def test_reserved_is_a_push_into_a_namespace(world: Group) -> None:
    site, work, first = world.founded()
    commit(work)
    done = push(work, site, "--receive-pack=env GIT_NAMESPACE=tenant git-receive-pack", "HEAD:main")
    refused(done, "reserved")
    assert world.refs() == {MAIN: first}
    assert set(refs(site)) == {MAIN}


def test_too_many_refs_for_one_transaction_of_etcd_change_nothing(
    own_etcd: OwnEtcd, prefix: str, tmp_path: Path
) -> None:
    etcd = own_etcd(options=EtcdOptions(max_txn_ops=12))
    world = Group(tmp_path, [etcd.endpoint], prefix)
    site, work, first = world.founded()
    before = refs(site)
    said = refused(push(work, site, "--atomic", *(f"HEAD:refs/heads/b{n}" for n in range(12))), "too-many")
    assert "--max-txn-ops" in said
    assert world.refs() == {MAIN: first}
    assert refs(site) == before


def test_conflict_where_the_group_has_a_ref_above_the_name(world: Group) -> None:
    a, work, _ = world.founded("a")
    b = world["b"].build().repository
    accepted(push(work, a, "HEAD:refs/heads/topic"))
    said = refused(push(work, b, "HEAD:refs/heads/topic/one"), "conflict")
    assert "refs/heads/topic" in said
    assert "refs/heads/topic/one" not in world.refs()
    assert "refs/heads/topic/one" not in refs(b)


def test_conflict_where_the_group_has_a_ref_below_the_name(world: Group) -> None:
    a, work, _ = world.founded("a")
    b = world["b"].build().repository
    accepted(push(work, a, "HEAD:refs/heads/topic/one"))
    said = refused(push(work, b, "HEAD:refs/heads/topic"), "conflict")
    assert "refs/heads/topic/one" in said


def test_a_deleted_ref_makes_room_for_names_below_it(world: Group) -> None:
    a, work, first = world.founded("a")
    accepted(push(work, a, "HEAD:refs/heads/topic"))
    accepted(push(work, a, ":refs/heads/topic"))
    accepted(push(work, a, "HEAD:refs/heads/topic/one"))
    assert world.value("refs/heads/topic/one") == first


def test_names_that_only_begin_alike_do_not_conflict(world: Group) -> None:
    a, work, first = world.founded("a")
    accepted(push(work, a, "HEAD:refs/heads/topic-1", "HEAD:refs/heads/topic.2", "HEAD:refs/heads/topical"))
    accepted(push(work, a, "HEAD:refs/heads/topic"))
    assert world.value("refs/heads/topic") == first


def test_no_access_where_the_password_cannot_be_read(world: Group, tmp_path: Path) -> None:
    site, work, _ = world.founded()
    git(site, "config", "piehole.etcdUser", "piehole")
    git(site, "config", "piehole.etcdPasswordFile", str(tmp_path / "absent"))
    said = refuses(world, site, work, "no-access")
    assert str(tmp_path / "absent") in said
    assert "controller" in said


def test_no_access_where_the_interpreter_has_moved_away(world: Group) -> None:
    site, work, _ = world.founded()
    for name in HOOKS:
        path = site / "hooks" / name
        write_hook(site, name, path.read_text().replace("\npython=", "\npython=/nowhere"))
    said = refuses(world, site, work, "no-access")
    assert "piehole install" in said


def test_no_access_where_the_package_has_moved_away(world: Group) -> None:
    site, work, _ = world.founded()
    for name in HOOKS:
        path = site / "hooks" / name
        write_hook(site, name, path.read_text().replace("\nentry=", "\nentry=/nowhere"))
    refuses(world, site, work, "no-access")


@pytest.mark.parametrize("fault", ["missing", "not executable", "somebody else's"])
def test_no_access_where_the_gate_is(world: Group, fault: str) -> None:
    site, work, _ = world.founded()
    gate = site / "hooks" / "reference-transaction"
    if fault == "missing":
        gate.unlink()
    elif fault == "not executable":
        gate.chmod(0o644)
    else:
        write_hook(site, gate.name, "#!/bin/sh\nexit 0\n")
    said = refuses(world, site, work, "no-access")
    assert "reference-transaction" in said


def test_no_access_where_no_record_can_be_written(world: Group) -> None:
    site, work, _ = world.founded()
    folder = site / "piehole" / "inflight"
    for record in folder.iterdir():
        record.unlink()
    folder.rmdir()
    folder.write_text("in the way")
    said = refuses(world, site, work, "no-access")
    assert "piehole check" in said
    folder.unlink()


def test_no_access_where_a_reflog_cannot_be_written(world: Group) -> None:
    """What git could not do after the swap is found before it."""
    site, work, _ = world.founded()
    (site / "logs" / "refs" / "heads" / "topic").write_text("")  # a leftover of a branch of this name
    with world.unchanged():
        done = push(work, site, "HEAD:refs/heads/topic/one")
    refused(done, "no-access")
    assert "remote: piehole: no-access" in done.stderr, "it is known early enough to be told over every protocol"


def test_a_deletion_of_a_ref_whose_object_is_missing_is_refused(world: Group) -> None:
    site, work, _ = world.founded()
    tip = commit(work)
    accepted(push(work, site, "HEAD:side"))
    (site / "objects" / tip[:2] / tip[2:]).unlink()
    done = push(work, site, ":side")
    said = refused(done, "stale")
    assert "piehole clobber --delete refs/heads/side" in said
    assert world.value("refs/heads/side") == tip
    assert refs_without_objects(site)["refs/heads/side"] == tip


def refs_without_objects(site: Path) -> dict[str, str]:
    return {"refs/heads/side": (site / "refs/heads/side").read_text().strip()}


def test_refusals_reach_a_client_over_ssh(world: Group, sshd: SshServer) -> None:
    site, work, _ = world.founded()
    world.etcd.put(world.key(MAIN), "frozen")
    commit(work)
    env = {"GIT_SSH_COMMAND": sshd.git_ssh_command}
    refused(push(work, sshd.url_for(site), "HEAD:main", env=env), "locked")


def test_refusals_reach_a_client_over_http_and_the_pusher_s_name_reaches_the_record(
    world: Group, httpd: HttpServer
) -> None:
    site, work, _ = world.founded()
    git(site, "config", "http.receivepack", "true")
    commit(work)
    accepted(push(work, httpd.url_for(site), "HEAD:main"))
    assert world.pushes()[max(world.pushes())]["pusher"] == "pusher"
    world.etcd.put(world.key(MAIN), "frozen")
    commit(work)
    refused(push(work, httpd.url_for(site), "HEAD:main"), "locked")


def test_a_client_s_false_word_about_the_old_value_deletes_nothing(world: Group) -> None:
    """A client may claim that it deletes a ref which does not exist: then git compares no old value."""
    site, _, first = world.founded()
    git(site, "update-ref", "refs/heads/only-here", first)
    zero = "0" * 40
    line = f"{zero} {zero} refs/heads/only-here\0report-status"
    request = f"{len(line) + 4:04x}{line}0000"
    done = git(site, "receive-pack", ".", stdin=request, check=False)
    assert "stale" in done.stderr
    assert refs(site)["refs/heads/only-here"] == first
