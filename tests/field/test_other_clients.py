"""Pushers that are not git: what they tell their user of a push that is refused, and whether the refs are where they say."""

from __future__ import annotations

import io
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from dulwich import porcelain
from dulwich.errors import HangupException

from tests.support import git
from tests.support.git import MAIN
from tests.support.gitdaemon import GitDaemon
from tests.support.groups import MakeGroup
from tests.support.httpd import HttpServer
from tests.support.pushes import chain
from tests.support.wait import until

SIDE = "refs/heads/side"


@pytest.fixture(params=["http", "git"])
def servers(request: pytest.FixtureRequest, httpd: HttpServer, git_daemon: GitDaemon) -> HttpServer | GitDaemon:
    return httpd if request.param == "http" else git_daemon


def dulwich_push(work: Path, url: str, said: io.BytesIO) -> dict[bytes, str | None]:
    """What dulwich returns of each ref: None, or why it was refused."""
    refspecs = [f"HEAD:{MAIN}".encode(), f"HEAD:{SIDE}".encode()]
    result = porcelain.push(str(work), url, refspecs, outstream=io.BytesIO(), errstream=said)
    return dict(result.ref_status or {})


def test_dulwich_tells_of_each_ref_what_has_become_of_it(
    make_group: MakeGroup, servers: HttpServer | GitDaemon
) -> None:
    group = make_group(1)
    work, first = group.begun()
    tip = git.commit(work, "second")
    group.put(MAIN, "frozen until Monday")
    said = io.BytesIO()
    told = dulwich_push(work, servers.url_for(group[0].repository), said)
    assert told == {MAIN.encode(): "hook declined", SIDE.encode(): None}
    assert b"piehole: locked: refs/heads/main is locked" in said.getvalue()
    assert group[0].refs() == {MAIN: first, SIDE: tip}
    assert group.value(SIDE) == tip


def test_dulwich_fails_where_a_push_loses_a_race_under_the_locks(
    make_group: MakeGroup, servers: HttpServer | GitDaemon
) -> None:
    """There is no report then, so nothing may be taken for done."""
    group = make_group(1)
    site = group[0].repository
    work, first = group.begun()
    git.commit(work, "second")
    chain(
        site,
        "reference-transaction",
        '[ "$1" != prepared ] || { touch asked; until [ -e go ]; do sleep 0.02; done; }\nexec "$piehole" "$@"',
    )
    with ThreadPoolExecutor(1) as pool:
        pushing = pool.submit(dulwich_push, work, servers.url_for(site), io.BytesIO())
        until((site / "asked").exists, what="git holds its locks")
        group.put(MAIN, "1" * 40)
        (site / "go").touch()
        with pytest.raises(HangupException):
            pushing.result()
    assert group[0].refs() == {MAIN: first}
    assert group.value() == "1" * 40
    assert group.value(SIDE) is None
    assert group[0].wait_event("push.refused")["refs"] == [MAIN]
