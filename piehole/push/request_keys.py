"""The keys below ``@copies``: what one push has asked for, and which sites have answered. Pure.

A push asks with the key that has its id, and for more oids than one record takes, or later ones, with further keys: ``ID-`` and some random
digits. The keys of one push are [ID, ID0), since ``-`` and ``/`` sort between ``ID`` and ``ID0``.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final, NamedTuple

from piehole.etcd.model import Compare, Delete, KeyValue, Range
from piehole.group.promise import CopiesRequest, CopyRecord
from piehole.group.records import RecordError
from piehole.group.replica import Replica
from piehole.refs import decode

MOST: Final = 800  # oids of one request: a record has at most 64 KiB


@dataclass(frozen=True, slots=True)
class Request:
    """What one key asks for. ``copies``: the answers that count, by site."""

    name: str
    oids: frozenset[str]
    lease: int
    copies: Mapping[str, KeyValue] = field(default_factory=dict)


class RequestKeys:
    """The keys with which one group's sites ask each other for copies, as one site of it uses them."""

    def __init__(self, replica: Replica) -> None:
        self._keyspace = replica.keyspace
        self._group = replica.config.group
        self._site = replica.config.site
        self._start = self.key("")

    def key(self, name: str) -> bytes:
        return self._keyspace.copies(self._group, name)

    def all_of(self, push_id: str) -> Range:
        """All keys of one push."""
        key = self.key(push_id)
        return Range(key, key + b"0")

    def removal(self, push_id: str) -> Delete:
        """The removal of all keys of one push."""
        key = self.key(push_id)
        return Delete(key, key + b"0")

    def removals(self, names: Iterable[str]) -> list[Delete]:
        """The removals of these requests and the answers to them alone."""
        keys = [self.key(name) for name in names]
        return [one for key in keys for one in (Delete(key), Delete(key + b"/", key + b"0"))]

    def parse(self, kvs: Iterable[KeyValue], members: Mapping[str, str]) -> list[Request]:
        """This site's requests among these keys, each with the answers of those members that count.

        Anything else is ignored: whatever cannot be read, answers of this site itself, of a site that is no member or was replaced by
        another machine, and those that are older than the request.
        """
        asked: dict[str, tuple[_Asked, int]] = {}
        answers: list[tuple[str, str, KeyValue]] = []
        for kv in kvs:
            name, is_answer, site = decode(kv.key[len(self._start) :]).partition("/")
            try:
                if is_answer:
                    if site != self._site and members.get(site) and CopyRecord.parse(kv.value).id == members[site]:
                        answers.append((name, site, kv))
                elif (request := _parsed(kv.value)).site == self._site:
                    asked[name] = request, kv.mod_revision
            except RecordError:  # not written by piehole
                continue
        copies: dict[str, dict[str, KeyValue]] = {name: {} for name in asked}
        for name, site, kv in answers:
            if name in asked and kv.mod_revision > asked[name][1]:
                copies[name][site] = kv
        return [Request(name, one.oids, one.lease, copies[name]) for name, (one, _) in asked.items()]


class _Asked(NamedTuple):
    site: str
    oids: frozenset[str]
    lease: int


@lru_cache(maxsize=64)  # a push of many refs looks at its requests with each of its swaps
def _parsed(raw: bytes) -> _Asked:
    request = CopiesRequest.parse(raw)
    return _Asked(request.site, frozenset(request.oids), request.lease)


def names(push_id: str, count: int, *, first: bool) -> list[str]:
    """Names for so many new requests of a push. ``first``: it has asked for nothing yet."""
    further = [f"{push_id}-{os.urandom(4).hex()}" for _ in range(count)]
    return [push_id, *further[1:]] if first and count else further


def parts(oids: Sequence[str]) -> list[tuple[str, ...]]:
    """The oids in as many parts as they need requests."""
    return [tuple(oids[start : start + MOST]) for start in range(0, len(oids), MOST)]


def compares(requests: Collection[Request], held_by: Collection[str], count: int) -> tuple[Compare, ...] | None:
    """What a swap compares so that ``count`` other sites hold an object for which these requests ask; None where fewer have said so.

    :param held_by: members that hold it for another reason, and say nothing that could be compared
    """
    missing = max(0, count - len(held_by))
    found = {site: kv for one in requests for site, kv in one.copies.items() if site not in held_by}
    if len(found) < missing:
        return None
    return _compared(sorted(found.values(), key=lambda kv: kv.mod_revision)[:missing])


def some(requests: Collection[Request], oid: str) -> tuple[Compare, ...]:
    """What there is to compare for an object that fewer sites hold than promised."""
    return _compared({site: kv for one in requests if oid in one.oids for site, kv in one.copies.items()}.values())


def _compared(answers: Iterable[KeyValue]) -> tuple[Compare, ...]:
    return tuple(Compare(kv.key, mod_revision=kv.mod_revision) for kv in answers)
