"""What a controller itself has used."""

from __future__ import annotations

from pathlib import Path

from tests.support.sites import Site


def largest(site: Site) -> int:
    """The most memory that the site's controller has had resident so far, in MB; its git children are not in it."""
    assert site.controller is not None
    lines = Path(f"/proc/{site.controller.pid}/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmHWM:")).split()[1]) // 1000
