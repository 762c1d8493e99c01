"""deploy/piehole-controller.service."""

from __future__ import annotations

import configparser
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

from piehole.cli import parser

FILE = Path(__file__).parents[2] / "deploy" / "piehole-controller.service"


def _service() -> configparser.SectionProxy:
    unit = configparser.ConfigParser(interpolation=None, delimiters=("=",))
    unit.optionxform = str  # type: ignore[assignment, method-assign]  # names of systemd keep their case
    unit.read_string(FILE.read_text())
    return unit["Service"]


def test_the_unit_starts_a_command_that_piehole_has() -> None:
    program, *arguments = shlex.split(_service()["ExecStart"])
    assert program.endswith("/piehole")
    parsed = parser.build().parse_args(arguments)
    assert parsed.command == "controller"
    assert parsed.root == [_service()["ReadWritePaths"]]


def test_the_unit_leaves_the_controller_what_it_must_see() -> None:
    service = _service()
    assert not {"PrivateUsers", "ProtectProc", "ProcSubset", "RestrictSUIDSGID", "DynamicUser"} & set(service)
    assert service["RuntimeDirectory"] == "piehole"


if shutil.which("systemd-analyze"):

    def test_systemd_finds_no_fault_with_the_unit(tmp_path: Path) -> None:
        here = tmp_path / FILE.name
        here.write_text(FILE.read_text().replace("/usr/local/bin/piehole", sys.executable))
        done = subprocess.run(
            ["systemd-analyze", "verify", "--man=no", str(here)],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        about = [line for line in done.stderr.splitlines() if FILE.name in line]
        assert (done.returncode, about) == (0, [])
