"""The manual pages, docs/reference/commands.md and the completion files, from the texts of --help."""

from __future__ import annotations

import argparse
import re
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from typing import Final, Protocol

from piehole import __version__
from piehole.cli import parser as cli
from piehole.cli.arguments import CommandParser
from piehole.cli.completion import SCRIPTS
from piehole.cli.help_text import HelpRow, blocks

REFERENCE: Final = "docs/reference/commands.md"
MAN: Final = "share/man/man1"
COMPLETIONS: Final = {
    "bash": "share/bash-completion/completions/piehole",
    "zsh": "share/zsh/site-functions/_piehole",
    "fish": "share/fish/vendor_completions.d/piehole.fish",
}
_DATE: Final = "2026-11-29"
_COLUMNS: Final = 78  # of the source of manual pages

_TASKS: Final = (cli.SET_UP, cli.DAY_TO_DAY, cli.TROUBLE)


def texts() -> dict[str, str]:
    """The path below the root, and the content, of each file that is made from --help."""
    found = {REFERENCE: _reference()}
    found[f"{MAN}/piehole.1"] = _overview()
    for command in cli.COMMANDS.values():
        page = _Roff(f"piehole-{command.name}", command.help)
        _describe(page, command.parser())
        page.heading("EXIT STATUS")
        page.text(cli.STATUS)
        page.heading("SEE ALSO")
        beside = [one for one in cli.COMMANDS.values() if one.task == command.task and one is not command]
        page.see("piehole", *(f"piehole-{one.name}" for one in beside))
        found[f"{MAN}/piehole-{command.name}.1"] = page.end()
    return found | {path: SCRIPTS[shell] for shell, path in COMPLETIONS.items()}


def _reference() -> str:
    page = _Markdown()
    page.heading("Reference of the commands", 1)
    page.line("<!-- Made by `make docs` from what --help prints: change the docstrings in piehole/cli/ instead. -->")
    page.line(
        "`piehole COMMAND --help` and `man piehole-COMMAND` say the same. [The guides](../guides/index.md) say which one to use when."
    )
    page.heading("Commands by task", 2)
    for task in _TASKS:
        names = [one for one in cli.COMMANDS.values() if one.task == task]
        page.heading(task, 3)
        page.lines(f"* [{one.name}](#piehole-{one.name}): {inline(one.help)}" for one in names)
    page.heading("Exit status", 2)
    page.text(cli.STATUS)
    for command in cli.COMMANDS.values():
        page.heading(f"piehole {command.name}", 2)
        _describe(page, command.parser())
    return page.end()


def _overview() -> str:
    page = _Roff("piehole", "several Git repositories at different sites act as one")
    page.heading("SYNOPSIS")
    page.usage("piehole COMMAND [OPTION]... [ARGUMENT]...")
    page.usage("piehole COMMAND --help")
    page.heading("DESCRIPTION")
    page.text(cli.WHAT_IT_IS)
    for task in _TASKS:
        page.heading(task.upper())
        page.definitions((f"piehole-{one.name}(1)", one.help) for one in cli.COMMANDS.values() if one.task == task)
    page.heading("EXIT STATUS")
    page.text(cli.STATUS)
    page.heading("SEE ALSO")
    page.see(*(f"piehole-{one}" for one in cli.COMMANDS))
    return page.end()


def _describe(page: _Page, parser: CommandParser) -> None:
    page.part("Synopsis")
    page.usage(_synopsis(parser))
    page.part("Description")
    page.text(parser.description or "")
    page.part("Options")
    _arguments(page, parser)
    for action in parser.actions.values():
        page.sub(action.prog)
        page.usage(_synopsis(action))
        page.text(action.description or "")
        _arguments(page, action)
        page.label("Examples:")
        page.examples(action.examples)
    page.part("Examples")
    page.examples(parser.examples)


def _arguments(page: _Page, parser: CommandParser) -> None:
    shown = [action for action in parser.shown if action.nargs != argparse.PARSER]
    shown.sort(key=lambda action: bool(action.option_strings))  # arguments first
    page.definitions((_names(action), action.help or "") for action in shown if action.dest != "help")


def _synopsis(parser: CommandParser) -> str:
    words = [parser.prog]
    options = [action for action in parser.shown if action.option_strings and action.dest != "help"]
    for action in options:
        word = _names(action).partition(", ")[0]
        words.append(word if action.required else f"[{word}]")
    words += [_values(action) for action in parser.shown if not action.option_strings]
    return " ".join(words)


def _names(action: argparse.Action) -> str:
    """An option with its values, or an argument."""
    if not action.option_strings:
        return _values(action)
    return " ".join(filter(None, (", ".join(action.option_strings), _values(action))))


def _values(action: argparse.Action) -> str:
    name = action.metavar if isinstance(action.metavar, str) else "|".join(map(str, action.choices or ()))
    match action.nargs:
        case 0:
            return ""
        case "?":
            return f"[{name}]"
        case "*":
            return f"[{name}...]"
        case "+":
            return f"{name}..."
        case argparse.PARSER:
            return f"{name} ..."
        case _:
            return name


