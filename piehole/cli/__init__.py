"""The command line: the only place that reads ``argv`` and exits. Imports of commands are lazy, so ``--help`` is quick."""

from __future__ import annotations

import sys


def main() -> None:
    """The entry point ``piehole``."""
    from piehole.cli.parser import run

    sys.exit(run(sys.argv[1:]))
