"""Containers that share a volume: the same pids are other processes in each of them."""

from __future__ import annotations

import os
from pathlib import Path

from tests.support.assertions import accepted
from tests.support.git import commit, push, rev_parse
from tests.support.groups import Group
from tests.support.pushes import chain, finish, records, start_push
from tests.support.wait import PATIENCE, until


def test_a_push_does_not_take_the_helper_of_another_push_for_its_own(world: Group) -> None:
    """It hung until that push had ended: a record named its own receive-pack's pid and, by chance, the pid of a living helper."""
    site, work, first = world.founded()
    for record in records(site):
        record.unlink()
    chain(
        site,
        "reference-transaction",
        'if [ "$1" = prepared ] && mv hold held 2>/dev/null; then until [ -e go ]; do sleep 0.05; done; fi\nexec "$piehole" "$@"',
    )
    (site / "hold").touch()
    slow = start_push(work, site, "HEAD:slow")
    try:
        until((site / "held").exists, PATIENCE, "the first push waits")
        (record,) = records(site)
        (helper,) = (line for line in record.read_text().splitlines() if line.startswith("helper "))
        # As the other container has it, in which this push's receive-pack has the same pid. It is the first one that is found.
        chain(
            site,
            "pre-receive",
            f'printf "piehole 1 ab\\n{helper}\\n" >piehole/inflight/0.1.$PPID.1.-x; exec "$piehole" "$@"',
        )
        tip = commit(work, "second")
        accepted(push(work, site, "HEAD:main", "HEAD:more"))
        assert slow.poll() is None
        _tells_a_stranger_to_decide_itself(*helper.split(" ")[1:])
    finally:
        (site / "go").touch()
    accepted(finish(slow))
    assert world.history() == [first, tip]
    assert world.value("refs/heads/slow") == first
    assert rev_parse(site, "more") == tip


def _tells_a_stranger_to_decide_itself(helper: str, requests: str, answers: str) -> None:
    """As hooks ask that an earlier version has installed: they do not see whose helper it is."""
    pipes = Path(f"/proc/{helper}/fd")
    with (pipes / requests).open("w") as ask, (pipes / answers).open() as told:
        ask.write(f"{os.getpid()} update refs/heads/x {'0' * 40} {'1' * 40}\n")
        ask.flush()
        assert told.readline().split() == [str(os.getpid()), "yourself"]
