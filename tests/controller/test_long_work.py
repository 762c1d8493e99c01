"""Work that lasts long is seen in the controller's log every 30 seconds."""

from __future__ import annotations

import threading
from collections.abc import MutableMapping
from typing import Any

import pytest
from structlog.testing import capture_logs

from controller.work_queue import NextTurn, WorkQueue
from controller.worker_pool import WorkerPool
from piehole import long_work
from piehole.long_work import BYTES, doing
from tests.support.wait import until

Line = MutableMapping[str, Any]


def lines(pool: WorkerPool[str], logged: list[Line], repository: str) -> list[Line]:
    """What was logged of the work on a repository, after another look at it."""
    pool.replace_slow()
    return [line for line in logged if line["event"] == "work.continues" and line["repository"] == repository]


def test_a_turn_that_lasts_is_logged_again_and_again_with_how_far_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(long_work, "EVERY", 0.05)
    end, crashed = threading.Event(), list[BaseException]()

    def work(item: str, _stop: threading.Event) -> NextTurn:
        if item == "/told":
            doing("fetching from oslo", 7, 9, BYTES)
        end.wait(60)
        return NextTurn()

    queue = WorkQueue(backlog_limit=2)
    pool = WorkerPool[str]("reconcile", 2, queue, lambda key: key, work, threading.Event(), crashed.append)
    with capture_logs() as logged:
        pool.start()
        queue.add("/told")
        queue.add("/silent")
        until(lambda: len(lines(pool, logged, "/told")) > 1 and lines(pool, logged, "/silent"), 30, "both are logged")
        end.set()
        pool.stop()
        pool.join()
    first, second, *_ = lines(pool, logged, "/told")
    same = {"event": "work.continues", "log_level": "info"}
    seconds = [first.pop("seconds"), second.pop("seconds")]
    assert seconds[1] >= seconds[0]
    assert (
        first
        == second
        == {**same, "repository": "/told", "work": "fetching from oslo", "done": 7, "total": 9, "unit": BYTES}
    )
    silent = lines(pool, logged, "/silent")[0]
    assert silent == {**same, "repository": "/silent", "work": "reconcile", "seconds": silent["seconds"]}
