"""The group's promise: how many sites hold an object before the consensus may name it, and how they ask each other for copies."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from piehole.group.records import FORMAT, GroupRecord, RecordError, dump, lease_field, parse_record, text_field
from piehole.group.sites import GroupSite
from piehole.refs import LENGTHS, is_oid


def members(sites: Collection[GroupSite]) -> dict[str, str]:
    """The sites that count, those that have not left, each with its id (``""`` where its record cannot be read)."""
    return {one.site: one.id for one in sites if not one.left}


def needed(record: GroupRecord, members: Mapping[str, str]) -> int:
    """How many of the members must hold an object, the one that receives the push included. It may be more than there are."""
    if record.copies == "majority":
        return len(members) // 2 + 1
    if record.copies == "all":
        return max(1, len(members))
    return int(record.copies)


def words(record: GroupRecord, members: Mapping[str, str]) -> str:
    """The promise in words, such as ``majority (2 of 3 sites)``."""
    return f"{record.copies} ({needed(record, members)} of {len(members)} site{'' if len(members) == 1 else 's'})"


@dataclass(frozen=True, slots=True)
class CopiesRequest:
    """A site asks the others to hold what a push brings, before the consensus names it.

    :param oids: the new tips
    :param lease: what the request and all answers to it are bound to
    :param bases: commits that the new tips are likely built upon
    """

    site: str
    oids: tuple[str, ...]
    time: str
    lease: int = 0
    bases: tuple[str, ...] = ()

    @classmethod
    def parse(cls, raw: bytes) -> CopiesRequest:
        what = "a request for copies"
        value = parse_record(what, raw)
        oids, bases = (value.get(name, []) for name in ("oids", "bases"))
        if not all(isinstance(one, list) and all(map(_is_some_oid, one)) for one in (oids, bases)) or not oids:
            raise RecordError(f"{what} in etcd has no list of object ids: {raw[:60]!r}")
        lease = lease_field(what, value) if "lease" in value else 0
        return cls(
            text_field(what, value, "site"), tuple(oids), text_field(what, value, "time", ""), lease, tuple(bases)
        )

    def dump(self) -> bytes:
        fields = {"format": FORMAT, "site": self.site, "oids": self.oids, "bases": self.bases, "time": self.time}
        return dump(fields | ({"lease": f"{self.lease:x}"} if self.lease else {}))


@dataclass(frozen=True, slots=True)
class CopyRecord:
    """The site with this id holds what a push brings: proven, on its disk, and safe from git's garbage collection."""

    id: str
    time: str

    @classmethod
    def parse(cls, raw: bytes) -> CopyRecord:
        value = parse_record("a copy's record", raw)
        return cls(text_field("a copy's record", value, "id"), text_field("a copy's record", value, "time", ""))

    def dump(self) -> bytes:
        return dump({"format": FORMAT, "id": self.id, "time": self.time})


def _is_some_oid(found: object) -> bool:
    return isinstance(found, str) and any(is_oid(found, name) for name in LENGTHS)
