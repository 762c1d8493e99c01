"""What was asked of the group, by whom, when, and what they were told."""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Final, Literal

Outcome = Literal["ok", "refused", "unknown"]
ZERO: Final = "0" * 40
_SAID_NO: Final = ("piehole: ", "[rejected]", "the site is down", "(unpacker error)")


@dataclass(frozen=True, slots=True)
class Change:
    """One ref from ``old`` to ``new``; the zero oid stands for "no ref".

    ``new`` is None where an administrator deletes the key itself, and may be no oid where one locks the ref.
    """

    ref: str
    old: str
    new: str | None


@dataclass(frozen=True, slots=True)
class Operation:
    """One push, or one change that an administrator made by hand.

    :param name: unique; a push carries it to the push record as the pusher's name
    :param began: monotonic seconds, before anything was sent; ``ended``: after the answer was read
    :param revision: of an administrator's change, where etcd told it
    """

    name: str
    kind: str
    site: str
    changes: tuple[Change, ...]
    began: float
    ended: float = 0.0
    outcome: Outcome = "unknown"
    words: str = ""
    by_hand: bool = False
    revision: int = 0


class OperationLog:
    """Taken down by many threads at once."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._done: list[Operation] = []
        self._told: Counter[Outcome] = Counter()
        self._number = 0

    def begin(self, kind: str, site: str, *changes: Change, by_hand: bool = False) -> Operation:
        """An operation that is about to be sent. What is never ended is not in the log: end each in every case."""
        with self._lock:
            self._number += 1
            name = f"op{self._number}"
        return Operation(name, kind, site, changes, time.monotonic(), by_hand=by_hand)

    def end(self, operation: Operation, outcome: Outcome, words: str = "", revision: int = 0) -> Operation:
        done = replace(operation, ended=time.monotonic(), outcome=outcome, words=words[-1500:], revision=revision)
        with self._lock:
            self._done.append(done)
            if not done.by_hand:
                self._told[outcome] += 1
        return done

    @property
    def operations(self) -> list[Operation]:
        with self._lock:
            return list(self._done)

    def told(self) -> Counter[Outcome]:
        """How many pushes ended how."""
        with self._lock:
            return Counter(self._told)

    def write(self, path: Path) -> None:
        """One JSON object a line."""
        path.write_text("".join(json.dumps(asdict(one)) + "\n" for one in self.operations))


def outcome_of(status: int, words: str) -> Outcome:
    """What a pusher knows after `git push` ended: "refused" only where somebody said no in so many words.

    ``[rejected]`` is said by the pusher's own git, which then sent nothing; ``the site is down`` by the site before it began;
    ``unpacker error`` by a receive-pack that came to no hook.
    """
    if status == 0:
        return "ok"
    if "piehole: unknown:" in words or "piehole: accepted:" in words:
        return "unknown"
    return "refused" if any(one in words for one in _SAID_NO) else "unknown"
