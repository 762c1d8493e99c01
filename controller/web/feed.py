"""What the page is told, as JSON: the overview and its changes, and one part of a repository's page. Pure.

All text is what others have chosen (refs, pushers, sites, groups, reasons), so it is made harmless here, once: one line, no character
that is invisible or changes the direction of writing, no password, not too long. The page sets it as text, never as markup.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any, Final

from controller.overview import EtcdConnection, Overview, RepositoryView, ShownFault, SiteView
from piehole.etcd.model import KeyValue
from piehole.group import records
from piehole.group.group_state import live
from piehole.group.ref_log import LogEntry, value_text
from piehole.refs import is_oid

PAGE: Final = 50  # refs, moves or kept tips in one answer
PATH: Final = 4096  # characters of a path that are shown
_AT_ONCE: Final = 100  # repositories in one message: encoding all of 2,000 at once would hold up pushes
_LONGEST: Final = 300  # characters of a text that are shown
_FAULTS: Final = 20  # of one repository, in the overview
_SECRET: Final = re.compile(r"(://[^/\s:@]*):[^/\s]*@")
# The worst first. The page orders by lag as well, which grows while nothing is sent.
WORST: Final = {kind: rank for rank, kind in enumerate(("halted", "corrupt", "refused", "failing", "stuck"))}


def text(raw: str, longest: int = _LONGEST) -> str:
    """The text as the page may show it."""
    if len(raw) > longest:
        raw = f"{raw[: longest - 40]} … {raw[-30:]}"
    if not raw.isprintable():
        raw = "".join(one if one.isprintable() else _escaped(one) for one in raw)
    return _SECRET.sub(r"\1:***@", raw) if "://" in raw else raw


def _escaped(one: str) -> str:
    """Bytes that are no UTF-8 are surrogates in Python's text: they are shown as bytes."""
    if one in "\n\t":
        return " "
    return f"\\x{ord(one) - 0xDC00:02x}" if 0xDC80 <= ord(one) <= 0xDCFF else ascii(one)[1:-1]


def _command(raw: str) -> str:
    """A command that somebody will copy, or nothing where it cannot be shown exactly as it is."""
    return raw if raw == text(raw, 2000) else ""


def messages(overview: Overview, rows: Iterable[RepositoryView], now: float, **more: Any) -> Iterator[dict[str, Any]]:
    """The messages that tell of these repositories; ``more`` goes into the first. All but the last say that another follows."""
    shown = list(rows)
    for at in range(0, max(1, len(shown)), _AT_ONCE):
        yield {
            "now": now,
            "etcds": [_etcd(one) for one in overview.etcds],
            "silences": {text(site): seconds for site, seconds in overview.silences.items()},
            "repositories": [repository(one) for one in shown[at : at + _AT_ONCE]],
            "more": at + _AT_ONCE < len(shown),
            **(more if at == 0 else {}),
        }


def event(message: dict[str, Any]) -> bytes:
    """A message as one server-sent event."""
    return f"data: {json.dumps(message, separators=(',', ':'))}\n\n".encode()


def repository(one: RepositoryView) -> dict[str, Any]:
    faults = sorted(one.faults, key=severity)
    push = one.last_push
    copies = one.copies
    return {
        "path": text(one.repository, PATH),
        "group": text(one.group),
        "site": text(one.site),
        "state": one.state,
        "sites": [
            _site(replace(site, proven=one.proven, overdue=one.overdue) if site.this else site) for site in one.sites
        ],
        "faults": [fault(one) for one in faults[:_FAULTS]],
        "kinds": {kind: count for kind, count in one.counts.items() if count},
        "push": push
        and {"who": text(push.pusher), "site": text(push.site), "at": push.at, "kind": text(push.kind), "id": text(push.id)},
        "refs": one.refs,
        "kept": one.kept,
        "copies": None if copies is None or copies.promised == 1 else {"kept": copies.kept, "words": text(str(copies), 1000)},
    }  # fmt: skip


def fault(one: ShownFault) -> dict[str, Any]:
    return {"kind": one.kind, "ref": text(one.ref), "why": text(one.reason, 1000), "fix": _command(one.fix)}


