"""The requests and answers of etcd's JSON gateway (``/v3/``). Pure: nothing here connects.

Source: the service definitions of etcd 3.4 and 3.5 (``rpc.proto``) in the JSON form of grpc-gateway: bytes are base64,
64-bit integers are strings, and a field that is zero, false or empty is absent.
"""

from __future__ import annotations

import json
from base64 import b64encode
from binascii import a2b_base64
from collections.abc import Sequence
from typing import Any, Final

from piehole.errors import Compacted, EtcdError, EtcdFull, EtcdRefused
from piehole.etcd.model import (
    Batch,
    Compare,
    Delete,
    EndpointStatus,
    Event,
    KeyValue,
    Lease,
    Operation,
    Put,
    Range,
    Snapshot,
    Trouble,
    TxnResult,
)

Json = dict[str, Any]


class Inconclusive(Exception):
    """One attempt at one endpoint ended without a definite answer; ``reason`` says why, as far as it is known.

    ``sent``: the request may have reached a member, so that a write may still take effect.
    """

    def __init__(self, reason: str, *, sent: bool, kind: Trouble = "unreachable") -> None:
        super().__init__(reason)
        self.reason = reason
        self.sent = sent
        self.kind = kind


class TokenRefused(EtcdRefused):
    """The token is no longer valid, or there was none: nothing was changed, and a new login may help.

    A simple token expires after 300 s, a JWT when users or roles change.
    """


class NotEnabled(EtcdRefused):
    """The answer to a login while etcd's authentication is off."""


class CompactedAt(Compacted):
    """``revision``: the oldest revision after which the history is complete."""

    def __init__(self, message: str, revision: int) -> None:
        super().__init__(message)
        self.revision = revision


def text(data: bytes) -> str:
    return b64encode(data).decode("ascii")


# ---- requests ------------------------------------------------------------------------------------------------------


def range_request(
    key: bytes,
    range_end: bytes = b"",
    *,
    limit: int = 0,
    revision: int = 0,
    keys_only: bool = False,
    min_mod_revision: int = 0,
) -> Json:
    request: Json = {"key": text(key), "range_end": text(range_end), "limit": str(limit), "revision": str(revision)}
    return request | {"keys_only": keys_only, "min_mod_revision": str(min_mod_revision)}


def range_of(one: Range, revision: int = 0) -> Json:
    request = range_request(one.key, one.range_end, limit=one.limit, revision=revision, keys_only=one.keys_only)
    return request | {"sort_order": "DESCEND", "sort_target": "MOD"} if one.newest_first else request


def txn_request(compares: Sequence[Compare], success: Sequence[Operation], failure: Sequence[Operation]) -> Json:
    """Build a transaction, here alone: the gateway ignores a misspelt field, and the transaction would succeed."""
    return {
        "compare": [_compare(compare) for compare in compares],
        "success": [_operation(operation) for operation in success],
        "failure": [_operation(operation) for operation in failure],
    }


def watch_request(key: bytes, range_end: bytes, start_revision: int) -> Json:
    request = {"key": text(key), "range_end": text(range_end), "start_revision": str(start_revision)}
    return {"create_request": {**request, "progress_notify": True}}


_RESULTS: Final = {"=": "EQUAL", "<": "LESS"}


def _compare(compare: Compare) -> Json:
    return {
        "key": text(compare.key),
        "range_end": text(compare.range_end),
        "target": "MOD",
        "result": _RESULTS[compare.op],
        "mod_revision": str(compare.mod_revision),
    }


def _operation(operation: Operation) -> Json:
    match operation:
        case Put(key, value, lease):
            return {"request_put": {"key": text(key), "value": text(value), "lease": str(lease)}}
        case Delete(key, range_end):
            return {"request_delete_range": {"key": text(key), "range_end": text(range_end)}}
        case Range():
            return {"request_range": range_of(operation)}


# ---- answers -------------------------------------------------------------------------------------------------------
# These raise one of ``MALFORMED`` on an answer that etcd would never give.

MALFORMED: Final = (KeyError, TypeError, ValueError, AttributeError)


def revision_of(answer: Json) -> int:
    return int(answer["header"]["revision"])


def cluster_of(answer: Json) -> int:
    return int(answer["header"]["cluster_id"])


def key_value(kv: Json) -> KeyValue:
    return KeyValue(
        a2b_base64(kv["key"]),
        a2b_base64(kv.get("value", "")),
        int(kv.get("mod_revision", 0)),
        int(kv.get("create_revision", 0)),
        int(kv.get("version", 0)),
    )


