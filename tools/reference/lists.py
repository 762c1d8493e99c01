"""Pages of the reference that are tables of what the code lists."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from controller.events import EVENTS, FIELDS
from controller.metrics import METRICS
from piehole import errors
from piehole.cli import parser
from piehole.cli.help_text import blocks
from tools.reference.commands import inline

ROOT: Final = Path(__file__).parents[2]


def log_events() -> Iterator[str]:
    yield """\
# Events of the controller's log
Names and fields are stable: new ones may come, none changes its meaning. With `--log-format json` (the default where the log
is no terminal) each line is one JSON object. It has `event`, `level` and `timestamp`, and the fields of its event. A field in
brackets is there only where there is something to say. A level after a comma is for the case that the text names, or that the
cause is known already: etcd is away, or the words are those of the last time.

## Events

| event | level | meaning | fields |
| --- | --- | --- | --- |"""
    for name, event in EVENTS.items():
        fields = [f"`{one}`" for one in (*event.context, *event.fields)] + [f"(`{one}`)" for one in event.sometimes]
        yield f"| `{name}` | {', '.join(event.levels)} | {event.text} | {', '.join(fields)} |"
    yield """\

## Fields

| field | meaning |
| --- | --- |"""
    yield from (f"| `{name}` | {text} |" for name, text in FIELDS.items())


def metrics() -> Iterator[str]:
    yield """\
# Metrics
A controller that runs with `--http ADDRESS` serves these at `/metrics`, for Prometheus. Names and labels are stable: new ones may
come, none changes its meaning. A scrape asks etcd nothing. Each controller tells what it knows itself, so one that is down is
noticed by the others (`piehole_site_lag_seconds`, `piehole_site_silent_seconds`) and by Prometheus (`up`).

The number of series is bounded. There are series for single groups only where they are in trouble, and the counts beside them are
always there, also when they are 0. Where an account may not read other sites' records in etcd, what is about other sites is missing.

Pushes are counted where they are decided. While no controller answers, the hooks decide in their own processes, and nobody counts;
`piehole log` has those that were accepted.

| metric | kind | labels | meaning |
| --- | --- | --- | --- |"""
    for name, metric in METRICS.items():
        labels = ", ".join(f"`{label}`" for label in metric.labels)
        yield f"| `{name}` | {metric.kind} | {labels} | {metric.text} |"
    yield """\

Besides these: `process_*`, `python_info` and `python_gc_*` of prometheus_client (memory, CPU time, open files, start time).

## Health

| path | 200 means | else (503, with the reasons as text) |
| --- | --- | --- |
| `/healthz` | Every part of the process lives. systemd's watchdog asks the same | Starting it again helps (it does not depend on etcd) |
| `/readyz` | The folders were scanned, and every etcd was listed and gives signs of life | It has just begun, or etcd cannot be reached |"""


def exit_statuses() -> Iterator[str]:
    yield """\
# Exit statuses
| status | meaning |
| --- | --- |"""
    for rows in blocks(parser.STATUS):
        yield from (f"| {row.term} | {row.meaning} |" for row in rows if not isinstance(row, str))
    yield "\nWhere a command is about several repositories, 3 takes precedence over 1. Some commands answer a question with their status:\n"
    for command in parser.COMMANDS.values():
        made = command.parser()
        for one in (made, *made.actions.values()):
            text = [block for block in blocks(one.description or "") if isinstance(block, str)]
            sentences = [it for block in text for it in re.split(r"(?<=[.)]) +(?=[A-Z(-])", block)]
            said = [it for it in sentences if re.search(r"exit status|ends with status", it)]
            if said:
                yield f"* [{one.prog}](commands.md#piehole-{command.name}): {inline(' '.join(said))}"


def tokens() -> Iterator[str]:
    index = (ROOT / "docs" / "trouble" / "index.md").read_text()
    short = dict(re.findall(r"^\| \[`([\w-]+):`\]\([\w-]+\.md\) \| (.*?) \|", index, re.MULTILINE))
    short[errors.BEHIND] = "of a fetch: this site is not known to have the newest state of the group"
    yield """\
# Tokens
A token is the stable word after `piehole:` in what a user of Git sees (`remote: piehole: stale: …`). It is also the label `token` of
[piehole_pushes_total](metrics.md), the field `token` of [log events](log-events.md), and in [what `--json` prints](json.md) the reason
of a halt. The sentence after it is for people and may change. Nothing has changed anywhere unless it is `accepted`, `unknown`, or a
warning (`copies` with `copiesElse = warn`, `behind` with `piehole.readGate = wait`).

| token | in short |
| --- | --- |
| `accepted` | the group has the new values, whatever Git reports after it |"""
    for name, token in vars(errors).items():
        if name.isupper() and isinstance(token, str):
            yield f"| [`{token}`](../trouble/{token}.md) | {short[token]} |"
