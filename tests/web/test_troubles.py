"""What is wrong with a group is in the numbers of its controller, and gone from them once it is put right."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import OwnEtcd
from tests.support import git
from tests.support.assertions import accepted, refused
from tests.support.groups import Group, MakeGroup
from tests.support.metrics import Scraped
from tests.support.wait import PATIENCE, until
from tests.support.web import ready, start_with_web


def shows(port: int, value: float | None, name: str, **labels: str) -> None:
    """Wait until a series has this value, or (None) is gone."""
    until(lambda: Scraped.of(port).get(name, **labels) == value, PATIENCE, f"{name} {labels} is {value}")


@pytest.fixture
def served(make_group: MakeGroup) -> tuple[Group, int]:
    """A group of one site with a first commit, and the port of its controller."""
    group = make_group(1, started=False)
    port = start_with_web(group[0])
    ready(port)
    group.begun()
    shows(port, 1, "piehole_repositories", state="in_step")
    return group, port


def test_locked_unadopted_and_stuck_refs_are_counted_while_they_are_there(served: tuple[Group, int]) -> None:
    group, port = served
    for kind in ("locked", "unadopted", "stuck"):
        shows(port, 0, "piehole_groups_in_trouble", kind=kind)
        assert Scraped.of(port).series(f"piehole_{kind}_refs") == []
    first = group[0].at()
    group.etcd.put(group.key("refs/heads/locked"), "no oid")
    group.etcd.put(group.key("refs/heads/lacking"), "1" * 40)
    for name in ("alone", "alone2"):
        group[0].move(f"refs/heads/{name}", first)
    group[0].signal(signal.SIGHUP)  # the next look at all refs need not be waited for
    shows(port, 1, "piehole_locked_refs", group="g")
    shows(port, 2, "piehole_unadopted_refs", group="g")
    shows(port, 1, "piehole_stuck_refs", group="g")
    for kind in ("locked", "unadopted", "stuck"):
        shows(port, 1, "piehole_groups_in_trouble", kind=kind)
    shows(port, 1, "piehole_repositories", state="stuck")
    assert (Scraped.of(port).get("piehole_site_lag_seconds", site="a") or 0) > 0
    group.etcd.put(group.key("refs/heads/lacking"), first)
    group.etcd.put(group.key("refs/heads/locked"), first)
    shows(port, None, "piehole_locked_refs", group="g")
    shows(port, None, "piehole_stuck_refs", group="g")
    shows(port, 0, "piehole_site_lag_seconds", site="a")


def test_a_halted_site_is_shown_until_an_administrator_has_decided(served: tuple[Group, int]) -> None:
    group, port = served
    key = f"{group.prefix}/group/{group.name}"
    record = group.etcd.get(key)
    assert record is not None
    other = json.dumps({**json.loads(record), "id": "another"})
    group.etcd.put(key, other)
    group.etcd.put(group.key("@fence"), "x")  # as whoever changes a record does, so that the site looks
    shows(port, 1, "piehole_halted", group="g")
    shows(port, 1, "piehole_repositories", state="halted")
    shows(port, 1, "piehole_groups_in_trouble", kind="halted")
    group.etcd.put(key, record)
    group.etcd.put(group.key("@fence"), "y")
    shows(port, None, "piehole_halted", group="g")


def test_a_corrupt_repository_is_shown(served: tuple[Group, int]) -> None:
    group, port = served
    oid = group[0].at()
    (group[0].repository / "objects" / oid[:2] / oid[2:]).unlink()
    group[0].piehole("audit", "--verify", "--local", check=False)  # finds it out
    shows(port, 1, "piehole_corrupt", group="g")
    shows(port, 1, "piehole_repositories", state="corrupt")


def test_a_repository_that_is_not_served_is_counted_as_refused(served: tuple[Group, int]) -> None:
    group, port = served
    (group[0].root / "twin.git").mkdir()
    subprocess.run(["cp", "-r", f"{group[0].repository}/.", str(group[0].root / "twin.git")], check=True)
    shows(port, 1, "piehole_repositories", state="refused")
    shows(port, 1, "piehole_repositories", state="in_step")


def test_a_refused_push_counts_once_under_its_token_however_many_refs_it_has(served: tuple[Group, int]) -> None:
    group, port = served
    work = group[0].clone("another")
    for ref in ("one", "two"):
        group.etcd.put(group.key(f"refs/heads/{ref}"), "no oid")
    git.commit(work, "more")
    before = Scraped.of(port)
    refused(git.push(work, group[0].repository, "HEAD:one", "HEAD:two"), "locked")
    now = Scraped.of(port)
    assert now.get("piehole_pushes_total", outcome="refused", token="locked") == 1  # noqa: S106 -- a word, not a password
    accepted_before = before.get("piehole_pushes_total", outcome="accepted", token="")
    assert now.get("piehole_pushes_total", outcome="accepted", token="") == accepted_before


def test_kept_tips_are_counted(served: tuple[Group, int]) -> None:
    group, port = served
    work = group[0].clone("another")
    for text in ("one", "two"):
        git.git(work, "commit", "--quiet", "--amend", "-m", text)
        accepted(git.push(work, group[0].repository, "+HEAD:main"))
    shows(port, len(group[0].kept()), "piehole_kept_tips")
    assert len(group[0].kept()) == 2


def test_a_promise_that_cannot_be_kept_is_counted(served: tuple[Group, int]) -> None:
    group, port = served
    shows(port, 0, "piehole_groups_below_copies")
    assert Scraped.of(port).series("piehole_copies_promised") == []
    key = f"{group.prefix}/group/{group.name}"
    record = json.loads(group.etcd.get(key) or "{}")
    group.etcd.put(key, json.dumps({**record, "format": 2, "copies": 3}))
    shows(port, 3, "piehole_copies_promised", group="g")
    shows(port, 1, "piehole_copies_possible", group="g")
    shows(port, 1, "piehole_groups_below_copies")


def test_a_proof_that_was_long_ago_is_overdue(served: tuple[Group, int]) -> None:
    group, port = served
    shows(port, 0, "piehole_verification_overdue")
    path = group[0].repository / "piehole" / "verified"
    path.write_text(json.dumps({"result": "sound", "proven": "2020-01-02T00:00:00+00:00"}))
    shows(port, 1, "piehole_verification_overdue")
    shows(port, 1577923200, "piehole_oldest_verification_timestamp_seconds")


def test_the_end_of_each_certificate_that_the_settings_name_is_shown(make_group: MakeGroup, tmp_path: Path) -> None:
    ca = tmp_path / "ca.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "7", "-subj", "/CN=x"]
    for _ in range(2):  # the one that ends last counts
        subprocess.run([*command, "-keyout", str(tmp_path / "key"), "-out", str(tmp_path / "one")], check=True)
        ca.write_bytes((ca.read_bytes() if ca.exists() else b"") + (tmp_path / "one").read_bytes())
        command[command.index("-days") + 1] = "700"
    group = make_group(1, started=False)
    git.git(group[0].repository, "config", "piehole.etcdCA", str(ca))
    port = start_with_web(group[0])
    ready(port)
    ends = Scraped.of(port).get("piehole_certificate_expiry_timestamp_seconds", file=str(ca))
    assert ends is not None
    assert ends == pytest.approx(time.time() + 700 * 86400, abs=300)


def test_an_etcd_that_goes_away_is_not_connected_and_then_was_connected_again(
    make_group: MakeGroup, own_etcd: OwnEtcd
) -> None:
    etcd = own_etcd()
    group = make_group(1, started=False, etcd=etcd)
    port = start_with_web(group[0])
    ready(port)
    label = {"etcd": etcd.endpoint}
    shows(port, 1, "piehole_etcd_connected", **label)
    assert Scraped.of(port).get("piehole_etcd_reconnects_total", **label) == 0
    etcd.kill()
    shows(port, 0, "piehole_etcd_connected", **label)
    until(_unanswered(port, etcd.endpoint), PATIENCE, "requests are unanswered")
    etcd.start()
    shows(port, 1, "piehole_etcd_connected", **label)
    assert (Scraped.of(port).get("piehole_etcd_reconnects_total", **label) or 0) >= 1
    contact = Scraped.of(port).get("piehole_etcd_last_contact_timestamp_seconds", **label)
    assert contact == pytest.approx(time.time(), abs=20)


def _unanswered(port: int, endpoint: str) -> Callable[[], bool]:
    def found() -> bool:
        count = Scraped.of(port).get("piehole_etcd_requests_total", endpoint=endpoint, result="unanswered")
        return bool(count)

    return found


@pytest.mark.slow
def test_a_controller_that_is_silent_is_so_for_longer_and_longer(make_group: MakeGroup) -> None:
    group = make_group(2, started=False)
    port = start_with_web(group[0])
    group[1].start()
    ready(port)

    def silence() -> float:
        return Scraped.of(port).get("piehole_site_silent_seconds", site="b") or 0.0

    until(lambda: Scraped.of(port).get("piehole_site_silent_seconds", site="b") is not None, 30, "b was heard")
    assert silence() < 12
    group[1].kill()
    until(lambda: silence() > 20, 60, "b is silent")
    assert (Scraped.of(port).get("piehole_site_silent_seconds", site="a") or 0) < 20
