"""Questions of hooks, taken apart; and what is left of a push's patience."""

from __future__ import annotations

import pytest

from piehole.fastpath.controller_socket import CONTROLLER_SHARE
from piehole.fastpath.hook_messages import Answer, Question
from piehole.push.hook_protocol import Malformed, deadline_of, parse

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
    question = parse(ADMIT)
    assert (question.kind, question.repository) == ("admit", "/srv/with space.git")
    assert (question.push_name, question.push_id, question.waited) == ("boot.1.2.3", "0123", 1.25)
    assert question.commands == [("refs/heads/a", ZERO, ONE)]
    assert not question.earlier


def test_a_question_to_propose() -> None:
    question = parse([*PROPOSE, "earlier"])
    assert question.pusher == "A Person"
    assert question.snapshots == ["[1]", "[2]"]
    assert [ref for ref, _, _ in question.commands] == ["refs/heads/a", "refs/x/b"]
    assert question.earlier


def test_words_that_this_version_does_not_know_are_passed_over() -> None:
    assert parse([*ADMIT, "colour blue"]).pack() == parse(ADMIT).pack()


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
        parse(lines)


def test_what_a_push_has_waited_is_taken_from_its_patience() -> None:
    assert 8.7 < deadline_of(parse(ADMIT), 10).remaining() <= 8.75


def test_a_push_whose_patience_is_used_up_is_still_answered_by_an_etcd_that_answers_at_once() -> None:
    assert 0.05 < deadline_of(parse(ADMIT), 1).remaining() <= 0.1


def test_waiting_for_copies_has_its_own_time() -> None:
    """Also in the share of it that a controller takes."""
    asked = parse(["copies", *ADMIT[1:]])
    assert deadline_of(asked, 10, 20).remaining() * CONTROLLER_SHARE * 0.9 > 20
    assert deadline_of(parse(ADMIT), 10, 20).remaining() <= 8.75


@pytest.mark.parametrize("push_id", ["", "a/b", "..", "0123-1", "0" * 65])
def test_the_id_of_a_push_that_asks_for_copies_becomes_a_part_of_a_key(push_id: str) -> None:
    with pytest.raises(Malformed):
        parse(["copies", ABOUT[0], f"push boot.1.2.3 {push_id}", ABOUT[2], ADMIT[-1]])


@pytest.mark.parametrize(
    "lines",
    [
        ADMIT,
        PROPOSE,
        [*PROPOSE, "earlier"],
        [*PROPOSE, "more"],
        [*PROPOSE, "earlier", "more"],
        ["copies", *ADMIT[1:]],
        [*ADMIT[:4], "hook boot.1.4.5", *ADMIT[4:]],
    ],
)
def test_what_was_parsed_is_packed_as_it_came(lines: list[str]) -> None:
    assert Question.parse(lines).pack() == lines


@pytest.mark.parametrize(
    "lines",
    [
        ["free"],
        ["take [1,2]"],
        ["refuse stale somebody was first. Pull."],
        ["accepted 17"],
        ["accepted 17 fewer sites than promised hold it."],
        ["take [1,2] copies"],
        ["held"],
        ["held copies fewer sites than promised hold it."],
        ["foreseen", "take [1,2] copies", "later"],
        ["again", "basis refs/heads/a [1]", "basis refs/x/b [2]"],
        ["foreseen", "free", "later", "take [1,2]"],
        ["perhaps"],
    ],
)
def test_an_answer_is_packed_as_it_came(lines: list[str]) -> None:
    assert Answer.parse(lines).pack() == lines


def test_a_sentence_of_several_lines_is_sent_as_one() -> None:
    assert Answer("refuse", "unknown", "one\ntwo").pack() == ["refuse unknown one two"]


def test_an_answer_of_another_form_is_an_error() -> None:
    with pytest.raises(ValueError):
        Answer.parse(["again", "basis refs/heads/a"])
