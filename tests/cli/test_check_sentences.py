"""Each sentence of `piehole check`, in the state that it is about; the fix that it names is tried where it is a command."""

from __future__ import annotations

import ast
import base64
import json
import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.cli.settings import living
from tests.conftest import OwnEtcd
from tests.support.command_line import Answer, piehole_in_process
from tests.support.git import MAIN, commit, git, make_bare
from tests.support.groups import Group, MakeGroup
from tests.support.pushes import write_hook

ROOT = Path(__file__).parents[2]


@pytest.fixture
def pair(pair: Group) -> Iterator[Group]:
    """The two sites, each with a controller that answers and replicates nothing."""
    with pair.answering():
        yield pair


def check(world: Group, site: str = "a") -> Answer:
    return piehole_in_process("check", world[site].repository)


def set_config(*words: str) -> Callable[[Group], object]:
    return lambda pair: git(pair["a"].repository, "config", *words)


def site_record(pair: Group, **fields: object) -> None:
    key = f"{pair.prefix}/site/g/a"
    pair.etcd.put(key, json.dumps(json.loads(pair.etcd.get(key) or "{}") | fields))


def group_record(pair: Group, **fields: object) -> None:
    key = f"{pair.prefix}/group/g"
    pair.etcd.put(key, json.dumps(json.loads(pair.etcd.get(key) or "") | fields))


def interrupted(pair: Group) -> None:
    living(pair, "b")
    group_record(pair, copies=2, raising={"copies": 1})


def an_empty_folder_instead(pair: Group) -> None:
    folder = pair["a"].repository / "piehole" / "inflight"
    folder.rmdir()
    folder.write_text("")


def lfs(pair: Group) -> None:
    (pair.work / ".gitattributes").write_text("*.bin filter=lfs diff=lfs merge=lfs -text\n")
    git(pair.work, "add", ".gitattributes")
    commit(pair.work, "large files")
    pair.push("a", "HEAD:refs/heads/assets")


def alternate(pair: Group, *, gone: bool) -> None:
    store = make_bare(pair.folder / "store.git") / "objects"
    listed = pair["a"].repository / "objects" / "info" / "alternates"
    listed.write_text(f"# relative to the folder objects\n{os.path.relpath(store, listed.parents[1])}\n")
    if gone:
        store.rename(store.with_name("elsewhere"))


def shared(pair: Group) -> None:
    """As `git init --shared=0660` and a umask of 007 make it."""
    a = pair["a"].repository
    git(a, "config", "core.sharedRepository", "0660")
    for path in (a, *a.rglob("*")):
        path.chmod(path.stat().st_mode | 0o060)


def broken_lock(pair: Group) -> None:
    lock = pair["a"].repository / "HEAD.lock"
    lock.touch()
    os.utime(lock, (0, 0))


def of_the_account_alone(pair: Group) -> None:
    git(pair.folder, "config", "--global", "core.fsync", "all")
    git(pair["a"].repository, "config", "--unset", "core.fsync")


def a_protocol_that_peers_refuse(pair: Group) -> None:
    url = "http://127.0.0.1:1/a.git"
    set_config("piehole.url", url)(pair)
    site_record(pair, url=url)
    set_config("--replace-all", "piehole.allowProtocol", "file")(pair)


def alias(pair: Group) -> None:
    git(pair["a"].repository, "symbolic-ref", "refs/heads/alias", MAIN)


def hidden_by_the_account(pair: Group) -> None:
    git(pair.folder, "config", "--global", "transfer.hideRefs", "refs/changes")


