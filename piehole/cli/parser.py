"""The commands, the argument parser of each, and the exit status of each error (docs/reference/exit-statuses.md).

Only the module of the command that runs is imported: what every command needs to be listed with is in the table here.
"""

from __future__ import annotations

import importlib
import io
import os
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from piehole import __version__
from piehole.cli.printing import complain
from piehole.errors import PieholeError, UsageError

if TYPE_CHECKING:
    from piehole.cli.arguments import CommandParser

SET_UP: Final = "Set up"
DAY_TO_DAY: Final = "Day to day"
TROUBLE: Final = "Trouble"


class CliCommand(NamedTuple):
    """One command, as ``piehole --help`` lists it.

    It lives in the module piehole.cli.NAME (with _ for -), with a docstring (the text of its help), `EXAMPLES` (two command lines, and what
    each does), `arguments(parser)` and `run(args) -> exit status`.
    """

    name: str
    task: str
    help: str

    @property
    def module(self) -> Any:
        return importlib.import_module(f"piehole.cli.{self.name.replace('-', '_')}")

    def parser(self) -> CommandParser:
        from piehole.cli.arguments import CommandParser

        module = self.module
        parser = CommandParser(f"piehole {self.name}", description=module.__doc__, examples=module.EXAMPLES)
        module.arguments(parser)
        return parser


COMMANDS: Final = {
    command.name: command
    for command in (
        CliCommand("demo", SET_UP, "try piehole with three sites on this machine"),
        CliCommand("setup", SET_UP, "make this server a site: accounts, etcd, ssh, https, repository"),
        CliCommand("install", SET_UP, "make a repository part of a group"),
        CliCommand("controller", SET_UP, "run the daemon that replicates the repositories of this server"),
        CliCommand("config", SET_UP, "show and change the settings of a repository or of this server"),
        CliCommand("group", SET_UP, "show and change the settings that all sites of a group share"),
        CliCommand("rename", SET_UP, "give the group another name"),
        CliCommand("leave", SET_UP, "mark a site as left"),
        CliCommand("uninstall", SET_UP, "take a repository out of its group"),
        CliCommand("upload-pack", SET_UP, "git upload-pack behind the read gate"),
        CliCommand("http-backend", SET_UP, "git http-backend behind the read gate"),
        CliCommand("files", SET_UP, "list or copy the files for servers: units, settings, scripts"),
        CliCommand("completion", SET_UP, "print the completion for bash, zsh or fish"),
        CliCommand("status", DAY_TO_DAY, "show how far each site has replicated, and why it is behind"),
        CliCommand("log", DAY_TO_DAY, "show who moved which ref, when and at which site"),
        CliCommand("sites", DAY_TO_DAY, "list the sites of the group"),
        CliCommand("wait", DAY_TO_DAY, "wait until sites have what is the newest now"),
        CliCommand("explain", TROUBLE, "explain a word that piehole has printed, and what to do"),
        CliCommand("check", TROUBLE, "check the installation and say how to fix each problem"),
        CliCommand("doctor", TROUBLE, "collect what a report of a fault needs in one file, without secrets"),
        CliCommand("audit", TROUBLE, "compare what the group agreed on with what every site holds"),
        CliCommand("reconcile", TROUBLE, "recover a site without the daemon"),
        CliCommand("kept", TROUBLE, "bring back or remove the tips of deleted or overwritten refs"),
        CliCommand("clobber", TROUBLE, "make this repository's refs the group's"),
        CliCommand("accept", TROUBLE, "continue after etcd or this disk was restored from a backup"),
    )
}

_USAGE: Final = """\
usage: piehole COMMAND [OPTION]... [ARGUMENT]...
       piehole COMMAND --help
       piehole --version
"""
WHAT_IT_IS: Final = """\
Several Git repositories at different sites act as one: push to any of them.

The references are agreed in etcd by git's hooks; a controller on each server replicates its repositories.
"""
STATUS: Final = """\
  0  done
  1  not converged, refused, or a fault found
  2  wrong arguments, or a required setting is missing
  3  etcd was needed and no endpoint answered
"""


def overview(width: int) -> str:
    """What ``piehole --help`` prints."""
    from piehole.cli.help_text import listing, render

    column = max(map(len, COMMANDS)) + 4
    listed = "".join(
        f"{task.lower()}:\n{listing([(one.name, one.help) for one in COMMANDS.values() if one.task == task], column, width)}\n\n"
        for task in (SET_UP, DAY_TO_DAY, TROUBLE)
    )
    return f"{_USAGE}\n{render(WHAT_IT_IS, width)}\n\n{listed}exit status:\n{render(STATUS, width)}\n"


def _run(argv: Sequence[str]) -> int:
    directory = ""
    while argv[:1] == ["-C"] and len(argv) > 1:  # as with git, it may come first, and begins where one before it led
        directory = os.path.join(directory, argv[1])  # noqa: PTH118 -- pathlib costs the start some milliseconds
        argv = argv[2:]
    name, *words = argv or ("",)
    if "" in words and name != "completion":  # there, it is a word that has yet to be typed
        raise UsageError("an argument is empty: perhaps a variable of the shell is not set.")
    words = ["-C", directory, *words] if directory else words
    if name in ("-h", "--help") or (name == "help" and not words):
        from piehole.cli.help_text import columns

        print(overview(columns()), end="")
        return 0
    if name == "--version":
        print(f"piehole {__version__}")
        return 0
    if name == "help":
        name, words = words[0], [*words[1:], "--help"]
    command = COMMANDS.get(name)
    if command is None:
        raise UsageError(f"{_unknown(name)}. See `piehole --help`.")
    arguments = command.parser().parse_args(words)
    from piehole.cli import progress_line

    with nullcontext() if _is_for_json(words) or getattr(arguments, "quiet", False) else progress_line.shown():
        status: int = command.module.run(arguments)
    return status


def _fail(argv: Sequence[str], error: Exception, status: int) -> int:
    """Say what went wrong, with ``--json`` on standard output, too: whoever reads that gets an object in any case."""
    complain(f"piehole: {error}")
    if _is_for_json(argv):
        import json

        print(json.dumps({"format": 1, "error": str(error)}, indent=2), flush=True)
    return status


def _is_for_json(argv: Sequence[str]) -> bool:
    return any(len(word) > 3 and "--json".startswith(word) for word in argv)


def _unknown(name: str) -> str:
    from piehole.cli.arguments import did_you_mean

    if not name:
        return "no command is given"
    if name.startswith("-"):
        return f"there is no option {name!r} of piehole itself: the options of a command come after it"
    return f"there is no command {name!r}{did_you_mean(name, COMMANDS)}"


def run(argv: Sequence[str]) -> int:
    """Run one command and return its exit status. Errors become one sentence on standard error, never a traceback."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        # Names of refs are bytes, and are printed unchanged.
        sys.stdout.reconfigure(errors="surrogateescape")
    try:
        status = _run(argv)
        sys.stdout.flush()
    except PieholeError as error:
        return _fail(argv, error, error.exit_status)
    except BrokenPipeError:
        # The reader ended (`| head`). Without this, Python complains again when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        return _fail(argv, error, 1)
    except KeyboardInterrupt:
        return 130
    return status
