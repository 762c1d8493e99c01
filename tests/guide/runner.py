"""Types the commands of a page into real shells at a terminal, and compares what they print (``tests.guide.markdown`` has the rules).

A place is what a prompt names: a machine and an account. The test says how to get there. Each place has one shell from the first command
of the page to the last, so the current directory and variables last as long as for a person.
"""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import termios
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.guide.markdown import INTERRUPT, ROOT, Block, Command, blocks, lines_match
from tests.support.process import descendants, dies_with_parent, send_signal
from tests.support.wait import until

SECONDS = 60.0  # for one command
_LINES, _COLUMNS = 400, 100
_PROMPT = "@page:$?@"
_PROMPTED = re.compile(r"@page:(\d+)@\Z")
_ESCAPES = re.compile(r"\x1b(?:\[[0-9;?]*[a-zA-Z]|\][^\x07]*\x07|[=>()][A-Z0-9]?)")
_ERASED = re.compile(r"\x1b\[[02]?K")
# What depends on how large and how fast it was, and the shell's notices of jobs that began and ended.
_NOISE = re.compile(
    r"(?:remote: )?(?:Enumerating|Counting|Compressing|Receiving|Writing|Unpacking) objects: .*"
    r"|(?:remote: )?Total \d+ \(delta .*|(?:remote: )?Resolving deltas: .*|Delta compression using .*"
    r"|\(wd now: .*\)|\[\d+\][+-]? +(?:\d+|…|(?:Done|Running|Terminated|Killed|Exit \d+)\b.*)"
)


@dataclass(frozen=True)
class Place:
    """How a test gets to where a prompt stands."""

    enter: Sequence[str] = ()  # what goes before "bash" on the command line
    env: Mapping[str, str] = field(default_factory=dict)  # of the shell
    cwd: Path = Path("/")  # on this machine
    # Only where the page's own words cannot be had: what stands in the page, and what stands for it in this test.
    replaced: Mapping[str, str] = field(default_factory=dict)

    def typed(self, text: str) -> str:
        for ours, theirs in self.replaced.items():
            text = text.replace(ours, theirs)
        return text

    def printed(self, text: str) -> str:
        for ours, theirs in self.replaced.items():
            text = text.replace(theirs, ours)
        return text


