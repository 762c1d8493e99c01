"""What the terminal of a pusher shows, over every transport: piehole's words wherever git lets them through."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from controller import etcd_view
from controller.informer import InformerStatus
from piehole.etcd.client import Credentials, Etcd
from tests.conftest import OwnEtcd
from tests.support import git
from tests.support.assertions import Pushed, accepted, refused
from tests.support.etcd import EtcdOptions, EtcdProcess
from tests.support.etcd_tamper import tampering
from tests.support.git import MAIN
from tests.support.gitdaemon import GitDaemon
from tests.support.groups import Group, MakeGroup
from tests.support.httpd import HttpServer
from tests.support.sshd import SshServer

TRANSPORTS = ("path", "ssh", "http", "git")
DISCONNECTED = "the connection ended"
SETTINGS = {"piehole.hookTimeout": "2", "piehole.catchUp": "0"}

Everywhere = Mapping[str, list[str]]
Urls = Callable[[Path], Mapping[str, str]]


def over_all(words: list[str], **others: list[str]) -> dict[str, list[str]]:
    return {**dict.fromkeys(TRANSPORTS, words), **others}


def unheard(word: str) -> dict[str, list[str]]:
    """A word of `reference-transaction`: git hands it on over path and ssh alone."""
    return {name: [word, DISCONNECTED] if name in ("path", "ssh") else [DISCONNECTED] for name in TRANSPORTS}


@pytest.fixture
def urls(sshd: SshServer, httpd: HttpServer, git_daemon: GitDaemon, monkeypatch: pytest.MonkeyPatch) -> Urls:
    """The URL of a repository over each transport."""
    monkeypatch.setenv("GIT_SSH_COMMAND", sshd.git_ssh_command)
    reach: dict[str, Callable[[Path], str]] = {
        "path": str,
        "ssh": sshd.url_for,
        "http": httpd.url_for,
        "git": git_daemon.url_for,
    }
    return lambda repository: {name: reach[name](repository) for name in TRANSPORTS}


def shown(pushed: Pushed) -> list[str]:
    """The tokens that the terminal shows, each once, and whether it says no more than that the connection ended."""
    lines = [line.removeprefix("remote: ") for line in pushed.stderr.splitlines()]
    tokens = [line.split(": ")[1] for line in lines if line.startswith("piehole: ")]
    ended = "disconnect" in pushed.stderr or "hung up" in pushed.stderr
    return [*dict.fromkeys(tokens), *([DISCONNECTED] if ended else [])]


def everywhere(urls: Urls, group: Group, work: Path, *refspecs: str) -> dict[str, Pushed]:
    """A push over all transports at once; it is meant to be refused, so that none changes what the others see.

    ``VIA`` in a refspec stands for the transport: two pushes that come as far as git's locks need refs of their own.
    """
    with ThreadPoolExecutor(len(TRANSPORTS)) as pool:
        pushing = {
            name: pool.submit(git.push, work, url, *(refspec.replace("VIA", name) for refspec in refspecs))
            for name, url in urls(group[0].repository).items()
        }
        return {name: future.result() for name, future in pushing.items()}


def refusals(urls: Urls, group: Group, work: Path, *refspecs: str) -> Everywhere:
    before = group[0].refs()
    pushed = everywhere(urls, group, work, *refspecs)
    assert all(one.returncode for one in pushed.values())
    assert group[0].refs() == before
    return {name: shown(one) for name, one in pushed.items()}


def begin(make_group: MakeGroup, etcd: EtcdProcess | None = None, endpoints: Sequence[str] = ()) -> tuple[Group, Path]:
    """A site with its controller, and a clone whose newest commit was not pushed."""
    group = make_group(1, etcd=etcd, endpoints=endpoints, settings=SETTINGS)
    work, _ = group.begun()
    group.published()
    git.commit(work, "second")
    return group, work


def silence() -> None:
    """Until etcd has been silent for so long that a controller does not rely on it: only the time can tell."""
    time.sleep(etcd_view._NEAR + 0.3)


def test_accepted_is_said_where_the_words_of_reference_transaction_are_heard(make_group: MakeGroup, urls: Urls) -> None:
    group, work = begin(make_group)
    for name, url in urls(group[0].repository).items():
        tip = git.commit(work, name)
        pushed = accepted(git.push(work, url, "HEAD:main"))
        assert shown(pushed) == (["accepted"] if name in ("path", "ssh") else [])
        assert "HEAD -> main" in pushed.stderr
        assert group.value() == tip


def test_stale_is_said(make_group: MakeGroup, urls: Urls) -> None:
    group, work = begin(make_group)
    group.put(MAIN, "1" * 40)
    assert refusals(urls, group, work, "HEAD:main") == over_all(["stale"])


def test_locked_is_said(make_group: MakeGroup, urls: Urls) -> None:
    group, work = begin(make_group)
    group.put(MAIN, "frozen until Monday")
    assert refusals(urls, group, work, "HEAD:main") == over_all(["locked"])


def test_conflict_is_said(make_group: MakeGroup, urls: Urls) -> None:
    group, work = begin(make_group)
    accepted(git.push(work, group[0].repository, "HEAD:refs/heads/topic"))
    assert refusals(urls, group, work, "HEAD:refs/heads/topic/one") == over_all(["conflict"])


def test_no_quorum_is_said_where_etcd_is_stopped(make_group: MakeGroup, own_etcd: OwnEtcd, urls: Urls) -> None:
    etcd = own_etcd()
    group, work = begin(make_group, etcd)
    etcd.kill()
    assert refusals(urls, group, work, "HEAD:main", "HEAD:side") == over_all(["no-quorum"])


def test_no_quorum_is_said_where_etcd_is_frozen(make_group: MakeGroup, own_etcd: OwnEtcd, urls: Urls) -> None:
    etcd = own_etcd()
    group, work = begin(make_group, etcd)
    etcd.pause()
    silence()
    assert refusals(urls, group, work, "HEAD:main", "HEAD:side") == over_all(["no-quorum"])


def test_no_quorum_is_said_where_etcd_is_frozen_and_there_is_no_controller(
    make_group: MakeGroup, own_etcd: OwnEtcd, urls: Urls
) -> None:
    etcd = own_etcd()
    group, work = begin(make_group, etcd)
    group[0].stop()
    etcd.pause()
    assert refusals(urls, group, work, "HEAD:main") == over_all(["no-quorum"])


def test_that_etcd_has_no_record_of_the_group_is_said_once_it_is_known(make_group: MakeGroup, urls: Urls) -> None:
    group, work = begin(make_group)
    group.etcd.delete(f"{group.prefix}/group/{group.name}")
    silence()
    assert refusals(urls, group, work, "HEAD:main") == over_all(["wrong-group"])


def test_a_push_that_finds_no_record_of_the_group_tells_the_next_ones(make_group: MakeGroup, urls: Urls) -> None:
    group, work = begin(make_group)
    group.etcd.delete(f"{group.prefix}/group/{group.name}")
    # etcd has just been heard, so this push comes as far as the swap.
    path = urls(group[0].repository)["path"]
    assert shown(git.push(work, path, "HEAD:main")) == ["wrong-group", DISCONNECTED]
    assert refusals(urls, group, work, "HEAD:main") == over_all(["wrong-group"])


def test_too_many_deletions_are_refused_over_each_transport(make_group: MakeGroup, urls: Urls) -> None:
    group, work = begin(make_group)
    names = ("one", "two", "three")
    accepted(git.push(work, group[0].repository, *(f"HEAD:{name}" for name in names)))
    git.git(group[0].repository, "config", "piehole.maxDeletes", "2")
    group[0].stop()
    group[0].start()  # it would read the setting by itself, some time later
    assert refusals(urls, group, work, *(f":{name}" for name in names)) == over_all(["too-many"])
    assert refusals(urls, group, work, "--atomic", *(f":{name}" for name in names)) == over_all(["too-many"])


@pytest.mark.slow
@pytest.mark.parametrize("controller", [True, False], ids=["controller", "no controller"])
def test_too_many_is_said_and_how_many_are_not(
    make_group: MakeGroup, own_etcd: OwnEtcd, urls: Urls, controller: bool
) -> None:
    group, work = begin(make_group, own_etcd(options=EtcdOptions(max_txn_ops=128)))
    if not controller:
        group[0].stop()
    git.git(group[0].repository, "config", "piehole.hookTimeout", "20")
    refspecs = [f"HEAD:refs/heads/b{number}" for number in range(140)]
    assert refusals(urls, group, work, "--atomic", *refspecs) == over_all(["too-many"])
    said = refused(git.push(work, group[0].repository, "--atomic", *refspecs), "too-many")
    most = int(said.split("more than ")[1].split(" ")[0])
    refused(git.push(work, group[0].repository, "--atomic", *refspecs[: most + 1]), "too-many")
    accepted(git.push(work, group[0].repository, "--atomic", *refspecs[:most]))
    assert len(group.refs()) == most + 1


def test_too_many_of_what_is_left_to_etcd_is_said_to_those_who_hear_it_and_logged(
    make_group: MakeGroup, own_etcd: OwnEtcd, urls: Urls
) -> None:
    """Somebody has set etcd's limit below its own default, for which nobody looks before the swap."""
    group, work = begin(make_group, own_etcd(options=EtcdOptions(max_txn_ops=12)))
    refspecs = [f"HEAD:refs/heads/VIA{number}" for number in range(12)]
    assert refusals(urls, group, work, "--atomic", *refspecs) == unheard("too-many")
    event = group[0].wait_event("push.refused")
    assert event.get("token") == "too-many"
    assert event["refs"][0].startswith("refs/heads/")


