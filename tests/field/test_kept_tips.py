"""A kept tip stays for as long as it was promised, whatever goes on beside its expiry and whatever the clock does."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from piehole.errors import UsageError
from piehole.refs import KEPT_REFS, Command
from piehole.repository import kept_tips, ref_moves
from piehole.repository.repository import Repository
from tests.support.git import git, make_bare, refs
from tests.support.wait import until

DAY = 86400


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    made = make_bare(tmp_path / "r.git")
    (made / "piehole").mkdir()
    return Repository(made)


@pytest.fixture
def jump(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Sets this machine's clock ahead by so many days, for Python and for git."""
    real, real_git = time.time, Repository.git
    ahead = [0.0]

    def asked(self: Repository, *arguments: str, **named: Any) -> bytes:
        shown = real_git(self, *arguments, **named)
        return b"%d\n" % (int(shown) + ahead[0]) if "--type=expiry-date" in arguments and int(shown) else shown

    monkeypatch.setattr(Repository, "git", asked)
    monkeypatch.setattr(time, "time", lambda: real() + ahead[0])
    return lambda days: ahead.__setitem__(0, days * DAY)


def commits(repository: Repository, number: int) -> list[str]:
    tree = git(repository.git_dir, "hash-object", "-t", "tree", "-w", "--stdin").stdout.strip()
    return [git(repository.git_dir, "commit-tree", tree, "-m", f"{n}").stdout.strip() for n in range(number)]


def kept(repository: Repository) -> set[str]:
    return {ref.removeprefix(KEPT_REFS) for ref in refs(repository.git_dir)}


def date(repository: Repository, oid: str, days_ago: float) -> None:
    """Have it kept so long ago."""
    log = repository.git_dir / "logs" / KEPT_REFS / oid
    words = log.read_text().splitlines()[-1].split(" ")
    words[-3] = str(int(time.time() - days_ago * DAY))
    log.write_text(" ".join(words) + "\n")


def test_a_tip_that_is_kept_anew_while_others_expire_stays(
    repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its age was read before, and it was dropped with the others."""
    again, old = commits(repository, 2)
    kept_tips.keep(repository, [again, old])
    date(repository, again, 100)
    date(repository, old, 100)
    move = ref_moves.RefMover.move

    def meanwhile(self: ref_moves.RefMover, moves: Sequence[Command]) -> ref_moves.Unmoved:
        kept_tips.keep(repository, [again])
        return move(self, moves)

    monkeypatch.setattr(ref_moves.RefMover, "move", meanwhile)
    kept_tips.expire(repository)
    assert kept(repository) == {again}
    assert kept_tips.kept_since(repository)[f"{KEPT_REFS}{again}"] > time.time() - 60


def test_a_clock_that_jumps_by_ninety_days_expires_nothing_that_is_not_due(
    repository: Repository, jump: Callable[[float], None]
) -> None:
    young, old, due = commits(repository, 3)
    kept_tips.keep(repository, [young, old, due])
    date(repository, old, 80)
    kept_tips.expire(repository)
    date(repository, due, 90)
    jump(91)
    kept_tips.expire(repository)
    assert kept(repository) >= {young, old}
    jump(0)

    def expired() -> bool:
        kept_tips.expire(repository)
        return kept(repository) == {young, old}

    until(expired, what="it goes after 90 days of its own")


def test_a_clock_that_was_wrong_for_ever_is_believed_in_the_end(
    repository: Repository, jump: Callable[[float], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The machine was off for long, say: what is due goes when the machine has run for half of that time."""
    (old,) = commits(repository, 1)
    kept_tips.keep(repository, [old])
    kept_tips.expire(repository)
    jump(100)
    kept_tips.expire(repository)
    assert kept(repository) == {old}
    real = time.clock_gettime
    monkeypatch.setattr(time, "clock_gettime", lambda clock: real(clock) + 46 * DAY)
    kept_tips.expire(repository)
    assert kept(repository) == set()


def test_a_tip_that_was_kept_while_the_clock_was_wrong_gets_its_time(repository: Repository) -> None:
    """A machine without a clock of its own begins in 1970, until it has asked others for the time."""
    (tip,) = commits(repository, 1)
    kept_tips.expire(repository)
    kept_tips.keep(repository, [tip])
    date(repository, tip, 20000)
    for _ in range(2):
        kept_tips.expire(repository)
        assert kept(repository) == {tip}
    assert kept_tips.kept_since(repository)[f"{KEPT_REFS}{tip}"] > time.time() - 60


def test_a_shorter_time_takes_effect_at_once(repository: Repository) -> None:
    tips = commits(repository, 2)
    kept_tips.keep(repository, tips)
    date(repository, tips[0], 30)
    kept_tips.expire(repository)
    assert kept(repository) == set(tips)
    git(repository.git_dir, "config", "piehole.keepFor", "7.days")
    kept_tips.expire(repository)
    assert kept(repository) == {tips[1]}


@pytest.mark.parametrize(("text", "kept_days"), [("30d", 30), ("8w", 56), ("720h", 30), ("30.days", 30)])
def test_a_time_is_not_taken_for_a_day_of_the_month(repository: Repository, text: str, kept_days: int) -> None:
    """Git takes 30d for the 30th of this month or the last one, so that all kept tips would go at once."""
    tips = commits(repository, 2)
    kept_tips.keep(repository, tips)
    date(repository, tips[0], kept_days + 1)
    date(repository, tips[1], kept_days - 1)
    git(repository.git_dir, "config", "piehole.keepFor", text)
    kept_tips.expire(repository)
    assert kept(repository) == {tips[1]}
    for wrong in ("3m", "30s", "500ms"):
        git(repository.git_dir, "config", "piehole.keepFor", wrong)
        with pytest.raises(UsageError, match="no kept tip goes"):
            kept_tips.expire(repository)
    assert kept(repository) == {tips[1]}


def test_keeping_a_tip_does_not_list_all_that_are_kept(repository: Repository, monkeypatch: pytest.MonkeyPatch) -> None:
    tips = commits(repository, 3)
    kept_tips.keep(repository, tips)
    asked: list[tuple[str, ...]] = []
    real = Repository.git

    def seen(self: Repository, *arguments: str, **named: Any) -> bytes:
        asked.append(arguments)
        return real(self, *arguments, **named)

    monkeypatch.setattr(Repository, "git", seen)
    before = kept_tips._kept_at(repository, f"{KEPT_REFS}{tips[0]}")
    date(repository, tips[0], 5)
    kept_tips.keep(repository, tips[:1])
    assert kept_tips._kept_at(repository, f"{KEPT_REFS}{tips[0]}") >= before
    assert not [one for one in asked if "for-each-ref" in one]
