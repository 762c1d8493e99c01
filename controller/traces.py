"""OpenTelemetry traces of pushes, where ``piehole controller --traces`` asks for them: push, swap, and the arrival at each site.

The sites of a group tell each other nothing for this. The id of the trace and of the spans that others refer to follow from the push's
id and the revision of its swap, which every site knows: so each site sends its own spans, and the collector has one trace.
:func:`send` only appends to a bounded queue, which a thread of its own sends; what a slow or dead collector does not take is dropped.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Mapping
from hashlib import sha256
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

import structlog

import piehole
from piehole.errors import UsageError

if TYPE_CHECKING:
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import ReadableSpan

PUSH: Final = "push"
COPIES: Final = "copies"
SWAP: Final = "swap"
ARRIVAL: Final = "arrival"

_QUEUE: Final = 2048  # spans that wait to be sent
_BATCH: Final = 512
_DELAY: Final = 1000  # milliseconds
_TIMEOUT: Final = 5  # seconds for one request to the collector
_END: Final = 2.0  # seconds for the last ones, when the controller ends
_LOG_EVERY: Final = 60.0  # seconds

_send: Callable[[ReadableSpan], None] | None = None
_resource: Resource | None = None  # what all spans say of this process


def is_on() -> bool:
    """Whether spans are sent."""
    return _send is not None


def trace_id(push: str) -> int:
    """A push's id as the id of its trace: these very 32 digits, where it has so many."""
    digits = push.replace("-", "")
    plain = len(digits) == 32 and all(digit in "0123456789abcdef" for digit in digits) and digits.strip("0")
    return int(digits if plain else sha256(push.encode()).hexdigest()[:32], 16)


def span_id(push: str, name: str, revision: int = 0) -> int:
    """The id of the span that other sites refer to."""
    return int.from_bytes(sha256(f"{push} {name} {revision}".encode()).digest()[:8], "big") or 1


def send(
    push: str,
    name: str,
    started: float,
    attributes: Mapping[str, str | int],
    *,
    span: int = 0,
    parent: int = 0,
    ended: float = 0.0,
    failed: str = "",
) -> None:
    """Send one span, where spans are sent; never waits.

    :param started: and ``ended`` (now, if it is not given): seconds since the epoch
    :param span: its id; 0: one of its own
    :param parent: 0: it is the root
    :param failed: why
    """
    if _send is None:
        return
    from opentelemetry.sdk.trace import ReadableSpan
    from opentelemetry.sdk.util.instrumentation import InstrumentationScope
    from opentelemetry.trace import SpanContext, SpanKind, Status, StatusCode, TraceFlags

    def context(number: int) -> SpanContext:
        return SpanContext(trace_id(push), number, is_remote=False, trace_flags=TraceFlags(TraceFlags.SAMPLED))

    known = {"piehole.push": push, **{f"piehole.{key}": value for key, value in attributes.items() if value != ""}}
    _send(
        ReadableSpan(
            name,
            context(span or int.from_bytes(os.urandom(8), "big") or 1),
            parent=context(parent) if parent else None,
            resource=_resource,
            attributes=known,
            kind=SpanKind.SERVER if name == PUSH else SpanKind.INTERNAL,
            status=Status(StatusCode.ERROR, failed) if failed else Status(StatusCode.UNSET),
            instrumentation_scope=InstrumentationScope("piehole", piehole.__version__),
            start_time=int(started * 1e9),
            end_time=int((ended or time.time()) * 1e9),
        )
    )


def start(url: str) -> Callable[[], None]:
    """Send spans from now on; returns what ends that.

    :param url: of an OTLP/HTTP collector; ``""``: as the standard variables OTEL_EXPORTER_OTLP_… say
    :raises UsageError: the URL is none, or the packages of the extra are missing
    """
    global _send, _resource
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError as error:
        raise UsageError(
            f"--traces needs the extra packages of piehole[otel] ({error}): install them beside piehole."
        ) from error
    logger = logging.getLogger("opentelemetry")
    logger.addHandler(_Trouble())
    logger.propagate = False
    exporter = OTLPSpanExporter(_endpoint(url) if url else None, timeout=_TIMEOUT)
    processor = BatchSpanProcessor(exporter, _QUEUE, _DELAY, _BATCH)
    _resource = Resource.create({"service.name": "piehole", "service.version": piehole.__version__})
    _send = processor.on_end

    def stop() -> None:
        global _send
        _send = None
        # A collector that does not answer must not hold up the end of the controller.
        last = threading.Thread(target=processor.shutdown, name="last traces", daemon=True)
        last.start()
        last.join(_END)

    return stop


def _endpoint(url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise UsageError(f"--traces {url!r} is no URL of an OTLP/HTTP collector, such as http://127.0.0.1:4318.")
    return url if parts.path.strip("/") else f"{url.rstrip('/')}/v1/traces"


class _Trouble(logging.Handler):
    """Logs as this controller does what the packages say of a collector, once a minute at most."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self._log = structlog.get_logger()
        self._logged_at = float("-inf")

    def emit(self, record: logging.LogRecord) -> None:
        if time.monotonic() - self._logged_at > _LOG_EVERY:
            self._logged_at = time.monotonic()
            self._log.warning("traces.failed", error=record.getMessage())
