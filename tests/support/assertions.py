"""What a push must have done: accepted, refused, nothing changed, or arrived at every site."""

from __future__ import annotations

import subprocess
from collections.abc import Iterable
from typing import Protocol

from tests.support.wait import until

Pushed = subprocess.CompletedProcess[str]


class HasRefs(Protocol):
    """A site; ``str`` of it is its name."""

    def at(self, ref: str, /) -> str: ...


def accepted(pushed: Pushed) -> Pushed:
    assert pushed.returncode == 0, pushed.stderr
    return pushed


def refused(pushed: Pushed, token: str) -> str:
    """The sentence of a refusal that begins with this token."""
    assert pushed.returncode != 0, f"the push was accepted: {pushed.stderr}"
    # What `update` says comes over the sideband; what `reference-transaction` says comes beside it, where there is a way.
    lines = [line.removeprefix("remote: ") for line in pushed.stderr.splitlines()]
    said = [line for line in lines if line.startswith(f"piehole: {token}: ")]
    assert said, pushed.stderr
    return said[0].removeprefix(f"piehole: {token}: ").rstrip()


def arrives(sites: Iterable[HasRefs], ref: str, oid: str, timeout: float = 20.0) -> None:
    """Wait until these sites have the ref at the oid; ``""``: until it is gone."""
    for site in sites:
        until(lambda site=site: site.at(ref) == oid, timeout, f"{ref} is at {oid[:12] or 'nothing'} at {site}")  # type: ignore[misc]