class Terminal:
    """A shell at a terminal."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self._master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("4H", _LINES, _COLUMNS, 0, 0))
        settings = termios.tcgetattr(slave)
        settings[3] &= ~termios.ECHO
        termios.tcsetattr(slave, termios.TCSANOW, settings)
        told = {**place.env, "PS1": _PROMPT, "PS2": "", "TERM": "xterm-256color", "HISTFILE": "/dev/null"}
        shell = ["env", *(f"{name}={value}" for name, value in told.items()), "bash", "--noprofile", "--norc"]
        self._process = subprocess.Popen(
            dies_with_parent([*place.enter, *shell, "--noediting", "-i"]),
            stdin=slave,
            stdout=slave,
            stderr=slave,
            cwd=place.cwd,
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )
        os.close(slave)
        self._read = ""
        self.is_free = False  # the shell has prompted
        self._group = 0  # of the shell's processes, when it has
        self.wait(SECONDS)

    def type(self, text: str) -> None:
        assert self.is_free, f"this terminal still runs its last command; it cannot take {text!r}"
        self.send(self.place.typed(text) + "\n")
        self._read, self.is_free = "", False

    def send(self, keys: str) -> None:
        os.write(self._master, keys.encode())

    def answer(self, text: str) -> None:
        self.send(text + "\n")
        self._read += text + "\n"  # nothing is echoed

    def interrupt(self) -> None:
        """Press Ctrl-C, once a program is in the foreground: bash, which starts it, would lose the key or its own prompt."""

        def has_begun() -> bool:
            group = os.tcgetpgrp(self._master)
            return group != self._group and Path(f"/proc/{group}/comm").read_text() != "bash\n"

        until(has_begun, 10, "a program is in the foreground")
        self._read = ""
        self.send("\x03")

    def wait(self, seconds: float, shown: Sequence[str] | None = None) -> int | None:
        """Wait until the command has ended, or until it has printed what is ``shown``; its status, or None while it runs.

        :raises TimeoutError: it took longer
        """
        end = time.monotonic() + seconds
        while True:
            prompted = _PROMPTED.search(self._read)
            if prompted:
                self.is_free, self._group = True, os.tcgetpgrp(self._master)
                self._read = self._read[: prompted.start()]
                return int(prompted[1])
            if shown is not None and lines_match(_told(shown), _told(self.printed()), prefix=True):
                return None
            ready, _, _ = select.select([self._master], [], [], max(0.0, end - time.monotonic()))
            try:
                read = os.read(self._master, 1 << 16) if ready else b""
            except OSError:  # the shell has ended
                return self._process.wait(SECONDS)
            if not read:
                raise TimeoutError
            self._read += read.decode(errors="replace")

    def printed(self) -> list[str]:
        """The lines as they stand on the screen."""
        text = _ESCAPES.sub("", _ERASED.sub("\x00", self._read)).replace("\r\n", "\n")
        lines = [_on_screen(line) for line in self.place.printed(text).split("\n")]
        while lines and not lines[-1]:
            lines.pop()
        return lines

    def end(self) -> None:
        """Kill the shell and all that it has begun."""
        for pid in [self._process.pid, *descendants(self._process.pid), *_of_session(self._process.pid)]:
            send_signal(pid, signal.SIGKILL)
        self._process.wait(SECONDS)
        os.close(self._master)


def _on_screen(line: str) -> str:
    """What is left of a line that was written over, as progress is."""
    screen = ""
    for part in line.split("\r"):
        kept, erased, new = part.rpartition("\x00")
        screen = kept.replace("\x00", "") + new if erased else part + screen[len(part) :]
    return screen.rstrip()


def _of_session(leader: int) -> list[int]:
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and os.getsid(int(entry.name)) == leader:
                found.append(int(entry.name))
        except OSError:
            continue  # it ended while we looked
    return found


def _told(lines: Sequence[str]) -> list[str]:
    return [line for line in lines if not _NOISE.fullmatch(line)]


class Page:
    """A page, or some of its sections, and what of it has been run."""

    def __init__(self, path: str | Path, *sections: str) -> None:
        self.path = ROOT / path
        self.blocks = [block for block in blocks(self.path) if not sections or block.section in sections]
        missing = set(sections) - {block.section for block in self.blocks}
        assert not missing, f"{self.path.name} has no commands below {', '.join(sorted(missing))}"
        self.left = list(self.blocks)
        self.failed = False
        self.seconds: dict[int, float] = {}  # when the command of that line had ended, since the first was typed

    def run(
        self,
        places: Mapping[str, Place],
        *,
        sections: Sequence[str] = (),
        seconds: float = SECONDS,
        before: Mapping[str, Callable[[], None]] | None = None,
    ) -> None:
        """Run all blocks, or those of some sections, in the page's order.

        :param places: by prompt, such as ``$`` or ``root@oslo#``
        :param seconds: how long one command may take
        :param before: what the text of the page tells the reader to do, by the beginning of the command that comes after it
        """
        with Terminals(places) as terminals:
            self.type(terminals, sections=sections, seconds=seconds, before=before)

    def type(
        self,
        terminals: Terminals,
        *,
        sections: Sequence[str] = (),
        seconds: float = SECONDS,
        before: Mapping[str, Callable[[], None]] | None = None,
    ) -> None:
        """As :meth:`run`, in shells that go on afterwards."""
        begun = time.monotonic()
        for block in self.blocks:
            if not sections or block.section in sections:
                for command in block.commands:
                    self.failed = True  # unless all of it succeeds
                    for beginning, do in (before or {}).items():
                        if command.text.startswith(beginning):
                            do()
                    self._command(terminals, block, command, seconds)
                    self.failed = False
                    self.seconds[command.line] = time.monotonic() - begun
                if block in self.left:
                    self.left.remove(block)

    def _command(self, terminals: Terminals, block: Block, command: Command, seconds: float) -> None:
        terminal = terminals.at(command.prompt, block.terminal)
        shown, after = list(command.shown), list[str]()
        interrupted = INTERRUPT in shown
        if interrupted:
            at = shown.index(INTERRUPT)
            shown, after = shown[:at], shown[at + 1 :]
        awaited = shown if interrupted or (block.keeps_running and command is block.commands[-1]) else None
        try:
            if command.text == INTERRUPT:
                terminal.interrupt()
            else:
                terminal.type(command.text)
            for question, answer in _questions(shown):
                if terminal.wait(seconds, ["…", question.rstrip()]) is None:
                    terminal.answer(answer)
            status = terminal.wait(seconds, awaited)
            if interrupted and status is None:
                self._compare(command, shown, terminal, prefix=True)
                terminal.interrupt()
                status, shown = terminal.wait(seconds), after
        except TimeoutError:
            raise AssertionError(self._said(command, shown, terminal, f"still ran after {seconds:g} s")) from None
        ended_well = {0, 130} if interrupted or command.text == INTERRUPT else {command.status}
        if status is not None and status not in ended_well:
            wanted = f", not {command.status}" if command.status else ""
            raise AssertionError(self._said(command, shown, terminal, f"ended with status {status}{wanted}"))
        if status is None and not awaited:
            return  # it runs on, and the page shows nothing of it
        self._compare(command, shown, terminal, prefix=status is None)

    def _compare(self, command: Command, shown: Sequence[str], terminal: Terminal, *, prefix: bool) -> None:
        ours = _told(shown)
        if ours and not lines_match(ours, _told(terminal.printed()), prefix=prefix):
            raise AssertionError(self._said(command, shown, terminal, "printed something else"))

    def _said(self, command: Command, shown: Sequence[str], terminal: Terminal, what: str) -> str:
        where = f"{self.path.relative_to(ROOT) if self.path.is_relative_to(ROOT) else self.path}:{command.line}"
        printed, expected = _told(terminal.printed()), _told(shown)
        same = sum(1 for number in range(len(expected)) if lines_match(expected[: number + 1], printed, prefix=True))
        parts = [f"{where}: {command.prompt} {command.text}\n{what}"]
        if expected:
            marks = ["  " if number < same else "- " for number in range(len(expected))]
            parts.append("the page shows (- is not there):\n" + _listed(marks, expected))
        parts.append("printed:\n" + (_listed(["  "] * len(printed), printed) or "  nothing"))
        return "\n".join(parts)


def _listed(marks: Sequence[str], lines: Sequence[str]) -> str:
    return "\n".join(mark + line for mark, line in zip(marks, lines, strict=True))


def _questions(shown: Sequence[str]) -> list[tuple[str, str]]:
    found = [re.fullmatch(r"(.*\? \[[^]]*\] )(.*)", line) for line in shown]
    return [(match[1], match[2]) for match in found if match]


class Terminals:
    """The shells of a page; ``with`` ends them and all that they have begun."""

    def __init__(self, places: Mapping[str, Place]) -> None:
        self._places = places
        self._open: dict[tuple[str, str], Terminal] = {}
        self._last = ""

    def at(self, prompt: str, name: str = "") -> Terminal:
        """The terminal ``name`` of a place; without a prompt, of the place where it was typed last."""
        prompt = self._last = prompt or self._last
        if (prompt, name) not in self._open:
            assert prompt in self._places, f"this test knows no place {prompt!r}, only {', '.join(self._places)}"
            self._open[prompt, name] = Terminal(self._places[prompt])
        return self._open[prompt, name]

    def __enter__(self) -> Terminals:
        return self

    def __exit__(self, *_: object) -> None:
        for terminal in self._open.values():
            terminal.end()
