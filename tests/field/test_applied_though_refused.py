"""etcd answers a write with an error after it has applied it (etcd-io/etcd#16659): whoever asked hears what really happened."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from piehole.deadline import Deadline
from piehole.errors import EtcdError, EtcdFull
from piehole.etcd.client import Etcd
from piehole.etcd.model import Compare, Put
from tests.conftest import OwnEtcd
from tests.support.assertions import accepted, refused
from tests.support.command_line import Answer
from tests.support.etcd import EtcdOptions
from tests.support.etcd_tamper import FULL, Tamper
from tests.support.git import MAIN, ZERO_SHA1, commit, git, push, refs
from tests.support.groups import Group
from tests.support.pushes import finish, start_push

# Every gRPC code that proves nothing about a write, with words that etcd says.
OPEN = (
    FULL,
    (1, "etcdserver: request canceled"),
    (2, "raft: stopped"),
    (4, "context deadline exceeded"),
    (6, "exists"),
    (8, "resource exhausted by something in between"),
    (10, "aborted"),
    (13, "internal"),
    (14, "etcdserver: request timed out, possibly due to previous leader failure"),
    (15, "etcdserver: corrupt cluster"),
)


@pytest.mark.parametrize(("code", "words"), OPEN)
def test_a_push_that_etcd_applied_is_accepted_whatever_error_etcd_answers(
    world: Group, tamper: Tamper, scene: tuple[Path, Path, str], code: int, words: str
) -> None:
    site, work, first = scene
    second = commit(work, "second")
    tamper.error = (code, words)
    tamper.once("swap", "err after")
    accepted(push(work, site, "HEAD:main"))
    assert world.history() == [first, second]
    assert refs(site)[MAIN] == second


def test_a_deletion_that_a_full_etcd_applied_is_accepted(
    world: Group, tamper: Tamper, scene: tuple[Path, Path, str]
) -> None:
    site, work, _ = scene
    accepted(push(work, site, "HEAD:side"))
    tamper.once("swap", "err after")
    accepted(push(work, site, ":side"))
    assert world.value("refs/heads/side") == ZERO_SHA1
    assert "refs/heads/side" not in refs(site)


def test_a_push_that_a_full_etcd_did_not_apply_is_refused_and_nothing_changes(
    world: Group, tamper: Tamper, scene: tuple[Path, Path, str]
) -> None:
    site, work, first = scene
    commit(work, "second")
    tamper.always("err before", "swap", "fence")
    assert "Nothing changed" in refused(push(work, site, "HEAD:main"), "no-access")
    assert world.history() == [first]
    assert "fence" not in tamper.seen  # it would have been refused as well


@pytest.mark.slow
def test_a_push_that_a_full_etcd_applied_before_others_moved_the_ref_is_accepted(
    world: Group, tamper: Tamper, scene: tuple[Path, Path, str]
) -> None:
    site, work, first = scene
    b = world["b"].build().repository
    git(site, "config", "piehole.hookTimeout", "12")  # more than the push at b takes
    second = commit(work, "second")
    tamper.once("swap", "hang answer")
    tamper.always("err before", "fence")
    before = tamper.seen.count("swap")
    pushing = start_push(work, site, "HEAD:main")
    tamper.wait_for("swap", before + 1)
    third = commit(work, "third")
    accepted(push(work, b, "HEAD:main"))
    accepted(finish(pushing))
    assert world.history() == [first, second, third]


def test_while_etcd_is_full_a_push_whose_answer_was_lost_is_unknown_as_long_as_it_may_still_be_applied(
    world: Group, tamper: Tamper, scene: tuple[Path, Path, str]
) -> None:
    site, work, first = scene
    second = commit(work, "second")
    tamper.once("swap", "hold request")
    tamper.always("err before", "fence")
    assert second in refused(push(work, site, "HEAD:main"), "unknown")
    (answer,) = tamper.deliver()
    assert answer["succeeded"]  # it was right not to say that nothing changed
    assert world.history() == [first, second]


def test_while_etcd_is_full_a_fence_that_was_applied_all_the_same_settles_a_push(
    world: Group, tamper: Tamper, scene: tuple[Path, Path, str]
) -> None:
    site, work, first = scene
    second = commit(work, "second")
    tamper.once("swap", "hold request")
    tamper.once("fence", "err after")
    accepted(push(work, site, "HEAD:main"))  # proposed again, since the first proposal can never be applied
    (answer,) = tamper.deliver()
    assert not answer.get("succeeded", False)
    assert world.history() == [first, second]


def test_commands_that_a_full_etcd_carried_out_say_that_they_may_have_and_go_on_when_run_again(
    world: Group, tamper: Tamper, scene: tuple[Path, Path, str]
) -> None:
    site, _, first = scene
    a = world["a"]
    world["b"].build()

    def twice(*arguments: str, run: Callable[..., Answer] = a.piehole) -> None:
        """The first time, each write is made and answered as refused; whoever runs the command again as it says, gets there."""
        tamper.always("err after", "swap", "fence")
        answer = run(*arguments, check=False)
        tamper.always("pass", "swap", "fence")
        said = answer.out + answer.err
        assert answer.status == 1, said
        assert "is full" in said
        assert "may be written all the same" in said
        assert "othing was changed" not in said
        run(*arguments)

    def record(name: str) -> dict[str, object]:
        found: dict[str, object] = json.loads(world.etcd.get(f"{world.prefix}/{name}") or "{}")
        return found

    git(site, "update-ref", "refs/heads/extra", first)
    twice("clobber", "refs/heads/extra", "--yes")
    assert world.value("refs/heads/extra") == first
    twice("leave", "--site", "b", "--yes")
    assert record("site/g/b")["left"] is True
    twice("install", "--url", "/elsewhere")
    assert record("site/g/a")["url"] == "/elsewhere"
    twice("reconcile", "--once")
    assert a.progress() > 0
    c = world["c"].make()
    founding = ("--group", "another", "--site", "c", "--url", c.url, "--etcd", tamper.endpoint)
    git(c.repository, "config", "piehole.prefix", world.prefix)
    twice("install", str(c.repository), *founding, run=world.piehole)
    assert "adopting" not in record("group/another")
    assert record("site/another/c")["url"] == c.url
    twice("rename", "new", "--yes")
    assert world.etcd.get(f"{world.prefix}/ref/new/{MAIN}") == first


@pytest.mark.etcd_versions
def test_what_etcd_refuses_as_full_is_there_or_is_not_and_is_never_called_unchanged(own_etcd: OwnEtcd) -> None:
    """Real etcd: many writes pass the door together, and the quota is reached while they are applied."""
    member = own_etcd(options=EtcdOptions(extra=["--quota-backend-bytes=2097152"]))
    client = Etcd([member.endpoint])
    full: list[bytes] = []
    other: list[Exception] = []

    def write(thread: int) -> None:
        for number in range(100):
            key = b"k%d-%d" % (thread, number)
            try:
                client.txn([Compare(key)], [Put(key, b"x" * 100_000)], deadline=Deadline(20))
            except EtcdFull:
                full.append(key)
                return
            except EtcdError as error:
                other.append(error)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert full
    assert other == []
    # Reads go on, so that each outcome can be told. (Which keys are there is chance: here, 0 to 6 of 28.)
    for key in full:
        client.range(key, deadline=Deadline(5), keys_only=True)
    assert client.status(b"k", deadline=Deadline(5))[0].alarms == ("NOSPACE",)
    client.close()
