"""A group's promise of copies, and sites that answer requests for copies by hand, as other versions or machines would."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.support.assertions import Pushed
from tests.support.etcd_raw import _b64
from tests.support.git import git
from tests.support.groups import Group
from tests.support.pushes import chain, finish, start_push
from tests.support.wait import meanwhile, until


def promise(group: Group, copies: int | str, otherwise: str = "refuse", *, told: bool = True) -> None:
    """Have the group promise copies. ``told``: the controllers hear of it, as after `piehole group set`."""
    key = f"{group.prefix}/group/{group.name}"
    record = {**json.loads(group.etcd.get(key) or "{}"), "copies": copies, "copiesElse": otherwise}
    puts = [(key, json.dumps(record)), *([(group.key("@fence"), "{}")] if told else [])]
    group.etcd.call(
        "/kv/txn", {"success": [{"request_put": {"key": _b64(one), "value": _b64(value)}} for one, value in puts]}
    )


def requests(group: Group) -> dict[str, dict[str, Any]]:
    """What is asked for now, by the name of the request."""
    start = group.key("@copies/")
    found = {key.removeprefix(start): value for key, value in group.etcd.get_prefix(start).items()}
    return {name: json.loads(value) for name, value in found.items() if "/" not in name and value.endswith("}")}


def keys(group: Group) -> list[str]:
    """All keys of requests and answers."""
    return list(group.etcd.get_prefix(group.key("@copies/")))


def site_id(group: Group, site: str) -> str:
    record = json.loads(group.etcd.get(f"{group.prefix}/site/{group.name}/{site}") or "{}")
    return str(record["id"])


def answer(group: Group, name: str, site: str, lease: str, identity: str = "") -> None:
    """Say for a site that it holds what this request asks for."""
    value = json.dumps({"id": identity or site_id(group, site), "time": "now"})
    put = {"key": _b64(group.key(f"@copies/{name}/{site}")), "value": _b64(value), "lease": str(int(lease, 16))}
    group.etcd.call("/kv/put", put)


@contextmanager
def holding(group: Group, *sites: str) -> Iterator[list[dict[str, Any]]]:
    """Inside this these sites answer every request at once, whether they hold anything or not. Yields the requests that were seen."""
    seen: list[dict[str, Any]] = []
    answered: set[str] = set()

    def look() -> None:
        for name, request in requests(group).items():
            if name not in answered:
                answered.add(name)
                seen.append(request)
                for site in sites:
                    answer(group, name, site, request["lease"])

    with meanwhile(look):
        yield seen


def lease_of(world: Group) -> int:
    return int(next(iter(requests(world).values()))["lease"], 16)


def patience(world: Group, seconds: int) -> None:
    """How long site a waits for copies; its controller hears of it."""
    git(world["a"].repository, "config", "piehole.copiesTimeout", str(seconds))
    if world["a"].running:
        world["a"].kill()
        world["a"].start()


def under_locks(site: Path, work: Path, change: Callable[[], object]) -> Pushed:
    """Push, and change something when the push has its locks, and the swap is to come."""
    chain(
        site,
        "reference-transaction",
        '[ "$1" != prepared ] || while ! [ -e changed ]; do touch locked; sleep 0.02; done\nexec "$piehole" "$@"',
    )
    pushing = start_push(work, site, "HEAD:main")
    until((site / "locked").exists, 20, "the push has its locks")
    change()
    (site / "changed").touch()
    return finish(pushing)
