"""deploy/piehole-controller.service."""

from __future__ import annotations

import configparser
import shlex
from pathlib import Path

from piehole.cli import parser

FILE = Path(__file__).parents[2] / "deploy" / "piehole-controller.service"


def _service() -> configparser.SectionProxy:
    unit = configparser.ConfigParser(interpolation=None, delimiters=("=",))
    unit.optionxform = str  # type: ignore[assignment, method-assign]  # names of systemd keep their case
    unit.read_string(FILE.read_text())
    return unit["Service"]


def test_the_unit_starts_a_command_that_piehole_has() -> None:
    program, command, *arguments = shlex.split(_service()["ExecStart"])
    assert program.endswith("/piehole")
    assert command == "controller"
    parsed = parser.COMMANDS[command].parser().parse_args(arguments)
    assert parsed.root == [_service()["ReadWritePaths"]]


def test_the_unit_leaves_the_controller_what_it_must_see() -> None:
    service = _service()
    assert not {"PrivateUsers", "ProtectProc", "ProcSubset", "RestrictSUIDSGID", "DynamicUser"} & set(service)
    assert service["RuntimeDirectory"] == "piehole"