def severity(one: ShownFault) -> tuple[int, str]:
    return WORST.get(one.kind, len(WORST)), one.ref


def _site(one: SiteView) -> dict[str, Any]:
    return {
        "name": text(one.site),
        "state": one.state,
        "behind": one.refs_behind,
        "since": one.behind_since,
        "silent": one.silent_since,
        "proven": text(one.proven),
        "overdue": one.overdue,
        "why": text(one.why, 1000),
    }


def _etcd(one: EtcdConnection) -> dict[str, Any]:
    return {"etcd": text(one.etcd), "connected": one.connected, "heard": one.last_contact, "why": text(one.trouble)}


def _part(items: list[Any], page: int, **more: Any) -> dict[str, Any]:
    page = min(page, max(0, (len(items) - 1) // PAGE))
    return {"total": len(items), "page": page, "items": items[page * PAGE : (page + 1) * PAGE], **more}


def refs(
    entries: Mapping[str, KeyValue], faults: Iterable[ShownFault], log: Iterable[LogEntry], query: str, page: int
) -> dict[str, Any]:
    """One page of the group's refs: those in trouble first, then those that moved last.

    :param query: what a name must contain
    """
    trouble = {one.ref: one for one in sorted(faults, key=severity, reverse=True) if one.ref}
    moves = {(entry.revision, entry.ref): entry for entry in log}
    wanted = query.lower()
    names = [name for name, kv in entries.items() if name[:1] != "@" and (live(kv) or name in trouble)]
    names += [name for name in trouble if name not in entries]
    found = [name for name in names if wanted in name.lower()]
    found.sort(key=lambda name: (name not in trouble, -_revision(entries, name), name))
    part = _part(found, page)
    part["items"] = [_ref(name, entries.get(name), trouble.get(name), moves) for name in part["items"]]
    return part


def _revision(entries: Mapping[str, KeyValue], name: str) -> int:
    kv = entries.get(name)
    return kv.mod_revision if kv else 0


def _ref(
    name: str, kv: KeyValue | None, trouble: ShownFault | None, moves: Mapping[tuple[int, str], LogEntry]
) -> dict[str, Any]:
    move = moves.get((kv.mod_revision, name)) if kv else None
    return {
        "ref": text(name),
        "value": _value(value_text(kv.value)) if kv else "",
        "fault": fault(trouble) if trouble else None,
        "move": _moved(move) if move else None,
    }


def moves(log: Iterable[LogEntry], page: int, *, complete: bool) -> dict[str, Any]:
    """One page of the last moves, the newest first. ``complete``: the log has no older ones."""
    found = list({(entry.revision, entry.ref): entry for entry in log}.values())
    found.sort(key=lambda entry: -entry.revision)
    part = _part(found, page, complete=complete)
    part["items"] = [
        {"ref": text(entry.ref), "old": _value(entry.old, "nothing"), "new": _value(entry.new), **_moved(entry)}
        for entry in part["items"]
    ]
    return part


def kept(since: Mapping[str, int], log: Iterable[LogEntry], page: int) -> dict[str, Any]:
    """One page of the kept tips, the newest first, each with the ref that it was last seen at.

    :param since: when each oid was kept, 0 where unknown
    """
    left = {entry.old: entry for entry in log if entry.old != entry.new}
    part = _part(sorted(since, key=lambda oid: (-since[oid], oid)), page)
    part["items"] = [
        {"oid": text(oid), "at": since[oid] or None, "ref": text(left[oid].ref) if oid in left else ""}
        for oid in part["items"]
    ]
    return part


def _moved(entry: LogEntry) -> dict[str, Any]:
    return {"who": text(entry.pusher), "site": text(entry.site), "kind": text(entry.kind), "at": records.at(entry.time)}


def _value(value: str, none: str = "deleted") -> str:
    """An oid in short, another value as it is; ``none`` for the zero oid."""
    if not is_oid(value, "sha1") and not is_oid(value, "sha256"):
        return text(value.removeprefix("ref: "))
    return value[:12] if value.strip("0") else none
