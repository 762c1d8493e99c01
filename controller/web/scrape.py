"""`/metrics`: all that :mod:`controller.metrics` lists, read at the moment of the scrape."""

from __future__ import annotations

import heapq
import platform
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from importlib.metadata import version
from math import isinf
from pathlib import Path
from typing import Any, Final

from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.exposition import choose_encoder

from controller import certificates, overview
from controller.etcd_view import EtcdView
from controller.meters import Histogram, Meters, label
from controller.metrics import KINDS, METRICS, MOST, MOST_SITES
from controller.observer import Observer
from controller.overview import Overview
from controller.registry import Registry
from controller.web.routes import WebRequest, WebResponse
from piehole.repository.verification import seconds_of

Labels = tuple[str, ...]
Series = tuple[Labels, Any]  # the values of the labels, and the value
Load = Callable[[], Mapping[str, Mapping[str, tuple[int, float]]]]
_FAMILIES: Final = {"gauge": GaugeMetricFamily, "counter": CounterMetricFamily, "histogram": HistogramMetricFamily}
_PER_GROUP: Final = {
    "piehole_halted": overview.HALTED,
    "piehole_corrupt": overview.CORRUPT,
    "piehole_stuck_refs": overview.STUCK,
    "piehole_locked_refs": overview.LOCKED,
    "piehole_unadopted_refs": overview.UNADOPTED,
}


_FLAGS: Final = (overview.HALTED, overview.CORRUPT)


class Scrape:
    """
    :param load: gives the lanes of each work queue
    :param git: the version of git
    """

    def __init__(self, observer: Observer, repositories: Registry, meters: Meters, load: Load, git: str) -> None:
        self._observer = observer
        self._repositories = repositories
        self._meters = meters
        self._load = load
        self._build = (version("piehole"), platform.python_version(), git)
        self._registry = CollectorRegistry()
        for collector in (self, ProcessCollector(registry=None), PlatformCollector(registry=None)):
            self._registry.register(collector)
        GCCollector(registry=self._registry)

    def answer(self, request: WebRequest) -> WebResponse:
        encode, kind = choose_encoder(request.headers.get("accept", ""))
        body: bytes = encode(self._registry)
        return WebResponse(body, kind)

    def describe(self) -> Iterator[Any]:
        """Nothing, so that registering does not collect."""
        return iter(())

    def collect(self) -> Iterator[Any]:
        """All metrics, for prometheus_client."""
        now, seen, views = time.time(), self._observer.overview(), self._repositories.all_views()
        found: dict[str, Iterable[Series]] = {
            "piehole_build_info": [(self._build, 1)],
            **_states(seen),
            **_lags(seen, now),
            **_troubles(seen),
            **_copies(seen),
            "piehole_copies_held": [((), sum(one.copies_held for one in self._repositories.all_served()))],
            **_soundness(seen),
            **_etcd(seen, views),
            **self._queues(),
            **self._counted(),
        }
        for name, metric in METRICS.items():
            family = _FAMILIES[metric.kind](name, metric.text, labels=metric.labels)
            for labels, value in found[name]:
                if metric.kind == "histogram":
                    family.add_metric(labels, *value)
                else:
                    family.add_metric(labels, value)
            yield family

    def _queues(self) -> dict[str, list[Series]]:
        lanes = [((queue, lane), found) for queue, several in self._load().items() for lane, found in several.items()]
        return {
            "piehole_queue_depth": [(labels, count) for labels, (count, _) in lanes],
            "piehole_queue_oldest_seconds": [(labels, oldest) for labels, (_, oldest) in lanes],
        }

    def _counted(self) -> dict[str, list[Series]]:
        meters = self._meters
        with meters.lock:
            return {
                "piehole_pushes_total": list(meters.pushes.items()),
                "piehole_swap_seconds": [((), _buckets(meters.swap))],
                "piehole_arrival_seconds": [((), _buckets(meters.arrivals))],
                "piehole_fetch_bytes_total": [((site,), count) for site, count in meters.fetched_bytes.items()],
                "piehole_fetches_total": list(meters.fetches.items()),
                "piehole_fetch_seconds": [((site,), _buckets(one)) for site, one in meters.fetch_seconds.items()],
                "piehole_etcd_requests_total": list(meters.requests.items()),
                "piehole_etcd_request_seconds": [
                    ((name,), _buckets(one)) for name, one in meters.request_seconds.items()
                ],
            }