def snapshot(answer: Json) -> Snapshot:
    return Snapshot(
        revision_of(answer),
        [key_value(kv) for kv in answer.get("kvs", ())],
        bool(answer.get("more", False)),
        int(answer.get("count", 0)),
        cluster_of(answer),
    )


def txn_result(answer: Json) -> TxnResult:
    cluster_of(answer)  # the answer of something other than etcd must not count as "a compare failed"
    header = answer["header"]
    ranges = [r["response_range"] for r in answer.get("responses", ()) if "response_range" in r]
    return TxnResult(
        bool(answer.get("succeeded", False)),
        revision_of(answer),
        [snapshot({**answer_of_range, "header": header}) for answer_of_range in ranges],
    )


def endpoint_status(endpoint: str, read: Json, told: Json, latency: float, *, needs_no_login: bool) -> EndpointStatus:
    """A member's health by its answers to a read and to the question for its status (empty: it refused that one)."""
    member_id = int(read["header"]["member_id"])
    # An alarm reads "memberID:1 alarm:NOSPACE ".
    errors = [str(said).partition("alarm:") for said in told.get("errors", ())]
    return EndpointStatus(
        endpoint,
        version=str(told["version"]) if told else "",
        cluster_id=cluster_of(read),
        member_id=member_id,
        revision=revision_of(read),
        leader=int(told.get("leader", 0)) == member_id,
        latency=latency,
        error="; ".join(said for said, _, alarm in errors if not alarm),
        alarms=tuple(dict.fromkeys(alarm.strip() for _, _, alarm in errors if alarm)),
        size=int(told.get("dbSize", 0)),
        quota=int(told.get("dbSizeQuota", 0)),
        needs_no_login=needs_no_login,
    )


def granted(answer: Json) -> int:
    """The id of a new lease."""
    return int(answer["ID"])


def lease(answer: Json) -> Lease:
    return Lease(int(answer["ID"]), int(answer["TTL"]), int(answer.get("grantedTTL", 0)))


def kept_alive(answer: Json) -> bool:
    """Whether the lease was still there, and has its whole time again."""
    return int(answer["result"].get("TTL", 0)) > 0


def batch(result: Json, after: int) -> Batch | None:
    """What one message of a watch adds to everything delivered up to revision ``after``; None: nothing.

    With events, ``header.revision`` may be ahead of what was delivered, so the revision of the last event counts. Without
    events it is a progress message: everything up to its revision was delivered. Events up to ``after`` are repeats.
    """
    if result.get("created"):
        return None
    if not result.get("events"):
        return Batch(max(after, revision_of(result)), ())
    decoded = [_event(event) for event in result["events"]]
    events = [event for event in decoded if event.kv.mod_revision > after]
    return Batch(events[-1].kv.mod_revision, events) if events else None


def _event(event: Json) -> Event:
    return Event("delete" if event.get("type") == "DELETE" else "put", key_value(event["kv"]))


# ---- refusals ------------------------------------------------------------------------------------------------------

