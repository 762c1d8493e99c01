"""Links between servers that are cut, slow or lossy."""

from __future__ import annotations

import time

import pytest

from tests.servers.bed.links import Links
from tests.servers.bed.three import ThreeServers
from tests.support.assertions import accepted, refused
from tests.support.git import MAIN

pytestmark = [pytest.mark.servers, pytest.mark.slow]

# Seconds. A watch at the member behind the cut is silent for so long before it is left (some 10), and a connection is given up after 10.
_PATIENCE = 10


def test_a_cut_link_to_one_peer_does_not_delay_fetching_from_another(
    bed: ThreeServers, links: Links, clone: str
) -> None:
    oslo, lima, kyoto = bed.servers
    links.cut(oslo.host, kyoto.host)
    for number in range(2):  # the second time kyoto knows, and asks oslo last
        oid = bed.laptop.commit(clone, f"kyoto cannot reach oslo, {number}")
        accepted(bed.laptop.push(clone, oslo.https))
        bed.arrives(MAIN, oid, [lima])
        bed.arrives(MAIN, oid, [kyoto], timeout=_PATIENCE)


def test_a_healed_link_is_used_again_within_seconds(bed: ThreeServers, links: Links, clone: str) -> None:
    oslo, lima, kyoto = bed.servers
    links.isolate(kyoto.host, oslo.host, lima.host)
    oid = bed.laptop.commit(clone, "kyoto is cut off")
    accepted(bed.laptop.push(clone, oslo.https))
    bed.arrives(MAIN, oid, [oslo, lima])
    time.sleep(5)  # long enough for every patience to end: what is measured is the way back
    assert kyoto.at() != oid
    links.heal(kyoto.host, oslo.host)
    links.heal(kyoto.host, lima.host)
    bed.arrives(MAIN, oid, [kyoto], timeout=15)
    back = bed.laptop.commit(clone, "kyoto is back")
    accepted(bed.laptop.push(clone, kyoto.https))
    bed.arrives(MAIN, back)


def test_a_cut_off_server_refuses_pushes_and_serves_reads(bed: ThreeServers, links: Links, clone: str) -> None:
    oslo, lima, kyoto = bed.servers
    links.isolate(kyoto.host, oslo.host, lima.host)
    bed.laptop.commit(clone, "to the side of the minority")
    # The first one may have been sent on a connection that nobody yet knows is cut: then its outcome is unknown.
    pushed = bed.laptop.push(clone, kyoto.ssh)
    assert pushed.returncode != 0
    assert "piehole: no-quorum: " in pushed.stderr or "piehole: unknown: " in pushed.stderr
    refused(bed.laptop.push(clone, kyoto.ssh), "no-quorum")
    assert MAIN in bed.laptop.git(clone, "ls-remote", kyoto.https).stdout


def test_far_away_and_lossy_links_delay_pushes_and_break_nothing(bed: ThreeServers, links: Links, clone: str) -> None:
    oslo, lima, kyoto = bed.servers
    links.slow(oslo.host, kyoto.host, 0.1)
    links.lossy(lima.host, kyoto.host, 5)
    for server in bed:
        oid = bed.laptop.commit(clone, f"over bad links, to {server.site}")
        accepted(bed.laptop.push(clone, server.ssh))
        bed.arrives(MAIN, oid, timeout=30)