def _buckets(one: Histogram) -> tuple[list[tuple[str, int]], float]:
    return [("+Inf" if isinf(bound) else repr(bound), count) for bound, count in one.cumulated()], one.sum


def _states(seen: Overview) -> dict[str, list[Series]]:
    return {
        "piehole_repositories": [((state.replace(" ", "_"),), count) for state, count in seen.by_state().items()],
    }


def _lags(seen: Overview, now: float) -> dict[str, list[Series]]:
    sites: dict[Labels, float] = {}
    groups: dict[Labels, float] = {}
    for one in seen:
        for site in one.sites:
            if site.state == overview.LEFT:
                continue
            name, lag = label(site.site), site.lag(now)
            sites[name,] = max(lag, sites.get((name,), 0.0))
            if lag:
                groups[label(one.group), name] = max(lag, groups.get((label(one.group), name), 0.0))
    silences: dict[Labels, float] = {(label(site),): silence for site, silence in seen.silences.items()}
    return {
        "piehole_site_lag_seconds": _worst(sites, MOST_SITES),
        "piehole_site_silent_seconds": _worst(silences, MOST_SITES),
        "piehole_group_lag_seconds": _worst(groups, MOST),
    }


def _worst(found: Mapping[Labels, float], most: int) -> list[Series]:
    """The series with the greatest values."""
    return heapq.nlargest(most, found.items(), key=lambda series: series[1])


def _troubles(seen: Overview) -> dict[str, list[Series]]:
    """A group counts once for each kind, however many repositories of it are here."""
    refs: dict[str, dict[Labels, float]] = {kind: {} for kind in KINDS}
    for one in seen:
        for kind, count in one.counts.items():
            if kind in refs:
                refs[kind][label(one.group),] = refs[kind].get((label(one.group),), 0) + count
    found: dict[str, list[Series]] = {
        name: _worst({labels: min(count, 1) if kind in _FLAGS else count for labels, count in refs[kind].items()}, MOST)
        for name, kind in _PER_GROUP.items()
    }
    found["piehole_groups_in_trouble"] = [((kind,), len(groups)) for kind, groups in refs.items()]
    return found


def _copies(seen: Overview) -> dict[str, list[Series]]:
    promising: dict[Labels, tuple[int, int]] = {}
    for one in seen:
        if one.copies is not None and one.copies.needed > 1:
            promising[label(one.group),] = one.copies.needed, len(one.copies.able)
    lacking: dict[Labels, float] = {group: promised - possible for group, (promised, possible) in promising.items()}
    shown = [group for group, _ in _worst(lacking, MOST)]
    return {
        "piehole_groups_below_copies": [((), sum(lack > 0 for lack in lacking.values()))],
        "piehole_copies_promised": [(group, promising[group][0]) for group in shown],
        "piehole_copies_possible": [(group, promising[group][1]) for group in shown],
    }


def _soundness(seen: Overview) -> dict[str, list[Series]]:
    proven = [at for one in seen if (at := seconds_of(one.proven)) is not None]
    return {
        "piehole_kept_tips": [((), sum(one.kept or 0 for one in seen))],
        "piehole_verification_overdue": [((), sum(one.overdue for one in seen))],
        "piehole_oldest_verification_timestamp_seconds": [((), min(proven))] if proven else [],
    }


def _etcd(seen: Overview, views: list[EtcdView]) -> dict[str, list[Series]]:
    """Of each etcd, whatever the prefixes below which repositories use it."""
    connected: dict[Labels, int] = {}
    contact: dict[Labels, float] = {}
    for one in seen.etcds:
        name = (label(one.etcd),)
        connected[name] = min(int(one.connected), connected.get(name, 1))
        if one.last_contact is not None:
            contact[name] = min(one.last_contact, contact.get(name, one.last_contact))
    reconnects: dict[Labels, int] = {}
    files: dict[Labels, float] = {}
    for view in views:
        name = (label(",".join(view.address.etcd)),)
        reconnects[name] = reconnects.get(name, 0) + max(0, view.epoch - 1)
        login = view.address.credentials
        for file, chain in ((login.cert, True), (login.ca, False)):
            end = certificates.expiry(Path(file), chain=chain) if file else None
            if file and end is not None:
                files[label(file),] = end
    return {
        "piehole_etcd_connected": list(connected.items()),
        "piehole_etcd_last_contact_timestamp_seconds": list(contact.items()),
        "piehole_etcd_reconnects_total": list(reconnects.items()),
        "piehole_certificate_expiry_timestamp_seconds": list(files.items()),
    }
