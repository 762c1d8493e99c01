"""Run the daemon that replicates every repository of this server and answers the hooks of pushes.

It serves every bare repository with a piehole.group below the given folders and notices those that are added or removed while
it runs. It stays in the foreground, and starts and keeps running without etcd. SIGTERM ends it; SIGHUP makes it read every
configuration again.
"""

from __future__ import annotations

import argparse
import re
import signal
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

from piehole.cli import common
from piehole.errors import PieholeError, UsageError

if TYPE_CHECKING:
    from controller.web.server import WebAddress


EXAMPLES = (
    ("piehole controller --root /srv/git", "serve every repository below /srv/git that has a piehole.group"),
    (
        "piehole controller --root /srv/git --log-format json --log-level debug",
        "the same with a detailed log for a program",
    ),
)


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--root",
        metavar="DIR",
        action="append",
        default=[],
        help="a folder with repositories; repeat it or separate several with commas (default: piehole.root)",
    )
    common.add_etcd(parser)
    parser.add_argument(
        "--log-format", choices=("auto", "console", "json"), default="auto", help="auto: console on a terminal"
    )
    parser.add_argument(
        "--log-level",
        choices=("debug", "info", "warning", "error"),
        default="info",
        metavar="LEVEL",
        help="debug, info (the default), warning or error",
    )
    parser.add_argument(
        "--fetch-max-bytes",
        metavar="N",
        type=_bytes,
        help="the largest pack to accept from a peer, in bytes (default: 16g)",
    )
    parser.add_argument(
        "--fetch-max-memory",
        metavar="N",
        type=_bytes,
        help="the memory that a git process reading a peer's pack may use, in bytes (default: 4g)",
    )
    common.add_time(parser, "--fetch-stall", "give up on a peer that sends nothing for so long (default: 60)")
    common.add_time(parser, "--fetch-timeout", "how long one fetch may take in all (default: 3600)")

    parser.add_argument(
        "--http",
        metavar="ADDRESS",
        help="serve the status page, /metrics, /healthz and /readyz here: HOST:PORT, :PORT (on 127.0.0.1), [V6]:PORT, "
        "or the absolute path of a Unix socket; there is no password (default: nowhere)",
    )
    parser.add_argument(
        "--traces",
        metavar="URL",
        nargs="?",
        const="",
        help="send OpenTelemetry traces of pushes to this OTLP/HTTP collector; without a URL to the one that OTEL_EXPORTER_OTLP_ENDPOINT "
        "names (default: none are sent)",
    )


def _bytes(text: str) -> int:
    found = re.fullmatch(r"(\d{1,15})([kmgt]?)", text.lower(), re.ASCII)
    value = int(found[1]) * 1024 ** " kmgt".index(found[2] or " ") if found else 0
    if not value:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of bytes, such as 16g or 1000000")
    return value


def _web_address(text: str | None) -> WebAddress | None:
    if text is None:
        return None
    from controller.web.server import WebAddress

    return WebAddress.parse(text)


def run(args: argparse.Namespace) -> int:
    from controller import logs, traces
    from controller.daemon import Controller, Options
    from piehole.fastpath import processes
    from piehole.repository.git_settings import GitConfig
    from piehole.transfer.watchdog import Limits

    if 0 in (args.fetch_stall, args.fetch_timeout):
        raise UsageError("--fetch-stall and --fetch-timeout take a time above 0.")
    roots = common.split(args.root) or list(GitConfig(None).many("piehole.root"))
    if not roots:
        raise UsageError(
            "no folder is given: use --root DIR, or set piehole.root with `git config --system --add piehole.root DIR`."
        )
    for root in roots:
        if not Path(root).is_dir():
            raise UsageError(f"--root {root} is not a folder.")
    http = _web_address(args.http)
    logs.configure(args.log_format, args.log_level)
    defaults = Limits()
    limits = Limits(
        max_bytes=args.fetch_max_bytes or defaults.max_bytes,
        max_memory=args.fetch_max_memory or defaults.max_memory,
        stall=args.fetch_stall or defaults.stall,
        total=args.fetch_timeout or defaults.total,
    )
    try:
        processes.boot_id()
    except OSError as error:
        raise PieholeError(f"{error}. Without it, it cannot be told which pushes still run.") from error
    end_traces = traces.start(args.traces) if args.traces is not None else lambda: None
    controller = Controller(Options(tuple(Path(root) for root in roots), limits, common.overrides(args), http=http))

    def ended(_number: int, _frame: FrameType | None) -> None:
        controller.shutdown()

    def reloaded(_number: int, _frame: FrameType | None) -> None:
        controller.reload()

    signal.signal(signal.SIGTERM, ended)
    signal.signal(signal.SIGINT, ended)
    signal.signal(signal.SIGHUP, reloaded)
    try:
        controller.run()
    finally:
        end_traces()
    return 0