def test_unknown_is_said_to_those_who_hear_it_and_logged(make_group: MakeGroup, etcd: EtcdProcess, urls: Urls) -> None:
    with tampering(etcd.endpoint) as tamper:
        group, work = begin(make_group, endpoints=[tamper.endpoint])
        tamper.always("hold request", "swap", "fence")
        assert refusals(urls, group, work, "HEAD:VIA") == unheard("unknown")
        event = group[0].wait_event("push.refused")
        assert event.get("token") == "unknown"
        assert "look (`git fetch`) before pushing again" in event["reason"]


def test_where_there_is_no_controller_the_words_are_in_the_log_of_the_server(
    make_group: MakeGroup, etcd: EtcdProcess, urls: Urls, httpd: HttpServer, git_daemon: GitDaemon
) -> None:
    with tampering(etcd.endpoint) as tamper:
        group, work = begin(make_group, endpoints=[tamper.endpoint])
        group[0].stop()
        tamper.always("hold request", "swap", "fence")
        assert refusals(urls, group, work, "HEAD:VIA") == unheard("unknown")
    assert "piehole: unknown: " in git_daemon.log
    assert "piehole: unknown: " in "".join(path.read_text() for path in httpd.folder.glob("*.log"))


@pytest.mark.parametrize(
    ("read_takes", "read_ago", "message_ago", "enough"),
    [
        (0.001, 1.0, 60.0, True),
        (0.001, 4.0, 0.0, False),
        (0.05, 60.0, 5.5, True),
        (0.05, 60.0, 8.0, False),
    ],
    ids=["near, read just now", "near, read long ago", "far, with a message of the watch", "far and silent"],
)
def test_a_push_asks_first_where_that_costs_nothing_or_etcd_has_been_silent(
    monkeypatch: pytest.MonkeyPatch, read_takes: float, read_ago: float, message_ago: float, enough: bool
) -> None:
    """With deploy's settings a message comes every five seconds: a site whose etcd is far away pays for no second round trip."""
    address = etcd_view.EtcdAddress(("http://127.0.0.1:1",), Credentials(), "/p")
    view = etcd_view.EtcdView(address, lambda _, __: None, lambda: None, lambda _: None)
    now = time.monotonic()
    monkeypatch.setattr(Etcd, "quickest", read_takes)
    monkeypatch.setattr(view.informer, "status", lambda: InformerStatus(True, last_contact=now - message_ago))
    assert view.heard_since(now - read_ago) is enough
