"""Processes: which git moves the refs, and whether a named process still lives."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from shlex import quote

import pytest

from piehole.fastpath import processes
from tests.support.wait import until


@pytest.mark.parametrize(
    ("arguments", "command"),
    [
        (["git", "receive-pack", "/x"], "receive-pack"),
        (["git-receive-pack", "/x"], "receive-pack"),
        (["/usr/lib/git-core/git-receive-pack", "x"], "receive-pack"),
        (["/usr/bin/git", "-C", "gc", "--git-dir", "/x", "-c", "a=b", "receive-pack"], "receive-pack"),
        (["git", "--git-dir=/x", "--no-pager", "update-ref", "receive-pack"], "update-ref"),
        (["git", "--namespace", "receive-pack", "gc"], "gc"),
        (["git"], ""),
        (["git", "--version"], ""),
        (["sh", "-c", "git receive-pack /x"], None),
        (["python", "git"], None),
        (["github", "receive-pack"], None),
        ([""], None),
        ([], None),
    ],
)
def test_a_command_line_tells_which_git_command_runs(arguments: list[str], command: str | None) -> None:
    assert processes.git_command(arguments) == command


LOOK = f"{sys.executable} -c 'import os; from piehole.fastpath import processes; print(processes.nearest_git(os.getpid())[1])'"


def nearest(*ancestors: str) -> str:
    """Which git a real process finds among its ancestors; these are given outermost first, a wrapper that is no git as ``""``."""
    inner = LOOK
    for name in reversed(ancestors):
        script = f"{inner}; exit $?"  # so that bash stays, and waits
        # The command line that this process shows is: git -c SCRIPT NAME
        inner = f"bash -c {quote(f'exec -a git bash -c {quote(script)} {name}' if name else script)}"
    return subprocess.run(inner, shell=True, capture_output=True, text=True, check=True, timeout=60).stdout.strip()  # noqa: S602 -- what is tested is started so


@pytest.mark.parametrize(
    ("ancestors", "found"),
    [
        (["receive-pack"], "receive-pack"),
        (["receive-pack", "", ""], "receive-pack"),
        (["receive-pack", "", "hook", ""], "receive-pack"),
        (["receive-pack", "hooks"], "receive-pack"),
        (["receive-pack", "gc", "pack-refs"], "pack-refs"),
        (["receive-pack", "", "update-ref", ""], "update-ref"),
        (["push", "receive-pack"], "receive-pack"),
        (["hooks", ""], "hooks"),
        ([""], ""),
    ],
)
def test_the_git_that_moves_the_refs_is_found_past_wrappers(ancestors: list[str], found: str) -> None:
    assert nearest(*ancestors) == found


def test_a_process_lives_until_it_is_gone() -> None:
    with subprocess.Popen(["sleep", "60"]) as process:
        name = processes.identity(process.pid)
        assert name is not None
        assert processes.lives(name) is True
        process.kill()
        process.wait()
    assert processes.lives(name) is False
    assert processes.identity(process.pid) is None


def test_a_zombie_does_not_live() -> None:
    with subprocess.Popen(["true"]) as process:
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        assert processes.start_time(process.pid) is None


def test_another_start_time_or_boot_is_another_process() -> None:
    boot, namespace, pid, started = (processes.identity(os.getpid()) or "").split(".")
    assert processes.lives(f"{boot}.{namespace}.{pid}.{int(started) + 1}") is False
    assert processes.lives(f"{boot[:-1]}x.{namespace}.{pid}.{started}.{processes.machine()}") is False


def test_another_boot_tells_nothing_of_a_machine_that_is_not_known_to_be_this_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    boot, *process = (processes.identity(os.getpid()) or "").split(".")
    earlier = ".".join((f"{boot[:-1]}x", *process))
    here = processes.machine()
    assert processes.lives(earlier) is None, "as earlier versions named it"
    assert processes.lives(f"{earlier}.{here}x") is None, "another host name"
    assert processes.lives(f"{earlier}.0{here}") is None, "another machine id"
    with monkeypatch.context() as without:
        without.setattr(processes, "_ID_LENGTH", 1)  # so that what /etc/machine-id holds is none
        assert processes.machine() == f"-{here.partition('-')[2]}"
        assert processes.lives(f"{earlier}.{processes.machine()}") is None


def test_a_process_that_proc_does_not_show_may_live(monkeypatch: pytest.MonkeyPatch) -> None:
    def hides(_: int) -> list[str]:
        raise FileNotFoundError

    with subprocess.Popen(["sleep", "60"]) as process:
        name = processes.identity(process.pid) or ""
        monkeypatch.setattr(processes, "_stat", hides)
        assert processes.lives(name) is None
        process.kill()
    assert processes.lives(name) is False
    # Another account's, so that the kernel says EPERM.
    monkeypatch.setattr(os, "kill", lambda *_: (_ for _ in ()).throw(PermissionError()))
    assert processes.lives(name) is None


def test_nobody_knows_of_a_process_in_another_pid_namespace() -> None:
    boot, namespace, pid, started = (processes.identity(os.getpid()) or "").split(".")
    assert processes.lives(f"{boot}.{int(namespace) + 1}.{pid}.{started}") is None


@pytest.mark.parametrize("name", ["", "x", "a.b.c", "a.b.c.d", ".new", "a.b.3.d.e.f"])
def test_what_names_no_process_does_not_live(name: str) -> None:
    assert processes.lives(name) is False


def test_a_process_s_name_may_hold_anything(tmp_path: Path) -> None:
    odd = tmp_path / "a) R 1 2 (b"
    odd.symlink_to("/bin/sleep")
    with subprocess.Popen([odd, "60"]) as process:
        until(lambda: ") R 1 2 (" in Path(f"/proc/{process.pid}/stat").read_text(), what="the program runs")
        assert processes.parent(process.pid) == os.getpid()
        assert processes.start_time(process.pid)
        process.kill()
