"""The controller has each repository proven in turn: slowly, one at a time, and not beside a push."""

from __future__ import annotations

import datetime
import json
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any, cast

import pytest
from structlog.testing import capture_logs

from controller.served_repository import ServedRepository
from controller.verifier import Verifier
from piehole import long_work
from piehole.group.config import Config
from piehole.repository import verification
from tests.field.test_audit_of_objects import middle
from tests.field.test_corrupt_copies import is_whole, noise, the_pack, two
from tests.support.assertions import accepted, arrives
from tests.support.command_line import piehole_in_process as piehole
from tests.support.git import MAIN, git, push
from tests.support.groups import Group, MakeGroup
from tests.support.sites import Site
from tests.support.wait import PATIENCE, until

DAY = 86400.0


def published(group: Group, site: str) -> dict[str, Any]:
    raw = group.etcd.get(f"{group.prefix}/progress/g/{site}")
    found: dict[str, Any] = json.loads(raw or "{}")
    return found


@pytest.mark.slow
def test_a_quiet_repository_is_proven_and_says_so_and_what_is_damaged_is_repaired(make_group: MakeGroup) -> None:
    group, work = two(make_group, started=False)
    b = group["b"]
    git(b.repository, "config", "piehole.verifyEvery", "1s")
    path = the_pack(b.repository)
    middle(path)
    for site in group:
        site.start()
    # Nobody pushes, nobody asks: it finds and repairs itself.
    assert b.wait_event("repository.repaired", PATIENCE)["reason"]
    assert is_whole(b.repository)
    until(lambda: published(group, "b").get("verified", {}).get("proven"), PATIENCE, "b has published its proof")
    until(lambda: published(group, "b").get("digest"), PATIENCE, "and its digest, which goes with the same record")
    assert "(objects proven 20" in piehole("status", "-C", group["a"].repository).line(": site b: ")
    assert b.wait_event("repository.verified", PATIENCE, sound=True)
    tip = noise(work, 9)
    accepted(push(work, group["a"].repository, "HEAD:main"))
    arrives(group, MAIN, tip)


def test_a_repository_is_due_once_in_the_time_and_a_restart_does_not_put_it_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = time.time()
    due = verification.due(tmp_path, 7 * DAY, "id")
    assert now < due <= now + 7 * DAY
    monkeypatch.setattr(time, "time", lambda: due - 1)
    assert verification.due(tmp_path, 7 * DAY, "id") == due
    monkeypatch.setattr(time, "time", lambda: due + 3600)
    assert verification.due(tmp_path, 7 * DAY, "id") == due, "it was away at that moment, so it is late now"
    file = tmp_path / "piehole" / "verified"
    file.write_text(json.dumps({**json.loads(file.read_text()), "proven": "2999-01-01T00:00:00+00:00"}))
    assert verification.due(tmp_path, 7 * DAY, "id") == due, "a clock was wrong"
    monkeypatch.undo()
    verification.record_proof(tmp_path, "", [], {})
    assert time.time() < verification.due(tmp_path, 7 * DAY, "id") <= time.time() + 7 * DAY


def test_a_thousand_repositories_are_spread_over_the_time(tmp_path: Path) -> None:
    now = time.time()
    (tmp_path / "one").mkdir()
    due = sorted(verification.due(tmp_path / "one", 7 * DAY, str(number)) - now for number in range(1000))
    assert due[0] > -1
    assert due[-1] < 7 * DAY + 1
    tenths = [sum(n * 0.7 * DAY <= one < (n + 1) * 0.7 * DAY for one in due) for n in range(10)]
    assert min(tenths) > 50, tenths


@pytest.mark.slow
def test_a_proof_that_is_overdue_is_said_by_status_and_check(make_group: MakeGroup) -> None:
    group, _ = two(make_group, started=False)
    a, b = group["a"].repository, group["b"].repository
    assert piehole("audit", "-C", b, "--deep").status == 0
    assert "which is overdue" not in piehole("status", "-C", b).out
    old = (datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=11)).isoformat(timespec="seconds")
    file = b / "piehole" / "verified"
    file.write_text(json.dumps({**json.loads(file.read_text()), "proven": old}))
    assert group.reconcile("b").status == 0
    assert f"not proven since {old}" in piehole("status", "-C", b).line("verified: ")
    assert "piehole audit --verify" in piehole("check", b).line("warning: the objects here were not proven")
    assert "which is overdue" in piehole("status", "-C", a).line("site b: ")
    assert f"'b' were last proven {old}" in piehole("check", a).line("warning: the objects of the site")
    git(b, "config", "piehole.verifyEvery", "0")
    assert "not proven since" not in piehole("status", "-C", b).out
    git(b, "config", "piehole.verifyEvery", "weekly")
    wrong = piehole("status", "-C", b)
    assert wrong.status == 2
    assert "such as 10, or a time such as 250ms, 5s, 10m, 12h or 7d" in wrong.err


