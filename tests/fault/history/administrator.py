"""Somebody with `etcdctl`, who rewrites, locks and deletes keys by hand, and mends what that leaves behind."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import Final

from tests.fault.history.bed import Bed
from tests.fault.history.operations import ZERO, Change
from tests.support.etcd_raw import RawEtcdError

LOCKED: Final = "locked by an administrator"


@dataclass
class Administrator:
    """Each change is an operation of the log, with its revision where etcd told it."""

    bed: Bed

    def value(self, ref: str) -> str | None:
        """The newest value that was an oid and no tombstone, as the recorder knows it."""
        told = [event.value for event in self.bed.recorder.events_of(self.bed.group.name) if event.name == ref]
        return next((value for value in reversed(told) if value and len(value) == len(ZERO) and value != ZERO), None)

    def earlier(self, ref: str, back: int) -> str | None:
        """An older value of the ref."""
        told = [event.value for event in self.bed.recorder.events_of(self.bed.group.name) if event.name == ref]
        oids = [value for value in told if value and len(value) == len(ZERO) and value != ZERO]
        return oids[max(0, len(oids) - 1 - back)] if oids else None

    def put(self, ref: str, value: str) -> bool:
        """`etcdctl put`; whether it is known to have been done."""
        body = {"key": self._key(ref), "value": base64.b64encode(value.encode()).decode()}
        return self._do("put by hand", "/kv/put", body, Change(ref, "", value))

    def delete(self, ref: str) -> bool:
        """`etcdctl del`."""
        return self._do("deletion by hand", "/kv/deleterange", {"key": self._key(ref)}, Change(ref, "", None))

    def restore(self, ref: str) -> bool:
        """Give a ref that was locked or whose key is gone its value again; false where that is not known to be done."""
        value = self.value(ref)
        return value is None or self.put(ref, value)

    def _do(self, kind: str, path: str, body: dict[str, str], change: Change) -> bool:
        operation = self.bed.log.begin(kind, "", change, by_hand=True)
        for member in self.bed.cluster.members:
            try:
                answer = member.raw.call("/maintenance/status", {}, timeout=1.0)
                if not int(answer.get("leader", 0)):
                    continue
                answer = member.raw.call(path, body, timeout=2.0)
            except RawEtcdError as error:
                if path in str(error):
                    self.bed.log.end(operation, "unknown", str(error))
                    return False
                continue
            if path.endswith("deleterange") and not int(answer.get("deleted", 0)):
                self.bed.log.end(operation, "refused", "there was no such key")
                return True
            self.bed.log.end(operation, "ok", revision=int(answer["header"]["revision"]))
            return True
        self.bed.log.end(operation, "refused", "no member answers")
        return False

    def _key(self, ref: str) -> str:
        return base64.b64encode(self.bed.group.key(ref).encode()).decode()
