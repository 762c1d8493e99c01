"""Getting rid of a secret that was pushed: at every site, one of which is down."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.assertions import accepted
from tests.support.git import commit, git, has_object, push
from tests.support.groups import MakeGroup


def get_rid_of(repository: Path, oid: str) -> None:
    """What docs/guides/leaked-secret.md says."""
    git(repository, "update-ref", "-d", f"refs/piehole/kept/{oid}")
    git(repository, "reflog", "expire", "--expire=now", "--all")
    git(repository, "gc", "-q", "--prune=now")


def can_fetch(work: Path, repository: Path, oid: str) -> bool:
    return git(work, "fetch", "-q", f"file://{repository}", oid, check=False).returncode == 0


@pytest.mark.slow
def test_a_secret_that_is_gone_at_four_sites_does_not_come_back_from_the_fifth(make_group: MakeGroup) -> None:
    group = make_group(5, started=False)
    work, first = group.begun()
    *up, down = group
    secret = commit(work, "a secret")
    accepted(push(work, group["a"].repository, "HEAD:main"))
    names = [site.name for site in group]
    assert group.reconcile(*names).status == 0
    # e goes down, and knows nothing of what follows.
    accepted(push(work, group["a"].repository, "--force", f"{first}:main"))
    away = down.repository.rename(down.repository.with_name("away.git"))
    group.reconcile(*(site.name for site in up))
    other = group.clone(group["a"].repository, "other")
    assert can_fetch(other, group["a"].repository, secret)
    for site in up:
        assert secret in site.kept()
        get_rid_of(site.repository, secret)
        assert not has_object(site.repository, secret)
    # e comes back, and keeps the tip in its turn: there, and nowhere else.
    away.rename(down.repository)
    assert group.reconcile(*names).status == 0
    assert down.kept() == {secret}
    tip = commit(other)
    accepted(push(other, down.repository, "HEAD:main"))
    assert group.reconcile(*names, *names).status == 0
    assert {site.at() for site in group} == {tip}
    fresh = group.clone(group["a"].repository, "fresh")
    assert [site.name for site in group if can_fetch(fresh, site.repository, secret)] == ["e"]
    get_rid_of(down.repository, secret)
    fresh = group.clone(group["a"].repository, "fresh")
    assert not any(can_fetch(fresh, site.repository, secret) for site in group)
