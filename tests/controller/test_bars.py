"""The bars: pushes in a row are never refused by their own controller; and nothing is lost or doubled while controllers are killed."""

from __future__ import annotations

import os
import random
import threading
import time
from collections import Counter
from dataclasses import dataclass, field

import pytest

from tests.support import git
from tests.support.assertions import Pushed, accepted
from tests.support.git import MAIN
from tests.support.groups import Group, MakeGroup
from tests.support.sites import Site

# The bar is 60; `make test-all` plays a shorter one (PIEHOLE_TEST_SECONDS=60 plays it all).
SECONDS = float(os.environ.get("PIEHOLE_TEST_SECONDS", "20"))
PUSHERS = 12


@pytest.mark.slow
@pytest.mark.timeout(120 + 2 * SECONDS)
def test_150_pushes_in_a_row_none_refused_by_its_own_controller(make_group: MakeGroup) -> None:
    """Fewer where the machine does much else, so that a push takes seconds."""
    group = make_group(3)
    work = group[0].clone()
    oids: list[str] = []
    enough = time.monotonic() + 1.5 * SECONDS
    while len(oids) < 150 and (len(oids) < 30 or time.monotonic() < enough):
        n = len(oids)
        git.git(work, "commit", "--quiet", "--allow-empty", "-m", f"n{n}")
        pushed = git.push(work, "origin", "HEAD:main")
        assert pushed.returncode == 0, f"push {n}: {pushed.stderr}"
        oids.append(git.rev_parse(work))
    group.arrives(MAIN, oids[-1])
    assert group.history() == oids


@dataclass
class Ledger:
    """What the pushers were told."""

    acknowledged: dict[str, list[str]] = field(default_factory=dict)
    refused: dict[str, list[str]] = field(default_factory=dict)
    unknown: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def note(self, ref: str, oid: str, pushed: Pushed) -> None:
        with self.lock:
            if pushed.returncode == 0:
                self.acknowledged.setdefault(ref, []).append(oid)
            elif "piehole: unknown:" in pushed.stderr or "piehole: accepted:" in pushed.stderr:
                self.unknown += 1
            elif "piehole: " in pushed.stderr:
                self.refused.setdefault(ref, []).append(oid)
            else:
                self.unknown += 1


class Pusher:
    """Somebody who works on main and on a branch of his own, mostly at one site."""

    def __init__(self, group: Group, number: int, ledger: Ledger, until: float) -> None:
        self._random = random.Random(number)  # noqa: S311 -- a test's choice
        self._group = group
        self._number = number
        self._ledger = ledger
        self._until = until
        self._work = group[number % len(group.sites)].clone(f"pusher{number}")
        self.thread = threading.Thread(target=self._run, name=f"pusher {number}")

    def _run(self) -> None:
        turn = 0
        while time.monotonic() < self._until:
            turn += 1
            self._commit(f"{self._number}.{turn}")
            sites = self._group.sites
            site = sites[self._number % len(sites)] if self._random.random() < 0.8 else self._random.choice(sites)
            if turn % 2:
                self._push(site, f"refs/heads/of-{self._number}")
            else:
                self._push_main(site)

    def _commit(self, message: str) -> None:
        git.git(self._work, "commit", "--quiet", "--allow-empty", "-m", message)

    def _push(self, site: Site, ref: str) -> bool:
        oid = git.rev_parse(self._work)
        pushed = git.push(self._work, site.url, f"+HEAD:{ref}")
        self._ledger.note(ref, oid, pushed)
        return pushed.returncode == 0

    def _push_main(self, site: Site) -> None:
        for _ in range(6):
            if time.monotonic() >= self._until or self._push_once(site):
                return
            if git.git(self._work, "fetch", "--quiet", site.url, MAIN, check=False).returncode == 0:
                git.git(self._work, "rebase", "--quiet", "FETCH_HEAD")

    def _push_once(self, site: Site) -> bool:
        oid = git.rev_parse(self._work)
        pushed = git.push(self._work, site.url, f"HEAD:{MAIN}")
        if "piehole: " in pushed.stderr or pushed.returncode == 0:
            self._ledger.note(MAIN, oid, pushed)
        return pushed.returncode == 0


@pytest.mark.slow
@pytest.mark.timeout(60 + 4 * SECONDS)
def test_twelve_pushers_three_sites_controllers_killed(make_group: MakeGroup) -> None:
    seed = int(os.environ.get("PIEHOLE_TEST_SEED", "1"))
    chaos = random.Random(seed)  # noqa: S311 -- a test's choice
    group = make_group(3, settings={"piehole.catchUp": "1"})
    first = git.commit(work := group[0].clone(), "first")
    accepted(git.push(work, "origin", "HEAD:main"))
    group.arrives(MAIN, first)
    ledger = Ledger()
    end = time.monotonic() + SECONDS
    pushers = [Pusher(group, number, ledger, end) for number in range(PUSHERS)]
    for pusher in pushers:
        pusher.thread.start()
    kills = 0
    while time.monotonic() < end:
        site = chaos.choice(group.sites)
        time.sleep(chaos.uniform(0.5, 2.5))
        site.kill()
        kills += 1
        time.sleep(chaos.uniform(0.0, 0.6))
        site.launch()
    for pusher in pushers:
        pusher.thread.join(60)
    assert not any(pusher.thread.is_alive() for pusher in pushers)

    refs = group.in_step(timeout=40)
    told = Counter({ref: len(oids) for ref, oids in ledger.acknowledged.items()})
    print(  # noqa: T201 -- the figures, shown with -s
        f"seed {seed}: {SECONDS:g} s, {kills} kills, {told.total()} acknowledged ({told[MAIN]} of main), "
        f"{sum(map(len, ledger.refused.values()))} refused, {ledger.unknown} unknown"
    )
    assert told.total() > PUSHERS
    for ref in refs:
        history = Counter(group.history(ref))
        for oid in ledger.acknowledged.get(ref, []):
            assert history[oid] == 1, f"{oid} was acknowledged and is {history[oid]} times in the history of {ref}"
        for oid in set(ledger.refused.get(ref, [])) - set(ledger.acknowledged.get(ref, [])):
            assert history[oid] == 0, f"{oid} was refused and is in the history of {ref}"
    states = [site.refs() for site in group]
    assert states[0] == states[1] == states[2]
    for site in group:
        site.fsck()
