"""However many refs have changed, they come in one fetch and move in one transaction of git's."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from piehole.deadline import Deadline
from piehole.etcd.model import Put
from tests.support.git import git
from tests.support.groups import Group

_MANY = 600


def told(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Have each git tell its arguments, a line each, in the file that is returned."""
    real, log = shutil.which("git"), folder / "git.log"
    shim = folder / "bin" / "git"
    shim.parent.mkdir()
    shim.write_text(f'#!/bin/sh\necho "$*" >> {log}\nexec {real} "$@"\n')
    shim.chmod(0o755)
    monkeypatch.setenv("PATH", f"{shim.parent}:/usr/local/bin:/usr/bin:/bin")
    return log


def test_many_changed_refs_are_one_fetch_and_one_transaction(
    bed: Group, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bed["a"].make()
    first = bed.commit()
    git(bed.work, "push", "-q", str(bed["a"].repository), "HEAD:refs/heads/main")
    names = [f"refs/heads/b-{number:04}" for number in range(_MANY)]
    _update(bed["a"].repository, "".join(f"create {name} {first}\n" for name in names))
    bed.install("a", "b")
    assert bed.reconcile("a", "b").status == 0
    tips = _one_commit_each(bed["a"].repository, first)
    _update(bed["a"].repository, "".join(f"update {name} {tip}\n" for name, tip in zip(names, tips, strict=True)))
    puts = [Put(bed.key(name).encode(), tip.encode()) for name, tip in zip(names, tips, strict=True)]
    bed["a"].replica().etcd.txn([], puts, deadline=Deadline(10))

    log = told(tmp_path, monkeypatch)
    assert bed.reconcile("b").status == 0
    assert bed["b"].refs() == bed["a"].refs()
    lines = log.read_text().splitlines()
    assert sum("upload-pack" in line for line in lines) == 1, lines
    assert sum("update-ref" in line for line in lines) == 1, lines
    assert bed["b"].kept() == set()


def _update(git_dir: Path, lines: str) -> None:
    command = ["git", "-c", "core.hooksPath=/dev/null", "update-ref", "--stdin"]
    subprocess.run(command, cwd=git_dir, input=lines, text=True, check=True)


def _one_commit_each(git_dir: Path, parent: str) -> list[str]:
    """As many commits on top of this one, each with a content of its own."""
    stream = "".join(
        f"commit refs/piehole/made\nmark :{number}\ncommitter A <a@b> {1_700_000_000 + number} +0000\ndata 1\n.\nfrom {parent}\n"
        f"M 100644 inline f\ndata {len(str(number))}\n{number}\n"
        for number in range(1, _MANY + 1)
    )
    marks = git_dir / "marks"
    command = ["git", "-c", "core.hooksPath=/dev/null", "fast-import", "--quiet", "--force", f"--export-marks={marks}"]
    subprocess.run(command, cwd=git_dir, input=stream, text=True, check=True)
    git(git_dir, "update-ref", "-d", "refs/piehole/made")
    return [
        line.split(" ")[1]
        for line in sorted(marks.read_text().splitlines(), key=lambda line: int(line.split(" ")[0][1:]))
    ]
