"""What `piehole check` reads off a hook that calls piehole's."""

from __future__ import annotations

import pytest

from piehole.commands.check.chained_hooks import loses_status

NAME = "update.piehole"
CALL = f'"$(dirname "$0")/{NAME}" "$@"'


@pytest.mark.parametrize(
    "lines",
    [
        [CALL, "exit 0"],
        [CALL, "echo done"],
        [f"{CALL} || true"],
        [f"{CALL} || :"],
        [f"{CALL} || exit 0"],
        [f"{CALL} &"],
        [f"{CALL}; exit 0"],
        ["cat", CALL, "# at last", "logger pushed"],
    ],
)
def test_a_status_that_is_lost_is_noticed(lines: list[str]) -> None:
    assert loses_status("\n".join(["#!/bin/sh", *lines]), NAME)


@pytest.mark.parametrize(
    "lines",
    [
        [f"exec {CALL}"],
        [f"own && exec {CALL}"],
        [CALL],
        [CALL, "exit $?"],
        [CALL, 'exit "$?"'],
        [CALL, "status=$?", "echo done", "exit $status"],
        [f"{CALL} || exit 1", "echo done"],
        [f"if {CALL}; then", "exit 0", "fi", "exit 1"],
        [f"if own; then {CALL}", "else", "exit 1", "fi"],
        ["set -e", CALL, "echo done"],
        [f"printf '%s\\n' \"$lines\" | {CALL}"],
        [f'own="${{0%/*}}/{NAME}"', "anything", '"$own" "$@"'],
        [f"# {CALL}", "exit 0"],
    ],
)
def test_a_status_that_comes_through_or_may_is_not_complained_of(lines: list[str]) -> None:
    assert not loses_status("\n".join(["#!/usr/bin/env bash", *lines]), NAME)


def test_other_languages_are_not_judged() -> None:
    assert not loses_status(f"#!/usr/bin/perl\nsystem('{NAME}');\nexit 0;\n", NAME)
