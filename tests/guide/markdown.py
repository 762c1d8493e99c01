"""A page of the documentation: its fences, and the commands in those of language ``console``.

How commands are written in a page:

* A fence of language ``console`` shows what is typed and what is printed. A line that begins with a prompt is typed: ``$ `` or
  ``root# `` on pages of one machine, ``git@oslo$ ``, ``root@oslo# `` or ``alice@laptop$ `` on pages of several. What follows is its
  output, except for the rest of an unfinished command: lines after a backslash, of a here-document, of a loop, of a quoted text.
* ``…`` inside a line of output stands for any text, a line of only ``…`` for any number of lines. A command with no output in the page
  may print anything. Git's progress and the shell's notices of jobs are never compared.
* Each command must succeed. Where the last one of a block must not, ``<!-- exit 1 -->`` stands above the fence, and the text around it
  tells the reader.
* ``<!-- terminal 2 -->``: the block is typed in another terminal of the same place, which has a shell of its own.
* A line ``^C`` in the output: Ctrl-C is pressed once everything above it has been printed. As the first line of a block it ends what a
  block with ``<!-- keeps running -->`` has left in the foreground of that terminal.
* A line of output such as ``Go on? [y/N] y`` answers a question: everything after ``] `` is typed.
* A fence of another language is an excerpt where ``<!-- deploy/nginx.conf -->`` (the file, seen from the top of the tree) stands above it.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
INTERRUPT = "^C"
_PROMPT = re.compile(r"(\$|[a-z][a-z0-9-]*(?:@[a-z][a-z0-9.-]*)?[$#]) (?=\S)")
_COMMENT = re.compile(r"<!--\s*(.*?)\s*-->")


@dataclass(frozen=True)
class Fence:
    """A fenced part of a page; ``line`` is where its content begins."""

    language: str
    lines: tuple[str, ...]
    line: int
    section: str
    notes: tuple[str, ...]  # the comments above it


@dataclass(frozen=True)
class Command:
    prompt: str  # such as "$" or "root@oslo#"
    text: str
    shown: tuple[str, ...]  # the output in the page
    line: int
    status: int = 0


@dataclass(frozen=True)
class Block:
    """The commands of one ``console`` fence."""

    commands: tuple[Command, ...]
    line: int
    section: str
    terminal: str = ""
    keeps_running: bool = False


class PageError(AssertionError):
    """A page that cannot be understood; the text says where and why."""


def fences(path: Path) -> list[Fence]:
    found: list[Fence] = []
    section, notes = "", list[str]()
    lines = path.read_text().splitlines()
    number = 0
    while number < len(lines):
        line = lines[number]
        opening = re.fullmatch(r"( *)(```+)(.*)", line)
        if opening:
            indent, ticks, language = opening.groups()
            begin = number + 1
            end = next((at for at in range(begin, len(lines)) if lines[at].strip() == ticks), None)
            if end is None:
                raise PageError(f"{path}:{number + 1}: this fence has no end")
            content = tuple(one.removeprefix(indent) for one in lines[begin:end])
            found.append(Fence(language.strip(), content, begin + 1, section, tuple(notes)))
            number, notes = end, []
        elif line.startswith("#"):
            section, notes = line.lstrip("#").strip(), []
        elif _COMMENT.fullmatch(line.strip()):
            notes.append(_COMMENT.fullmatch(line.strip())[1])  # type: ignore[index]
        elif line.strip():
            notes = []
        number += 1
    return found


def blocks(path: Path) -> list[Block]:
    return [_block(path, fence) for fence in fences(path) if fence.language == "console"]


def _block(path: Path, fence: Fence) -> Block:
    status, terminal, keeps_running = 0, "", False
    for note in fence.notes:
        word, _, value = note.partition(" ")
        if word == "exit" and value.isdigit():
            status = int(value)
        elif word == "terminal" and value:
            terminal = value
        elif note == "keeps running":
            keeps_running = True
        else:
            raise PageError(f"{path}:{fence.line - 1}: a console block knows no <!-- {note} -->")
    commands = _commands(path, fence)
    last = commands[-1]
    commands[-1] = Command(last.prompt, last.text, last.shown, last.line, status)
    return Block(tuple(commands), fence.line, fence.section, terminal, keeps_running)


def _commands(path: Path, fence: Fence) -> list[Command]:
    found: list[Command] = []
    rest = list(enumerate(fence.lines, fence.line))
    if rest and rest[0][1] == INTERRUPT:
        rest.pop(0)
        found.append(Command("", INTERRUPT, _take_output(rest), fence.line))
    while rest:
        number, line = rest.pop(0)
        prompt = _PROMPT.match(line)
        if not prompt:
            raise PageError(f"{path}:{number}: a console block begins with a prompt, not with {line!r}")
        text = line[prompt.end() :]
        while is_unfinished(text):
            if not rest:
                raise PageError(f"{path}:{number}: the block ends in the middle of this command:\n{text}")
            text += "\n" + rest.pop(0)[1]
        found.append(Command(prompt[1], text, _take_output(rest), number))
    if not found:
        raise PageError(f"{path}:{fence.line}: an empty console block")
    return found


def _take_output(rest: list[tuple[int, str]]) -> tuple[str, ...]:
    shown = []
    while rest and not _PROMPT.match(rest[0][1]):
        shown.append(rest.pop(0)[1].rstrip())
    while shown and not shown[-1]:
        shown.pop()
    return tuple(shown)


def is_unfinished(text: str) -> bool:
    """Whether a shell would go on reading."""
    if not re.search(r"\\\Z|<<|[\"'({]|\b(?:do|then|else|in)\b", text):
        return False
    if text.endswith("\\"):
        return True
    said = subprocess.run(
        ["bash", "-n"], input=text, capture_output=True, text=True, timeout=30, check=False, env={"LC_ALL": "C"}
    ).stderr
    return "end of file" in said or "end-of-file" in said or "unexpected EOF" in said


def differs_from_file(fence: Fence) -> str:
    """Why a fence is no excerpt of the file that it claims to come from; "" where it is one, or claims nothing.

    The fence's lines stand in the file in this order without a gap, wherever the file indents them; a line ``…`` is a gap.
    """
    claimed = [ROOT / note for note in fence.notes if re.fullmatch(r"[\w./-]+", note)]
    for file in claimed:
        if not file.is_file():
            return f"there is no {file.relative_to(ROOT)}"
        theirs = [line.strip() for line in file.read_text().splitlines()]
        ours = ["…", *(line.strip() for line in fence.lines), "…"]
        if not lines_match(ours, theirs):
            return f"{file.relative_to(ROOT)} has no such lines"
    return ""


def lines_match(shown: Sequence[str], printed: Sequence[str], *, prefix: bool = False) -> bool:
    """Whether ``printed`` is what the page shows, where ``…`` stands for any text, and alone for any lines.

    :param prefix: more lines may follow
    """
    reached = {0}  # how many lines of `printed` may have been matched so far
    for line in shown:
        if line.strip() == "…":
            reached = set(range(min(reached), len(printed) + 1)) if reached else reached
            continue
        pattern = re.compile(".*?".join(re.escape(part) for part in line.split("…")))
        reached = {at + 1 for at in reached if at < len(printed) and pattern.fullmatch(printed[at])}
    return bool(reached) if prefix else len(printed) in reached
