"""The status page of an overview that a test makes up: the same server, routes and files, without repositories."""

from __future__ import annotations

import hashlib
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from controller.overview import EtcdConnection, LastPush, Overview, RepositoryView, ShownFault, SiteView
from controller.web.page import StatusPage
from controller.web.routes import RouteTable
from controller.web.server import WebAddress, WebServer
from piehole.etcd.model import KeyValue
from piehole.group import ref_log
from piehole.group.ref_log import LogEntry
from piehole.refs import KEPT_REFS
from tests.support.git import git, make_bare

ETCD = EtcdConnection("http://127.0.0.1:2379", "/piehole", True, None)
SITES = ("oslo", "lima", "kyoto")


class MadeUp:
    """What a controller holds of one repository: keys in etcd, a local log, and kept tips.

    :param kept: the name of each kept tip, and when it was kept
    """

    def __init__(
        self, git_dir: Path, entries: Mapping[str, KeyValue], log: Iterable[LogEntry], kept: Mapping[str, float]
    ) -> None:
        make_bare(git_dir)
        ref_log.append(git_dir, log)
        blob = git(git_dir, "hash-object", "-w", "--stdin").stdout.strip()
        for name, at in kept.items():
            date = {"GIT_COMMITTER_DATE": f"{at:.0f} +0000"}
            git(git_dir, "update-ref", "--create-reflog", f"{KEPT_REFS}{name}", blob, env=date)
        self.config = SimpleNamespace(git_dir=git_dir, object_format="sha1")
        self.etcd_view = SimpleNamespace(view=lambda _group: SimpleNamespace(entries=entries))
        self.ref_log = SimpleNamespace(recent=lambda size: ref_log.recent(git_dir, size))


class MadeUpPage:
    """Serves what :meth:`show` was given last."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self.now = Overview()
        self.served: dict[str, MadeUp] = {}
        routes = RouteTable()
        find: Callable[[str], Any] = self.served.get
        StatusPage(lambda: self.now, self._wait, find).add_to(routes)
        self._server = WebServer(WebAddress("127.0.0.1", 0), routes)
        self._server.start()
        self.url = f"http://{self._server.address}/"

    def show(self, *rows: RepositoryView, etcds: tuple[EtcdConnection, ...] = (ETCD,)) -> None:
        version = self.now.version + 1
        known = self.now.repositories
        shown = {}
        for row in rows:
            before = known.get(row.repository)
            same = before is not None and replace(row, version=before.version) == before
            shown[row.repository] = before if before is not None and same else replace(row, version=version)
        with self._changed:
            self.now = Overview(version, shown, etcds, dict.fromkeys(SITES, 4.0))
            self._changed.notify_all()

    def end(self) -> None:
        self._server.stop()

    def _wait(self, version: int, timeout: float) -> bool:
        with self._changed:
            return self._changed.wait_for(lambda: self.now.version > version, timeout)


@contextmanager
def made_up_page() -> Iterator[MadeUpPage]:
    page = MadeUpPage()
    try:
        yield page
    finally:
        page.end()


def row(
    group: str, *, push: LastPush | None = None, sites: Mapping[str, SiteView] | None = None, **more: Any
) -> RepositoryView:
    """A repository in step at three sites, but for those that are given."""
    proven = stamp(90_000)
    fine = {name: SiteView(name, name == SITES[0], "in step", proven=proven) for name in SITES}
    views = tuple({**fine, **(sites or {})}.values())
    last = push or LastPush("1", "lima", "alice", "", time.time() - 4000)
    state = more.pop("state", "in step")
    counts = Counter(fault.kind for fault in more.get("faults", ()))
    path, here = f"/srv/git/{group}.git", SITES[0]
    return RepositoryView(
        path, group, here, state, refs=3, sites=views, counts=counts, last_push=last, proven=proven, **more
    )


def stamp(seconds: float) -> str:
    """So many seconds ago, as records have it."""
    return time.strftime("%Y-%m-%dT%H:%M:%S+00:00", time.gmtime(time.time() - seconds))


def late(name: str, seconds: float, *, refs: int = 1) -> SiteView:
    return SiteView(name, name == SITES[0], "behind", refs, time.time() - seconds, proven=stamp(95_000))


def pushed(who: str, site: str, seconds: float) -> LastPush:
    return LastPush(who, site, who, "", time.time() - seconds)


STUCK = ShownFault(
    "stuck",
    "refs/heads/release",
    "the group also has refs/heads/release/2.4, and one name cannot be both a ref and a folder of refs",
    "git push oslo --delete refs/heads/release/2.4",
)
UNADOPTED = ShownFault(
    "unadopted",
    "refs/tags/v2.1",
    "made here without a push, so it is at this site alone",
    "piehole clobber -C /srv/git/web/api.git refs/tags/v2.1",
)


def some_trouble() -> list[RepositoryView]:
    """What the pictures show: a few repositories, some of which need attention."""
    fine = [
        ("compiler", "Chen Wei", "kyoto", 130), ("docs/handbook", "Ingrid Hauge", "oslo", 900), ("infra/certs", "bob", "lima", 2400),
        ("infra/dns", "Chen Wei", "oslo", 7800), ("kernel", "alice", "kyoto", 9000), ("mobile/app", "Amara Obi", "lima", 30000),
        ("ops/deploy", "bob", "oslo", 51000), ("tools", "Ingrid Hauge", "lima", 90000), ("web/shop", "alice", "oslo", 200000),
    ]  # fmt: skip
    return [
        row("data/models", state="stuck", sites={"oslo": replace(late("oslo", 260), state="stuck")}, faults=(STUCK,),
            push=pushed("Amara Obi", "kyoto", 260)),
        row("firmware", sites={"lima": late("lima", 760, refs=12)}, push=pushed("alice", "oslo", 760)),
        row("infra/mail", sites={"lima": late("lima", 48)}, push=pushed("bob", "kyoto", 48)),
        row("web/api", faults=(UNADOPTED,), push=pushed("Chen Wei", "kyoto", 3900)),
        *(row(group, push=pushed(who, site, seconds)) for group, who, site, seconds in fine),
    ]  # fmt: skip


def busy_repository(folder: Path) -> MadeUp:
    """A repository with refs, moves and kept tips."""
    names = (
        "heads/main",
        "heads/release",
        "heads/release/2.4",
        "heads/topic/faster-tokenizer",
        "tags/v2.3",
        "tags/v2.4-rc1",
    )
    people = ("Amara Obi", "alice", "Chen Wei")
    entries, log = {}, []
    for number, name in enumerate(names):
        new, old = (hashlib.sha256(f"{number} {which}".encode()).hexdigest()[:40] for which in ("new", "old"))
        revision = 400 - 7 * number
        entries[f"refs/{name}"] = KeyValue(b"", new.encode(), revision, 1, 1)
        moved = stamp(260 + 4000 * number**2)
        log.append(LogEntry(revision, f"refs/{name}", old, new, SITES[2 - number % 3], people[number % 3], moved))
    kept = {log[0].old: time.time() - 260, log[3].old: time.time() - 36260}
    return MadeUp(folder, entries, reversed(log), kept)
