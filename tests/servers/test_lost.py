"""A server is lost, with its disk."""

from __future__ import annotations

import pytest

from tests.servers.bed.three import ThreeServers
from tests.support.assertions import accepted
from tests.support.git import MAIN

pytestmark = [pytest.mark.servers, pytest.mark.slow]


@pytest.mark.timeout(240)
def test_a_lost_server_holds_nobody_up_and_is_set_up_anew_by_the_same_script(bed: ThreeServers, clone: str) -> None:
    oslo, lima, kyoto = bed.servers
    for server in (lima, kyoto):
        server.host.systemctl("kill", "--signal=SIGSTOP", "piehole-controller")
    oid = bed.laptop.commit(clone, "pushed just before the fire")
    accepted(bed.laptop.push(clone, oslo.https))
    oslo.host.burn()
    for server in (lima, kyoto):
        server.host.systemctl("kill", "--signal=SIGCONT", "piehole-controller")
    try:
        accepted(bed.laptop.push(clone, lima.https))
        bed.arrives(MAIN, oid, [lima, kyoto])
    finally:
        bed.laptop.host.sh("rm -f ~/.ssh/known_hosts", user="alice")  # the new machine has a new host key
        bed.rebuild(oslo)
    bed.arrives(MAIN, oid)
    newer = bed.laptop.commit(clone, "the new oslo is as good as the old one")
    accepted(bed.laptop.push(clone, oslo.ssh))
    bed.arrives(MAIN, newer)
