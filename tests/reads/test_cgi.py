"""Which requests of the web server wait at the gate: the first one of a fetch, and no other."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.reads.bed import FRONTS, Front
from tests.support.groups import MakeGroup

UPLOAD = "service=git-upload-pack"


@pytest.mark.parametrize("kind", FRONTS)
def test_the_first_request_of_a_fetch_waits_and_no_other(make_group: MakeGroup, tmp_path: Path, kind: str) -> None:
    group = make_group(1, started=False, settings={"piehole.readGate": "strict", "piehole.readWait": "0"})
    group.commit()
    group.push("a")
    group[0].start()
    group.put("refs/heads/lost", "1" * 40)
    group[0].stuck("refs/heads/lost")
    front = Front(tmp_path / "bin", kind)
    root, repository = group[0].root, group[0].repository
    common = {"GIT_PROJECT_ROOT": str(root), "GIT_HTTP_EXPORT_ALL": "1", "REMOTE_USER": "mira"}

    def asked(method: str, info: str, query: str = "", **more: str) -> tuple[str, bool]:
        """The status line, and whether the answer speaks of the gate."""
        environment = {
            **os.environ,
            **common,
            "REQUEST_METHOD": method,
            "PATH_INFO": info,
            "QUERY_STRING": query,
            **more,
        }
        environment = {name: value for name, value in environment.items() if value}
        done = subprocess.run(
            [str(front.http_backend)],
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=60,
            check=False,
        )
        head = done.stdout.partition(b"\r\n\r\n")[0].decode()
        status = next((line for line in head.splitlines() if line.startswith("Status: ")), "Status: 200 OK")
        return status[8:11], b"piehole: behind: " in done.stdout

    translated = {"GIT_PROJECT_ROOT": "", "PATH_TRANSLATED": f"{repository}/info/refs"}
    for method, info, query, more, expected in (
        ("GET", "/project.git/info/refs", UPLOAD, {}, ("200", True)),
        ("GET", "/project/info/refs", UPLOAD, {}, ("200", True)),
        ("GET", "/project.git/info/refs", f"x=1&{UPLOAD}", {}, ("200", True)),
        ("GET", "/project.git/info/refs", "", {}, ("503", True)),
        ("GET", "", UPLOAD, translated, ("200", True)),
        ("GET", "/project.git/info/refs", UPLOAD, {"HTTP_PIEHOLE_PEER": "1"}, ("200", False)),
        ("GET", "/project.git/info/refs", UPLOAD, {"GIT_PROTOCOL": "version=2:piehole=peer"}, ("200", False)),
        ("GET", "/project.git/info/refs", "service=git-receive-pack", {}, ("200", False)),
        ("GET", "/project.git/HEAD", "", {}, ("200", False)),
        ("POST", "/project.git/git-upload-pack", "", {"CONTENT_TYPE": "x", "CONTENT_LENGTH": "0"}, ("415", False)),
        ("GET", "/nowhere.git/info/refs", UPLOAD, {}, ("404", False)),
    ):
        assert asked(method, info, query, **more) == expected, (method, info, query, more)
