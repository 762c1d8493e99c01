"""A site that lacks something is visibly late, for as long as it lacks it, whatever else happens."""

from __future__ import annotations

import time

from tests.support import git
from tests.support.assertions import accepted
from tests.support.groups import MakeGroup
from tests.support.metrics import Scraped
from tests.support.wait import PATIENCE, until
from tests.support.web import ready, start_with_web, web_port


def test_the_lag_of_a_stopped_site_grows_although_pushes_go_on_and_ends_when_it_has_caught_up(
    make_group: MakeGroup,
) -> None:
    group = make_group(2, started=False)
    a, b = group
    port = start_with_web(a)
    b.start()
    ready(port)
    work, _ = group.begun()
    until(lambda: Scraped.of(port).get("piehole_site_lag_seconds", site="b") == 0, PATIENCE, "b is in step")
    b.kill()
    began = time.time()
    for number in range(4):
        git.commit(work, f"n{number}")
        accepted(git.push(work, a.repository, "HEAD:main"))
        time.sleep(0.6)  # lag is about time that passes
    took = time.time() - began
    seen = Scraped.of(port)
    # The last push was just now: what counts is the first one that b lacks.
    assert 0.5 * took < (seen.get("piehole_site_lag_seconds", site="b") or 0) < took + 1
    assert seen.get("piehole_group_lag_seconds", group="g", site="b") is not None
    until(lambda: Scraped.of(port).get("piehole_site_lag_seconds", site="a") == 0, PATIENCE, "a itself is in step")
    assert seen.series("piehole_group_lag_seconds") == [{"group": "g", "site": "b"}]
    b.start()
    until(lambda: Scraped.of(port).get("piehole_site_lag_seconds", site="b") == 0, PATIENCE, "b has caught up")
    assert Scraped.of(port).series("piehole_group_lag_seconds") == []


def test_after_a_restart_of_the_controller_what_is_behind_is_as_late_as_before(make_group: MakeGroup) -> None:
    group = make_group(2, started=False)
    a, b = group
    port = start_with_web(a)
    b.start()
    ready(port)
    work, _ = group.begun()
    until(lambda: Scraped.of(port).get("piehole_site_lag_seconds", site="b") == 0, PATIENCE, "b is in step")
    b.kill()
    began = time.time()
    for number in range(3):
        git.commit(work, f"n{number}")
        accepted(git.push(work, a.repository, "HEAD:main"))
        time.sleep(1.2)  # as above
    a.stop()
    a.log.unlink()
    a.start("--http", "127.0.0.1:0")
    again = web_port(a)

    def lag() -> float:
        return Scraped.of(again).get("piehole_site_lag_seconds", site="b") or 0.0

    until(lambda: lag() > 0, PATIENCE, "b is behind")
    # At once it is at least the age of the newest push, and soon that of the first one, which the local log has.
    until(lambda: lag() > time.time() - began - 1.0, PATIENCE, "the first push that b lacks is found")


def test_a_site_that_was_never_seen_is_late_from_when_it_is_there(make_group: MakeGroup) -> None:
    group = make_group(1, started=False)
    (a,) = group
    port = start_with_web(a)
    ready(port)
    work = a.clone()
    git.commit(work, "one")
    accepted(git.push(work, a.repository, "HEAD:main"))
    time.sleep(1.0)  # that the push is older than the site
    joined = time.time()
    group.install("b")
    until(lambda: (Scraped.of(port).get("piehole_site_lag_seconds", site="b") or 0) > 0, PATIENCE, "b is late")
    assert (Scraped.of(port).get("piehole_site_lag_seconds", site="b") or 0) <= time.time() - joined + 0.1
