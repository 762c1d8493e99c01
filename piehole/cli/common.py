"""What several commands share: arguments and what they mean, opening the repository, and asking before a change."""

from __future__ import annotations

import argparse
import getpass
import os
import sys
import textwrap
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

from piehole import long_work
from piehole.cli.printing import complain, tell
from piehole.deadline import seconds
from piehole.errors import EtcdUnreachable, PieholeError, UsageError

if TYPE_CHECKING:
    from piehole.cli.arguments import CommandParser
    from piehole.cli.help_text import Examples
    from piehole.etcd.client import Etcd
    from piehole.group.config import Overrides
    from piehole.group.replica import Replica

# Options that override the configuration of the same name.
_SETTINGS: Final = (
    ("group", "GROUP", "the repositories that act as one"),
    ("site", "SITE", "this server's unique name"),
    ("url", "URL", "where the other sites fetch from this repository"),
    ("prefix", "PREFIX", "the prefix of all keys in etcd (default /piehole)"),
    ("etcdCA", "FILE", "certificates that sign etcd's"),
    ("etcdCert", "FILE", "a client certificate for etcd"),
    ("etcdKey", "FILE", "the key of that certificate"),
    ("etcdUser", "USER", "the user for etcd's own authentication"),
    ("etcdPasswordFile", "FILE", "the file that holds that user's password"),
)


def add_repository(parser: argparse.ArgumentParser, *, positional: bool = False, inherited: bool = False) -> None:
    """``-C DIR`` and, where the command shows it, the argument REPO.

    :param inherited: the command above this one has the option, too
    """
    parser.add_argument(
        "-C",
        dest="directory",
        metavar="DIR",
        default=argparse.SUPPRESS if inherited else None,
        help="the repository (default: the current directory)",
    )
    if positional:
        parser.add_argument("repo", metavar="REPO", nargs="?", help="the repository (default: the current directory)")


def add_etcd(parser: argparse.ArgumentParser, *, inherited: bool = False) -> None:
    parser.add_argument(
        "--etcd",
        metavar="ENDPOINT",
        action="append",
        default=argparse.SUPPRESS if inherited else [],
        help="etcd's client URL, http://h:p, https://h:p or h:p; repeat it or separate several with commas",
    )


def add_settings(parser: argparse.ArgumentParser) -> None:
    add_etcd(parser)
    for name, metavar, text in _SETTINGS:
        option = "--" + {
            "etcdCA": "etcd-ca",
            "etcdCert": "etcd-cert",
            "etcdKey": "etcd-key",
            "etcdUser": "etcd-user",
        }.get(name, "etcd-password-file" if name == "etcdPasswordFile" else name)
        parser.add_argument(option, dest=name.lower(), metavar=metavar, help=text)


def add_action(
    actions: argparse._SubParsersAction[CommandParser], name: str, text: str, examples: Examples, description: str
) -> CommandParser:
    """One action of a command, such as ``set`` of ``piehole group``.

    :param text: its line in the help of the command
    :param description: the docstring of what does it
    """
    first, _, rest = description.partition("\n")
    parser: CommandParser = actions.add_parser(
        name, help=text, summary=text, description=f"{first}\n{textwrap.dedent(rest)}", examples=examples
    )
    return parser


def overrides(args: argparse.Namespace) -> dict[str, str | Sequence[str]]:
    """What the options say, as :func:`piehole.group.config.parse` takes it."""
    found: dict[str, str | Sequence[str]] = {}
    endpoints = split(getattr(args, "etcd", []))
    if endpoints:
        found["etcd"] = endpoints
    for name, _, _ in _SETTINGS:
        value = getattr(args, name.lower(), None)
        if value:
            found[name.lower()] = value
    return found


def split(values: Sequence[str]) -> list[str]:
    """An option that may be repeated and may take several values separated by commas."""
    return [part.strip() for value in values for part in value.split(",") if part.strip()]


def add_time(parser: argparse.ArgumentParser, option: str, text: str, default: float | None = None) -> None:
    """An option that takes a time, such as ``--wait 10s``; its value is in seconds."""
    parser.add_argument(
        option, metavar="TIME", type=partial(seconds, option), default=default, help=f"{text}; such as 10, 10s or 5m"
    )


def count(text: str) -> int:
    """A number of things, as the value of an option."""
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number, such as 10")
    return int(text)


def repository(args: argparse.Namespace, *, makes: bool = False) -> Path:
    """The repository that the command is about: REPO (relative to ``-C``), else ``-C``, else the current directory.

    :param makes: whether the command wants a repository that is no site yet
    :raises PieholeError: there is no bare repository
    """
    from piehole.repository.fitness import find_repository

    directory, repo = (getattr(args, name, None) for name in ("directory", "repo"))
    folder = Path(directory or ".") / (repo or ".")
    if directory or repo:
        is_free = makes and not any(folder.glob("*"))
        return find_repository(folder, f"Make one with `git init --bare {folder}`." if is_free else "")
    ways = ["with -C DIR"] + ["as REPO"] * (hasattr(args, "repo") or hasattr(args, "repos"))
    hint = f"Name the repository {' or '.join(ways)}"
    if hasattr(args, "root"):
        hint += (
            ", or all below a folder with --root DIR or, once for this server, with "
            "`git config --system --add piehole.root DIR`"
        )
    return find_repository(folder.absolute(), f"{hint}.")


def open_replica(args: argparse.Namespace) -> Replica:
    """
    :raises PieholeError: there is no bare repository
    :raises UsageError: it is not installed
    """
    from piehole.group.replica import Replica

    return Replica.open(repository(args), overrides(args))


