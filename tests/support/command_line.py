"""The command line: as a process of its own, or within the test's process where the start of Python would cost more than the command."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from piehole.cli.parser import run
from tests.support import forked, json_schemas
from tests.support.forked import ManagedPiehole
from tests.support.process import ManagedProcess

COMMAND = (sys.executable, "-m", "piehole.cli")
# What works when Python starts: a fork of a process that has started already does not obey it.
_NEEDS_A_START = {"PYTHONPATH", "LD_PRELOAD"}


@dataclass(frozen=True)
class Answer:
    """How a command ended, and what it printed."""

    status: int
    out: str
    err: str
    words: tuple[str, ...] = field(default=(), compare=False)

    def __str__(self) -> str:
        return f"status {self.status}\n{self.out}\n{self.err}"

    __repr__ = __str__

    @property
    def json(self) -> dict[str, Any]:
        """What was printed with ``--json``; it must have the form that the command's schema says."""
        value: dict[str, Any] = json.loads(self.out)
        if name := json_schemas.NAMES.get(json_schemas.command(self.words)):
            json_schemas.validate(name, value)
        return value

    def line(self, part: str) -> str:
        """The first line of the output that holds this."""
        return next(line for line in self.out.splitlines() if part in line)


def piehole(
    *arguments: str | Path,
    cwd: Path | str = "/",
    env: Mapping[str, str] | None = None,
    check: bool = False,
    timeout: float = 60.0,
) -> Answer:
    """Run ``piehole ARGUMENTS`` where there is no terminal.

    :param env: its whole environment, if not the test's
    :param check: it must end with 0
    """
    environment = os.environ if env is None else env
    words = [str(argument) for argument in arguments]
    if environment.keys() & _NEEDS_A_START:
        done = subprocess.run(
            [*COMMAND, *words],
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="surrogateescape",
            env=env,
            timeout=timeout,
            check=False,
        )
    else:
        done = forked.run(*words, cwd=cwd, env=environment, timeout=timeout)
    answer = Answer(done.returncode, done.stdout, done.stderr, tuple(words))
    assert "Traceback" not in answer.err, answer.err
    assert not check or answer.status == 0, f"{arguments}: {answer}"
    return answer


def start_piehole(arguments: Sequence[str], log: Path, env: Mapping[str, str]) -> ManagedProcess:
    """A ``piehole`` command that runs until it is ended, such as a controller."""
    if env.keys() & _NEEDS_A_START:
        return ManagedProcess([*COMMAND, *arguments], log, env=env, cwd=Path("/"))
    return ManagedPiehole(list(arguments), log, env=env)


def piehole_in_process(*arguments: str | Path) -> Answer:
    """Run ``piehole ARGUMENTS`` in this process."""
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        words = [str(argument) for argument in arguments]
        status = run(words)
    return Answer(status, out.getvalue(), err.getvalue(), tuple(words))
