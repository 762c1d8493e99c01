"""docs/tutorial/three-servers.md, from three bare servers on."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests.guide.runner import Page
from tests.servers.bed.hosts import Host
from tests.servers.bed.three import ThreeServers

pytestmark = [pytest.mark.servers, pytest.mark.slow]

_PAGE = "docs/tutorial/three-servers.md"
# Machines' part of the thirty minutes; a person reads and types.
_MOST = 120.0  # seconds
# These hosts see the programs of this machine, and no network. So this installs what the packages would: piehole's is taken from where
# the page says that it lies.
_APT_GET = """#!/bin/sh
set -eu
for word in "$@"; do
	case $word in
	*.deb) test -e "$word" && cp /root/.piehole /usr/local/bin/piehole ;;
	install | -*) ;;
	*) echo "E: Unable to locate package $word" >&2 && exit 100 ;;
	esac
done
"""


def _make_bare(host: Host, key: str) -> None:
    """Only sshd runs, and takes root's key."""
    host.sh(
        "mv /usr/local/bin/piehole /root/.piehole; install -d -m 700 /root/.ssh; ssh-keygen -q -A; systemctl start ssh"
    )
    host.write("/root/.ssh/authorized_keys", key, mode=0o600)
    host.write("/usr/local/bin/apt-get", _APT_GET, mode=0o755)


@pytest.mark.page(_PAGE)
@pytest.mark.timeout(240)
def test_three_bare_servers_become_sites_by_the_tutorial_alone(tmp_path: Path) -> None:
    bed = ThreeServers(tmp_path / "bed").boot()
    try:
        bed.laptop.host.sh("touch ~/piehole_0_all.deb", user="alice")
        for server in bed:
            _make_bare(server.host, bed.laptop.key)
        begun = time.monotonic()
        page = Page(_PAGE)
        page.run(bed.places, seconds=90)
        assert page.left == []
        assert time.monotonic() - begun < _MOST
    finally:
        bed.end()
