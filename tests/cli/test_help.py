"""Help fits the terminal and ends with examples that are true; what is misspelt gets a suggestion."""

from __future__ import annotations

import argparse
import re
import shlex
from collections.abc import Iterator

import pytest

from piehole.cli.arguments import CommandParser
from piehole.cli.help_text import render
from piehole.cli.parser import COMMANDS, overview
from tests.support.command_line import piehole_in_process


def _parsers() -> Iterator[CommandParser]:
    for command in COMMANDS.values():
        parser = command.parser()
        yield parser
        yield from parser.actions.values()


PARSERS = {parser.prog: parser for parser in _parsers()}
every = pytest.mark.parametrize("prog", PARSERS)


@every
def test_help_ends_with_two_examples_that_the_parser_takes(prog: str) -> None:
    parser = PARSERS[prog]
    lines = parser.format_help().rpartition("\nexamples:\n")[2].splitlines()
    assert len(parser.examples) >= 2
    assert len([line for line in lines if re.match(r"  \S", line)]) == len(parser.examples)
    for command, meaning in parser.examples:
        assert meaning
        words = shlex.split(command)
        while "=" in words[0]:
            del words[0]  # a variable of the environment
        program, name, *arguments = words
        assert program == "piehole"
        assert prog.startswith((f"piehole {name}", "piehole group "))
        COMMANDS[name].parser().parse_args(arguments)


@every
@pytest.mark.parametrize("columns", [80, 60, 132])
def test_help_fits_the_terminal(prog: str, columns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    # A word that is longer than a line cannot be broken.
    wide = [line for line in PARSERS[prog].format_help().splitlines() if len(line) > columns and " " in line.strip()]
    assert wide == []


@every
def test_every_argument_says_what_it_is(prog: str) -> None:
    assert [action.dest for action in PARSERS[prog].shown if not action.help and action.nargs != argparse.PARSER] == []


@pytest.mark.parametrize("columns", [80, 60])
def test_the_list_of_commands_fits_the_terminal_and_names_each_once_by_task(columns: int) -> None:
    text = overview(columns)
    assert max(map(len, text.splitlines())) <= columns
    assert re.findall(r"^(\w[\w ]+):$", text, re.MULTILINE) == ["set up", "day to day", "trouble", "exit status"]
    assert sorted(re.findall(r"^  ([a-z-]+)  ", text, re.MULTILINE)) == sorted(COMMANDS)


def test_paragraphs_flow_and_a_table_stays_one() -> None:
    text = """The first line of a paragraph,
and its second.

  term            what it means, which
                  goes on here
    below         has its own column
  a line that stands alone
"""
    assert render(text, 44).splitlines() == [
        "The first line of a paragraph, and its",
        "second.",
        "",
        "  term  what it means, which goes on here",
        "    below  has its own column",
        "  a line that stands alone",
    ]


@pytest.mark.parametrize(
    ("words", "suggestion"),
    [
        ("stauts", "'status'"),
        ("uninstal", "'uninstall'"),
        ("status --waitt 5", "'--wait'"),
        ("status --jsno", "'--json'"),
        ("kept drop --forgt", "'--forget'"),
        ("kept restroe 4f2c1d9", "'restore'"),
        ("group sow", "'show'"),
        ("controller --log-level=inof", "'info'"),
        ("help stauts", "'status'"),
    ],
)
def test_what_is_misspelt_gets_a_suggestion(words: str, suggestion: str) -> None:
    answer = piehole_in_process(*words.split())
    assert answer.status == 2
    assert f"did you mean {suggestion}?" in answer.err
    assert answer.err.count("\n") == 1


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("", "no command is given. See `piehole --help`."),
        ("xyzzy", "there is no command 'xyzzy'. See `piehole --help`."),
        (
            "--root /srv status",
            "there is no option '--root' of piehole itself: the options of a command come after it.",
        ),
        ("sites --qqqqq", "unrecognized arguments: --qqqqq. See `piehole sites --help`."),
    ],
)
def test_what_resembles_nothing_gets_none(words: str, said: str) -> None:
    answer = piehole_in_process(*words.split())
    assert (answer.status, "did you mean" in answer.err) == (2, False)
    assert said in answer.err


def test_help_is_a_command_too(capsys: pytest.CaptureFixture[str]) -> None:
    assert piehole_in_process("help").out == piehole_in_process("--help").out
    with pytest.raises(SystemExit, match="0"):
        piehole_in_process("help", "status")
