"""deploy/'s scripts, run again, and what they leave."""

from __future__ import annotations

import pytest

from tests.servers.bed.three import REPOSITORY, ThreeServers

pytestmark = [pytest.mark.servers, pytest.mark.slow]

_SERVICES = ("etcd", "piehole-controller", "piehole-http", "nginx", "ssh")


def test_run_again_the_script_changes_nothing_and_restarts_nothing(bed: ThreeServers) -> None:
    oslo = bed.servers[0]
    # Passwords are salted anew each time.
    sums = f"find /etc {REPOSITORY}/hooks {REPOSITORY}/config -type f ! -name htpasswd -exec sha256sum {{}} + | sort"
    before = oslo.host.sh(sums).stdout
    running = [oslo.service(name) for name in _SERVICES]
    bed.run_setup(oslo)
    assert oslo.host.sh(sums).stdout == before
    assert [oslo.service(name) for name in _SERVICES] == running


def test_every_server_finds_itself_sound(bed: ThreeServers) -> None:
    for server in bed:
        server.piehole("check", REPOSITORY)
        server.piehole("status", "-C", REPOSITORY)


def test_the_passwords_of_all_do_not_stay_on_a_server(bed: ThreeServers) -> None:
    for server in bed:
        assert server.host.sh("find / -xdev -path '*/kit/*/auth*' 2>/dev/null || true").stdout == ""