FAULTS: dict[str, tuple[Callable[[Group], object], str]] = {
    "lock": (broken_lock, "the lock /"),
    "hooks elsewhere": (
        set_config("core.hooksPath", "/srv/hooks"),
        "core.hooksPath is /srv/hooks, so git runs no hook of ",
    ),
    "setting": (set_config("core.fsync", "none"), "core.fsync is none, not all"),
    "setting of the account alone": (of_the_account_alone, "core.fsync is not set here, not all"),
    "kept tips not hidden": (
        set_config("--replace-all", "transfer.hideRefs", "refs/internal"),
        "transfer.hideRefs does not list refs/piehole/kept",
    ),
    "kept tips shown": (
        set_config("uploadpack.hideRefs", "!refs/piehole/kept"),
        "uploadpack.hideRefs = !refs/piehole/kept shows kept tips to clients",
    ),
    "held copies shown": (
        set_config("uploadpack.hideRefs", "!refs/piehole/held"),
        "uploadpack.hideRefs = !refs/piehole/held shows copies for other sites to clients",
    ),
    "not installed to its end": (
        set_config("--unset", "piehole.siteId"),
        "piehole.siteid is not set: the repository is not installed to its end",
    ),
    "no folder for pushes": (
        an_empty_folder_instead,
        "piehole/inflight is missing or cannot be written, so every push is refused",
    ),
    "no folder to read": (an_empty_folder_instead, "this repository cannot be compared with the group: "),
    "promisor": (
        set_config("remote.Up.promisor", "yes"),
        "the repository is a partial clone, objects are missing on purpose",
    ),
    "alternate gone": (lambda pair: alternate(pair, gone=True), "which is not there"),
    "object format": (
        lambda pair: group_record(pair, object_format="sha256"),
        "the group has sha256 objects, and this repository has sha1",
    ),
    "URL of the record": (set_config("piehole.url", "/elsewhere.git"), "but piehole.url is /elsewhere.git"),
    "URL": (set_config("piehole.url", "ftp://host/x.git"), "piehole.url: "),
    "record of a site": (
        lambda pair: pair.etcd.put(f"{pair.prefix}/site/g/b", "{"),
        "the records of the site 'b' cannot be used",
    ),
    "copies": (
        lambda pair: group_record(pair, copies=2),
        "the group promises that 2 sites hold what is pushed, and every push is refused (copies:): 1 of 2 sites can",
    ),
    "copies in vain": (
        lambda pair: group_record(pair, copies="all", copiesElse="warn"),
        "and pushes are accepted with fewer copies: 1 of 2 sites can hold copies; b: no controller there has given a sign",
    ),
    "no group": (lambda pair: pair.etcd.delete(f"{pair.prefix}/group/g"), "this site is halted (wrong-group)"),
}

