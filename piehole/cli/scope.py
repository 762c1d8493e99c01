"""Which repositories a command that can concern several is about."""

from __future__ import annotations

import argparse
from pathlib import Path

from piehole.cli import common
from piehole.errors import PieholeError, UsageError


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-C", dest="directory", metavar="DIR", help="the repository (default: the current directory)")
    parser.add_argument(
        "--root",
        metavar="DIR",
        action="append",
        default=[],
        help="all repositories with a piehole.group below this folder; repeat it or separate several with commas",
    )


def repositories(args: argparse.Namespace) -> list[Path]:
    """``--root``'s repositories; else the current one (or ``-C``); else, outside of any, those below ``piehole.root``.

    :raises PieholeError: ``-C`` is no repository, or there is none here and piehole.root is not set
    :raises UsageError: there is no repository with a piehole.group below the roots
    """
    from piehole.repository.discovery import repositories as below
    from piehole.repository.fitness import find_repository
    from piehole.repository.git_settings import GitConfig

    roots = common.split(args.root)
    if not roots:
        try:
            return [find_repository(common.folder(args))]
        except PieholeError:
            roots = list(GitConfig(None).many("piehole.root"))
            if args.directory or not roots:
                raise
    found = dict.fromkeys(git_dir for root in roots for git_dir in below(Path(root)))
    if not found:
        raise UsageError(f"there is no repository with a piehole.group below {', '.join(roots)}.")
    return list(found)
