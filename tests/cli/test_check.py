from __future__ import annotations

import os
import shutil
from collections.abc import Iterator

import pytest

from tests.support.command_line import Answer, piehole
from tests.support.git import git
from tests.support.groups import Group
from tests.support.ports import free_ports


@pytest.fixture(autouse=True)
def answering(pair: Group) -> Iterator[None]:
    """A site without a controller is not healthy, whatever else it is: one answers at each, and replicates nothing."""
    with pair.answering():
        yield


def check(world: Group, *options: str) -> Answer:
    return piehole("check", world["a"].repository, *options)


def test_a_fresh_installation_is_sound(pair: Group) -> None:
    answer = check(pair)
    assert answer.status == 0, answer
    assert "no fault" in answer.out
    assert not any(line.startswith("fault: ") for line in answer.out.splitlines())
    shown = check(pair, "--json").json
    assert shown["sound"] is True
    assert shown["faults"] == []


@pytest.mark.parametrize(
    ("setting", "value"), [("core.logAllRefUpdates", "false"), ("core.fsync", "none"), ("core.hooksPath", "/dev/null")]
)
def test_a_setting_that_was_changed_is_a_fault(pair: Group, setting: str, value: str) -> None:
    git(pair["a"].repository, "config", setting, value)
    answer = check(pair)
    assert answer.status == 1
    assert answer.line(f"fault: {setting}")


def test_a_hook_that_is_gone_or_idle_is_a_fault(pair: Group) -> None:
    hooks = pair["a"].repository / "hooks"
    (hooks / "update").unlink()
    (hooks / "reference-transaction").chmod(0o644)
    answer = check(pair)
    assert answer.status == 1
    assert "is missing: run `piehole install`" in answer.line("hooks/update")
    assert "not executable" in answer.line("hooks/reference-transaction")
    pair.install("a")
    assert check(pair).status == 0


def test_what_rewrites_or_cuts_history_is_a_fault(pair: Group) -> None:
    a = pair["a"].repository
    (a / "info").mkdir(exist_ok=True)
    (a / "info" / "grafts").write_text(f"{pair['a'].at()}\n")
    (a / "shallow").write_text(f"{pair['a'].at()}\n")
    git(a, "config", "remote.x.promisor", "true")
    answer = check(pair)
    assert answer.status == 1
    for part in ("info/grafts rewrites history", "is shallow, its history is cut", "is a partial clone"):
        assert answer.line(part).startswith("fault: ")


def test_a_second_repository_of_this_site_is_a_fault(pair: Group) -> None:
    shutil.copytree(pair["a"].repository, pair["a"].root / "copy.git")
    answer = check(pair)
    assert answer.status == 1
    assert "uninstall --local" in answer.line(f"{pair['a'].root / 'copy.git'} is installed as the site 'a'")
    assert piehole("uninstall", "--local", pair["a"].root / "copy.git").status == 0
    assert check(pair).status == 0


def test_a_peer_that_cannot_be_fetched_from_is_named(pair: Group) -> None:
    shutil.move(pair["b"].repository, pair.folder / "away")
    answer = check(pair)
    assert answer.status == 1
    assert answer.line("fault: the site 'b' cannot be fetched from")


def test_a_peer_whose_protocol_is_not_allowed_is_named(pair: Group) -> None:
    git(pair["a"].repository, "config", "--replace-all", "piehole.allowProtocol", "https")
    answer = check(pair)
    assert answer.status == 1
    assert "protocol file" in answer.line("fault: the site 'b' cannot be fetched from")


def test_files_that_a_push_could_not_write_are_named(pair: Group) -> None:
    a = pair["a"].repository
    git(a, "config", "core.sharedRepository", "group")
    for path in (a, *a.rglob("*")):
        path.chmod(path.stat().st_mode | 0o060)
    assert check(pair).status == 0
    (a / "logs" / "refs" / "heads" / "main").chmod(0o600)
    answer = check(pair)
    assert answer.status == 1
    assert "chmod" in answer.line("logs/refs/heads/main")


def test_files_of_another_account_are_named(pair: Group) -> None:
    if os.geteuid() != 0:
        return  # only root can make such a file, and only root leaves them behind
    a = pair["a"].repository
    os.chown(a / "logs" / "refs" / "heads" / "main", 12345, 12345)
    answer = check(pair)
    assert answer.status == 1
    assert "chown" in answer.line("logs/refs/heads/main")


def test_an_old_lock_and_damaged_notes_are_named(pair: Group) -> None:
    a = pair["a"].repository
    lock = a / "packed-refs.lock"
    lock.touch()
    os.utime(lock, (0, 0))
    (a / "piehole" / "state.json").write_text("")
    answer = check(pair)
    assert answer.status == 1
    assert "remove it" in answer.line(f"the lock {lock} is ")
    assert "piehole accept" in answer.line("state.json is damaged")


def test_one_endpoint_of_several_that_does_not_answer_is_a_fault(pair: Group) -> None:
    nobody = f"127.0.0.1:{free_ports(1)[0]}"
    answer = check(pair, "--etcd", f"{pair.etcd.endpoint},{nobody}")
    assert answer.status == 1
    assert answer.line(nobody).startswith("fault: ")


def test_where_no_endpoint_answers_the_status_is_three_whatever_else_is_wrong(pair: Group) -> None:
    git(pair["a"].repository, "config", "core.logAllRefUpdates", "false")
    answer = check(pair, "--etcd", f"127.0.0.1:{free_ports(1)[0]}")
    assert answer.status == 3
    assert answer.line("fault: core.logAllRefUpdates")


def test_a_foreign_or_missing_group_record_is_a_fault(pair: Group) -> None:
    pair.etcd.delete(f"{pair.prefix}/group/g")
    answer = check(pair)
    assert answer.status == 1
    assert "piehole clobber" in answer.line("is halted (wrong-group)")


def test_a_namespace_is_a_fault(pair: Group, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_NAMESPACE", "tenant")
    answer = check(pair)
    assert answer.status == 1
    assert answer.line("fault: GIT_NAMESPACE is set here (tenant)")


def test_a_repository_that_is_not_installed_lacks_settings(pair: Group) -> None:
    assert piehole("check", pair["c"].make().repository).status == 2