def operator() -> str:
    """Who runs this command, for the push record."""
    try:
        return os.environ.get("SUDO_USER") or getpass.getuser()
    except (KeyError, OSError):
        return str(os.getuid())


def add_quiet(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-q", "--quiet", action="store_true", help="do not show how far long work has come")


def add_format(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--format",
        choices=("table", "lines"),
        help="a table for people, or lines for scripts (default: a table on a terminal, lines elsewhere)",
    )


def add_repositories(parser: argparse.ArgumentParser) -> None:
    """``-C DIR``, ``--root DIR`` and the arguments REPO…"""
    parser.add_argument(
        "repos",
        metavar="REPO",
        nargs="*",
        help="the repositories (default: the current one or, outside of one, all below piehole.root)",
    )
    parser.add_argument("-C", dest="directory", metavar="DIR", help="the repository, or where relative REPOs begin")
    parser.add_argument(
        "--root",
        metavar="DIR",
        action="append",
        default=[],
        help="all repositories with a piehole.group below this folder; repeat it or separate several with commas",
    )


def repositories(args: argparse.Namespace) -> list[Path]:
    """The arguments REPO… (unchecked); else ``--root``'s; else the current one (or ``-C``); else, outside of any, those below ``piehole.root``.

    :raises PieholeError: ``-C`` is no repository, or there is none here and piehole.root is not set
    :raises UsageError: there is no repository with a piehole.group below the roots
    """
    from piehole.repository import discovery
    from piehole.repository.git_settings import GitConfig

    roots = split(args.root)
    if args.repos and args.root:
        raise UsageError("give either repositories (REPO) or --root DIR.")
    if args.repos:
        return [Path(args.directory or ".") / repo for repo in args.repos]
    if not roots:
        try:
            return [repository(args)]
        except PieholeError:
            named = list(GitConfig(None).many("piehole.root"))
            if args.directory is not None or not named:
                raise
            roots = [root for root in named if Path(root).is_dir()] or named  # this server need not have them all
    if gone := [root for root in roots if not Path(root).is_dir()]:
        raise UsageError(f"there is no folder {gone[0]}, of which all repositories were asked for.")
    unread: list[str] = []
    found = dict.fromkeys(git_dir for root in roots for git_dir in discovery.repositories(Path(root), unread))
    if unread:
        more = f" and {len(unread) - 1} more folders" if unread[1:] else ""
        complain(f"piehole: {unread[0]}{more} cannot be read by this account, so repositories below are missing here")
    if not found:
        raise UsageError(f"there is no repository with a piehole.group below {', '.join(roots)}.")
    return list(found)


def status_of(error: PieholeError | OSError) -> int:
    """The exit status that follows where a command fails for one of its repositories."""
    return error.exit_status if isinstance(error, PieholeError) else 1


class Connections:
    """Opens many repositories, with one connection to etcd for all that have the same."""

    def __init__(self, overrides: Overrides) -> None:
        self._overrides = overrides
        self._etcds: dict[object, Etcd] = {}

    def open(self, folder: Path) -> Replica:
        """
        :raises PieholeError: there is no bare repository, or it is not installed
        """
        from piehole.repository.fitness import find_repository

        return self.at(find_repository(folder))

    def at(self, git_dir: Path) -> Replica:
        """Open a bare repository by its git directory.

        :raises PieholeError: it is not installed
        """
        from piehole.etcd.client import Etcd
        from piehole.group import config as configuration
        from piehole.group.replica import Replica

        found = configuration.load(git_dir, self._overrides)
        key = (found.etcd, found.credentials)
        etcd = self._etcds.get(key)
        if etcd is None:
            etcd = self._etcds.setdefault(key, Etcd(found.etcd, found.credentials))
        return Replica.of(found, etcd)


def why(wrong: PieholeError | None) -> str | None:
    """The field ``error`` of what ``--json`` prints."""
    return None if wrong is None else str(wrong)


def tell_what_is_missing(wrong: PieholeError | None) -> int:
    """Say why the log of the group is not complete (:func:`piehole.commands.log.known`); the exit status that follows."""
    if wrong is None:
        return 0
    if isinstance(wrong, EtcdUnreachable):
        complain(f"piehole: only the local log is shown: {wrong}")
    else:
        complain(f"piehole: what etcd has is not the history of this repository's group: {wrong}")
    return wrong.exit_status


def add_yes(parser: argparse.ArgumentParser, help_: str = "do not ask; needed where there is no terminal") -> None:
    """``--yes`` and ``--dry-run``."""
    parser.add_argument("--yes", action="store_true", help=help_)
    add_dry_run(parser)


def add_dry_run(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--dry-run", action="store_true", help="say what would change, and change nothing")


def say_dry_run(what: str) -> None:
    """The last line of a dry run.

    :param what: what would be done; ``""`` where nothing would
    """
    tell(f"{f'would {what}: ' if what else ''}nothing was changed (--dry-run)")


def confirm(question: str, *, yes: bool, needed: bool = True) -> None:
    """Return when the answer is yes.

    :param needed: whether it must not be done unasked where nobody is there to ask
    :raises PieholeError: it is no, or nobody is there to ask
    """
    if yes:
        return
    long_work.rest()
    sys.stdout.flush()
    if not (needed or sys.stdin.isatty()):
        return
    if not sys.stdin.isatty():
        raise PieholeError("nothing was changed: there is no terminal to ask at. Use --yes to do it all the same.")
    # Where standard output goes to a file, the question does not.
    print(f"{question} [y/N] ", end="", file=sys.stderr, flush=True)
    answer = sys.stdin.readline()
    if answer.strip().lower() not in ("y", "yes"):
        raise PieholeError("nothing was changed.")