def _child(repository: Path, *options: str) -> subprocess.Popen[bytes]:
    command = [
        sys.executable,
        "-I",
        "-m",
        "piehole.cli",
        "audit",
        "--local",
        "--controlled",
        *options,
        "-C",
        str(repository),
    ]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


@pytest.mark.slow
def test_a_proof_waits_while_its_controller_says_so_and_ends_with_it(make_group: MakeGroup) -> None:
    group, _ = two(make_group, started=False)
    b = group["b"].repository
    pack = the_pack(b)
    with _child(b, "--deep") as child:
        assert child.stdin is not None
        child.stdin.write(b"p")
        child.stdin.flush()
        # It has its views of packs only while it proves their objects: that must not begin. A start takes a third of a second.
        with pytest.raises(subprocess.TimeoutExpired):
            child.wait(1.5)
        assert not list((b / "piehole").glob("proof-*"))
        child.stdin.write(b"g")
        child.stdin.flush()
        assert child.wait(PATIENCE) == 0
    assert verification.last(b).proven
    # A controller that dies closes the pipe, and what was proven is noted.
    with _child(b, "--deep", "--rate", "0.001") as child:
        assert child.stdin is not None
        child.stdin.close()
        assert child.wait(PATIENCE) == 1
        assert child.stderr is not None
        assert b"goes on from there" in child.stderr.read()
    assert (b / "piehole" / "verifying").exists()
    assert pack.exists()


class _Served:
    """As far as the verifier knows a served repository."""

    def __init__(self, site: Site) -> None:
        self.config = site.replica().config
        self.told = threading.Event()

    def proven(self) -> None:
        self.told.set()


@pytest.mark.slow
def test_a_proof_never_begins_beside_a_push(make_group: MakeGroup, monkeypatch: pytest.MonkeyPatch) -> None:
    group, _ = two(make_group, started=False)
    b = group["b"]
    git(b.repository, "config", "piehole.verifyEvery", "1s")
    served, busy = _Served(b), [True]
    crashes: list[BaseException] = []
    proofs: list[Config] = []
    prove = Verifier._prove

    def proving(verifier: Verifier, config: Config) -> tuple[int, str]:
        proofs.append(config)
        return prove(verifier, config)

    monkeypatch.setattr(Verifier, "_prove", proving)
    verifier = Verifier(
        lambda: [cast(ServedRepository, served)], lambda: time.monotonic() if busy[0] else 0.0, "", crashes.append
    )
    verifier.start()
    try:
        # It looks every two seconds: the first time it learns when this one is due, and by the second it is.
        assert not served.told.wait(6)
        assert not proofs
        busy[0] = False
        assert served.told.wait(PATIENCE)
        assert verification.last(b.repository).proven
    finally:
        verifier.stop()
        verifier.join()
    assert not crashes


def test_a_proof_that_takes_long_is_logged_with_how_far_it_is(
    make_group: MakeGroup, monkeypatch: pytest.MonkeyPatch
) -> None:
    group, _ = two(make_group, started=False)
    served = _Served(group["b"])
    monkeypatch.setattr(long_work, "EVERY", 0.0)
    monkeypatch.setattr("controller.verifier._RATE", "0.02")
    crashes: list[BaseException] = []
    with capture_logs() as logged:
        verifier = Verifier(lambda: [cast(ServedRepository, served)], lambda: 0.0, "", crashes.append)
        assert verifier._prove(served.config) == (0, "")
    told = [line for line in logged if line["event"] == "work.continues" and "total" in line]
    assert told, logged
    assert told[0]["repository"] == str(served.config.git_dir)
    assert told[0]["work"].startswith("proving all objects: ")
    assert (0 <= told[0]["done"] <= told[0]["total"], told[0]["unit"]) == (True, "bytes")