WARNINGS: dict[str, tuple[Callable[[Group], object], str]] = {
    "shared": (shared, "and the system's safe.directory does not name it"),
    "namespaces": (
        lambda pair: pair["a"].move("refs/namespaces/x/refs/heads/main", pair["a"].at()),
        "there are refs below refs/namespaces/",
    ),
    "symbolic": (alias, "refs/heads/alias is a symbolic ref (to refs/heads/main)"),
    "hidden": (set_config("--add", "transfer.hideRefs", "refs/pull"), "transfer.hideRefs hides refs/pull"),
    "hidden by the account": (hidden_by_the_account, "transfer.hideRefs hides refs/changes"),
    "borrowed": (lambda pair: alternate(pair, gone=False), "this works as long as nothing is pruned there"),
    "LFS": (lfs, "the repository uses Git LFS (.gitattributes of refs/heads/assets)"),
    "LFS here": (lambda pair: (pair["a"].repository / "lfs").mkdir(), "the repository uses Git LFS"),
    "no record": (
        lambda pair: pair.etcd.delete(f"{pair.prefix}/site/g/a"),
        "the record of the site 'a' is missing in etcd",
    ),
    "locked": (
        lambda pair: pair.put("refs/heads/x", "closed"),
        "refs/heads/x is locked: its value in the group is 'closed'",
    ),
    "locked HEAD": (lambda pair: pair.put("HEAD", "main"), "put `ref: ` and a branch there"),
    "no ref": (
        lambda pair: pair.put("refs/heads/a..b", "x"),
        "refs/heads/a..b is locked: this key can be no ref of the group; remove it: `etcdctl del",
    ),
    "raising": (interrupted, "`piehole group set` was interrupted, so commits from before may be at fewer sites"),
    "protocol": (
        a_protocol_that_peers_refuse,
        "piehole.url uses http, which piehole.allowProtocol does not allow here",
    ),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_named_and_ends_with_status_one(pair: Group, name: str) -> None:
    make, sentence = FAULTS[name]
    make(pair)
    answer = check(pair)
    assert answer.status == 1, answer
    assert answer.line(sentence).startswith("fault: "), answer


@pytest.mark.parametrize("name", WARNINGS)
def test_a_warning_is_named_and_is_no_fault(pair: Group, name: str) -> None:
    make, sentence = WARNINGS[name]
    make(pair)
    answer = check(pair)
    assert answer.line(sentence).startswith("warning: "), answer
    assert answer.status == 0, answer


def test_a_sound_site_has_no_fault_and_only_the_warnings_of_this_bed(pair: Group) -> None:
    """One etcd member, of a version with known bugs."""
    for site in ("a", "b"):
        said = [line for line in check(pair, site).out.splitlines() if line.startswith(("fault", "warning"))]
        assert [line for line in said if "etcd" not in line] == []


def test_one_lfs_server_for_all_is_no_warning(pair: Group) -> None:
    lfs(pair)
    (pair.work / ".lfsconfig").write_text("[lfs]\n\turl = https://lfs.example.org/tools\n")
    git(pair.work, "add", ".lfsconfig")
    commit(pair.work, "one server")
    pair.push("a", "HEAD:refs/heads/assets")
    assert "Git LFS" not in check(pair).out


def test_the_promise_is_lowered_with_the_command_that_check_names(pair: Group) -> None:
    group_record(pair, copies=2)
    assert "`piehole group set copies 1`" in check(pair).line("the group promises ")
    assert piehole_in_process("group", "set", "copies", "1", "-C", pair["a"].repository, "--yes").status == 0
    assert check(pair).status == 0


def test_install_updates_the_record_of_the_url(pair: Group) -> None:
    set_config("piehole.url", str(pair["a"].repository) + "/")(pair)
    assert "run `piehole install` again, which updates the record" in check(pair).line("peers fetch from ")
    assert piehole_in_process("install", pair["a"].repository).status == 0
    assert check(pair).status == 0


def test_a_url_that_no_parser_takes_is_corrected_with_install(pair: Group) -> None:
    set_config("piehole.url", "ftp://host/x.git")(pair)
    assert "`piehole install --url`" in check(pair).line("fault: piehole.url: ")
    assert piehole_in_process("install", pair["a"].repository, "--url", pair["a"].url).status == 0
    assert check(pair).status == 0


def test_a_reconcile_writes_a_missing_record_of_this_site_again(pair: Group) -> None:
    pair.etcd.delete(f"{pair.prefix}/site/g/a")
    assert "`piehole reconcile --once` here writes it again" in check(pair).line("is missing in etcd")
    assert pair.reconcile("a").status == 0
    assert "is missing in etcd" not in check(pair).out


def test_a_git_that_is_too_old_is_a_fault(pair: Group, monkeypatch: pytest.MonkeyPatch) -> None:
    with pair.git_that(pair.folder / "old", "version", "echo git version 2.34.1; exit 0"):
        monkeypatch.setenv("PATH", pair.environment["PATH"])
        answer = check(pair)
    assert answer.status == 1
    assert answer.line("git 2.34.1 is too old").startswith("fault: ")


def test_a_nearly_full_disk_is_a_warning(pair: Group, monkeypatch: pytest.MonkeyPatch) -> None:
    full = SimpleNamespace(
        f_bavail=1, f_blocks=100, f_favail=50, f_files=100
    )  # no test may fill the disk of this machine
    monkeypatch.setattr("piehole.commands.check.disk.os.statvfs", lambda _: full)
    assert "is nearly full: 1.0% of its space is left" in check(pair).out
    full.f_bavail, full.f_favail = 50, 1
    assert "is nearly full: 1.0% of its inodes is left" in check(pair).out


@pytest.mark.skipif(os.geteuid() != 0, reason="not possible: only root can make files of other accounts")
def test_another_accounts_repository_is_a_fault(pair: Group) -> None:
    os.chown(pair["a"].repository, 12345, 12345)
    answer = check(pair)
    os.chown(pair["a"].repository, 0, 0)
    assert answer.status == 1
    assert answer.line("belongs to uid 12345, and this runs as uid 0").startswith("fault: ")


@pytest.mark.parametrize(("mode", "who"), [(0o604, "every account of this server"), (0o640, "the group ")])
def test_a_password_that_others_can_read_is_a_fault(pair: Group, mode: int, who: str) -> None:
    password = pair.folder / "password"
    password.write_text("open")
    if mode & stat.S_IRGRP:
        os.chown(password, -1, 12345)  # a group without a name has whoever is in it
    password.chmod(mode)
    set_config("piehole.etcdPasswordFile", str(password))(pair)
    set_config("piehole.etcdUser", "site")(pair)
    found = [
        line
        for line in check(pair).out.splitlines()
        if f"(piehole.etcdPasswordFile) can be read or written by {who}" in line
        and "whoever has it can move every ref" in line
    ]
    assert found and found[0].startswith("fault: ")


def test_a_chained_hook_that_loses_the_status_is_a_warning(pair: Group) -> None:
    hooks = pair["a"].repository / "hooks"
    (hooks / "update").rename(hooks / "update.piehole")
    write_hook(pair["a"].repository, "update", '#!/bin/sh\n"$(dirname "$0")/update.piehole" "$@" || true\n')
    assert check(pair).line("seems to lose the exit status of update.piehole").startswith("warning: ")


def test_a_hook_of_somebody_else_is_a_fault(pair: Group) -> None:
    write_hook(pair["a"].repository, "update", "#!/bin/sh\nexit 0\n")
    assert check(pair).line("update is not piehole's hook and does not run it").startswith("fault: ")


def test_what_the_etcd_user_may_not_read_is_no_lost_majority(make_group: MakeGroup, own_etcd: OwnEtcd) -> None:
    """The user may read the refs and the group's record, and not the records of the sites."""
    member = own_etcd()
    group = make_group(2, etcd=member, started=False)
    call = member.raw.call
    for name in ("root", "site"):
        call("/auth/user/add", {"name": name, "password": "open"})
        call("/auth/role/add", {"name": name})
        call("/auth/user/grant", {"user": name, "role": name})
    for kind in ("group", "ref"):
        begin, end = (base64.b64encode(f"{group.prefix}/{kind}{last}".encode()).decode() for last in "/0")
        call("/auth/role/grant", {"name": "site", "perm": {"permType": "READWRITE", "key": begin, "range_end": end}})
    call("/auth/enable", {})
    password = group.folder / "password"
    password.write_text("open")
    password.chmod(0o600)
    set_config("piehole.etcdPasswordFile", str(password))(group)
    set_config("piehole.etcdUser", "site")(group)
    answer = check(group)
    assert answer.status == 1
    for sentence in ("fault: the group's records cannot be read: ", "fault: the sites of the group cannot be listed: "):
        assert "what the etcd user must be allowed" in answer.line(sentence)
    assert "majority" not in answer.out


def _parts(node: ast.expr) -> list[str]:
    values = node.values if isinstance(node, ast.JoinedStr) else [node]
    return [one.value for one in values if isinstance(one, ast.Constant) and isinstance(one.value, str)]


def _sentences() -> dict[str, str]:
    """The longest fixed part of each sentence of `check`, by where it is; those about etcd itself are tested in tests/etcd."""
    found = {}
    fitness = ROOT / "piehole" / "repository" / "fitness.py"
    for path in [*(ROOT / "piehole" / "commands" / "check").glob("*.py"), fitness]:
        if path.name == "etcd_links.py":
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Name)
                and node.func.id in ("Fault", "unreadable")
            ):
                part = max(_parts(node.args[0]), key=len, default="")
                if len(part) > 3:  # others are made of what git, etcd or a setting is called
                    found[f"{path.name}:{node.lineno}"] = part
    return found


def _expected() -> list[str]:
    """Every short text in a test."""
    found = []
    for path in (ROOT / "tests").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            found += [part for part in _parts(node) if 8 <= len(part) <= 200] if isinstance(node, ast.expr) else []
    return found


def test_every_sentence_of_check_is_expected_by_a_test() -> None:
    expected = "\0".join(_expected())
    lacking = {}
    for where, sentence in _sentences().items():
        length = min(len(sentence), 14)
        if not any(sentence[start : start + length] in expected for start in range(len(sentence) - length + 1)):
            lacking[where] = sentence
    assert lacking == {}
