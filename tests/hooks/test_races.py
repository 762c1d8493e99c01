"""Several people at several sites at once, and nobody between them but etcd."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from tests.support.assertions import accepted, refused
from tests.support.git import MAIN, commit, git, push, refs, rev_parse
from tests.support.groups import Group
from tests.support.hook_socket import serving
from tests.support.pushes import finish, start_push

PUSHES = 20  # of each of the two


def test_of_two_pushes_to_one_ref_at_two_sites_exactly_one_wins_and_the_other_follows(world: Group) -> None:
    a, work, first = world.founded("a")
    b = world["b"].build().repository
    assert world.reconcile(b).status == 0
    other = world.clone(b)
    tips = {a: commit(work, "at a", file="a.txt"), b: commit(other, "at b", file="b.txt")}
    at_once = [(site, who, start_push(who, site, "HEAD:main")) for site, who in ((a, work), (b, other))]
    done = [(site, who, finish(pushing)) for site, who, pushing in at_once]
    (winner,) = [site for site, _, result in done if result.returncode == 0]
    ((loser, who, result),) = [one for one in done if one[2].returncode != 0]
    refused(result, "stale")
    assert world.history() == [first, tips[winner]]
    assert world.reconcile(loser).status == 0
    git(who, "pull", "-q", "--rebase", str(loser), "main")
    accepted(push(who, loser, "HEAD:main"))
    assert world.reconcile(winner).status == 0
    assert world.history() == [first, tips[winner], rev_parse(who)]
    assert refs(a)[MAIN] == refs(b)[MAIN] == rev_parse(who)


def test_df_conflict(world: Group) -> None:
    """A directory and a file of one name, created at two sites at once: one of them exists, everywhere."""
    a, work, first = world.founded("a")
    b = world["b"].build().repository
    at_once = [start_push(work, a, "HEAD:topic"), start_push(work, b, "HEAD:topic/one")]
    done = [finish(pushing) for pushing in at_once]
    (loser,) = [result for result in done if result.returncode]
    refused(loser, "conflict")
    ((name, value),) = [(ref, value) for ref, value in world.refs().items() if ref != MAIN]
    assert value == first
    for site in (a, b):
        assert world.reconcile(site).status == 0
        assert set(refs(site)) == {MAIN, name}


class Pusher(threading.Thread):
    """Pushes one commit after the other to one site after the other, and starts anew from the group's tip where it is told to."""

    def __init__(self, world: Group, name: str, sites: list[Path]) -> None:
        super().__init__(name=name)
        self._world = world
        self._sites = sites
        self._work = world.clone(sites[0])
        self.acknowledged: list[str] = []
        self.refusals = 0
        self.fault: BaseException | None = None

    def run(self) -> None:
        try:
            for number in range(PUSHES):
                self._push_one(number)
        except BaseException as fault:  # noqa: BLE001 -- told by the test
            self.fault = fault

    def _push_one(self, number: int) -> None:
        commit(self._work, f"{self.name} {number}", file=f"{self.name}.txt")
        for attempt in range(60):
            site = self._sites[(number + attempt) % len(self._sites)]
            done = push(self._work, site, "HEAD:main")
            if done.returncode == 0:
                self.acknowledged.append(rev_parse(self._work))
                return
            self.refusals += 1
            assert "unknown:" not in done.stderr
            # As a person would: from whichever site has the newest.
            for peer in self._sites:
                git(self._work, "pull", "-q", "--rebase", str(peer), "main")
        raise AssertionError(f"{self.name} {number} was never accepted: {done.stderr}")


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_every_acknowledged_push_is_in_the_group_s_history_exactly_once(world: Group) -> None:
    a, _, first = world.founded("a")
    sites = [a, world["b"].build().repository, world["c"].build().repository]
    for site in sites:
        git(site, "config", "piehole.catchUp", "1")
        assert world.reconcile(site).status == 0
    people = [Pusher(world, name, sites) for name in ("ann", "bob")]
    with serving(sites[0]), serving(sites[1]):  # and at the third the hooks decide for themselves
        for person in people:
            person.start()
        for person in people:
            person.join()
    for person in people:
        assert person.fault is None, person.fault
    history = world.history()
    said = sorted(oid for person in people for oid in person.acknowledged)
    assert len(said) == 2 * PUSHES
    assert history[0] == first
    assert sorted(history[1:], key=str) == said
    world.end()
    for site in sites:
        assert world.reconcile(site).status == 0
        assert refs(site)[MAIN] == history[-1]
    assert git(a, "rev-list", "--count", MAIN).stdout.strip() == str(1 + 2 * PUSHES)
