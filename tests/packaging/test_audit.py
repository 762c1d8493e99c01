"""`make audit`: what it finds without a network, what pip-audit finds with one, and what it says where no database answers."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from tests.support.ports import free_ports
from tools import audit


class _Advisories(BaseHTTPRequestHandler):
    """A database (of the form of OSV) that knows of one fault, in structlog."""

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        version = asked["version"]
        fault = {
            "id": "PYSEC-0000-1",
            "summary": "x",
            "modified": "2026-01-01T00:00:00Z",
            "affected": [
                {
                    "package": {"name": "structlog", "ecosystem": "PyPI"},
                    "versions": [version],
                    "ranges": [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": "99"}]}],
                }
            ],
        }
        body = json.dumps({"vulns": [fault]} if asked["package"]["name"] == "structlog" else {}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def database() -> Iterator[str]:
    server = HTTPServer(("127.0.0.1", 0), _Advisories)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def _nowhere() -> list[str]:
    return ["-s", "osv", "--osv-url", f"http://127.0.0.1:{free_ports(1)[0]}"]


def test_a_known_fault_is_named_with_the_version_that_has_no_more_of_it(database: str) -> None:
    lines = [Requirement("structlog==25.1.0"), Requirement("tenacity==9.0.0")]
    faults, unanswered = audit.advisories(lines, "-s", "osv", "--osv-url", database)
    assert faults == ["structlog 25.1.0: PYSEC-0000-1, fixed in 99"]
    assert unanswered == []


@pytest.mark.slow
def test_where_no_database_answers_it_says_so_and_ends_with_3(capsys: pytest.CaptureFixture[str]) -> None:
    """What is installed here has passed the rest: its files are those of the wheels, its licences are allowed."""
    status = audit.main(_nowhere())
    said = capsys.readouterr().out
    assert status == 3, said
    assert "no faults in files, licences and advisories" in said
    assert "not checked: no database of advisories answered for" in said


def test_a_fault_ends_with_1_whether_a_database_answers_or_not(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit, "pinned", lambda: iter([Requirement("structlog==25.1.0")]))
    monkeypatch.setattr(audit, "refused_licence", lambda _: "Proprietary")
    assert audit.main(_nowhere()) == 1
    assert "structlog: its licence is not allowed: Proprietary" in capsys.readouterr().out


def _package(folder: Path, *told: str) -> metadata.Distribution:
    home = folder / "made_up-1.dist-info"
    home.mkdir()
    (home / "METADATA").write_text("\n".join(["Metadata-Version: 2.4", "Name: made-up", "Version: 1", *told, ""]))
    return metadata.Distribution.at(home)


@pytest.mark.parametrize(
    ("told", "refused"),
    [
        (["License-Expression: Apache-2.0 OR GPL-2.0-or-later"], ""),
        (["License-Expression: MIT AND GPL-3.0-only"], "MIT AND GPL-3.0-only"),
        (["License: GPLv3", "Classifier: License :: OSI Approved :: BSD License"], ""),
        (["License: All rights reserved"], "All rights reserved"),
        ([], "no licence"),
    ],
)
def test_licences(tmp_path: Path, told: list[str], refused: str) -> None:
    assert audit.refused_licence(_package(tmp_path, *told)) == refused


def test_a_file_that_was_changed_or_is_missing_is_found(tmp_path: Path) -> None:
    package = _package(tmp_path)
    digest = "ungWv48Bz-pBQUDeXa4iI7ADYaOWF3qctBD_YfIAFa0"  # of "abc"
    record = [f"made_up/{name}.py,sha256={digest},3" for name in ("sound", "changed", "gone")]
    (tmp_path / "made_up-1.dist-info" / "RECORD").write_text("\n".join([*record, "made_up-1.dist-info/RECORD,,", ""]))
    (tmp_path / "made_up").mkdir()
    (tmp_path / "made_up" / "sound.py").write_text("abc")
    (tmp_path / "made_up" / "changed.py").write_text("abd")
    assert list(audit.changed_files(package)) == [
        "made_up/changed.py is not what the wheel brought",
        "made_up/gone.py is missing",
    ]
