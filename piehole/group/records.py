"""The JSON records in etcd. Unknown fields are kept and ignored; a newer format is refused in words."""

from __future__ import annotations

import datetime
import json
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

from piehole.errors import PieholeError
from piehole.etcd.model import KeyValue
from piehole.group.limits import FIELD, SiteLimits
from piehole.refs import encode
from piehole.repository.verification import CORRUPT

FORMAT: Final = 1
# Of a group's record that promises copies. Versions that do not know the promise know no such format: they refuse pushes, not copies.
COPIES_FORMAT: Final = 2
RAISING: Final = "raising"  # the field of the group's record that holds the former promise until a higher one counts
_LARGEST: Final = 64 * 1024  # bytes; a record is a few hundred
_BEGINNING: Final = 8  # characters of a site's id, which tell the few apart that have one name


class RecordError(PieholeError):
    """A record in etcd is not what it must be."""


def parse_record(what: str, raw: bytes, newest: int = FORMAT) -> dict[str, Any]:
    """The fields of a record.

    :param newest: the newest format of such a record that this version knows
    :raises RecordError: it is no JSON object, or of a newer format
    """
    if len(raw) > _LARGEST:
        raise RecordError(
            f"{what} in etcd holds {len(raw)} bytes, more than any record of piehole: it was not written by piehole."
        )
    try:
        value = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise RecordError(f"{what} in etcd is not JSON: {raw[:60]!r}") from error
    if not isinstance(value, dict):
        raise RecordError(f"{what} in etcd is JSON, but no object: {raw[:60]!r}")
    version = value.get("format", FORMAT)
    if not isinstance(version, int) or version > newest:
        raise RecordError(
            f"{what} in etcd has the format {version!r}; this piehole knows formats up to {newest}. Upgrade piehole on this server."
        )
    return value


def text_field(what: str, value: Mapping[str, Any], name: str, default: str | None = None) -> str:
    found = value.get(name, default)
    if not isinstance(found, str):
        raise RecordError(f"{what} in etcd has no text field {name!r}.")
    try:
        encode(found)
    except UnicodeEncodeError as error:
        raise RecordError(f"{what} in etcd has a field {name!r} that is no text: {found[:60]!a}") from error
    return found


