"""Pushes of more refs than any etcd takes at once. What etcd itself refuses is in tests/hooks/test_refusals.py."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.fault.hostile.memory import largest
from tests.fault.hostile.test_rubbish import goes_on, sound
from tests.support import git
from tests.support.assertions import refused
from tests.support.groups import Group, MakeGroup

ROOT = Path(__file__).parents[3]
# A hook of somebody's own that runs before ours, and leaves what so many `update`s would have left.
_ANNOUNCES = """#!{python}
import os, sys
sys.path.insert(0, {root!r})
from piehole.fastpath import inflight, processes
record = inflight.Record({repository!r}, inflight.file_name(processes.identity(os.getppid()))).open()
for number in range({count}):
    record.announce(inflight.Announcement(f"refs/many/{{number}}", "0" * 40, "1" * 40, "[1,0,0,0,0,[],1]", managed=True))
"""


def announcing(repository: Path, count: int) -> Path:
    hook = repository / "hooks" / "pre-receive"
    hook.write_text(_ANNOUNCES.format(python=sys.executable, root=str(ROOT), repository=str(repository), count=count))
    hook.chmod(0o755)
    return hook


def test_a_push_of_more_refs_than_any_etcd_takes_ends_before_etcd_is_asked_about_them_all(
    make_group: MakeGroup,
) -> None:
    group = make_group(1)
    work, first = group.begun()
    git.commit(work, "more")
    hook = announcing(group[0].repository, 8192)
    said = refused(git.push(work, group[0].repository, "HEAD:main"), "too-many")
    assert "8192" in said
    assert group.value() == first
    hook.unlink()
    goes_on(group, work, "the next one")
    announcing(group[0].repository, 8191)
    goes_on(group, work, "one less")
    sound(group)


def many(group: Group, work: Path, count: int) -> None:
    """So many refs in the clone, without a process for each."""
    tip = git.rev_parse(work)
    lines = sorted(f"{tip} refs/many/r{number}\n" for number in range(count))
    packed = work / ".git" / "packed-refs"
    packed.write_text("# pack-refs with: peeled fully-peeled sorted \n" + "".join(lines))


@pytest.mark.faults
@pytest.mark.timeout(3 * 3600)
@pytest.mark.parametrize("count", [9_000, 100_000])
def test_a_push_of_thousands_of_refs_is_refused_and_moves_nothing(make_group: MakeGroup, count: int) -> None:
    """The time goes into 8,192 runs of `update`: some five minutes where nothing else runs, however many refs there are."""
    group = make_group(2)
    work, _ = group.begun()
    many(group, work, count)
    started = time.monotonic()
    done = subprocess.run(
        ["git", "push", "--atomic", str(group[0].repository), "refs/many/*:refs/many/*"],
        cwd=work,
        capture_output=True,
        text=True,
        timeout=3 * 3600,
        check=False,
    )
    took = time.monotonic() - started
    refused(done, "too-many")
    assert not [key for key in group.etcd.get_prefix(group.key("")) if "refs/many" in key]
    goes_on(group, work, "the next push")
    assert set(group[1].refs()) == {"refs/heads/main"}
    used = [largest(site) for site in group]
    print(f"{count} refs: refused after {took:.0f} s; the controllers' memory at its largest: {used} MB")  # noqa: T201
    assert max(used) < 150
    sound(group)
