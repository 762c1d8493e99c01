"""What ``--json`` prints has the documented form, in good states and in bad ones, and keeps it.

:class:`tests.support.command_line.Answer` checks it wherever a test reads an answer's JSON.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import jsonschema
import pytest

from piehole.cli.parser import COMMANDS
from tests.support import json_schemas
from tests.support.command_line import piehole, piehole_in_process
from tests.support.git import git
from tests.support.groups import Group
from tests.support.ports import free_ports

_ACCEPTED = Path(__file__).with_name("accepted_fields.txt")
_PRINTING = [name for name in json_schemas.NAMES if "--follow" not in name]


def printed(command: str, *arguments: str | Path) -> int:
    words = ("0123",) if command in ("kept show", "kept drop") and not any(len(str(a)) == 40 for a in arguments) else ()
    answer = piehole_in_process(*command.split(), "--json", *words, *arguments)
    json_schemas.validate(json_schemas.NAMES[command], json.loads(answer.out))
    assert answer.json  # checked once more, by whom all other tests use
    return answer.status


@pytest.mark.parametrize("command", _PRINTING)
def test_all_commands_print_what_their_schema_says_in_good_states_and_in_bad_ones(pair: Group, command: str) -> None:
    a = pair["a"].repository
    main = pair["a"].at()
    with pair.answering():
        printed(command, "-C", a)
    pair.commit("two")
    pair.push("a", "HEAD:refs/heads/main", "HEAD:refs/heads/closed")
    pair.commit("aside", onto=main)
    pair.push("a", "+HEAD:refs/heads/main")
    git(a, "update-ref", "refs/heads/mine", main)
    pair.etcd.put(pair.key("refs/heads/closed"), "closed by an administrator")
    pair.etcd.put(pair.key("refs/heads/gone"), "1" * 40)
    pair.etcd.put(f"{pair.prefix}/site/g/damaged", "no record")
    pair.etcd.delete(f"{pair.prefix}/progress/g/b")
    printed(command, "-C", a)
    printed(command, "-C", pair["b"].repository)
    printed(command, "-C", a, "--etcd", f"127.0.0.1:{free_ports(1)[0]}") if "sites" in command else None
    (a / "objects" / main[:2] / main[2:]).chmod(0o644)
    (a / "objects" / main[:2] / main[2:]).write_bytes(b"damaged")
    printed(command, "-C", a)
    pair.etcd.delete(f"{pair.prefix}/group/g")
    printed(command, "-C", a)
    printed(command, "-C", pair.folder / "nowhere")
    if command == "audit":
        printed(command, "-C", a, "--deep", "--local")
        printed(command, "-C", a, "--deep", "--repair", "--dry-run")


def test_an_undocumented_field_is_an_error() -> None:
    with pytest.raises(jsonschema.ValidationError):
        json_schemas.validate("check", {"format": 1, "error": "no", "more": 1})


def test_every_command_with_json_has_a_schema_that_is_in_the_documentation() -> None:
    assert {name.split()[0] for name in json_schemas.NAMES} == {
        name for name in COMMANDS if "--json" in piehole(name, "--help").out
    }
    files = {path.stem for path in json_schemas.FOLDER.glob("*.json")}
    assert files == set(json_schemas.NAMES.values())
    root = json_schemas.FOLDER.parents[1]
    page = (root / "docs" / "reference" / "json.md").read_text()
    assert all(f"../piehole/schemas/{name}.json" in page for name in files)


def test_no_accepted_field_vanishes_or_changes_its_type() -> None:
    now = {
        f"{name} {field}"
        for name in json_schemas.NAMES.values()
        for field in json_schemas.fields(json_schemas.load(name))
    }
    accepted = set(_ACCEPTED.read_text().splitlines())
    assert accepted - now == set(), "scripts read these"
    assert now - accepted == set(), (
        f"new fields are a promise from now on: add these lines to {os.path.relpath(_ACCEPTED)}"
    )
