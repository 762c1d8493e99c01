"""Which old tips the new ones contain: many pairs at once must say what git says of each."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path

import pytest

from piehole.refs import Command
from piehole.repository import ancestry
from piehole.repository.repository import Repository
from tests.support.git import git, make_bare


def history(path: Path, chance: random.Random, size: int) -> list[str]:
    """Commits with zero to two parents among the earlier ones."""
    tree = git(path, "hash-object", "-t", "tree", "-w", "--stdin").stdout.strip()
    commits: list[str] = []
    for number in range(size):
        parents = chance.sample(commits, min(len(commits), chance.choice([0, 1, 1, 1, 2])))
        words = [word for parent in parents for word in ("-p", parent)]
        commits.append(git(path, "commit-tree", tree, *words, stdin=str(number)).stdout.strip())
    return commits


@pytest.mark.parametrize("seed", range(3))
def test_many_pairs_at_once_say_what_git_says_of_each(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)  # noqa: S311 -- a test's choice
    repository = Repository(make_bare(tmp_path / "a.git"))
    commits = history(repository.git_dir, chance, 24)
    pairs = list({(chance.choice(commits), chance.choice(commits)) for _ in range(60)})
    truth = {
        pair
        for pair in pairs
        if git(repository.git_dir, "merge-base", "--is-ancestor", *pair, check=False).returncode == 0
    }
    asked: list[tuple[str, str]] = []

    def alone(old: str, new: str) -> bool:
        asked.append((old, new))
        return repository.contains(new, old)

    assert ancestry.contained(pairs, repository._walk, alone) == truth
    assert len(asked) < len(pairs), "most are told by the two walks"

    def cannot(_: Sequence[str], __: object) -> None:
        return None

    assert ancestry.contained(pairs, cannot, alone) == truth
    moves = [Command(f"refs/heads/n{n}", old, new) for n, (old, new) in enumerate(pairs)]
    assert set(repository.not_contained(moves)) == {old for old, new in pairs if (old, new) not in truth and old != new}


def test_what_is_no_commit_or_not_here_contains_nothing(tmp_path: Path) -> None:
    repository = Repository(make_bare(tmp_path / "a.git"))
    (commit,) = history(repository.git_dir, random.Random(1), 1)  # noqa: S311 -- a test's choice
    blob = git(repository.git_dir, "hash-object", "-w", "--stdin", stdin="x").stdout.strip()
    moves = [
        Command("refs/heads/a", commit, blob),
        Command("refs/heads/b", blob, commit),
        Command("refs/heads/c", "12" * 20, commit),
        Command("refs/heads/d", "0" * 40, commit),
        Command("refs/heads/e", commit, commit),
    ]
    assert repository.not_contained(moves) == [commit, blob]
