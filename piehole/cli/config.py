"""Show the settings of piehole, where each comes from, and change one.

Without NAME, every setting is listed: its value, whether that is the default or who sets it (the repository: local; this account: global; the
whole server: system), and what it means. Outside of a repository it is what holds for the server. With NAME, this one is shown in full; with
values, it is set in the repository, or with --system or --global for every repository that does not set it itself.

A value is refused if piehole could not use it (exit status 2). What `piehole install` writes to join a group is changed by `piehole install`,
and a refusal names the command. What is set below `piehole.` and is no setting is warned of. A password in a URL is never shown. The exit
status is 1 if a value that is set cannot be used.

--json prints one object: format (1), repository (its path, or null), settings, a list of objects with name, values (a list), default (a list),
scope (default, system, global, local, worktree or command), file (which sets it, or null), meaning, and fault (why it cannot be used, or null);
and unknown, a list of objects with name, scope, file and nearest (the setting that is meant, or null).
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from piehole.cli import common, tables
from piehole.cli.printing import complain, tell
from piehole.cli.tables import BOLD, DIM, RED, painted
from piehole.errors import PieholeError, UsageError

if TYPE_CHECKING:
    from pathlib import Path

    from piehole.commands.config import FoundSetting, UnknownSetting

EXAMPLES = (
    ("piehole config -C /srv/git/tools.git", "all settings of a repository, and where each comes from"),
    ("piehole config --system readGate wait", "set one for every repository of this server"),
)


def arguments(parser: argparse.ArgumentParser) -> None:
    common.add_repository(parser)
    parser.add_argument("name", metavar="NAME", nargs="?", help="the setting, such as readGate (default: all)")
    parser.add_argument("values", metavar="VALUE", nargs="*", help="set it to this; several where it may have several")
    parser.add_argument("--unset", action="store_true", help="unset it, so that its default counts again")
    place = parser.add_mutually_exclusive_group()
    place.add_argument(
        "--system", dest="scope", action="store_const", const="system", help="what holds for this server"
    )
    place.add_argument(
        "--global", dest="scope", action="store_const", const="global", help="what holds for this account"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object (described above)")


def run(args: argparse.Namespace) -> int:
    from piehole.commands import config

    setting = config.named(args.name) if args.name else None
    needed = bool(args.directory or ((args.values or args.unset) and not args.scope))
    git_dir, elsewhere = _repository(args, needed=needed)
    if args.values or args.unset:
        if setting is None or (args.values and args.unset):
            raise UsageError("--unset takes the NAME of one setting, and no VALUE.")
        for line in config.change(git_dir, setting, args.values, args.scope or config.LOCAL):
            tell(line)
        return 0
    found = config.read(git_dir, [args.scope] if args.scope else ())
    shown = config.show(found, [setting.name]) if setting else config.show(found)
    if args.scope:
        shown = [one for one in shown if setting or one.scope != "default"]
    unknown = [] if setting else config.unknown(found)
    if args.json:
        print(json.dumps(_json(git_dir, shown, unknown), indent=2))
    else:
        if not (setting and git_dir):
            tell(elsewhere or f"settings of {git_dir}")
        (_print_one if setting else _print_all)(shown)
        for one in unknown:
            complain(f"warning: {one.fault}")
    return 1 if any(one.fault for one in shown) else 0


def _repository(args: argparse.Namespace, *, needed: bool) -> tuple[Path | None, str]:
    """The repository; None for the whole server, and why."""
    if args.scope and not args.directory:
        return None, f"what is set for this {'account' if args.scope == 'global' else 'server'}"
    try:
        return common.repository(args), ""
    except PieholeError as error:
        if not needed:
            return None, f"these settings hold for this server, not for a repository: {error}"
        hint = "" if args.directory else " Or use --system: then it holds for all repositories of this server."
        raise type(error)(f"{error}{hint}") from error


def _json(git_dir: Path | None, shown: Sequence[FoundSetting], unknown: Sequence[UnknownSetting]) -> dict[str, Any]:
    settings = [
        {
            "name": f"piehole.{one.setting.name}",
            "values": one.values,
            "default": one.setting.default,
            "scope": one.scope,
            "file": one.file or None,
            "meaning": one.setting.meaning,
            "fault": one.fault or None,
        }
        for one in shown
    ]
    others = [
        {
            "name": one.name,
            "scope": one.scope,
            "file": one.file or None,
            "nearest": f"piehole.{one.nearest}" if one.nearest else None,
        }
        for one in unknown
    ]
    return {"format": 1, "repository": git_dir and str(git_dir), "settings": settings, "unknown": others}


def _value(one: FoundSetting) -> str:
    """The value, and where it comes from."""
    if not one.values:
        return "not set" + (f" ({one.setting.otherwise})" if one.setting.otherwise not in ("", "none") else "")
    default = ", ".join(one.setting.default)
    place = "default" if one.scope == "default" else f"{one.scope}: {one.file}{default and f'; default: {default}'}"
    return f"{', '.join(one.values)} ({place})"


def _print_one(shown: Sequence[FoundSetting]) -> None:
    (one,) = shown
    tell(f"{one.setting.name} = {_value(one)}")
    changes = f"Changed otherwise: {one.setting.changes}." if one.setting.changes else ""
    for text in filter(None, (one.setting.meaning, changes)):
        print("\n".join(tables.wrapped(text, 100)))
    _complain(shown)


def _print_all(shown: Sequence[FoundSetting]) -> None:
    most, paint = tables.window()[0], tables.coloured(sys.stdout)
    for one in shown:
        colour = RED if one.fault else DIM if one.scope == "default" else ""
        value = painted(tables.literal(_value(one)), colour, paint=paint)
        print(f"{painted(one.setting.name, BOLD, paint=paint)} = {value}")
        sentence = re.split(r"(?<=\.) ", one.setting.meaning)[0].rstrip(".")
        for line in tables.wrapped(sentence, max(most - 2, 40)):
            print(painted(f"  {line}", DIM, paint=paint))
    _complain(shown)


def _complain(shown: Sequence[FoundSetting]) -> None:
    for one in shown:
        if one.fault:
            complain(f"fault: {one.fault}")
