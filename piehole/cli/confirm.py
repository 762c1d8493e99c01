"""Asking a person before something changes."""

from __future__ import annotations

import argparse
import sys

from piehole.errors import PieholeError


def argument(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--yes", action="store_true", help="do not ask; needed where there is no terminal")


def confirm(question: str, *, yes: bool) -> None:
    """Return when the answer is yes.

    :raises PieholeError: it is no, or nobody is there to ask
    """
    if yes:
        return
    sys.stdout.flush()
    if not sys.stdin.isatty():
        raise PieholeError("nothing was changed: there is no terminal to ask at. Use --yes to do it all the same.")
    try:
        answer = input(f"{question} [y/N] ")
    except EOFError:
        answer = ""
    if answer.strip().lower() not in ("y", "yes"):
        raise PieholeError("nothing was changed.")
