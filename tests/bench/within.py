"""Where a push spends its time, as git's own trace tells it: which processes it starts, in which order, and for how long.

A traced push (``GIT_TRACE2_EVENT``, "Trace2 API" of git's documentation) is a little slower than another; the shares matter.
"""

from __future__ import annotations

import json
import shlex
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from tests.bench.bed import Bed, Server
from tests.bench.plots import WITHIN
from tests.bench.report import Row
from tests.support.git import MAIN

BEFORE: Final = "client, until receive-pack has begun"
AFTER: Final = "client, when receive-pack has ended"
BETWEEN: Final = "receive-pack and the client between these"


@dataclass
class Parts:
    """One push. ``parts``: milliseconds by what was done, in order; together they are the whole push.

    :param processes: what git started, itself included; a hook counts as one, and what it starts only where that is git
    """

    parts: dict[str, float] = field(default_factory=dict)
    processes: int = 0


def measure(bed: Bed, repetitions: int) -> list[Row]:
    """The parts of pushes without hooks and with piehole, in turns; rows named ``within a push, KIND: PART``."""
    kinds: dict[str, Server] = {"no hooks": bed.plain, "piehole": bed.home}
    found: dict[str, list[Parts]] = {kind: [] for kind in kinds}
    for number in range(repetitions):
        for kind, server in kinds.items():
            trace = bed.folder / f"trace-{kind.replace(' ', '-')}-{number}"
            started = time.time()
            pushed = server.push_one_commit(env={"GIT_TRACE2_EVENT": str(trace)})
            found[kind].append(parts(trace.read_text(), started, pushed.seconds))
    return [row for kind, pushes in found.items() for row in _rows(kind, pushes)]


def parts(trace: str, started: float, seconds: float) -> Parts:
    """What a trace tells about one push.

    :param started: seconds of the wall clock when the client began
    :param seconds: that it took
    """
    events = [json.loads(line) for line in trace.splitlines()]
    receiving = next(event["sid"] for event in events if _begins(event, "git-receive-pack"))
    mine = [event for event in events if event["sid"] == receiving]
    began, ended = (_clock(next(event for event in mine if event["event"] == name)) for name in ("start", "exit"))
    found = Parts({BEFORE: 1000 * (began - started)})
    names = {event["child_id"]: _name(event) for event in mine if event["event"] == "child_start"}
    for event in mine:
        if event["event"] == "child_exit":
            name = names[event["child_id"]]
            found.parts[name] = found.parts.get(name, 0.0) + 1000 * event["t_rel"]
    found.parts[BETWEEN] = 1000 * (ended - began) - (sum(found.parts.values()) - found.parts[BEFORE])
    found.parts[AFTER] = 1000 * (started + seconds - ended)
    hooks = sum(event["event"] == "child_start" and event["child_class"] == "hook" for event in mine)
    found.processes = sum(event["event"] == "start" for event in events) + hooks
    return found


def _rows(kind: str, pushes: Sequence[Parts]) -> list[Row]:
    prefix = f"{WITHIN}{kind}: "
    names = list(dict.fromkeys(name for push in pushes for name in push.parts))
    rows = [Row(f"{prefix}{name}", "ms", [push.parts.get(name, 0.0) for push in pushes]) for name in names]
    return [*rows, Row(f"{prefix}processes", "count", [float(push.processes) for push in pushes])]


def _begins(event: Mapping[str, Any], program: str) -> bool:
    return event["event"] == "start" and Path(event["argv"][0]).name == program


def _clock(event: Mapping[str, Any]) -> float:
    whole, _, rest = str(event["time"]).removesuffix("Z").partition(".")
    return time.mktime(time.strptime(whole, "%Y-%m-%dT%H:%M:%S")) - time.timezone + float(f"0.{rest}")


def _name(event: Mapping[str, Any]) -> str:
    if event["child_class"] == "hook":
        states = event["argv"][1:2] if event["hook_name"] == "reference-transaction" else []
        return " ".join(["hook", event["hook_name"], *states])
    words = [word for word in event["argv"] if not word.startswith("-") and word != MAIN]
    return shlex.join(words[:2])
