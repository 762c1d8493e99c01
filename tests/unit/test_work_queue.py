"""The invariants of the work queue (controller/work_queue.py), by any sequence of calls and under threads."""

from __future__ import annotations

import pickle
import random
import threading
from collections import Counter
from collections.abc import Iterator

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from controller.work_queue import FRESH_FOR, LONG, Schedule, WorkQueue
from tests.support.wait import until

KEYS = st.sampled_from([f"repository {n}" for n in range(6)])
DELAYS = st.sampled_from([0.0, 0.0, 1.0, 3.0, 10.0])


class AnySequence(RuleBasedStateMachine):
    """Compares the schedule with a model that is too simple to be quick: sets of keys, searched whole."""

    @initialize(limit=st.integers(1, 3))
    def begin(self, limit: int) -> None:
        self.limit = limit
        self.schedule = Schedule(limit)
        self.now = 0.0
        self.due: dict[str, float] = {}  # of keys that wait
        self.fresh: dict[str, bool] = {}
        self.since: dict[str, float] = {}  # of keys that are fresh
        self.again: dict[str, tuple[float, bool, float]] = {}  # of keys that are held and were added meanwhile
        self.held: dict[str, bool] = {}  # key -> counts as backlog

    @rule(key=KEYS, delay=DELAYS, fresh=st.booleans())
    def add(self, key: str, delay: float, fresh: bool) -> None:
        self.schedule.add(key, self.now + delay, fresh=fresh)
        if key in self.held:
            due, was, since = self.again.get(key, (float("inf"), False, 0.0))
            since = max(since, self.now + delay) if fresh or key not in self.again else since
            self.again[key] = (min(due, self.now + delay), was or fresh, since)
        else:
            if fresh or key not in self.due:
                before = self.since[key] if key in self.due else 0.0
                self.since[key] = max(before, self.now + delay)
            self.due[key] = min(self.due.get(key, float("inf")), self.now + delay)
            self.fresh[key] = self.fresh.get(key, False) or fresh

    @rule(seconds=st.sampled_from([0.1, 0.5, 1.0, 2.0, 10.0]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @rule()
    def take(self) -> None:
        key = self.schedule.take(self.now)
        for one in self.due:
            self.fresh[one] = self.fresh[one] and self.now - self.since[one] <= FRESH_FOR
        is_open = sum(self.held.values()) < self.limit
        ripe = {one for one, due in self.due.items() if due <= self.now}
        candidates = {one for one in ripe if self.fresh[one]}
        long = {one for one in ripe - candidates if self.now - self.due[one] > LONG}
        if is_open and (long or not candidates):
            candidates = ripe - candidates
        if not candidates:
            assert key is None
            return
        assert key in candidates
        if self.fresh[key]:
            assert self.since[key] == max(self.since[one] for one in candidates)
        else:
            assert self.due[key] == min(self.due[one] for one in candidates)
        self.held[key] = not self.fresh.pop(key)
        del self.due[key]

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def done(self, data: st.DataObject) -> None:
        key = data.draw(st.sampled_from(sorted(self.held)))
        self.schedule.done(key, self.now)
        del self.held[key]
        if key in self.again:
            self.due[key], self.fresh[key], since = self.again.pop(key)
            self.since[key] = max(since, self.now)

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def slow(self, data: st.DataObject) -> None:
        key = data.draw(st.sampled_from(sorted(self.held)))
        self.schedule.slow(key)
        self.held[key] = False

    @invariant()
    def nothing_is_lost_or_doubled(self) -> None:
        if hasattr(self, "schedule"):
            assert len(self.schedule) == len(self.due) + len(self.held)

    @invariant()
    def it_knows_when_to_wake(self) -> None:
        if hasattr(self, "schedule"):
            is_open = sum(self.held.values()) < self.limit
            wanted = [due for key, due in self.due.items() if is_open or self.fresh[key]]
            found = self.schedule.next_due()
            # Which of several keys that are due already is named makes no difference to a worker that waits: it wakes now.
            assert (found is None) == (not wanted)
            assert found is None or max(found, self.now) == max(min(wanted), self.now)


TestAnySequence = AnySequence.TestCase
TestAnySequence.settings = settings(max_examples=100, stateful_step_count=30, deadline=None)


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def queue() -> Iterator[WorkQueue]:
    made = WorkQueue(backlog_limit=2)
    yield made
    made.stop()


def test_a_burst_of_adds_is_handed_out_once(queue: WorkQueue) -> None:
    for _ in range(100):
        queue.add("a", fresh=True)
    assert queue.get() == "a"
    queue.done("a")
    assert len(queue) == 0


def test_what_is_added_while_held_comes_again_and_only_after_done(queue: WorkQueue) -> None:
    queue.add("a", fresh=True)
    assert queue.get() == "a"
    queue.add("a", fresh=True)
    queue.add("b")
    assert queue.get() == "b"
    queue.done("a")
    assert queue.get() == "a"


def test_fresh_work_goes_before_a_backlog_that_was_there_first(queue: WorkQueue) -> None:
    for n in range(100):
        queue.add(f"backlog {n}")
    queue.add("fresh", fresh=True)
    assert queue.get() == "fresh"


def test_hundreds_of_changes_at_once_do_not_stand_before_the_next_push() -> None:
    clock = Clock()
    queue = WorkQueue(backlog_limit=2, clock=clock)
    for n in range(500):
        queue.add(f"change {n}", fresh=True)
    queue.add("a push in the same breath", fresh=True)
    assert queue.get() == "a push in the same breath"
    clock.now += FRESH_FOR + 0.1
    queue.add("push", fresh=True)
    queue.add("change 400", fresh=True)  # it is pushed to again
    assert {queue.get(), queue.get()} == {"push", "change 400"}
    assert {queue.get(), queue.get()} == {"change 0", "change 1"}


def test_what_goes_void_does_not_pile_up() -> None:
    """The newest first: what aged beneath it is never reached."""
    clock = Clock()
    schedule = Schedule(backlog_limit=1)
    for _ in range(20_000):
        clock.now += 2 * FRESH_FOR
        schedule.add("old", clock.now, fresh=True)
        schedule.add("new", clock.now, fresh=True)
        schedule.take(clock.now)
        schedule.done("new", clock.now)
    assert len(pickle.dumps(schedule)) < 100_000


def test_pushes_do_not_starve_the_backlog() -> None:
    clock = Clock()
    queue = WorkQueue(backlog_limit=1, clock=clock)
    queue.add("behind")
    queue.add("behind, too")
    clock.now += LONG + 1
    queue.add("push", fresh=True)
    assert [queue.get(), queue.get()] == ["behind", "push"]


def test_a_push_to_what_is_worked_on_is_fresh_when_that_ends() -> None:
    clock = Clock()
    queue = WorkQueue(backlog_limit=2, clock=clock)
    queue.add("a", fresh=True)
    assert queue.get() == "a"
    queue.add("a", fresh=True)
    queue.add("behind")
    clock.now += FRESH_FOR + 1
    queue.done("a")
    assert queue.get() == "a"


def test_a_backlog_never_takes_all_workers(queue: WorkQueue) -> None:
    for n in range(5):
        queue.add(f"backlog {n}")
    assert {queue.get(), queue.get()} == {"backlog 0", "backlog 1"}
    got: list[str | None] = []
    third = threading.Thread(target=lambda: got.append(queue.get()))
    third.start()
    queue.add("fresh", fresh=True)
    third.join(10)
    assert got == ["fresh"]


def test_a_slow_worker_makes_room_for_the_backlog(queue: WorkQueue) -> None:
    for n in range(3):
        queue.add(f"backlog {n}")
    queue.get(), queue.get()
    got: list[str | None] = []
    third = threading.Thread(target=lambda: got.append(queue.get()))
    third.start()
    queue.slow("backlog 0")
    third.join(10)
    assert got == ["backlog 2"]


def test_retries_wait_longer_each_time_up_to_a_limit_and_forget_begins_anew() -> None:
    queue = WorkQueue(backlog_limit=2, clock=Clock(), jitter=lambda: 1.0)
    delays = [queue.retry("a") for _ in range(12)]
    assert delays[:4] == [0.2, 0.4, 0.8, 1.6]
    assert delays[-1] == 60.0
    queue.forget("a")
    assert queue.retry("a") == 0.2


def test_an_add_ends_the_wait_for_a_retry(queue: WorkQueue) -> None:
    for _ in range(9):
        queue.retry("a")
    queue.add("a", fresh=True)
    assert queue.get() == "a"


def test_what_becomes_due_while_the_first_key_is_worked_on_finds_the_others_who_wait(queue: WorkQueue) -> None:
    """Nobody is woken for a key that is due later than another one; but somebody has to wait for it once that one is taken."""
    got: list[str | None] = []
    waiting = [threading.Thread(target=lambda: got.append(queue.get())) for _ in range(2)]
    for thread in waiting:
        thread.start()
    queue.add("a", delay=0.02)
    queue.add("b", delay=0.04)
    for thread in waiting:
        thread.join(10)
    assert sorted(got, key=str) == ["a", "b"]


def test_stop_wakes_everybody_who_waits(queue: WorkQueue) -> None:
    got: list[str | None] = []
    waiting = [threading.Thread(target=lambda: got.append(queue.get())) for _ in range(8)]
    for thread in waiting:
        thread.start()
    queue.stop()
    for thread in waiting:
        thread.join(10)
    assert got == [None] * 8


def test_under_threads_nothing_is_lost_and_no_key_has_two_holders() -> None:
    queue = WorkQueue(backlog_limit=3)
    wanted: Counter[str] = Counter()  # the number of the last add of a key
    seen: Counter[str] = Counter()
    holders: Counter[str] = Counter()
    lock = threading.Lock()
    faults: list[str] = []

    def work() -> None:
        mine = random.Random()  # noqa: S311 -- a test's choice
        while (key := queue.get()) is not None:
            with lock:
                holders[key] += 1
                if holders[key] > 1:
                    faults.append(f"{key} has two holders")
                seen[key] = wanted[key]
            if mine.random() < 0.05:
                queue.retry(key)
            else:
                queue.forget(key)
            with lock:
                holders[key] -= 1
            queue.done(key)

    def add(seed: int) -> None:
        mine = random.Random(seed)  # noqa: S311 -- a test's choice
        for _ in range(2_000):
            key = f"repository {mine.randrange(20)}"
            with lock:
                wanted[key] += 1
            queue.add(key, fresh=mine.random() < 0.3, delay=mine.choice([0.0, 0.0, 0.001]))

    workers = [threading.Thread(target=work) for _ in range(6)]
    adders = [threading.Thread(target=add, args=(seed,)) for seed in range(3)]
    for thread in workers + adders:
        thread.start()
    for thread in adders:
        thread.join(60)
    try:
        # Every add was followed by a turn that began after it.
        until(lambda: len(queue) == 0, 30, "the queue is empty")
        assert seen == wanted
        assert not faults
        assert wanted.total() == 6_000
    finally:
        queue.stop()
        for thread in workers:
            thread.join(10)


def test_the_lanes_tell_how_many_wait_and_since_when() -> None:
    now = [100.0]
    queue = WorkQueue(backlog_limit=1, clock=lambda: now[0])
    queue.add("old")
    queue.add("later", delay=50)
    now[0] += 3
    queue.add("fresh", fresh=True)
    now[0] += 0.1
    lanes = queue.waiting()
    assert {lane: count for lane, (count, _) in lanes.items()} == {"backlog": 1, "fresh": 1}
    assert [lanes[lane][1] for lane in ("backlog", "fresh")] == pytest.approx([3.1, 0.1])
    assert queue.get() == "fresh"
    assert queue.waiting()["fresh"] == (0, 0.0)
