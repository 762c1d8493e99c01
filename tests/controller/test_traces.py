"""OpenTelemetry: a push, its swap and its arrival at each site are one trace, and a collector that is dead costs a push nothing."""

from __future__ import annotations

import importlib.util
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from controller import traces
from piehole.errors import UsageError
from tests.support import git
from tests.support.assertions import accepted, refused
from tests.support.git import MAIN
from tests.support.groups import Group, MakeGroup
from tests.support.wait import PATIENCE, until

needs_otel = pytest.mark.skipif(
    importlib.util.find_spec("opentelemetry") is None, reason="the extra piehole[otel] is not installed"
)
PUSH = "0123456789abcdef0123456789abcdef"


class Collector:
    """An OTLP/HTTP collector that keeps all spans, each with its attributes."""

    def __init__(self) -> None:
        self.spans: list[dict[str, Any]] = []
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

                request = ExportTraceServiceRequest()
                request.ParseFromString(self.rfile.read(int(self.headers["Content-Length"])))
                for resource in request.resource_spans:
                    for scope in resource.scope_spans:
                        collector.spans += [_plain(span) for span in scope.spans]
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def of(self, name: str) -> list[dict[str, Any]]:
        return [span for span in self.spans if span["name"] == name]

    def end(self) -> None:
        self._server.shutdown()
        self._server.server_close()


def _plain(span: Any) -> dict[str, Any]:
    values = {
        one.key.removeprefix("piehole."): one.value.string_value or one.value.int_value for one in span.attributes
    }
    return {
        **values,
        "name": span.name,
        "trace": span.trace_id.hex(),
        "id": span.span_id.hex(),
        "parent": span.parent_span_id.hex(),
        "start": span.start_time_unix_nano,
        "end": span.end_time_unix_nano,
        "failed": span.status.message,
    }


@pytest.fixture
def collector() -> Iterator[Collector]:
    made = Collector()
    yield made
    made.end()


def traced(make_group: MakeGroup, size: int, url: str) -> Group:
    group = make_group(size, started=False)
    for site in group:
        site.start("--traces", url)
    return group


@needs_otel
def test_a_push_to_one_of_three_sites_is_one_trace(make_group: MakeGroup, collector: Collector) -> None:
    group = traced(make_group, 3, collector.url)
    work, _ = group.begun()
    group[0].piehole("group", "set", "copies", "2", "--yes")
    tip = git.commit(work, "one")
    accepted(git.push(work, group[0].repository, "HEAD:main"))
    group.arrives(MAIN, tip)
    push = until(
        lambda: next((one["push"] for one in group[0].events("push.accepted") if one["revision"] == mod(group)), None),
        PATIENCE,
        "the push is in the log",
    )

    def complete() -> list[dict[str, Any]]:
        found = [span for span in collector.spans if span["push"] == push]
        names = sorted(span["name"] for span in found)
        return found if names == ["arrival", "arrival", "copies", "push", "swap"] else []

    found = until(complete, PATIENCE, f"all spans have come: {collector.spans}")
    assert {span["trace"] for span in found} == {push}
    (root,) = (span for span in found if span["name"] == "push")
    (swap,) = (span for span in found if span["name"] == "swap")
    (copies,) = (span for span in found if span["name"] == "copies")
    arrivals = [span for span in found if span["name"] == "arrival"]
    assert root["parent"] == ""
    assert swap["parent"] == copies["parent"] == root["id"]
    assert {span["parent"] for span in arrivals} == {swap["id"]}
    assert {span["site"] for span in arrivals} == {"b", "c"}
    assert {span["site"] for span in (root, swap, copies)} == {"a"}
    assert (root["outcome"], root["refs"], root["group"], swap["revision"]) == ("accepted", 1, group.name, mod(group))
    # All on one machine, so of one clock.
    assert root["start"] <= copies["start"] <= copies["end"] <= swap["start"] <= swap["end"] <= root["end"]
    assert all(span["start"] <= span["end"] for span in arrivals)


def mod(group: Group) -> int:
    found = group.etcd.look(group.key(MAIN))
    assert found is not None
    return found.mod_revision


@needs_otel
def test_a_refused_push_is_a_failed_trace_with_its_token(make_group: MakeGroup, collector: Collector) -> None:
    group = traced(make_group, 1, collector.url)
    work, _ = group.begun()
    group.put(MAIN, "frozen")
    git.commit(work, "one")
    refused(git.push(work, group[0].repository, "HEAD:main"), "locked")
    span = until(
        lambda: next((one for one in collector.of("push") if one["outcome"] == "refused"), None),
        PATIENCE,
        "its span comes",
    )
    assert (span["token"], span["failed"]) == ("locked", "locked")
    assert [one for one in collector.of("swap") if one["trace"] == span["trace"]] == []


@needs_otel
def test_a_collector_that_hangs_costs_a_push_nothing_and_does_not_hold_up_the_end(make_group: MakeGroup) -> None:
    with socket.create_server(("127.0.0.1", 0)) as deaf:  # it takes connections, and never answers
        group = traced(make_group, 2, f"http://127.0.0.1:{deaf.getsockname()[1]}")
        work, _ = group.begun()
        for number in range(3):
            tip = git.commit(work, f"n{number}")
            began = time.monotonic()
            accepted(git.push(work, group[0].repository, "HEAD:main"))
            group.arrives(MAIN, tip)
            assert time.monotonic() - began < traces._TIMEOUT
        group[0].wait_event("traces.failed", PATIENCE)
        began = time.monotonic()
        assert group[0].stop() == 0
        assert time.monotonic() - began < traces._END + 5


def test_without_the_option_nothing_of_it_is_loaded() -> None:
    used = (
        "import sys, controller.daemon, piehole.cli.controller\nfrom controller import traces\n"
        "traces.send('1', 'push', 1.0, {})\nassert not traces.is_on()\n"
        "sys.exit(any(name.startswith(('opentelemetry', 'google')) for name in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", used], check=False).returncode == 0


def test_the_ids_follow_from_the_push() -> None:
    assert traces.trace_id(PUSH) == int(PUSH, 16)
    assert traces.trace_id("a1b2c3d4-0000-4000-8000-000000000001") == 0xA1B2C3D4000040008000000000000001
    assert 0 < traces.trace_id("by hand") < 1 << 128
    assert traces.trace_id("0" * 32) != 0
    ids = {traces.span_id(PUSH, name, revision) for name in (traces.PUSH, traces.SWAP) for revision in (0, 1, 2)}
    assert len(ids) == 6 and all(0 < one < 1 << 64 for one in ids)


@needs_otel
@pytest.mark.parametrize("url", ["127.0.0.1:4318", "ftp://x", "http://"])
def test_a_url_that_is_none_is_an_error(url: str) -> None:
    with pytest.raises(UsageError, match="is no URL of an OTLP/HTTP collector"):
        traces.start(url)


def test_missing_packages_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.http.trace_exporter", None)
    with pytest.raises(UsageError, match=r"piehole\[otel\]"):
        traces.start("http://127.0.0.1:4318")
