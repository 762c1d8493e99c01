"""One form of REF for all commands: short names, full names, names that mean several refs, and misspelt ones."""

from __future__ import annotations

from pathlib import Path

import pytest

from piehole.errors import PieholeError, UsageError
from piehole.group import ref_names
from tests.support.command_line import Answer, piehole_in_process
from tests.support.git import MAIN, git, make_bare
from tests.support.groups import Group

BOTH = ("refs/heads/both", "refs/tags/both")


@pytest.fixture
def named(pair: Group) -> Group:
    """Branches main, topic and both, tags v1 and both; topic was deleted after it was overwritten."""
    pair.push("a", "HEAD:refs/heads/topic", "HEAD:refs/tags/v1", *(f"HEAD:{ref}" for ref in BOTH))
    pair.reconcile("a", "b")
    return pair


def ask(group: Group, command: str, *words: str) -> Answer:
    return piehole_in_process(*command.split(), "-C", group["a"].repository, *words)


# The words before and after REF.
TAKING_A_REF = {
    "log": (),
    "wait": ("--timeout", "5s"),
    "clobber": ("--yes",),
    "clobber --newest": ("--yes",),
    "group set head": (),
}


@pytest.mark.parametrize("command", TAKING_A_REF)
def test_every_command_takes_the_same_names(named: Group, command: str) -> None:
    words = TAKING_A_REF[command]
    for name in ("main", "heads/main", MAIN):
        answer = ask(named, command, name, *words)
        assert answer.status == 0, (name, answer)
        if command == "log":
            assert len(answer.out.splitlines()) == 1
    if "head" not in command:
        assert ask(named, command, "v1", *words).status == 0
        assert ask(named, command, "tags/v1", *words).status == 0
    for name, status, words_ in (
        ("mian", 1, f"Did you mean {MAIN}?"),
        ("heads/mian", 1, f"Did you mean {MAIN}?"),
        ("refs/heads/mian", 1, f"Did you mean {MAIN}?"),
        ("zzz", 1, "zzz"),
        ("a..b", 2, "cannot be the name of a ref"),
        ("", 2, ""),
    ):
        answer = ask(named, command, name, *words)
        assert (answer.status, words_ in answer.err, answer.out) == (status, True, ""), (name, answer)


@pytest.mark.parametrize("command", [one for one in TAKING_A_REF if "head" not in one])
def test_a_name_of_two_refs_is_refused_with_both(named: Group, command: str) -> None:
    answer = ask(named, command, "both", *TAKING_A_REF[command])
    assert answer.status == 2, answer
    assert "'both' is ambiguous: it may mean refs/tags/both or refs/heads/both." in answer.err
    assert ask(named, command, "heads/both", *TAKING_A_REF[command]).status == 0
    # What was deleted counts only where nothing else can be meant.
    named.push("a", ":refs/tags/both")
    assert ask(named, command, "both", *TAKING_A_REF[command]).status == 0


def test_a_short_name_clobbers_exactly_the_ref_that_it_means(named: Group) -> None:
    site, before = named["a"].repository, named["a"].at()
    new = named.commit("two")
    git(site, "fetch", "-q", str(named.work), "HEAD")
    git(site, "update-ref", "refs/heads/topic", new)
    assert ask(named, "clobber", "topic", "--yes").status == 0
    assert (named.value("refs/heads/topic"), named.value()) == (new, before)


def test_a_deleted_ref_is_remembered_by_its_short_name(named: Group) -> None:
    tip = named.value("refs/heads/topic")
    named.push("a", ":refs/heads/topic")
    assert len(ask(named, "log", "topic").out.splitlines()) == 2
    for name, status, words in (
        ("topci", 1, "Did you mean refs/heads/topic?"),
        ("v1", 1, "nothing to bring back"),
        ("topic", 0, "changed 1"),
    ):
        answer = ask(named, "kept restore", str(tip), name, "--yes")
        assert (answer.status, words in answer.out + answer.err) == (status, True), (name, answer)
    assert named.value("refs/heads/topic") == tip


def test_a_repository_that_is_given_as_a_ref_is_named_with_the_option(named: Group) -> None:
    answer = ask(named, "log", str(named["b"].repository))
    assert (answer.status, f"use -C {named['b'].repository}" in answer.err) == (2, True), answer


def test_the_order_is_that_of_git(tmp_path: Path) -> None:
    """A name that means one thing to git and another one to piehole would be a trap."""
    site = make_bare(tmp_path / "site.git")
    tree = git(site, "mktree", stdin="").stdout.strip()
    *places, head = ref_names.candidates("x")
    made = {ref: git(site, "commit-tree", tree, "-m", ref).stdout.strip() for ref in (*places, head)}
    for ref in places:
        git(site, "update-ref", ref, made[ref])
    for ref in places:
        assert git(site, "rev-parse", "x").stdout.strip() == made[ref]
        git(site, "update-ref", "-d", ref)
    git(site, "update-ref", head, made[head])
    assert git(site, "rev-parse", "x").stdout.strip() == made[head]


@pytest.mark.parametrize(
    ("text", "known", "found"),
    [
        ("main", [MAIN], MAIN),
        ("origin", ["refs/remotes/origin/HEAD"], "refs/remotes/origin/HEAD"),
        ("notes/commits", ["refs/notes/commits"], "refs/notes/commits"),
        ("refs/heads/x", ["refs/heads/refs/heads/x", "refs/heads/x"], "refs/heads/x"),
        ("HEAD", ["HEAD", "refs/heads/HEAD"], "HEAD"),
    ],
)
def test_what_a_name_means(text: str, known: list[str], found: str) -> None:
    assert ref_names.full_name(text, known, where="nobody has") == found


def test_a_misspelt_name_is_compared_with_names_of_its_own_form() -> None:
    known = [f"refs/heads/feature/{number}" for number in range(30_000)] + [MAIN]
    assert ref_names.suggestion("mian", known) == f" Did you mean {MAIN}?"
    assert ref_names.suggestion("something-else", known) == ""
    with pytest.raises(PieholeError, match="Did you mean refs/heads/feature/7"):
        ref_names.full_name("refs/heads/faeture/7", known, where="nobody has")
    with pytest.raises(UsageError):
        ref_names.full_name(" ", known, where="nobody has")
