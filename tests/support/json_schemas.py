"""The schemas of what ``--json`` prints, as tests apply them: a field that a schema does not know is an error, too."""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jsonschema import Draft202012Validator

FOLDER = Path(__file__).parents[2] / "piehole" / "schemas"
# The commands that print JSON, by their words.
NAMES = {
    "status": "status",
    "log": "log",
    "log --follow": "log-follow",
    "sites": "sites",
    "check": "check",
    "config": "config",
    "audit": "audit",
    "group show": "group-show",
    "group sites": "sites",
    "kept": "kept",
    "kept list": "kept",
    "kept show": "kept",
    "kept drop": "kept-drop",
}


def load(name: str) -> dict[str, Any]:
    value: dict[str, Any] = json.loads((FOLDER / f"{name}.json").read_text())
    return value


def command(words: Sequence[str]) -> str:
    """Which of :data:`NAMES` a command line is; ``""`` where it is none, or the command is not known."""
    begin = next((place for place, word in enumerate(words) if word in NAMES or word == "group"), None)
    if begin is None:
        return ""
    follows = {"--follow", "-f"} & set(words)
    several = f"{words[begin]} {'--follow' if follows else words[begin + 1] if len(words) > begin + 1 else ''}"
    return several if several in NAMES else words[begin] if words[begin] in NAMES else ""


def validate(name: str, value: object) -> None:
    """:raises jsonschema.ValidationError: the value has another form, or a field that is not documented"""
    _validator(name).validate(value)


@functools.cache
def _validator(name: str) -> Draft202012Validator:
    from jsonschema import Draft202012Validator  # most tests read no JSON

    schema = load(name)
    Draft202012Validator.check_schema(schema)
    return Draft202012Validator(_closed(schema))


def _closed(schema: Any) -> Any:
    if isinstance(schema, list):
        return [_closed(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    found = {key: _closed(value) for key, value in schema.items()}
    return {"additionalProperties": False, **found} if isinstance(schema.get("properties"), dict) else found


def fields(schema: dict[str, Any], path: str = "") -> Iterator[str]:
    """Each field that a schema promises, as ``path: types``."""
    for one in schema.get("anyOf", ()):
        yield from fields(one, path)
    if "items" in schema:
        yield from fields(schema["items"], f"{path}[]")
    if isinstance(schema.get("additionalProperties"), dict):
        yield from fields(schema["additionalProperties"], f"{path}{{}}")
    types = schema.get("type", ())
    for kind in [types] if isinstance(types, str) else types:
        yield f"{path or '.'}: {kind}"
    for name, one in schema.get("properties", {}).items():
        optional = "" if name in schema.get("required", ()) else "?"
        yield from fields(one, f"{path}.{name}{optional}")
