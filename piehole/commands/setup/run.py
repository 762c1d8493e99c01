"""Walks through the steps of setup: what is missing, what would be done, and doing it."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from piehole.commands.setup.file_parts import FileIs
from piehole.commands.setup.machine import CannotDo, CannotSee, Machine
from piehole.commands.setup.parts import Part, SetupStep
from piehole.errors import PieholeError


class Operator(Protocol):
    """Who watches setup, and is asked."""

    def tell(self, line: str) -> None:
        """Print one line."""

    def ask_step(self, step: SetupStep) -> bool:
        """Whether to do the step now."""

    def ask_file(self, file: FileIs, difference: Sequence[str]) -> bool:
        """Whether to replace a file that an administrator has changed."""


@dataclass(frozen=True, slots=True)
class StepState:
    """What a step lacks; ``kept``: files that stay as an administrator has changed them; ``unseen``: what this account cannot see."""

    lacking: tuple[tuple[Part, str], ...] = ()
    kept: tuple[FileIs, ...] = ()
    unseen: tuple[str, ...] = ()


def examine(step: SetupStep, machine: Machine) -> StepState:
    """Find out what a step lacks. Changes nothing."""
    lacking: list[tuple[Part, str]] = []
    kept: list[FileIs] = []
    unseen: list[str] = []
    for part in step.parts:
        try:
            what = part.lacking(machine)
            if what and isinstance(part, FileIs) and part.is_kept(machine):
                kept.append(part)
            elif what:
                lacking.append((part, what))
        except CannotSee as error:
            unseen.append(str(error))
        except PieholeError as error:
            lacking.append((part, str(error)))
    return StepState(tuple(lacking), tuple(kept), tuple(unseen))


def check(steps: Sequence[SetupStep], machine: Machine, tell: Callable[[str], None]) -> bool:
    """Say what is missing; whether nothing is. Changes nothing."""
    missing = 0
    for step in steps:
        found = examine(step, machine)
        for _, what in found.lacking:
            missing += 1
            tell(f"missing: {step.name}: {what}")
        for file in found.kept:
            tell(f"note: {step.name}: {file.path} was changed by an administrator, and stays so")
        for what in found.unseen:
            tell(f"note: {step.name}: {what}: not examined")
    tell(f"{missing} parts are missing" if missing else "nothing is missing")
    return not missing


def show(steps: Sequence[SetupStep], machine: Machine, tell: Callable[[str], None]) -> None:
    """Show each step and what it would do now. Changes nothing."""
    for number, step in enumerate(steps, start=1):
        _introduce(number, len(steps), step, examine(step, machine), tell)


def perform(steps: Sequence[SetupStep], machine: Machine, operator: Operator) -> bool:
    """Do what is missing, step by step; whether nothing is missing at the end.

    :raises PieholeError: a step failed. What was done stays, and the next run goes on there
    """
    left: list[SetupStep] = []
    for number, step in enumerate(steps, start=1):
        found = examine(step, machine)
        _introduce(number, len(steps), step, found, operator.tell)
        if not found.lacking and not found.kept:
            continue
        if found.lacking and not operator.ask_step(step):
            left.append(step)
            continue
        try:
            _do(step, machine, operator)
        except CannotDo as error:
            operator.tell(f"    to do by hand: {error}")
            left.append(step)
    left = [step for step in left if examine(step, machine).lacking]
    for step in left:
        operator.tell(f"not done: {step.name}. Run `piehole setup` again when it is, or to do it.")
    return not left


def _introduce(number: int, of: int, step: SetupStep, found: StepState, tell: Callable[[str], None]) -> None:
    state = "" if found.lacking or found.unseen else ": done already"
    tell(f"[{number}/{of}] {step.name}{state}")
    if found.lacking:
        tell(f"    {step.why}.")
    for part, what in found.lacking:
        tell(f"    - {what} -> {part.shown()}")
    for what in found.unseen:
        tell(f"    - {what}")
    for file in found.kept:
        tell(f"    - {file.path} was changed by an administrator, and stays so unless you say otherwise")


def _do(step: SetupStep, machine: Machine, operator: Operator) -> None:
    """Each part is examined again just before it is done: an earlier one may have done it, or have made it necessary."""
    for part in step.parts:
        if not part.lacking(machine):
            continue
        if isinstance(part, FileIs) and part.is_kept(machine):
            if not operator.ask_file(part, part.difference(machine)):
                continue
            operator.tell(f"    what it held is now in {_keep_copy(part, machine)}")
        part.do(machine)


def _keep_copy(file: FileIs, machine: Machine) -> Path:
    """:raises PieholeError: the file is gone"""
    content = machine.read(file.path)
    if content is None:
        raise PieholeError(f"{file.path} went away while it was looked at. Run `piehole setup` again.")
    copy = file.path.with_name(f"{file.path.name}.{time.strftime('%Y%m%d-%H%M%S')}.before-piehole-setup")
    found = file.path.stat()
    copy.write_bytes(content)
    copy.chmod(found.st_mode & 0o7777)
    return copy
