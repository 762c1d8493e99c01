"""List the sites of the group: name, how far each has come, whether it left, its URL and its id.

One line a site; this one is marked with '*'. --json prints one object: format (1), group, newest (the newest revision that moved
a ref of the group), and sites, a list of objects with site, this (bool), id, url, left (bool), revision and reported (the site's last
word about its progress and when it was written, or null), in_step (bool: by that word), fault (null, or why a record of it
cannot be used).
"""

from __future__ import annotations

import argparse
import json
from typing import Any

from piehole.cli import common

HELP = "the sites of the group"

_PATIENCE = 10.0  # seconds


def arguments(parser: argparse.ArgumentParser) -> None:
    common.repository(parser)
    common.etcd(parser)
    parser.add_argument("--json", action="store_true", help="print one JSON object (described above)")


def run(args: argparse.Namespace) -> int:
    from piehole.deadline import Deadline
    from piehole.members import members, ref_revisions

    local = common.open_local(args)
    deadline = Deadline(_PATIENCE)
    newest = max(ref_revisions(local.swapper.list_group(deadline)).values(), default=0)
    found: list[dict[str, Any]] = [
        {
            "site": one.site,
            "this": one.site == local.config.site,
            "id": one.id,
            "url": one.url,
            "left": one.left,
            "revision": one.progress.revision if one.progress else None,
            "reported": one.progress.time if one.progress else None,
            "in_step": one.revision >= newest,
            "fault": one.fault or None,
        }
        for one in members(local, deadline)
    ]
    if args.json:
        print(json.dumps({"format": 1, "group": local.config.group, "newest": newest, "sites": found}, indent=2))
        return 0
    for one in found:
        state = "left" if one["left"] else "never seen" if one["revision"] is None else f"revision {one['revision']}"
        fault = f"  ({one['fault']})" if one["fault"] else ""
        print(f"{'*' if one['this'] else ' '} {one['site']}  {state}  {one['url']}  {one['id']}{fault}")
    return 0
