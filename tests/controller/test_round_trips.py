"""How often etcd is asked for one push: each is a round trip between the members, wherever they are."""

from __future__ import annotations

import fcntl
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.conftest import OwnEtcd
from tests.reads.bed import Front, oid_of
from tests.support import git
from tests.support.assertions import accepted
from tests.support.etcd import EtcdProcess
from tests.support.groups import Group, MakeGroup
from tests.support.wait import until


@contextmanager
def nothing_is_published(group: Group) -> Iterator[None]:
    """Progress is published once a second, whatever is pushed: it is held up while a push is counted."""
    with ExitStack() as held:
        for site in group:
            lock = held.enter_context((site.repository / "piehole" / "state.lock").open("w"))
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def asked(etcd: EtcdProcess, before: dict[str, int]) -> dict[str, int]:
    return dict(Counter(etcd.calls()) - Counter(before))


@pytest.mark.parametrize("refspecs", [["HEAD:main"], ["HEAD:main", "HEAD:refs/heads/new", "HEAD:refs/tags/v1"]])
def test_a_push_costs_one_transaction_where_the_controller_runs(
    make_group: MakeGroup, own_etcd: OwnEtcd, refspecs: list[str]
) -> None:
    etcd = own_etcd()
    group = make_group(1, etcd=etcd)
    work = group[0].clone()
    oid = git.commit(work, "one")
    accepted(git.push(work, "origin", "HEAD:main"))
    until(lambda: group[0].at() == oid, what="the first push has arrived")
    git.commit(work, "two")
    with nothing_is_published(group):
        before = etcd.calls()
        accepted(git.push(work, "origin", "--atomic", *refspecs))
        assert asked(etcd, before) == {"Txn": 1}


def test_without_the_controller_a_push_costs_this_many(make_group: MakeGroup, own_etcd: OwnEtcd) -> None:
    etcd = own_etcd()
    group = make_group(1, etcd=etcd)
    work = group[0].clone()
    for message in ("one", "two"):
        git.commit(work, message)
        accepted(git.push(work, "origin", "HEAD:main"))
    group[0].stop()
    git.commit(work, "three")
    before = etcd.calls()
    accepted(git.push(work, "origin", "HEAD:main"))
    # `update` reads; `prepared` finds an endpoint that answers, and swaps.
    assert asked(etcd, before) == {"Range": 1, "Txn": 2}
    git.commit(work, "four")
    before = etcd.calls()
    accepted(git.push(work, "origin", "HEAD:main"))
    # And it makes sure that etcd still has the push before, of which no progress record tells yet.
    assert asked(etcd, before) == {"Range": 2, "Txn": 2}


@pytest.mark.parametrize("mode", ["off", "wait", "strict"])
def test_a_fetch_behind_the_read_gate_costs_one_read_and_none_where_it_is_off(
    make_group: MakeGroup, own_etcd: OwnEtcd, tmp_path: Path, mode: str
) -> None:
    etcd = own_etcd()
    group = make_group(2, etcd=etcd, settings={"piehole.readGate": mode, "piehole.readWait": "20"})
    work, oid = group.begun()
    front = Front(tmp_path / "bin", "read-gate.pl")
    for site in group:
        assert oid_of(front.listed(site)) == oid
    with nothing_is_published(group):
        before = etcd.calls()
        for site in group:
            assert oid_of(front.listed(site)) == oid
        assert asked(etcd, before) == ({} if mode == "off" else {"Range": 2})
        if (
            mode != "off"
        ):  # also where the push has to arrive first: its arrival asks the group once more, as without a gate
            new = git.commit(work, "new")
            accepted(git.push(work, group[0].repository, "HEAD:main"))
            until(lambda: group[1].at() == new)
            before = etcd.calls()
            assert [oid_of(front.listed(site)) for site in group] == [new, new]
            assert asked(etcd, before) == {"Range": 2}
