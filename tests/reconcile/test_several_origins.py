"""Where several sites take pushes at the same time, no peer has all that another one lacks."""

from __future__ import annotations

import pytest

from piehole.replicate import fetch_objects, once
from piehole.transfer import fetch as transfer_fetch
from piehole.transfer.fetch import Fetched
from tests.support.groups import Group

SITES = ("a", "b", "c")
EACH = 4


@pytest.mark.slow
def test_never_quiet_each_site_is_asked_for_what_it_took_itself(bed: Group, monkeypatch: pytest.MonkeyPatch) -> None:
    """One question to each that fails, one to each that succeeds; else a busy group of several sites falls behind more and more."""
    bed.install(*SITES, "d")
    first = bed.commit("first")
    wanted = {}
    for number in range(EACH):
        for site in SITES:
            wanted[f"refs/heads/{site}{number}"] = bed.commit(f"{site} {number}", onto=first)
            bed.push(site, f"HEAD:refs/heads/{site}{number}")
    asked: list[str] = []

    def counted(git_dir: object, url: str, *arguments: object, **options: object) -> Fetched:
        asked.append(url)
        return fetch(git_dir, url, *arguments, **options)  # type: ignore[arg-type]

    fetch = transfer_fetch.fetch
    monkeypatch.setattr(fetch_objects, "fetch", counted)
    # In this process, so that what it asks can be counted.
    once.reconcile_once(bed["d"].replica())
    assert bed["d"].refs() == wanted
    assert len(asked) <= 2 * len(SITES), asked
