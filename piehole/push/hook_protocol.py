"""A hook's question is checked here, handed to :mod:`piehole.push.admission`, and what that decides becomes the answer.

Both the controller and a hook that decides in its own process end here; :mod:`piehole.fastpath.hook_messages` has the lines.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

from piehole.deadline import Deadline
from piehole.errors import COPIES, UNKNOWN, EtcdError, PieholeError
from piehole.fastpath import processes
from piehole.fastpath.hook_messages import Answer, Question
from piehole.push.admission import LEAST, Admission, Again, Pusher
from piehole.push.rules import LOOK, Free, Refuse, refusal
from piehole.push.swap import Accepted, Basis, Unknown
from piehole.refs import LENGTHS, Command, is_oid, is_ref_name

_NAME: Final = 200  # characters of a pusher's name, and of a signer's
_PUSH_ID = re.compile(r"[0-9A-Za-z]{1,64}")


class Malformed(PieholeError):
    """The question is none that this version understands."""


def parse(lines: list[str]) -> Question:
    """The question in these lines, checked.

    :raises Malformed: it is none that this version understands
    """
    try:
        question = Question.parse(lines)
    except (LookupError, ValueError) as error:
        raise Malformed(f"a hook asked {lines[:1]!r}, which this version does not understand: {error}") from error
    check(question)
    return question


def check(question: Question) -> None:
    """Check the question, and make the names in it harmless.

    :raises Malformed: it is none that this version understands
    """
    sound = all(is_ref_name(ref) and _are_oids(old, new) for ref, old, new in question.commands)
    known = question.kind in ("admit", "propose", "foresee", "announce") or (
        question.kind == "copies" and _PUSH_ID.fullmatch(question.push_id)  # it becomes a part of a key
    )
    if (
        not known
        or not (question.commands or question.kind == "announce")
        or not sound
        or not 0 <= question.waited < 1e6
    ):
        raise Malformed(f"a hook asked {[question.kind]!r}, which this version does not understand.")
    question.pusher, question.signer = _printable(question.pusher), _printable(question.signer)


def _printable(name: str) -> str:
    """A name that the pusher may have chosen, as it can be shown and stored anywhere: no control character, and not long."""
    return "".join(char if char.isprintable() else "?" for char in " ".join(name.split())[:_NAME])


def _are_oids(old: str, new: str) -> bool:
    return any(is_oid(old, name) and is_oid(new, name) for name in LENGTHS)


def is_awaited(question: Question) -> bool:
    """Whether the push's receive-pack lives, and with it git's locks, and the hook that waits for the answer."""
    return all(processes.lives(name) is True for name in (question.push_name, question.hook) if name)


def deadline_of(question: Question, timeout: float, copies: float = 0.0) -> Deadline:
    """What is left of the whole push's patience. Never nothing: an etcd that answers at once is asked all the same.

    :param copies: seconds for which other sites are awaited that are asked for copies. They cost the push nothing of its patience. Twice
        as many are given, since a controller takes a share of the time alone.
    """
    return Deadline(max(timeout - question.waited, LEAST) + (2 * copies if question.kind == "copies" else 0.0))


def answer(question: Question, admission: Admission, deadline: Deadline, may_go: Callable[[], bool]) -> Answer | None:
    """Answer a question that was checked; None where the hook that asked is gone, so that nothing was done.

    :raises Malformed: a snapshot in it is damaged
    """
    commands = [Command(*command) for command in question.commands]
    push = question.push_name, question.push_id
    try:
        if question.kind == "admit":
            refused = admission.deletion_limit.refusal(commands[0], *push)
            return _admitted(refused or admission.admit(commands[0], deadline), admission, commands[0])
        if question.kind == "foresee":
            found = admission.foresee(commands, deadline)
            most = str(found.most) if found.most < len(commands) else ""
            later = admission.deletion_limit.undecided(commands, *push)
            each = [
                None if one is None or command in later else _admitted(one, admission, command)
                for one, command in zip(found.each, commands, strict=True)
            ]
            return Answer("foreseen", most, each=each)
        if question.kind == "copies":
            held = admission.copies.obtain(question.push_id, commands, deadline, may_go)
            return _refused(held) if isinstance(held, Refuse) else Answer("held", COPIES if held else "", held)
        items = list(zip(commands, _bases(question), strict=True))
        pusher = Pusher(question.push_id, question.pusher + question.signer)
        outcome = admission.propose(
            pusher, items, deadline, may_go=may_go, earlier=question.earlier, more=question.more
        )
    except EtcdError as error:
        return _refused(refusal(error))
    if outcome is None:
        return None
    if isinstance(outcome, Accepted):
        return Answer("accepted", str(outcome.revision), outcome.warning)
    if isinstance(outcome, Again):
        return Answer("again", bases={ref: basis.dump() for ref, basis in outcome.bases.items()})
    if isinstance(outcome, Unknown):
        news = ", ".join(command.new for command in commands[:3])
        return _refused(Refuse(UNKNOWN, f"the group may still take {news}; {LOOK}. {outcome.why}"))
    return _refused(outcome)


def _bases(question: Question) -> list[Basis]:
    try:
        return [Basis.parse(ref, text) for (ref, _, _), text in zip(question.commands, question.snapshots, strict=True)]
    except ValueError as error:
        raise Malformed(f"the in-flight record of this push is damaged: {error}") from error


def _admitted(found: Free | Basis | Refuse, admission: Admission, command: Command) -> Answer:
    if isinstance(found, Free):
        return Answer("free")
    if isinstance(found, Refuse):
        return _refused(found)
    return Answer("take", found.dump(), COPIES if admission.copies.asks(found, command.new) else "")


def _refused(refused: Refuse) -> Answer:
    return Answer("refuse", refused.token, refused.sentence)
