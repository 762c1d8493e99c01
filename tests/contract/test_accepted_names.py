"""The names on which scripts, administrators and sites of other versions rely are those of accepted_names.txt.

docs/development/versions.md says what they are promised. The fields of ``--json`` have a list of their own
(tests/cli/accepted_fields.txt), the messages between hooks and controller are recorded in tests/fault/skew.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from pathlib import Path

from controller.events import ALWAYS, EVENTS
from controller.metrics import METRICS
from piehole import errors
from piehole.cli.arguments import CommandParser
from piehole.cli.parser import COMMANDS
from piehole.errors import PieholeError
from piehole.group.keys import Keyspace
from piehole.group.records import AliveRecord, GroupRecord, Progress, PushRecord, SiteRecord, parse_record
from piehole.installed_files import deploy_folder

ROOT = Path(__file__).parents[2]
ACCEPTED = Path(__file__).with_name("accepted_names.txt")
POLICY = "docs/development/versions.md"

_RECORDS = {
    "group": GroupRecord("id", "sha1").dump(),
    "site": SiteRecord("id", "url", left=True).dump(),
    "progress": Progress(1, "id", "time", {"result": "sound"}, "digest", ("glob",)).dump(),
    "alive": AliveRecord(1, "serves", "time").dump(),
    "push": PushRecord("id", "site", "pusher", "time").dump(),
}


def _of_command(name: str, parser: CommandParser) -> Iterator[tuple[str, str]]:
    yield "command", name
    yield from (("option of " + name, option) for option in parser.options if option not in ("-h", "--help"))
    for action, below in parser.actions.items():
        yield from _of_command(f"{name} {action}", below)


def _settings() -> list[str]:
    """Those of the documented table, which tests/docs holds to what is read."""
    page = (ROOT / "docs" / "reference" / "settings.md").read_text()
    rows = re.findall(r"^\| (`piehole\..*?) \|", page, re.MULTILINE)
    return [name for cell in rows for name in re.findall(r"`(piehole\.\w+)`", cell)]


def _keys() -> Iterator[str]:
    keyspace = Keyspace()
    for name, method in inspect.getmembers(keyspace, inspect.ismethod):
        if name[0] != "_" and not name.startswith("split") and name != "bucket":
            yield method(*(place.upper() for place in inspect.signature(method).parameters)).decode()


def _statuses(error: type[PieholeError] = PieholeError) -> Iterator[int]:
    yield error.exit_status
    for below in error.__subclasses__():
        yield from _statuses(below)


def _names() -> Iterator[tuple[str, str]]:
    """Every name that is a contract, with its kind."""
    for name, command in COMMANDS.items():
        yield from _of_command(name, command.parser())
    yield from (("setting", name) for name in _settings())
    yield from (("token", value) for name, value in vars(errors).items() if name.isupper() and isinstance(value, str))
    yield from (("exit status", str(status)) for status in _statuses())
    yield from (("key", key) for key in _keys())
    for name, record in _RECORDS.items():
        yield from ((f"field of the {name} record", field) for field in parse_record(name, record))
    for name, metric in METRICS.items():
        yield "metric", name
        yield from (("label of " + name, label) for label in metric.labels)
    for name, event in EVENTS.items():
        yield "event", name
        yield from (("field of " + name, field) for field in (*event.context, *event.fields))
    yield from (("field of every event", field) for field in ALWAYS)
    deploy = deploy_folder()
    files = (path.relative_to(deploy).as_posix() for path in deploy.rglob("*") if path.is_file())
    yield from (("file for servers", name) for name in files if not name.startswith("debian/") and name != "README.md")


def _as_text(names: set[tuple[str, str]]) -> str:
    """A line for each kind."""
    return "".join(
        f"{kind}: {', '.join(sorted(n for k, n in names if k == kind))}\n" for kind in sorted({k for k, _ in names})
    )


def _accepted() -> set[tuple[str, str]]:
    lines = (line.partition(": ") for line in ACCEPTED.read_text().splitlines())
    return {(kind, name) for kind, _, names in lines for name in names.split(", ")}


def test_no_accepted_name_vanishes() -> None:
    gone = _accepted() - set(_names())
    assert not gone, (
        f"{_as_text(gone)}Others rely on this. Bring it back; or, if it was deprecated for as long as {POLICY} says, "
        f"remove it from {ACCEPTED.relative_to(ROOT)} in the commit that removes it"
    )


def test_every_new_name_is_accepted() -> None:
    new = set(_names()) - _accepted()
    assert not new, (
        f"{_as_text(new)}A new name is a promise from now on ({POLICY}). If you mean it: .venv/bin/python -m {__name__}"
    )


if __name__ == "__main__":
    ACCEPTED.write_text(_as_text(_accepted() | set(_names())))
