"""Who may ask at the controller's socket for readers, and what a fetch loads before it begins."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from piehole.fastpath import controller_socket
from tests.controller.test_socket import NOBODY, SYSTEM_PYTHON, needs_root, open_to_everybody, path_of
from tests.support.groups import MakeGroup
from tests.support.sites import Site

# Asks one question, and prints what comes back.
_CLIENT = """
import socket, sys
sys.path[:0] = [{tree!r}]
from piehole.fastpath import controller_socket
s = socket.socket(socket.AF_UNIX); s.settimeout(10); s.connect({path!r}); s.sendall(controller_socket.pack({lines!r}))
answer = b""
while answer.count(b"\\n\\n") < 2 and (chunk := s.recv(65536)): answer += chunk
print(answer.decode())
"""


@pytest.fixture
def site(make_group: MakeGroup) -> Site:
    group = make_group(1, settings={"piehole.readGate": "strict", "piehole.readWait": "20"})
    group.commit()
    group.push("a")
    return group[0]


def asked(site: Site, *lines: str, uid: int | None = None) -> list[str]:
    """The lines of the answer, without the empty ones."""
    tree = str(Path(controller_socket.__file__).parents[2])
    script = _CLIENT.format(tree=tree, path=path_of(site), lines=list(lines))
    command = [sys.executable if uid is None else str(SYSTEM_PYTHON), "-I", "-c", script]
    if uid is not None:
        command = ["setpriv", f"--reuid={uid}", "--clear-groups", "--", *command]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return [line for line in done.stdout.splitlines() if line]


@needs_root
def test_an_account_that_can_read_the_repository_may_ask_and_another_one_may_not(site: Site) -> None:
    gate = ("gate", f"repository {site.repository}")
    wait = ("wait", f"repository {site.repository}", "for 20", "revision 0")
    site.repository.chmod(0o755)
    with open_to_everybody(site):
        assert asked(site, *gate, uid=NOBODY)[1].startswith("fresh ")
        assert asked(site, *wait, uid=NOBODY)[1].startswith("reached ")
        site.repository.chmod(0o711)
        assert asked(site, *gate, uid=NOBODY) == []
        assert asked(site, *wait, uid=NOBODY) == []
        # Nor can it find out whether there is such a repository.
        for path in ("/nowhere.git", f"{site.repository}/../project.git", f"{site.repository}/"):
            assert asked(site, "gate", f"repository {path}", uid=NOBODY) == []
        assert asked(site, "gate", "repository /nowhere.git")[1].startswith("not-served ")


def test_nonsense_disturbs_nobody(site: Site) -> None:
    repository = f"repository {site.repository}"
    for lines in (
        ["gate"],
        ["wait", repository],
        ["wait", repository, "for never"],
        ["wait", repository, "for 0", "revision x"],
    ):
        assert not [line for line in asked(site, *lines) if line.startswith("fresh ")]
    assert asked(site, "gate", "repository /")[1].startswith("not-served ")
    assert asked(site, "wait", repository, "for nan", "revision 0", "unknown word")[1].startswith(
        ("reached", "waiting")
    )
    assert asked(site, "wait", repository, "for 1", "revision 0", "ref a..b")[1].startswith("failed 0 2 ")
    assert asked(site, "gate", repository)[1].startswith("fresh ")
    assert not site.events("answer.crashed")


@pytest.mark.parametrize("module", ["upload_pack", "http_backend"])
def test_a_fetch_loads_little_before_git_runs(module: str) -> None:
    shown = (
        f"import sys; before = set(sys.modules); import piehole.cli.{module}; print(*sorted(set(sys.modules) - before))"
    )
    done = subprocess.run([sys.executable, "-c", shown], capture_output=True, text=True, check=True, cwd="/")
    loaded = {name for name in done.stdout.split() if not name.startswith("piehole")}
    assert loaded <= {"__future__", "_socket"}