# What an error says of a write. Read in etcd's source, release branches 3.4, 3.5, 3.6 and 3.7, whose functions have the same names there:
# ``Txn`` of v3rpc/key.go (checkTxnRequest) and v3rpc/quota.go, then processInternalRaftRequestOnce (v3_server.go), which proposes, then
# the appliers (apply.go, apply_auth.go; since 3.6 in apply/ and txn/). An error is definite where etcd raises it before it proposes, or in
# an applier that has not applied. After any other (1 canceled, 2 unknown, 4 deadline exceeded, 10 aborted, 13 internal, 14 unavailable,
# 15 data loss, and 6, which no function of these raises) the write may still take effect.
_DEFINITE: Final = {
    # Before proposing: checkTxnRequest ("too many operations", "duplicate key", "key is not provided", "invalid sort option"),
    # processInternalRaftRequestOnce ("request is too large"), the gateway's JSON parser. authApplierV3.Txn asks checkTxnAuth before it
    # applies ("user name is empty", "revision of auth store is old"); checkRequestPut ("key not found") comes before applyTxn.
    3: 400,
    5: 404,  # "requested lease not found": checkRequestPut, before applyTxn. "Not Found": the gateway has no such path.
    7: 403,  # "permission denied": authApplierV3.Txn asks checkTxnAuth before it applies
    9: 412,  # "authentication is not enabled": CheckPassword, which proposes nothing. The others are raised for members and leases.
    11: 400,  # "has been compacted", "is a future revision": checkRequestRange, before applyTxn
    12: 501,  # the member's gRPC server has no such method
    16: 401,  # "invalid auth token": AuthInfoFromCtx in processInternalRaftRequestOnce, before proposing
}
# Refused before it was proposed, and another member may take it: newUnaryInterceptor (v3rpc/interceptor.go; the last two have code 14
# in 3.4 and 9 in 3.6), and "too many requests" (code 8) at the top of processInternalRaftRequestOnce.
_AT_THE_DOOR: Final = ("no leader", "too many requests", "not capable", "rpc not supported for learner")
# Code 8 of the member's gRPC server, which has not decoded the request. (The gateway takes answers of any size: embed/etcd.go.)
_TOO_LARGE: Final = "received message larger than max"
# Code 8 as well, and no proof of anything. Three functions say it: quotaAlarmer.check (v3rpc/quota.go) before it proposes;
# applierV3Capped, which does not apply; and quotaApplierV3, which *has applied* the write that reached the quota (etcd-io/etcd#16659).
_FULL: Final = "database space exceeded"
_NAMES: Final = {"InvalidArgument": 3, "FailedPrecondition": 9, "PermissionDenied": 7, "Unauthenticated": 16}
_LOG_IN: Final = ("revision of auth store is old", "user name is empty")
NO_TOKENS: Final = "invalid auth token"
_ADVICE: Final = (
    ("too many operations", "change fewer refs at once, or raise etcd's --max-txn-ops"),
    ("request is too large", "change fewer refs at once, or raise etcd's --max-request-bytes"),
    (_TOO_LARGE, "change fewer refs at once, or raise etcd's --max-request-bytes"),
    ("permission denied", "grant the etcd user's role read and write access to the prefix"),
    ("user name is empty", "set piehole.etcdUser and piehole.etcdPasswordFile"),
    ("authentication failed", "correct piehole.etcdUser or the password in piehole.etcdPasswordFile"),
    (NO_TOKENS, "if it goes on, restart this member of etcd: after a snapshot it may know no tokens before"),
    ("CommonName", "use a client certificate without a CN: etcd's gateway refuses those that have one"),
)


def refusal(endpoint: str, body: str) -> EtcdError | Inconclusive:
    """Classify the body of an answer that is not 200: a refusal, or Inconclusive where the outcome is open."""
    try:
        answer = json.loads(body)
        code, message = int(answer.get("code", 2)), str(answer.get("message") or answer.get("error") or "")
    except MALFORMED:
        return foreign(body)
    return classify(endpoint, code, message)


def foreign(body: str) -> Inconclusive:
    """What is known after an answer that is no JSON object. One is etcd's own: embed/serve.go refuses a certificate with a CN in plain words."""
    said = f"it said {body.strip()[:120]!r}"
    advice = next((advice for part, advice in _ADVICE if part in body), None)
    if advice is not None:
        return Inconclusive(f"{said} ({advice})", sent=True, kind="undecided")
    return Inconclusive(f"does not speak etcd's v3 JSON: {said}", sent=True, kind="foreign")


def classify(endpoint: str, code: int, message: str) -> EtcdError | Inconclusive:
    """What etcd's gRPC status ``code`` and ``message`` mean for the caller."""
    words = message.removeprefix("etcdserver: ") or f"gRPC status {code}"
    if words in _AT_THE_DOOR:
        return Inconclusive(words, sent=False, kind="undecided")
    if _FULL in words:
        return EtcdFull(f"etcd at {endpoint} is full ({words}).")
    if code not in _DEFINITE and _TOO_LARGE not in words:
        return Inconclusive(words, sent=True, kind="undecided")
    if "has been compacted" in words or "future revision" in words:
        return Compacted(f"etcd at {endpoint} no longer has this revision: {words}")
    sentence = f"etcd at {endpoint} refused: {words}"
    for part, advice in _ADVICE:
        if part in words:
            sentence += f" ({advice})"
    if code == 16 or any(part in words for part in _LOG_IN):
        return TokenRefused(sentence, status=401)
    if "authentication is not enabled" in words:
        return NotEnabled(sentence, status=412)
    return EtcdRefused(sentence, status=_DEFINITE.get(code, 429), too_many="too many operations" in words)


def canceled(endpoint: str, result: Json) -> EtcdError | Inconclusive | None:
    """Why etcd ended this watch; None where it did not."""
    if compacted := int(result.get("compact_revision", 0)):
        return CompactedAt(f"etcd at {endpoint} has compacted its history up to revision {compacted}", compacted)
    if not result.get("canceled"):
        return None
    reason = str(result.get("cancel_reason", ""))  # "rpc error: code = PermissionDenied desc = etcdserver: ..."
    code = next((number for name, number in _NAMES.items() if f"code = {name} " in reason), 14)
    return classify(endpoint, code, reason.partition("desc = ")[2] or reason or "watch canceled")
