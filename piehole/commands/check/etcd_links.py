"""Every link to etcd, and known faults of the etcd versions that answer."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Final

from piehole.deadline import Deadline
from piehole.errors import EtcdError, EtcdRefused
from piehole.etcd.model import EndpointStatus, Range
from piehole.group.replica import Replica
from piehole.repository.fitness import Fault

_PATIENCE: Final = 5.0  # seconds
_SLOW: Final = 0.5  # seconds for one linearizable read; every push waits for two
_MANY: Final = 1000  # refs in one push; deploy/ sets --max-txn-ops to 8192

# The first patch release of each etcd line that loses no watch events around compactions (etcd's change logs).
_FIXED: Final = {(3, 4): 36, (3, 5): 18}
_QUOTA: Final = 2 << 30  # bytes: etcd's own default
_FIXES: Final = {
    "unreachable": "see that {} runs and can be reached from here, or correct piehole.etcd",
    "undecided": "see that a majority of etcd's members runs and that they reach each other",
    "refused": 'see docs/guides/etcd.md, "Access", for the login and the permission that piehole needs',
    "foreign": "something else answers at {}, such as a login page, a proxy, `etcd grpc-proxy` or an etcd without its JSON gateway: name members "
    "of etcd in piehole.etcd",
}


def links(replica: Replica) -> list[EndpointStatus]:
    """The health of each configured endpoint."""
    return replica.etcd.status(replica.keyspace.group(replica.config.group), deadline=Deadline(_PATIENCE))


def faults(found: Sequence[EndpointStatus]) -> Iterator[Fault]:
    for link in found:
        if link.error:
            yield Fault(link.error, _FIXES[link.trouble or "undecided"].format(link.endpoint), word="no-quorum")
            continue
        for alarm in link.alarms:
            yield _alarm(link.endpoint, alarm)
        if link.needs_no_login:
            yield Fault(
                f"piehole.etcdUser is set, but etcd at {link.endpoint} asks for no login: its authentication is off",
                "whoever reaches etcd can move every ref: run `etcdctl auth enable`; pushes go on meanwhile",
                warning=True,
            )
        if link.latency > _SLOW:
            yield Fault(
                f"etcd at {link.endpoint} took {link.latency:.1f} s for one read",
                "every push waits for it: use members that are nearer or less loaded",
                warning=True,
            )
        if link.version:
            yield from _version(link)
            yield from _space(link)
        else:
            yield Fault(
                f"etcd at {link.endpoint} does not tell this user its version, its alarms and its size",
                "some versions tell them to root only (3.5.28 to 3.5.31): upgrade it, or look with `etcdctl endpoint status` as root",
                warning=True,
            )
    clusters = {link.cluster_id for link in found if not link.error}
    if len(clusters) > 1:
        yield Fault(
            "the endpoints belong to different etcd clusters", "correct piehole.etcd: all must be members of one"
        )
    answering = [link for link in found if not link.error]
    if len(answering) == 1 and len(found) == 1:
        yield Fault(
            "only one etcd endpoint is configured",
            "where it fails nobody can push here: add the other members to piehole.etcd",
            warning=True,
        )


def _alarm(endpoint: str, alarm: str) -> Fault:
    if alarm == "NOSPACE":
        return Fault(
            f"etcd at {endpoint} is full (alarm NOSPACE), so no push is accepted",
            'compact and defragment each member, then disarm the alarm: docs/guides/etcd.md, "Space"',
        )
    return Fault(
        f"etcd at {endpoint} has the alarm {alarm}",
        "see etcd's log and `etcdctl alarm list`; with CORRUPT, replace the member whose data differs",
    )


def _space(link: EndpointStatus) -> Iterator[Fault]:
    quota = link.quota or _QUOTA
    if link.size > quota * 3 // 4 and "NOSPACE" not in link.alarms:
        yield Fault(
            f"etcd's database at {link.endpoint} has {link.size >> 20} MiB; "
            + (
                f"its quota is {quota >> 20} MiB"
                if link.quota
                else "its quota is 2 GiB by default, 4 GiB in deploy/etcd.env"
            ),
            'once it is full no push is accepted: defragment it, docs/guides/etcd.md, "Space"',
            warning=True,
        )


def _version(link: EndpointStatus) -> Iterator[Fault]:
    numbers = tuple(int(part) for part in re.findall(r"\d+", link.version)[:3])
    if (3, 5, 0) <= numbers <= (3, 5, 2):
        yield Fault(
            f"etcd {link.version} at {link.endpoint} can corrupt its data when it crashes",
            "upgrade it; use this version for trials only",
            warning=True,
        )
    elif numbers[:2] < (3, 4) or (len(numbers) == 3 and numbers[2] < _FIXED.get((numbers[0], numbers[1]), 0)):
        yield Fault(
            f"etcd {link.version} at {link.endpoint} has known bugs in watches around compactions",
            "piehole lists again now and then, so nothing stays lost; upgrade it to 3.4.36, 3.5.26 or newer",
            warning=True,
        )


def limits(replica: Replica) -> Iterator[Fault]:
    """Whether etcd accepts transactions of many refs, tested with reads."""
    key = replica.keyspace.group(replica.config.group)
    try:
        replica.etcd.txn([], [Range(key, keys_only=True)] * _MANY, deadline=Deadline(_PATIENCE))
    except EtcdRefused as error:
        if error.too_many:
            yield Fault(
                f"etcd takes fewer than {_MANY} operations in one transaction",
                "larger pushes are refused, since they are never split: start etcd with --max-txn-ops=8192",
                warning=True,
            )
        else:
            yield Fault(str(error), "see docs/guides/etcd.md for what the etcd user must be allowed")
    except EtcdError as error:
        yield Fault(f"etcd did not answer a transaction: {error}", "see that a majority of its members runs")