def inline(text: str) -> str:
    """Text as Markdown, in which nothing is markup but what is between backticks."""
    parts = re.split(r"(`[^`]+`)", text)
    return "".join(part if part[:1] == "`" else re.sub(r"([*_<>\[\]])", r"\\\1", part) for part in parts)


class _Page(Protocol):
    """What a command is written to."""

    def part(self, title: str) -> None: ...

    def sub(self, title: str) -> None: ...

    def label(self, text: str) -> None: ...

    def usage(self, text: str) -> None: ...

    def text(self, text: str) -> None: ...

    def definitions(self, rows: Iterable[tuple[str, str]]) -> None: ...

    def examples(self, examples: Sequence[tuple[str, str]]) -> None: ...


class _Markdown:
    def __init__(self) -> None:
        self._parts: list[str] = []

    def line(self, text: str) -> None:
        self._parts.append(text)

    def lines(self, lines: Iterable[str]) -> None:
        self._parts.append("\n".join(lines))

    def heading(self, title: str, level: int) -> None:
        self.line(f"{'#' * level} {title}")

    def part(self, title: str) -> None:
        if title == "Examples":
            self.label(f"{title}:")

    def label(self, text: str) -> None:
        self.line(text)

    def sub(self, title: str) -> None:
        self.heading(title, 3)

    def usage(self, text: str) -> None:
        self.line(f"```text\nusage: {text}\n```")

    def text(self, text: str) -> None:
        for block in blocks(text):
            self.line(inline(block) if isinstance(block, str) else "\n".join(self._rows(block)))

    def definitions(self, rows: Iterable[tuple[str, str]]) -> None:
        listed = [f"* `{term}`: {inline(meaning)}" for term, meaning in rows]
        if listed:
            self.lines(listed)

    def examples(self, examples: Sequence[tuple[str, str]]) -> None:
        self.lines(f"* {inline(meaning)}: `{command}`" for command, meaning in examples)

    def end(self) -> str:
        return "\n\n".join(self._parts) + "\n"

    def _rows(self, rows: Sequence[HelpRow]) -> Iterator[str]:
        least = min(row.indent for row in rows)
        for row in rows:
            meaning = f": {inline(row.meaning)}" if row.meaning else ""
            yield f"{' ' * (row.indent - least)}* `{row.term}`{meaning}"


class _Roff:
    """A page of man(7)."""

    def __init__(self, name: str, what: str) -> None:
        self._lines = [
            '.\\" Made by "make docs" from what --help prints.',
            f'.TH {name.upper().replace("-", chr(92) + "-")} 1 {_DATE} "piehole {__version__}" "piehole"',
        ]
        self.heading("NAME")
        self._flow(f"{self._plain(name)} \\- {self._plain(what)}")

    def heading(self, title: str) -> None:
        self._lines.append(f".SH {title.upper()}")

    def part(self, title: str) -> None:
        self.heading(title)

    def sub(self, title: str) -> None:
        self._lines.append(f".SS {self._plain(title)}")

    def label(self, text: str) -> None:
        self._paragraph(text)

    def usage(self, text: str) -> None:
        self._paragraph(self._plain(text))

    def text(self, text: str) -> None:
        for block in blocks(text):
            if isinstance(block, str):
                self._paragraph(self._inline(block))
            else:
                self._rows(block)

    def definitions(self, rows: Iterable[tuple[str, str]]) -> None:
        for term, meaning in rows:
            self._term(term, meaning)

    def examples(self, examples: Sequence[tuple[str, str]]) -> None:
        for command, meaning in examples:
            self._term(command, meaning)

    def see(self, *names: str) -> None:
        self._lines.append(",\n".join(f".BR {self._plain(name)} (1)" for name in names))

    def end(self) -> str:
        return "\n".join(self._lines) + "\n"

    def _rows(self, rows: Sequence[HelpRow]) -> None:
        depth = [rows[0].indent]
        for row in rows:
            while row.indent < depth[-1]:
                depth.pop()
                self._lines.append(".RE")
            if row.indent > depth[-1]:
                depth.append(row.indent)
                self._lines.append(".RS")
            self._term(row.term, row.meaning)
        self._lines += [".RE"] * (len(depth) - 1)

    def _term(self, term: str, meaning: str) -> None:
        if meaning:
            self._lines.append(".TP")
            self._lines.append(f"\\fB{self._plain(term)}\\fR")
            self._flow(self._inline(meaning))
        else:
            self._paragraph(f"\\fB{self._plain(term)}\\fR")

    def _paragraph(self, text: str) -> None:
        if not self._lines[-1].startswith((".SH", ".SS")):
            self._lines.append(".PP")
        self._flow(text)

    def _flow(self, text: str) -> None:
        """Lines of source. None of them begins as a macro does."""
        wrapped = textwrap.wrap(text, _COLUMNS, break_long_words=False, break_on_hyphens=False)
        self._lines += (f"\\&{line}" if line[0] in ".'" else line for line in wrapped)

    def _inline(self, text: str) -> str:
        parts = re.split(r"`([^`]+)`", text)
        return "".join(f"\\fB{self._plain(part)}\\fR" if at % 2 else self._plain(part) for at, part in enumerate(parts))

    def _plain(self, text: str) -> str:
        return text.replace("\\", "\\e").replace("-", "\\-").replace("'", "\\(aq").replace("`", "\\(ga")
