"""/proc that does not show everything, around the hooks or around the controller: refused in words, or accepted without the controller."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from tests.support import git
from tests.support.assertions import accepted, refused
from tests.support.git import MAIN
from tests.support.groups import Group, MakeGroup
from tests.support.process import ManagedProcess
from tests.support.pushes import records
from tests.support.sites import Site
from tests.support.wait import PATIENCE, until

AS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="mounts /proc anew, for which it has to be root")
SUBSET = 'mount -t proc -o subset=pid proc /proc && exec "$@"'
# What the controller imports before anything else: other processes are not shown, as to an account under hidepid. Replayed, since root
# sees everything.
HIDES = """
import builtins, os
def hiding(real):
    def opened(path, *arguments, **named):
        pid = path.split("/")[2] if isinstance(path, str) and path.startswith("/proc/") else ""
        if pid.isdigit() and int(pid) != os.getpid():
            raise FileNotFoundError(2, "hidden", path)
        return real(path, *arguments, **named)
    return opened
os.open, builtins.open = hiding(os.open), hiding(builtins.open)
"""


def command(site: Site) -> list[str]:
    return [sys.executable, "-m", "piehole.cli", "controller", "--root", str(site.root), "--log-format", "json"]


@AS_ROOT
def test_hooks_that_do_not_see_all_of_proc_refuse_in_words(world: Group) -> None:
    site, work, first = world.founded()
    git.commit(work, "second")
    inside = f"unshare --mount sh -c '{SUBSET}' sh git-receive-pack"
    said = refused(git.push(work, site, f"--receive-pack={inside}", "HEAD:main"), "no-access")
    assert "ProcSubset=pid" in said
    assert world.history() == [first]


@AS_ROOT
def test_a_controller_that_does_not_see_all_of_proc_does_not_start(make_group: MakeGroup) -> None:
    (a,) = make_group(1, started=False)
    a.controller = ManagedProcess(
        ["unshare", "--mount", "sh", "-c", SUBSET, "sh", *command(a)], a.log, env=a.group.environment
    )
    until(lambda: not a.running, PATIENCE, "it ends")
    assert "ProcSubset=pid" in a.log.read_text()


@pytest.mark.parametrize("how", ["hidden", pytest.param("in a pid namespace of its own", marks=AS_ROOT)])
def test_a_controller_that_does_not_see_the_pushers_leaves_the_hooks_to_decide(
    make_group: MakeGroup, tmp_path: Path, how: str
) -> None:
    """Its answers are for hooks below a living receive-pack only. No push's lock or record is touched that may live."""
    group = make_group(1, started=False)
    (a,) = group
    before = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc"] if how != "hidden" else []
    environment = dict(group.environment)
    if how == "hidden":
        (tmp_path / "first").mkdir()
        (tmp_path / "first" / "sitecustomize.py").write_text(HIDES)
        environment["PYTHONPATH"] = f"{tmp_path / 'first'}:{environment.get('PYTHONPATH', os.getcwd())}"
    a.controller = ManagedProcess([*before, *command(a)], a.log, env=environment)
    a.wait_served()
    work, first = group.begun()
    second = git.commit(work, "second")
    accepted(git.push(work, a.repository, "HEAD:main"))
    assert group.history() == [first, second]
    assert a.at(MAIN) == second
    until(lambda: not records(a.repository), PATIENCE, "the records of pushes that have ended go")
    shown = a.piehole("check", check=False).out
    assert ("/proc hides other accounts' processes" in shown) == (how == "hidden")
