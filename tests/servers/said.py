"""What a push and a command have said."""

from __future__ import annotations

from tests.servers.bed.hosts import Done


def accepted(pushed: Done) -> Done:
    assert pushed.returncode == 0, pushed.stderr
    return pushed


def refused(pushed: Done, token: str) -> str:
    """The sentence after ``piehole: TOKEN:``."""
    assert pushed.returncode != 0, f"the push was accepted: {pushed.stderr}"
    start = f"piehole: {token}: "
    said = [line.partition(start)[2].rstrip() for line in pushed.stderr.splitlines() if start in line]
    assert said, pushed.stderr
    return said[0]
