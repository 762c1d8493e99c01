"""The list of log events, from which docs/reference/log-events.md is made, is that of the source."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from controller import events

ROOT = Path(__file__).parents[2]
_LOGGERS = ("log", "_log")
# These take the name of an event, and log it with the error.
_REPORTERS = {"upkeep_failed": {"error"}, "_attempt": {"error"}}
_LEVELS = ("debug", "info", "warning", "error", "critical", "exception", "log")


@dataclass
class Use:
    """What all calls that name one event pass."""

    fields: set[str] = field(default_factory=set)
    levels: set[str] = field(default_factory=set)


def _used(source: str) -> dict[str, Use]:
    found: dict[str, Use] = defaultdict(Use)
    for call in (node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)):
        for method, name in _event(call):
            use = found[name]
            use.fields |= _REPORTERS.get(method, set()) | {f for one in call.keywords for f in _keywords(one)}
            use.fields |= {"exception"} if method == "exception" else set()
            use.levels |= {"error"} if method == "exception" else {method} & {*events.FIELDS["level"].split("`")}
    return found


def _event(call: ast.Call) -> Iterator[tuple[str, str]]:
    """The method that this call names, and each event that it logs."""
    called = call.func
    if isinstance(called, ast.IfExp):
        method = "log"
    elif isinstance(called, ast.Attribute):
        method = called.attr
        owner = called.value.attr if isinstance(called.value, ast.Attribute) else getattr(called.value, "id", "")
        if not (method in _REPORTERS or (method in _LEVELS and owner in _LOGGERS)):
            return
    elif isinstance(called, ast.Name) and called.id == "log":
        method = "log"
    else:
        return
    place = 1 if isinstance(called, ast.Attribute) and method == "log" else 0
    first = call.args[place]
    for node in [first.body, first.orelse] if isinstance(first, ast.IfExp) else [first]:
        if isinstance(node, ast.Constant):
            yield method, str(node.value)
        else:
            # The name of the event comes from the caller, which is one of the reporters.
            assert isinstance(node, ast.Name) and node.id == "event", ast.unparse(call)


def _keywords(one: ast.keyword) -> Iterator[str]:
    if one.arg is not None:
        yield one.arg
        return
    for node in ast.walk(one.value):
        if isinstance(node, ast.Dict):
            yield from (str(key.value) for key in node.keys if isinstance(key, ast.Constant))


def _all_used() -> dict[str, Use]:
    found: dict[str, Use] = defaultdict(Use)
    for path in (ROOT / "controller").rglob("*.py"):
        source = path.read_text()
        for name, use in _used(source).items():
            found[name].fields |= use.fields
            found[name].levels |= use.levels
    return found


def test_each_event_and_field_in_the_source_is_listed_and_each_listed_one_is_used() -> None:
    used = _all_used()
    assert used.keys() == events.EVENTS.keys()
    for name, use in used.items():
        listed = events.EVENTS[name]
        assert use.fields - {*listed.context} == {*listed.fields, *listed.sometimes}, name
        assert use.levels <= {*listed.levels}, name
    named = {one for event in events.EVENTS.values() for one in (*event.context, *event.fields, *event.sometimes)}
    assert named | {*events.ALWAYS} == events.FIELDS.keys()
    assert all(re.fullmatch(r"[a-z_]+(\.[a-z_]+)?", name) for name in used)


def test_nothing_else_writes_to_this_log() -> None:
    others = [path for folder in ("piehole", "hooks") for path in (ROOT / folder).rglob("*.py")]
    assert [str(path) for path in others if "structlog" in path.read_text()] == []


def test_the_reader_of_the_source_sees_an_event_or_a_field_that_is_not_listed() -> None:
    source = 'self._log.info("push.new", colour=1, **({"size": 2} if x else {}))\nself._attempt("new.failed", f)'
    found = _used(source)
    assert {name: use.fields for name, use in found.items()} == {
        "push.new": {"colour", "size"},
        "new.failed": {"error"},
    }


def test_a_line_that_is_not_as_listed_is_found() -> None:
    line = {"event": "repository.left", "level": "info", "timestamp": "t", "repository": "/r"}
    assert list(events.problems(line)) == []
    assert list(events.problems({**line, "colour": 1})) == ["repository.left has colour"]
    assert list(events.problems({**line, "level": "error"})) == ["repository.left has the level error"]
    assert list(events.problems({**line, "event": "push.new"})) == ["push.new is not listed"]
    del line["repository"]
    assert list(events.problems(line)) == ["repository.left lacks repository"]
