"""AGit: pushes to `refs/for/…`, which git hands to the hook `proc-receive` instead of moving a ref (git 2.29 and later)."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.support.assertions import accepted
from tests.support.git import MAIN, commit, git, push
from tests.support.groups import Group, MakeGroup
from tests.support.pushes import write_hook

PULL = "refs/pull/1/head"
TOPIC = "refs/for/main/topic"
# What a forge's hook does: it answers the protocol of githooks(5), makes a ref of its own, and reports the push as done.
_PROC_RECEIVE = """\
#!{python}
import os, subprocess, sys
def read():
    found = []
    while (length := int(os.read(0, 4) or b"0000", 16)) > 4:
        found.append(os.read(0, length - 4).decode().rstrip("\\n"))
    return found
def write(*lines):
    os.write(1, b"".join(b"%04x%s" % (len(line) + 4, line.encode()) for line in lines) + b"0000")
capabilities = read()[0]
write("version=1\\0")
for line in read():
    old, new, ref = line.split(" ")
    subprocess.run({command}, check=True, stdout=2)
    write(f"ok {{ref}}", "option refname {pull}", f"option new-oid {{new}}")
"""
_UPDATE_REF = f'["git", "update-ref", "{PULL}", new]'
_PUSH = f'["env", "-u", "GIT_DIR", "git", "push", "-q", os.getcwd(), f"{{new}}:{PULL}"]'


def _forge(group: Group, command: str) -> Path:
    """The first site, with such a hook; a clone of it."""
    site = group[0].repository
    git(site, "config", "receive.procReceiveRefs", "refs/for")
    write_hook(site, "proc-receive", _PROC_RECEIVE.format(python=sys.executable, command=command, pull=PULL))
    return group.begun()[0]


def test_a_ref_that_proc_receive_makes_itself_stays_at_its_site_and_both_commands_say_so(
    make_group: MakeGroup,
) -> None:
    group = make_group(2)
    work = _forge(group, _UPDATE_REF)
    tip = commit(work)
    accepted(push(work, group[0].repository, "HEAD:main", f"HEAD:{TOPIC}"))
    group.arrives(MAIN, tip)
    assert group.refs() == {MAIN: tip}
    assert group[0].refs() == {MAIN: tip, PULL: tip}
    assert PULL in group[0].piehole("status", check=False).out
    said = group[0].piehole("check").out
    assert "receive.procReceiveRefs" in said
    assert "piehole.exclude" in said


@pytest.mark.parametrize("served", [True, False], ids=["controller", "alone"])
def test_a_ref_that_proc_receive_pushes_is_the_groups(make_group: MakeGroup, served: bool) -> None:
    group = make_group(2)
    work = _forge(group, _PUSH)
    if not served:
        group[0].stop()
    tip = commit(work)
    accepted(push(work, group[0].repository, f"HEAD:{TOPIC}"))
    assert group.value(PULL) == tip
    group.arrives(PULL, tip)
