"""`/healthz` and `/readyz` of a controller, and the address that `--http` gives."""

from __future__ import annotations

from tests.conftest import OwnEtcd
from tests.support.groups import MakeGroup
from tests.support.web import ask, ready, start_with_web


def test_a_controller_that_serves_is_healthy_and_ready(make_group: MakeGroup) -> None:
    group = make_group(1, started=False)
    port = start_with_web(group[0])
    ready(port)
    answer = ask(port, "/healthz")
    assert (answer.status, answer.text) == (200, "ok\n")
    assert ask(port, "/nothing").status == 404


def test_without_etcd_a_controller_lives_but_is_not_ready(make_group: MakeGroup, own_etcd: OwnEtcd) -> None:
    etcd = own_etcd()
    group = make_group(1, etcd=etcd, started=False)
    etcd.kill()
    port = start_with_web(group[0])
    assert ask(port, "/healthz").status == 200
    answer = ask(port, "/readyz")
    assert answer.status == 503
    assert "were not listed yet" in answer.text
    etcd.start()
    ready(port)
