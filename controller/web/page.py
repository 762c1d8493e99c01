"""The status page: what answers its paths. It reads what the controller knows already, and asks neither etcd nor another site."""

from __future__ import annotations

import html
import threading
import time
from collections.abc import Callable, Generator
from http import HTTPStatus
from importlib import resources
from string import Template
from typing import Any, Final

from controller.overview import Overview, RepositoryView
from controller.served_repository import ServedRepository
from controller.web import feed
from controller.web.routes import RouteTable, WebRequest, WebResponse
from piehole import __version__
from piehole.errors import PieholeError
from piehole.refs import KEPT_REFS
from piehole.repository import kept_tips
from piehole.repository.repository import Repository

POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; "
    "frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
)
_TYPES: Final = {"html": "text/html", "css": "text/css", "js": "text/javascript", "svg": "image/svg+xml"}
_BEAT: Final = 1.0  # seconds between two signs of life to an open page
_BURST: Final = 0.1  # seconds in which changes are collected
_WITHOUT_SCRIPT: Final = 50  # repositories in the page itself, for browsers without JavaScript
_LOG: Final = 256 * 1024  # bytes of the ref log that are read, about 800 moves


class StatusPage:
    """
    :param overview: what is known now
    :param wait: returns once there is a newer overview than this version, or after so many seconds
    :param find: the repository of a path, as the controller serves it
    """

    def __init__(
        self,
        overview: Callable[[], Overview],
        wait: Callable[[int, float], object],
        find: Callable[[str], ServedRepository | None],
    ) -> None:
        self._overview = overview
        self._wait = wait
        self._find = find
        self._listing = threading.Lock()  # git lists kept tips: for one page at a time
        self._files = {
            file.name: file.read_bytes() for file in resources.files("controller.web").joinpath("static").iterdir()
        }

    def add_to(self, routes: RouteTable) -> None:
        routes.add("/", lambda _: self._page("overview.html", rows=self._rows()))
        routes.add("/repository", lambda _: self._page("repository.html"))
        routes.add("/static/", self._static)
        routes.add(
            "/events", lambda _: WebResponse(self._events(), "text/event-stream", headers={"X-Accel-Buffering": "no"})
        )
        routes.add("/repository/data", self._part)

    def _page(self, name: str, **values: str) -> WebResponse:
        body = Template(self._files[name].decode()).substitute(values)
        return WebResponse(body.encode(), "text/html; charset=utf-8", headers={"Content-Security-Policy": POLICY})

    def _static(self, request: WebRequest) -> WebResponse:
        name = request.path.removeprefix("/static/")
        kind = _TYPES.get(name.rpartition(".")[2])
        if name not in self._files or kind is None or kind == "text/html":
            return WebResponse.text("There is no such file.", HTTPStatus.NOT_FOUND)
        return WebResponse(self._files[name], f"{kind}; charset=utf-8")

    def _rows(self) -> str:
        """The worst repositories as HTML."""
        now = time.time()
        worst = sorted(self._overview(), key=lambda one: _badness(one, now))[:_WITHOUT_SCRIPT]
        items = [f"<li>{html.escape(_sentence(one, now))}</li>" for one in worst]
        return f"<ul>{''.join(items)}</ul>" if items else "<p>This controller serves no repository yet.</p>"

    def _events(self) -> Generator[bytes, None, None]:
        """Everything once, then what changes, and a sign of life where nothing does."""
        known: set[str] = set()
        version, first = -1, True
        while True:
            overview = self._overview()
            rows = list(overview) if first else overview.changed_since(version)
            gone = [feed.text(path, feed.PATH) for path in known - overview.repositories.keys()]
            for message in feed.messages(overview, rows, time.time(), gone=gone, first=first, version=__version__):
                yield feed.event(message)
            known, version, first = set(overview.repositories), overview.version, False
            time.sleep(_BURST)
            self._wait(version, _BEAT)

    def _part(self, request: WebRequest) -> WebResponse:
        """One part of a repository's page: its refs, the last moves, or its kept tips."""
        path = request.query.get("path", "")
        overview = self._overview()
        view = next((one for key, one in overview.repositories.items() if feed.text(key, feed.PATH) == path), None)
        if view is None:
            return WebResponse.text("This controller serves no such repository.", HTTPStatus.NOT_FOUND)
        served = self._find(view.repository)
        number = request.query.get("page", "0")
        page = int(number) if number.isascii() and number.isdecimal() and len(number) < 9 else 0
        try:
            found = self._read(view, served, request.query.get("part", ""), request.query.get("q", ""), page)
        except (PieholeError, OSError) as error:
            found = {"total": 0, "page": 0, "items": [], "error": feed.text(str(error))}
        return WebResponse.json(found)

    def _read(
        self, view: RepositoryView, served: ServedRepository | None, part: str, query: str, page: int
    ) -> dict[str, Any]:
        if served is None:
            return {"total": 0, "page": 0, "items": [], "error": "This controller does not serve it now."}
        log, complete = served.ref_log.recent(_LOG)
        if part == "refs":
            entries = served.etcd_view.view(view.group).entries
            return feed.refs(entries, view.faults, log, query, page)
        if part == "moves":
            return feed.moves(log, page, complete=complete)
        with self._listing:
            repository = Repository(served.config.git_dir, served.config.object_format)
            since = kept_tips.kept_since(repository, quick=True)
        return feed.kept({name.removeprefix(KEPT_REFS): at for name, at in since.items()}, log, page)


def _badness(one: RepositoryView, now: float) -> tuple[int, bool, float, bool, str]:
    late = max((site.lag(now) for site in one.sites), default=0.0)
    silent = any(site.silent_since for site in one.sites)
    return feed.WORST.get(one.state, len(feed.WORST)), not silent, -late, not one.faults, one.repository


def _sentence(one: RepositoryView, now: float) -> str:
    words = []
    for site in one.sites:
        lag = f" for {site.lag(now):.0f} s" if site.behind_since is not None else ""
        words.append(f"{feed.text(site.site)} {site.state}{lag}{', silent' if site.silent_since else ''}")
    faults = [f"{fault.kind} {feed.text(fault.ref)}: {feed.text(fault.reason, 1000)}" for fault in one.faults[:3]]
    return f"{feed.text(one.repository)}: {'; '.join([*words, *faults])}"
