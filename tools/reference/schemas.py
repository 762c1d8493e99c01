"""docs/reference/json.md: the JSON Schemas as lists of fields."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from tools.reference.commands import inline

_FOLDER: Final = Path(__file__).parents[2] / "piehole" / "schemas"
_NAMES: Final = {"array": "list", "string": "text"}
Schema = Mapping[str, Any]


def page() -> Iterator[str]:
    schemas = {file.name: json.loads(file.read_text()) for file in sorted(_FOLDER.glob("*.json"))}
    yield """\
# What `--json` prints
Each command that has `--json` prints one JSON object, whose form a [JSON Schema](https://json-schema.org) describes. The schemas are
part of the installed package (`piehole/schemas/`), and tests check what the commands print against them.

Every object has `format`, which is 1. Fields may be added; no field vanishes, changes its type or its meaning while `format` is 1. So
a script should ignore fields that it does not know. A field in brackets is not always there.

Where a command fails altogether, it prints an object with `format` and `error` alone, beside its sentence on standard error and its
exit status. A command for several repositories prints such an `error` in the object of the repository that it concerns.

Names of refs are bytes. A byte that is no UTF-8 is in the JSON as a lone surrogate (`\\udce9` for the byte E9), which Python's
`surrogateescape` turns back."""
    for name, schema in schemas.items():
        title = schema["title"].replace(" --json", "").replace("piehole ", "")
        yield f"\n## {title}\n"
        yield f"Schema: [{name}](../../piehole/schemas/{name})\n"
        yield from _fields(schema.get("anyOf", [schema])[0], "")  # the other is that of a command that fails


def _fields(schema: Schema, indent: str) -> Iterator[str]:
    """A line for each field, and those of its objects below it. Those that not every object has are in brackets."""
    for name, field in schema.get("properties", {}).items():
        if name == "format" and not indent:
            continue
        shown = f"`{name}`" if name in schema.get("required", ()) else f"(`{name}`)"
        about = field.get("description", "")
        yield f"{indent}* {shown}, {_kind(field)}{': ' if about else ''}{inline(about)}"
        yield from _below(field, f"{indent}  ")


def _below(field: Schema, indent: str) -> Iterator[str]:
    for part in (field.get("items"), field.get("additionalProperties")):
        if isinstance(part, Mapping):
            yield from _fields(part, indent)
            for either in part.get("anyOf", ()):
                yield f"{indent}* either" if either is part["anyOf"][0] else f"{indent}* or"
                yield from _fields(either, f"{indent}  ")
    if "properties" in field:
        yield from _fields(field, indent)


def _kind(field: Schema) -> str:
    if "const" in field:
        return f"`{json.dumps(field['const'])}`"
    if "enum" in field:
        return ", ".join(f"`{json.dumps(one)}`" for one in field["enum"])
    if "items" in field:
        of = field["items"].get("type", "object")
        return f"list of {_NAMES.get(of, of)}s"
    kinds = field.get("type", [])
    kinds = [kinds] if isinstance(kinds, str) else kinds
    named = " or ".join(_NAMES.get(one, one) for one in kinds)
    more = field.get("additionalProperties")
    return f"{named} of {_NAMES.get(more['type'], more['type'])}s" if isinstance(more, Mapping) else named
