"""A hook's question, as lines, answered by :mod:`piehole.push.admission`. The controller's socket and the hook itself both end here.

::

    admit                                  propose
    repository PATH                        repository PATH
    push IN-FLIGHT-NAME PUSH-ID            push IN-FLIGHT-NAME PUSH-ID
    waited SECONDS                         waited SECONDS
    hook PROCESS                           hook PROCESS                   (where another process asks for it)
    command REF OLD NEW                    pusher NAME
                                           want REF OLD NEW SNAPSHOT      (one a ref)
                                           earlier                        (it may have been sent before)

    free                                   accepted REVISION
    take SNAPSHOT                          again, then: basis REF SNAPSHOT (one a ref)
    refuse TOKEN SENTENCE                  refuse TOKEN SENTENCE          (``unknown`` is one of the tokens)

``foresee`` is ``admit`` for many commands, before git has moved the push's objects into the repository: ``foreseen``, then for
each command in order ``free``, ``take SNAPSHOT``, or ``later`` where only ``admit`` can tell.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from piehole.deadline import Deadline
from piehole.errors import UNKNOWN, PieholeError
from piehole.fastpath import processes
from piehole.push.admission import LEAST, Admission, Again, Free, Pusher
from piehole.push.rules import Refuse
from piehole.push.swap import Accepted, Basis, Unknown
from piehole.refs import LENGTHS, Command, is_oid, is_ref_name


class Malformed(PieholeError):
    """The question is none that this version understands."""


@dataclass(frozen=True, slots=True)
class Question:
    """A hook's question, taken apart."""

    kind: str
    waited: float
    repository: str
    push_name: str
    push_id: str
    hook: str
    pusher: str
    commands: tuple[Command, ...]
    snapshots: tuple[str, ...]
    earlier: bool

    @classmethod
    def parse(cls, lines: list[str]) -> Question:
        """
        :raises Malformed: it is none that this version understands
        """
        words = [line.partition(" ") for line in lines]
        single = {word: rest for word, _, rest in words}
        wants = [rest.split(" ") for word, _, rest in words if word in ("command", "want")]
        try:
            kind = words[0][0]
            name, _, push_id = single["push"].partition(" ")
            waited = float(single["waited"])
            commands = tuple(Command(ref, old, new) for ref, old, new, *_ in wants)
            snapshots = tuple(want[3] for want in wants) if kind == "propose" else ()
            repository = single["repository"]
        except (KeyError, ValueError, IndexError) as error:
            raise Malformed(f"a hook asked {lines[:1]!r}, which this version does not understand: {error}") from error
        sound = all(is_ref_name(command.ref) and _oids(command) for command in commands)
        if kind not in ("admit", "propose", "foresee") or not commands or not sound or not 0 <= waited < 1e6:
            raise Malformed(f"a hook asked {lines[:1]!r}, which this version does not understand.")
        hook, pusher = single.get("hook", ""), single.get("pusher", "")
        return cls(kind, waited, repository, name, push_id, hook, pusher, commands, snapshots, "earlier" in single)

    def is_awaited(self) -> bool:
        """Whether the push's receive-pack lives, and with it git's locks, and the hook that waits for the answer."""
        return all(processes.lives(name) is True for name in (self.push_name, self.hook) if name)

    def deadline(self, timeout: float) -> Deadline:
        """What is left of the whole push's patience. Never nothing: an etcd that answers at once is asked all the same."""
        return Deadline(max(timeout - self.waited, LEAST))


def _oids(command: Command) -> bool:
    return any(is_oid(command.old, name) and is_oid(command.new, name) for name in LENGTHS)


def answer(
    question: Question, admission: Admission, deadline: Deadline, may_go: Callable[[], bool]
) -> list[str] | None:
    """Answer a question; None where the one who asked is gone, so that nothing was done.

    :raises Malformed: a snapshot in it is damaged
    """
    if question.kind == "admit":
        return [_admitted(admission.admit(question.commands[0], deadline))]
    if question.kind == "foresee":
        foreseen = admission.foresee(question.commands, deadline)
        return ["foreseen", *("later" if one is None else _admitted(one) for one in foreseen)]
    try:
        items = [
            (command, Basis.parse(command.ref, text))
            for command, text in zip(question.commands, question.snapshots, strict=True)
        ]
    except ValueError as error:
        raise Malformed(f"the in-flight record of this push is damaged: {error}") from error
    pusher = Pusher(question.push_id, question.pusher)
    outcome = admission.propose(pusher, items, deadline, may_go=may_go, earlier=question.earlier)
    if outcome is None:
        return None
    if isinstance(outcome, Accepted):
        return [f"accepted {outcome.revision}"]
    if isinstance(outcome, Again):
        return ["again", *(f"basis {ref} {basis.dump()}" for ref, basis in outcome.bases.items())]
    if isinstance(outcome, Unknown):
        news = ", ".join(command.new for command in question.commands[:3])
        return [_refusal(Refuse(UNKNOWN, f"the group may still take {news}; look before pushing again. {outcome.why}"))]
    return [_refusal(outcome)]


def _admitted(found: Free | Basis | Refuse) -> str:
    if isinstance(found, Free):
        return "free"
    return f"take {found.dump()}" if isinstance(found, Basis) else _refusal(found)


def _refusal(refused: Refuse) -> str:
    return f"refuse {refused.token} {' '.join(refused.sentence.split())}"
