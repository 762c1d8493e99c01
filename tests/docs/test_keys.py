"""docs/reference/keys.md against the keys that piehole makes, and those of a real group in etcd."""

from __future__ import annotations

import inspect
import json
import re

from piehole.group.keys import Keyspace
from piehole.refs import decode
from tests.support.groups import MakeGroup
from tools.reference.keys import VALUES

_ARGUMENTS = {
    "group": "<group>",
    "name": "refs/heads/main",
    "push_id": "<push id>",
    "site": "<site>",
    "oid": "<oid>",
    "controller": "<controller>",
}


def test_each_function_that_makes_a_key_or_a_range_is_in_the_table() -> None:
    keyspace = Keyspace()
    for name, function in inspect.getmembers(keyspace, inspect.ismethod):
        signature = inspect.signature(function)
        if signature.return_annotation == "bytes":
            made = function(*(_ARGUMENTS[one] for one in signature.parameters))
            assert any(key.startswith(made) for key in VALUES), name


def test_every_key_of_a_group_and_every_field_of_its_record_is_in_the_table(make_group: MakeGroup) -> None:
    group = make_group(2)
    oid = group.commit("one")
    group.push(group[0].name, "HEAD:refs/heads/topic")
    group.arrives("refs/heads/topic", oid)
    group.published("refs/heads/topic")
    rows = {}
    for listed, text in VALUES.items():
        pattern = re.escape(decode(listed).removeprefix("/piehole"))
        pattern = pattern.replace("refs/heads/main", "refs/.+")
        rows[re.sub(r"<[^>]+>", "[^@]+", pattern)] = text
    met = set()
    for key, value in group.etcd.get_prefix(group.prefix).items():
        row = next(one for one in rows if re.fullmatch(one, key.removeprefix(group.prefix)))
        met.add(row)
        if value.startswith("{"):
            record = json.loads(value)
            assert [field for field in record if f"`{field}`" not in rows[row] and field != "format"] == [], key
    assert len(met) == 8, met