def now() -> str:
    """This machine's time, for people to read. No decision depends on it."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def at(stamp: str) -> float | None:
    """A time in a record, in seconds since the epoch; None where it is none, or names no time zone."""
    try:
        then = datetime.datetime.fromisoformat(stamp)
    except ValueError:
        return None
    return then.timestamp() if then.tzinfo else None


def dump(fields: Mapping[str, Any]) -> bytes:
    return json.dumps(fields, sort_keys=True, separators=(",", ":")).encode()


@dataclass(frozen=True, slots=True)
class GroupRecord:
    """The identity of a group. ``id`` is a UUID made once, so that a wrong etcd is noticed."""

    id: str
    object_format: str
    extra: Mapping[str, Any] = field(default_factory=dict)

    @property
    def renamed(self) -> str:
        """The new name of this group, ``""`` while it is open. The refs of a renamed group do not move any more."""
        name = self.extra.get("renamed")
        return name if isinstance(name, str) else ""

    @property
    def copying(self) -> str:
        """The group whose refs are being copied into this one, ``""`` when the copy is complete."""
        name = self.extra.get("copying")
        return name if isinstance(name, str) else ""

    @property
    def copies(self) -> int | str:
        """How many sites must hold an object before the consensus may name it: a number, ``majority`` or ``all``."""
        copies: int | str = self.extra.get("copies", 1)
        return copies

    @property
    def promises_copies(self) -> bool:
        """Whether the group promises anything. Where not, nobody asks for a copy."""
        return self.copies != 1

    @property
    def raising(self) -> bool:
        """Whether commits from before may still be at fewer sites than :attr:`copies`."""
        return RAISING in self.extra

    @property
    def copies_else(self) -> str:
        """What becomes of a push where fewer sites than :attr:`copies` answer in time: ``refuse``, or ``warn`` and accept it."""
        return str(self.extra.get("copiesElse", "refuse"))

    @property
    def warns(self) -> bool:
        return self.copies_else == "warn"

    @classmethod
    def parse(cls, raw: bytes) -> GroupRecord:
        value = parse_record("the group's record", raw, COPIES_FORMAT)
        _check_copies(value)
        return cls(
            text_field("the group's record", value, "id"),
            text_field("the group's record", value, "object_format"),
            value,
        )

    def dump(self) -> bytes:
        format_ = COPIES_FORMAT if self.promises_copies else FORMAT
        return dump({**self.extra, "format": format_, "id": self.id, "object_format": self.object_format})


def _check_copies(value: Mapping[str, Any]) -> None:
    """
    :raises RecordError: the group promises something that this version does not know, so it could not keep the promise
    """
    copies, otherwise = value.get("copies", 1), value.get("copiesElse", "refuse")
    known = copies in ("majority", "all") or (isinstance(copies, int) and not isinstance(copies, bool) and copies >= 1)
    for name, found, fine in (("copies", copies, known), ("copiesElse", otherwise, otherwise in ("refuse", "warn"))):
        if not fine:
            raise RecordError(
                f"the group's record in etcd has the {name} {found!r}, which this piehole does not know. Upgrade piehole on this server, "
                f"or set it anew: `piehole group set {name} …`."
            )


@dataclass(frozen=True, slots=True)
class SiteRecord:
    """One site of a group. ``id`` is also in the repository's configuration; ``url`` is where peers fetch."""

    id: str
    url: str
    left: bool = False
    extra: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def parse(cls, raw: bytes) -> SiteRecord:
        value = parse_record("a site's record", raw)
        return cls(
            text_field("a site's record", value, "id"),
            text_field("a site's record", value, "url"),
            value.get("left") is True,
            value,
        )

    def dump(self) -> bytes:
        kept = {name: value for name, value in self.extra.items() if name != "left"}
        return dump({"format": FORMAT, **kept, "id": self.id, "url": self.url} | ({"left": True} if self.left else {}))

    def limited(self, limits: SiteLimits) -> SiteRecord:
        """This record, with what names the site's disk can hold."""
        return replace(self, extra={**self.extra, FIELD: limits.fields()})

    def leaving(self) -> SiteRecord:
        return replace(self, left=True)

    def replacing(self, former: SiteRecord, time: str) -> SiteRecord:
        """This record, with a note for people: which machine had the name before, and until when."""
        return replace(self, extra={**self.extra, "replaced": {"id": former.id, "url": former.url, "time": time}})

    @property
    def replaced(self) -> str:
        """When this machine took over the name from another one, ``""`` where it did not."""
        note = self.extra.get("replaced")
        time = note.get("time") if isinstance(note, dict) else None
        return time if isinstance(time, str) else ""


@dataclass(frozen=True, slots=True)
class Progress:
    """Every managed ref of the site holds the value it had at ``revision`` or a later one.

    ``verified``: when the site's objects were last examined, and with what result (:mod:`piehole.repository.verification`).
    ``digest``: of the refs that it held at this revision, ``""`` where it is not known (:mod:`piehole.replicate.ref_digest`);
    ``exclude``: the globs of the refs that it leaves out.
    """

    revision: int
    id: str
    time: str
    verified: Mapping[str, Any] = field(default_factory=dict)
    digest: str = ""
    exclude: tuple[str, ...] = ()

    @property
    def corrupt(self) -> str:
        """What is corrupt at the site, ``""`` where nothing is known to be."""
        return str(self.verified.get("why") or CORRUPT) if self.verified.get("result") == CORRUPT else ""

    @classmethod
    def parse(cls, raw: bytes) -> Progress:
        value = parse_record("a progress record", raw)
        revision = value.get("revision")
        if not isinstance(revision, int) or isinstance(revision, bool) or revision < 0:
            raise RecordError("a progress record in etcd has no revision.")
        verified = value.get("verified")
        id_, time = text_field("a progress record", value, "id"), text_field("a progress record", value, "time", "")
        digest, exclude = text_field("a progress record", value, "digest", ""), value.get("exclude")
        globs = tuple(glob for glob in exclude if isinstance(glob, str)) if isinstance(exclude, list) else ()
        return cls(revision, id_, time, verified if isinstance(verified, dict) else {}, digest, globs)

    def dump(self) -> bytes:
        more = {"verified": self.verified, "digest": self.digest, "exclude": self.exclude}
        told = {name: value for name, value in more.items() if value}
        return dump({"format": FORMAT, "revision": self.revision, "id": self.id, "time": self.time, **told})


