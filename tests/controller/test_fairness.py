"""One repository's trouble, or a long backlog, is nobody else's."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.controller.crowd import at, crowd, prepare
from tests.support import git
from tests.support.assertions import accepted
from tests.support.git import MAIN
from tests.support.groups import MakeGroup
from tests.support.wait import until


@pytest.mark.slow
def test_two_hundred_repositories_catching_up_do_not_hold_up_a_fresh_push(make_group: MakeGroup) -> None:
    group = make_group(2, started=False)
    _, second = prepare(group)
    backlog = crowd(group, 200)
    work = group[0].clone()
    fresh = git.commit(work, "fresh")
    group.start()
    group[1].wait_event("controller.started", timeout=60)
    accepted(git.push(work, "origin", "HEAD:main"))
    group.arrives(MAIN, fresh)
    waiting = sum(at(repository) != second for repository in backlog)
    assert waiting > 20, "the backlog was done before the fresh push: this shows nothing"
    until(lambda: all(at(repository) == second for repository in backlog), 90, "the backlog is done, too")


@contextmanager
def silent_server() -> Iterator[tuple[str, list[socket.socket]]]:
    """A git:// URL whose server takes connections and says nothing; and those connections."""
    taken: list[socket.socket] = []
    with socket.create_server(("127.0.0.1", 0), backlog=128) as server:

        def accept() -> None:
            while True:
                try:
                    taken.append(server.accept()[0])
                except OSError:
                    return

        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        yield f"git://127.0.0.1:{server.getsockname()[1]}/project.git", taken
        server.shutdown(socket.SHUT_RDWR)
        thread.join(10)
    for connection in taken:
        connection.close()


@pytest.mark.slow
def test_more_hung_peers_than_there_are_workers_hold_up_nobody_else(make_group: MakeGroup) -> None:
    group = make_group(2, started=False)
    prepare(group)
    with silent_server() as (url, taken):
        crowd(group, 20, url=url)
        healthy = crowd(group, 5)
        group.start()
        # Of the backlog's share of workers all hang; others take their places, until each of the 20 hangs.
        until(lambda: len(taken) >= 20, 60, "all 20 wait for the silent peer")
        work = group[0].clone()
        fresh = git.commit(work, "fresh")
        accepted(git.push(work, "origin", "HEAD:main"))
        group.arrives(MAIN, fresh)
        second = git.rev_parse(work, "HEAD~1")
        until(lambda: all(at(one) == second for one in healthy), 20, "those with a healthy peer are done")
        assert group[1].stop() == 0  # and nothing of that holds up the end


@pytest.mark.slow
def test_a_repository_with_ruined_objects_holds_up_nobody_and_recovers_when_mended(make_group: MakeGroup) -> None:
    group = make_group(2, started=False)
    _, second = prepare(group)
    (ruined,) = crowd(group, 1)
    objects = ruined / "objects"
    objects.rename(ruined / "away")
    objects.write_text("no folder\n")
    group.start()
    work = group[0].clone()
    fresh = git.commit(work, "fresh")
    accepted(git.push(work, "origin", "HEAD:main"))
    group.arrives(MAIN, fresh)
    objects.unlink()
    (ruined / "away").rename(objects)
    until(lambda: at(ruined) == second, 30, "the mended one catches up")


def test_a_repository_that_never_stops_receiving_pushes_converges_all_the_same(make_group: MakeGroup) -> None:
    group = make_group(2)
    work = group[0].clone()
    stop = threading.Event()
    pushes = 0
    faults: list[str] = []

    def push() -> None:
        nonlocal pushes
        while not stop.is_set():
            git.commit(work, f"commit {pushes}")
            pushed = git.push(work, "origin", "HEAD:main")
            if pushed.returncode:
                faults.append(pushed.stderr)
                return
            pushes += 1

    thread = threading.Thread(target=push)
    thread.start()
    try:
        until(lambda: pushes >= 3, 30, "pushes come in")
        for _ in range(3):
            now = group.etcd.look(group.key(MAIN))
            assert now is not None
            for site in group:
                until(lambda site=site, now=now: site.progress() >= now.mod_revision, 15, "it has come so far")  # type: ignore[misc]
            assert not faults
            assert thread.is_alive()
    finally:
        stop.set()
        thread.join(30)
    group.arrives(MAIN, git.rev_parse(work))
    # The newest value alone is chased: never more moves than pushes.
    assert len(group[1].events("reconcile")) <= pushes + 1
