"""Questions of hooks, taken apart; and what is left of a push's patience."""

from __future__ import annotations

import pytest

from piehole.push.hook_protocol import Malformed, Question
from piehole.refs import Command

ZERO, ONE = "0" * 40, "1" * 40
ABOUT = ["repository /srv/with space.git", "push boot.1.2.3 0123", "waited 1.250"]
ADMIT = ["admit", *ABOUT, f"command refs/heads/a {ZERO} {ONE}"]
PROPOSE = [
    "propose",
    *ABOUT,
    "pusher A Person",
    f"want refs/heads/a {ZERO} {ONE} [1]",
    f"want refs/x/b {ONE} {ZERO} [2]",
]


def test_a_question_to_admit() -> None:
    question = Question.parse(ADMIT)
    assert (question.kind, question.repository) == ("admit", "/srv/with space.git")
    assert (question.push_name, question.push_id, question.waited) == ("boot.1.2.3", "0123", 1.25)
    assert question.commands == (Command("refs/heads/a", ZERO, ONE),)
    assert not question.earlier


def test_a_question_to_propose() -> None:
    question = Question.parse([*PROPOSE, "earlier"])
    assert question.pusher == "A Person"
    assert question.snapshots == ("[1]", "[2]")
    assert [command.ref for command in question.commands] == ["refs/heads/a", "refs/x/b"]
    assert question.earlier


def test_words_that_this_version_does_not_know_are_passed_over() -> None:
    assert Question.parse([*ADMIT, "colour blue"]) == Question.parse(ADMIT)


@pytest.mark.parametrize(
    "lines",
    [
        [],
        [""],
        ["admit"],
        ["delete", *ABOUT, ADMIT[-1]],
        ["admit", *ABOUT],
        ["admit", *ABOUT[:2], "waited nan", ADMIT[-1]],
        ["admit", *ABOUT[:2], "waited -1", ADMIT[-1]],
        ["admit", *ABOUT[:2], "waited inf", ADMIT[-1]],
        ["admit", *ABOUT, "command refs/heads/a"],
        ["admit", *ABOUT, f"command --all {ZERO} {ONE}"],
        ["admit", *ABOUT, f"command HEAD {ZERO} {ONE}"],
        ["admit", *ABOUT, f"command refs/heads/a {ZERO} --help"],
        ["admit", *ABOUT, f"command refs/heads/a {ZERO} {'1' * 64}"],
        ["propose", *ABOUT, f"want refs/heads/a {ZERO} {ONE}"],
    ],
)
def test_a_question_of_another_form_is_malformed(lines: list[str]) -> None:
    with pytest.raises(Malformed):
        Question.parse(lines)


def test_what_a_push_has_waited_is_taken_from_its_patience() -> None:
    assert 8.7 < Question.parse(ADMIT).deadline(10).remaining() <= 8.75


def test_a_push_whose_patience_is_used_up_is_still_answered_by_an_etcd_that_answers_at_once() -> None:
    assert 0.05 < Question.parse(ADMIT).deadline(1).remaining() <= 0.1
