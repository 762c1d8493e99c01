"""What the controller's log tells of one push to this site, whose hooks ask over one connection."""

from __future__ import annotations

import time
from typing import Final

import structlog

from controller import traces
from piehole.errors import UNKNOWN
from piehole.fastpath.hook_messages import Answer, Question
from piehole.group.config import Config

_SHOWN: Final = 5  # refs in one line of the log
_REFUSALS: Final = 5  # lines for one push


class PushLog:
    """Told of each question of the push and its answer, after the answer was sent: the push waits for none of this."""

    def __init__(self, log: structlog.stdlib.BoundLogger) -> None:
        self._log = log
        self._began = time.time()
        self._about: tuple[str, dict[str, str | int]] | None = None  # the push's id and what its span says
        self._refused = 0
        self.revision = 0  # at which the group took the last refs of the push; 0: none yet
        self.warned = False  # whether fewer sites held them than the group promises

    def answered(self, config: Config, question: Question, answer: Answer, began: float) -> None:
        """:param began: when the question came (monotonic seconds)"""
        if traces.is_on():
            self._trace(config, question, answer, time.time() - (time.monotonic() - began))
        refused = [(question.commands, answer)] if answer.kind == "refuse" else []
        if answer.kind == "foreseen":
            each = zip(question.commands, answer.each, strict=False)
            refused = [([command], one) for command, one in each if one is not None and one.kind == "refuse"]
        if not refused and answer.kind != "accepted":
            return
        log = self._log.bind(
            repository=question.repository,
            group=config.group,
            site=config.site,
            push=question.push_id,
            pusher=question.pusher,
        )
        for commands, one in refused[: _REFUSALS - self._refused]:
            self._refused += 1
            log.warning(
                "push.refused",
                refs=[ref for ref, _, _ in commands[:_SHOWN]],
                count=len(commands),
                token=one.value,
                reason=one.sentence,
            )
        if answer.kind == "accepted":
            self.revision, self.warned = int(answer.value), bool(answer.sentence)
            log.info(
                "push.accepted",
                refs=[ref for ref, _, _ in question.commands[:_SHOWN]],
                count=len(question.commands),
                revision=int(answer.value),
                ms=round((time.monotonic() - began) * 1000, 1),
            )

    def end(self) -> None:
        """The hooks of the push have closed their connection."""
        if self._about is not None:
            push, about = self._about
            failed = "" if about["outcome"] == "accepted" else str(about["token"])
            traces.send(push, traces.PUSH, self._began, about, span=traces.span_id(push, traces.PUSH), failed=failed)

    def _trace(self, config: Config, question: Question, answer: Answer, started: float) -> None:
        push = question.push_id
        where: dict[str, str | int] = {"site": config.site, "group": config.group}
        outcome = {"accepted": "accepted", "refuse": "unknown" if answer.value == UNKNOWN else "refused"}.get(
            answer.kind, ""
        )
        token = answer.value if answer.kind == "refuse" else ""
        known = self._about[1] if self._about else {**where, "refs": 0, "outcome": "none", "token": ""}
        known["refs"] = max(int(known["refs"]), len(question.commands))
        if outcome and known["outcome"] in ("none", "accepted"):
            known.update(outcome=outcome, token=token)
        self._about = (push, known)
        about: dict[str, str | int] = {
            **where,
            "refs": len(question.commands),
            "outcome": outcome or answer.kind,
            "token": token,
        }
        root = traces.span_id(push, traces.PUSH)
        if question.kind == "propose":
            revision = int(answer.value) if answer.kind == "accepted" else 0
            span = traces.span_id(push, traces.SWAP, revision) if revision else 0
            about |= {"revision": revision} if revision else {}
            traces.send(push, traces.SWAP, started, about, span=span, parent=root, failed=token)
        elif question.kind == "copies":
            traces.send(push, traces.COPIES, started, about, parent=root, failed=token)
