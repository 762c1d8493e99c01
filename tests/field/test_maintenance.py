"""Maintenance by whatever name: it is no push, so it is let pass, and changes nothing of the group's."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.support import git
from tests.support.assertions import accepted
from tests.support.groups import Group

COMMANDS = [
    ["git", "-c", "gc.auto=0", "--no-pager", "gc", "--quiet"],
    ["git", "maintenance", "run", "--task=gc", "--task=pack-refs", "--quiet"],
    ["git", "maintenance", "run", "--schedule=daily", "--quiet"],
    ["git", "pack-refs", "--all", "--prune"],
    ["git", "-c", "core.hooksPath=/dev/null", "pack-refs", "--all"],  # as JGit, which calls no hooks
    ["git", "reflog", "expire", "--all"],
    ["git", "prune", "--expire=2.weeks.ago"],
    ["git", "fetch", "--prune", ".", "+refs/heads/*:refs/heads/*"],
    ["sh", "-c", "git hook run reference-transaction -- prepared </dev/null"],
]


@pytest.mark.parametrize("words", COMMANDS, ids=lambda words: " ".join(words)[:60])
def test_maintenance_is_let_pass_and_moves_nothing(world: Group, words: list[str]) -> None:
    site, work, first = world.founded()
    accepted(git.push(work, site, "HEAD:side", "HEAD:refs/tags/v1"))
    before = world.refs()
    here = git.refs(site)
    done = subprocess.run(words, cwd=site, capture_output=True, text=True, timeout=60, check=False)
    assert "piehole" not in done.stderr
    assert git.refs(site) == here
    assert world.refs() == before
    second = git.commit(work, "second")
    accepted(git.push(work, site, "HEAD:main"))
    assert world.history() == [first, second]


def test_a_receive_pack_of_another_name_is_none(world: Group, tmp_path: Path) -> None:
    """A wrapper that was put in git's place (`git-receive-pack.real`): git itself does not run under such a name."""
    site, work, first = world.founded()
    moved = tmp_path / "git-receive-pack.real"
    path = subprocess.run(["git", "--exec-path"], capture_output=True, text=True, check=True).stdout.strip()
    moved.symlink_to(Path(path) / "git")
    git.commit(work, "second")
    assert git.push(work, site, f"--receive-pack={moved}", "HEAD:main").returncode != 0
    assert world.history() == [first]
    assert git.refs(site) == {"refs/heads/main": first}
    named = f"bash -c 'exec -a git-receive-pack {moved} \"$0\"'"
    accepted(git.push(work, site, f"--receive-pack={named}", "HEAD:main"))
