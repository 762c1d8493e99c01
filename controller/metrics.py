"""The list of all metrics: each with its kind, its labels and its meaning. Names and labels are a contract with alert rules and dashboards.

docs/reference/metrics.md is made from this list (`make docs`), and the scrape takes its names, labels and texts from here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from controller import overview

MOST: Final = 200  # series of one metric that has a label for groups; the worst are shown
MOST_SITES: Final = 500
# What a group can be in trouble with.
KINDS: Final = (
    overview.HALTED,
    overview.CORRUPT,
    overview.STUCK,
    overview.LOCKED,
    overview.UNADOPTED,
    overview.FAILING,
)


@dataclass(frozen=True, slots=True)
class Metric:
    """``kind``: gauge, counter or histogram. A counter's name ends in ``_total``."""

    kind: str
    text: str
    labels: tuple[str, ...] = ()


_TROUBLED: Final = f"Groups in trouble only, at most {MOST}, the worst"

METRICS: Final[Mapping[str, Metric]] = {
    "piehole_build_info": Metric("gauge", "1; the labels say what runs", ("version", "python", "git")),
    "piehole_repositories": Metric(
        "gauge",
        "Repositories below the controller's roots, by their state: in_step, behind, stuck, halted, corrupt or refused (not served)",
        ("state",),
    ),
    # Pushes to this site
    "piehole_pushes_total": Metric(
        "counter",
        "Pushes to this site that this controller decided, by outcome (accepted, refused or unknown) and token (empty when accepted). A push "
        "with accepted and refused refs counts once in each. Pushes that hooks decide without a controller are not counted",
        ("outcome", "token"),
    ),
    "piehole_swap_seconds": Metric(
        "histogram", "From a hook's proposal to the answer: the swap in etcd, and keeping what it replaces"
    ),
    # Replication
    "piehole_site_lag_seconds": Metric(
        "gauge",
        "For how long each site, this one included, has lacked the oldest change that it lacks, in its worst group; 0 when it lacks none. "
        f"It grows by itself while a site is stopped. At most {MOST_SITES} sites, the worst",
        ("site",),
    ),
    "piehole_site_silent_seconds": Metric(
        "gauge",
        "How long the controllers of a site had given no sign of life when etcd was last asked, at least every 15 seconds while it answers; "
        "the most silent one counts",
        ("site",),
    ),
    "piehole_group_lag_seconds": Metric(
        "gauge", f"The same for one group. Only sites that are behind, at most {MOST}, the worst", ("group", "site")
    ),
    "piehole_arrival_seconds": Metric("histogram", "From the watch's message about a change to the moved ref here"),
    "piehole_queue_depth": Metric(
        "gauge",
        "Repositories that wait for a turn of work (lane fresh: something has just changed; backlog), or have one (working), by queue: "
        "reconcile, publish (progress), tidy, copies",
        ("queue", "lane"),
    ),
    "piehole_queue_oldest_seconds": Metric(
        "gauge", "For how long the oldest of them has waited, or worked; 0 where there is none", ("queue", "lane")
    ),
    "piehole_fetch_bytes_total": Metric("counter", "Bytes that a peer (the name of its site) has sent", ("peer",)),
    "piehole_fetches_total": Metric(
        "counter",
        "Attempts to fetch from a peer, by result: ok, lacking (it does not have an object yet), failed, or cancelled (another was quicker, or "
        "the controller ends)",
        ("peer", "result"),
    ),
    "piehole_fetch_seconds": Metric("histogram", "How long these attempts took", ("peer",)),
    # etcd
    "piehole_etcd_connected": Metric("gauge", "1 while the watch of this etcd runs, else 0", ("etcd",)),
    "piehole_etcd_last_contact_timestamp_seconds": Metric(
        "gauge",
        "When this etcd last gave a sign of life on the watch (with deploy's settings, one comes every 5 seconds)",
        ("etcd",),
    ),
    "piehole_etcd_reconnects_total": Metric("counter", "How often the watch had to connect again", ("etcd",)),
    "piehole_etcd_requests_total": Metric(
        "counter", "Requests to one member of etcd, by result: ok, refused or unanswered", ("endpoint", "result")
    ),
    "piehole_etcd_request_seconds": Metric(
        "histogram", "How long these requests took, by operation (the last part of the path)", ("operation",)
    ),
    # Trouble
    "piehole_groups_in_trouble": Metric("gauge", f"Groups in trouble here, by kind: {', '.join(KINDS)}", ("kind",)),
    "piehole_halted": Metric("gauge", f"1 where this site is halted. {_TROUBLED}", ("group",)),
    "piehole_corrupt": Metric("gauge", f"1 where this site's repository is corrupt. {_TROUBLED}", ("group",)),
    "piehole_stuck_refs": Metric("gauge", f"Refs that cannot be moved here. {_TROUBLED}", ("group",)),
    "piehole_locked_refs": Metric("gauge", f"Refs whose value in the group is no object id. {_TROUBLED}", ("group",)),
    "piehole_unadopted_refs": Metric("gauge", f"Refs here for which the group has no value. {_TROUBLED}", ("group",)),
    # Copies
    "piehole_groups_below_copies": Metric(
        "gauge",
        "Groups of which too few sites can hold copies now, so that pushes that need them are refused or warned of",
    ),
    "piehole_copies_promised": Metric(
        "gauge",
        f"How many sites must hold what a push brings. Only groups that promise more than one, at most {MOST}, those below their promise first",
        ("group",),
    ),
    "piehole_copies_possible": Metric("gauge", "How many sites of these groups can hold copies now", ("group",)),
    "piehole_copies_held": Metric("gauge", "Pushes to other sites for which this one holds what they bring"),
    "piehole_kept_tips": Metric("gauge", "Old tips of refs that are kept in all repositories"),
    # Soundness
    "piehole_verification_overdue": Metric(
        "gauge", "Repositories whose objects were proven too long ago (one and a half times piehole.verifyEvery)"
    ),
    "piehole_oldest_verification_timestamp_seconds": Metric(
        "gauge", "When the objects of the repository whose proof is the oldest were proven; absent where none was"
    ),
    "piehole_certificate_expiry_timestamp_seconds": Metric(
        "gauge",
        "When the certificate in a file that the settings name ends (piehole.etcdCert; of piehole.etcdCA, the one that ends last)",
        ("file",),
    ),
}
