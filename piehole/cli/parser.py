"""The argument parser, and the exit status of each error (docs/operations.md, "Exit statuses")."""

from __future__ import annotations

import argparse
import importlib
import io
import os
import sys
from collections.abc import Sequence
from typing import Final, NoReturn

from piehole import __version__
from piehole.cli.printing import complain
from piehole.errors import PieholeError, UsageError

# Every command lives in the module piehole.cli.NAME (with _ for -) with `HELP`, `arguments(parser)` and `run(args) -> exit status`.
COMMANDS: Final = (
    "install",
    "uninstall",
    "leave",
    "rename",
    "sites",
    "group",
    "controller",
    "reconcile",
    "clobber",
    "accept",
    "status",
    "check",
    "audit",
    "log",
    "wait",
    "upload-pack",
    "http-backend",
    "kept",
    "demo",
)

_DESCRIPTION: Final = """\
Several Git repositories at different sites act as one: push to any of them.

The references are agreed in etcd by git's hooks; a controller on each server replicates its repositories.
"""

_EPILOG: Final = """\
exit status:
  0  done
  1  not converged, refused, or a fault found
  2  wrong arguments, or a required setting is missing
  3  etcd was needed and no endpoint answered
"""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message}. See `{self.prog} --help`.")


def build() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="piehole", description=_DESCRIPTION, epilog=_EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--version", action="version", version=f"piehole {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name in COMMANDS:
        module = importlib.import_module(f"piehole.cli.{name.replace('-', '_')}")
        sub = commands.add_parser(
            name, help=module.HELP, description=module.__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
        )
        module.arguments(sub)
        sub.set_defaults(run=module.run)
    return parser


def run(argv: Sequence[str]) -> int:
    """Run one command and return its exit status. Errors become one sentence on standard error, never a traceback."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        # Names of refs are bytes, and are printed unchanged.
        sys.stdout.reconfigure(errors="surrogateescape")
    try:
        args = build().parse_args(argv)
        status: int = args.run(args)
        sys.stdout.flush()
    except PieholeError as error:
        complain(f"piehole: {error}")
        return error.exit_status
    except BrokenPipeError:
        # The reader ended (`| head`). Without this, Python complains again when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        complain(f"piehole: {error}")
        return 1
    except KeyboardInterrupt:
        return 130
    return status