@dataclass(frozen=True, slots=True)
class AliveRecord:
    """A controller that keeps the lease ``lease`` alive. ``serves``: the beginnings of the ids of the sites that it serves, one after the
    other; None: too many to list. ``time``: when it said so, for people.
    """

    lease: int
    serves: str | None
    time: str

    @classmethod
    def parse(cls, raw: bytes) -> AliveRecord:
        value = parse_record("an alive record", raw)
        serves = text_field("an alive record", value, "serves") if "serves" in value else None
        return cls(lease_field("an alive record", value), serves, text_field("an alive record", value, "time", ""))

    @classmethod
    def create(cls, lease: int, sites: Iterable[str]) -> AliveRecord:
        """The record of a controller that serves the sites with these ids."""
        serves = "".join(sorted({site[:_BEGINNING] for site in sites if len(site) >= _BEGINNING}))
        return cls(lease, serves if len(serves) < _LARGEST // 2 else None, now())

    def includes(self, site: str) -> bool:
        """Whether the controller serves the site with this id."""
        return self.serves is None or site[:_BEGINNING] in self.ids

    @property
    def ids(self) -> frozenset[str]:
        serves = self.serves or ""
        return frozenset(serves[place : place + _BEGINNING] for place in range(0, len(serves), _BEGINNING))

    def dump(self) -> bytes:
        serves = {} if self.serves is None else {"serves": self.serves}
        # As etcdctl shows leases.
        return dump({"format": FORMAT, "lease": f"{self.lease:x}", "time": self.time, **serves})


@dataclass(frozen=True, slots=True)
class PushRecord:
    """Who moved refs, where and when. A push moved exactly the refs whose mod_revision equals that of its record."""

    id: str
    site: str
    pusher: str
    time: str
    extra: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def parse(cls, raw: bytes) -> PushRecord:
        value = parse_record("a push record", raw)
        site, pusher, time = (text_field("a push record", value, name, "") for name in ("site", "pusher", "time"))
        return cls(text_field("a push record", value, "id"), site, pusher, time, value)

    @classmethod
    def create(cls, site: str, kind: str, pusher: str = "") -> PushRecord:
        """A new record, for a change that is not a push. ``kind`` is the word that `piehole log` shows."""
        return cls(str(uuid.uuid4()), site, pusher, now(), {"kind": kind})

    @classmethod
    def of(cls, kv: KeyValue | None, revision: int | None = None) -> PushRecord | None:
        """The push record in this value of ``@push``; None where it is absent, unreadable, or not of the change at ``revision``."""
        if kv is None or revision not in (None, kv.mod_revision):
            return None
        try:
            return cls.parse(kv.value)
        except RecordError:  # not written by piehole
            return None

    def dump(self) -> bytes:
        return dump(
            {"format": FORMAT, **self.extra, "id": self.id, "site": self.site, "pusher": self.pusher, "time": self.time}
        )


def lease_field(what: str, value: Mapping[str, Any]) -> int:
    """The lease in a record, in hexadecimal as etcdctl shows it."""
    try:
        return int(text_field(what, value, "lease"), 16)
    except ValueError as error:
        raise RecordError(f"{what} in etcd has no lease.") from error
