"""The command line: the only place that reads ``argv`` and exits. Imports of commands are lazy, so ``--help`` is quick."""

from __future__ import annotations

import sys


def main() -> None:
    """The entry point ``piehole``."""
    words = sys.argv[1:]
    # A fetch waits for these two: the parser of a command takes 20 ms.
    if words[:1] in (["upload-pack"], ["http-backend"]) and not {"-h", "--help"} & set(words):
        from importlib import import_module

        serve = import_module(f"piehole.cli.{words[0].replace('-', '_')}").serve
        sys.exit(serve(words[1:]))
    from piehole.cli.parser import run

    sys.exit(run(words))
