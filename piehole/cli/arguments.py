"""The argument parsers of the commands: help in the width of the terminal that ends with examples, and suggestions for what is misspelt."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Sequence
from typing import Any, NoReturn

from piehole.cli import help_text
from piehole.cli.help_text import Examples
from piehole.errors import UsageError


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """``""``, or what to add to a sentence about a word that is not known."""
    import difflib

    close = difflib.get_close_matches(word, list(known), n=1)
    return f" (did you mean {close[0]!r}?)" if close else ""


class _HelpFormatter(argparse.HelpFormatter):
    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=28, width=help_text.columns())

    def _fill_text(self, text: str, width: int, indent: str) -> str:  # noqa: ARG002
        return help_text.render(text, width)


class CommandParser(argparse.ArgumentParser):
    """The parser of a command or of one of its actions.

    :param description: a docstring
    :param summary: the line of an action in the help of its command
    """

    def __init__(self, prog: str, *, description: str, examples: Examples, summary: str = "", **options: Any) -> None:
        super().__init__(prog, description=description, formatter_class=_HelpFormatter, **options)
        self.examples = examples
        self.summary = summary
        self._positionals.title = "arguments"

    def format_help(self) -> str:
        return f"{super().format_help()}\n{help_text.render_examples(self.examples, help_text.columns())}\n"

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message}. See `{self.prog} --help`.")

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Parse, and refuse what is left, where the options are known that it may be a misspelt one of."""
        found, rest = super().parse_known_args(args, namespace)
        if rest:
            hints = "".join(did_you_mean(word.partition("=")[0], self.options) for word in rest if word[:1] == "-")
            from pathlib import Path

            if "-C" in self.options and Path(rest[0]).is_dir():
                hints += f" (a repository is named with -C {rest[0]})"
            self.error(f"unrecognized arguments: {' '.join(rest)}{hints}")
        return found, rest

    def option(self, name: str) -> argparse.Action | None:
        """The option of this name or, as on the command line, the only one that begins so; None where it takes no value."""
        found = self._option_string_actions.get(name)
        if found is None and name.startswith("--"):
            several = {
                id(action): action for one, action in self._option_string_actions.items() if one.startswith(name)
            }
            found = next(iter(several.values())) if len(several) == 1 else None
        return found if found is not None and found.nargs != 0 else None

    @property
    def options(self) -> list[str]:
        """The options that help shows."""
        return [one for action in self.shown for one in action.option_strings]

    @property
    def shown(self) -> Sequence[argparse.Action]:
        """The arguments that help shows."""
        return [action for action in self._actions if action.help != argparse.SUPPRESS]

    @property
    def actions(self) -> dict[str, CommandParser]:
        """The parsers of the actions, such as ``set`` of ``piehole group``."""
        found: dict[str, CommandParser] = {}
        for action in self._actions:
            if isinstance(action, argparse._SubParsersAction):
                found |= action.choices
        return found

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if action.choices is not None and value not in action.choices:
            known = ", ".join(map(str, action.choices))
            hint = did_you_mean(str(value), map(str, action.choices))
            raise argparse.ArgumentError(action, f"invalid choice: {value!r}{hint}; it is one of {known}")
