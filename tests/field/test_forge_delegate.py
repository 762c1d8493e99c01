"""A forge's ``update`` and ``pre-receive`` that run the files of a folder: piehole's file goes there, and the push is agreed."""

from __future__ import annotations

import pytest

from tests.support.assertions import accepted, refused
from tests.support.command_line import piehole
from tests.support.git import commit, push
from tests.support.groups import Group
from tests.support.pushes import write_hook
from tests.support.sites import Site

# As Gitea and Forgejo write them.
DELEGATE = """\
#!/usr/bin/env bash
# AUTO GENERATED, DO NOT MODIFY
{read}exitcodes=""
hookname=$(basename $0)
GIT_DIR=${{GIT_DIR:-$(dirname $0)/..}}

for hook in ${{GIT_DIR}}/hooks/${{hookname}}.d/*; do
  test -x "${{hook}}" && test -f "${{hook}}" || continue
  {run}
  exitcodes="${{exitcodes}} $?"
done

for i in ${{exitcodes}}; do
  [ ${{i}} -eq 0 ] || exit ${{i}}
done
"""


def delegate(site: Site, hook: str = "update") -> None:
    """What the forge writes over the hook: the delegate, and a file of its own in the folder."""
    hooks = site.repository / "hooks"
    (hooks / f"{hook}.d").mkdir(exist_ok=True)
    own = '#!/bin/sh\ncase "$1" in *secret*) echo no >&2; exit 1 ;; esac\n'
    write_hook(site.repository, f"{hook}.d/gitea", own)
    given = ('"${hook}" $1 $2 $3', "") if hook == "update" else ('echo "${data}" | "${hook}"', "data=$(cat)\n")
    write_hook(site.repository, hook, DELEGATE.format(run=given[0], read=given[1]))


def check(site: Site) -> str:
    answer = piehole("check", site.repository)
    return "\n".join(line for line in answer.out.splitlines() if "hooks" in line)


def test_install_puts_its_file_into_the_folder_and_pushes_are_agreed(world: Group) -> None:
    site = world["a"].make()
    delegate(site)
    delegate(site, "pre-receive")
    site.install()
    site.install()
    assert check(site) == ""
    tip = world.commit("one")
    world.push("a")
    assert world.value() == tip
    # The forge's own file refuses what it did before; the group does not hear of it.
    assert push(world.work, site.repository, "HEAD:secret").returncode != 0
    assert world.value("refs/heads/secret") is None
    # What piehole refuses is refused.
    world.put("refs/heads/main", "locked by an administrator")
    commit(world.work, "two")
    refused(push(world.work, site.repository, "HEAD:main"), "locked")


@pytest.mark.parametrize("name", ["piehole", "50-piehole"])
def test_a_file_of_piehole_that_an_administrator_has_put_into_the_folder_is_no_fault(world: Group, name: str) -> None:
    site = world["a"].build()
    own = (site.repository / "hooks" / "update").read_text()
    delegate(site)
    write_hook(site.repository, f"update.d/{name}", own)
    assert check(site) == ""
    site.install()
    assert not (site.repository / "hooks" / "update.piehole").exists()
    world.commit("one")
    world.push("a")


def test_a_wrapper_in_the_folder_that_runs_piehole_beside_the_hook_is_no_fault(world: Group) -> None:
    site = world["a"].build()
    own = site.repository / "hooks" / "update"
    own.rename(own.with_name("update.piehole"))
    delegate(site)
    write_hook(site.repository, "update.d/piehole", '#!/bin/sh\nexec "$(dirname "$0")/../update.piehole" "$@"\n')
    assert check(site) == ""
    site.install()
    world.commit("one")
    world.push("a")


def test_a_delegate_that_the_forge_writes_over_piehole_is_a_fault_until_install_has_run(world: Group) -> None:
    site = world["a"].build()
    delegate(site)
    assert "update.d/piehole is missing: run `piehole install` again" in check(site)
    world.commit("one")
    refused(push(world.work, site.repository, "HEAD:main"), "no-access")
    site.install()
    assert check(site) == ""
    accepted(push(world.work, site.repository, "HEAD:main"))
    assert piehole("uninstall", "--local", site.repository).status == 0
    assert [path.name for path in (site.repository / "hooks" / "update.d").iterdir()] == ["gitea"]


def test_somebody_elses_file_of_that_name_is_not_overwritten(world: Group) -> None:
    site = world["a"].make()
    delegate(site)
    theirs = write_hook(site.repository, "update.d/piehole", "#!/bin/sh\nexit 0\n")
    answer = piehole(
        "install",
        site.repository,
        "--group",
        "g",
        "--site",
        "a",
        "--url",
        site.url,
        "--prefix",
        world.prefix,
        "--etcd",
        world.endpoints[0],
    )
    assert answer.status == 1
    assert f"{theirs} is somebody else's file" in answer.err
    assert theirs.read_text() == "#!/bin/sh\nexit 0\n"


def test_a_gate_that_runs_a_folder_must_name_piehole(world: Group) -> None:
    """`reference-transaction` moves refs: the hook that asks the group must be named there, and pushes are refused until it is."""
    site = world["a"].build()
    world.commit("one")
    own = (site.repository / "hooks" / "reference-transaction").read_text()
    delegate(site, "reference-transaction")
    assert "reference-transaction is not piehole's hook and does not run it" in check(site)
    refused(push(world.work, site.repository, "HEAD:main"), "no-access")
    write_hook(site.repository, "reference-transaction.d/piehole", own)
    named = '#!/bin/sh\nexec "$(dirname "$0")/reference-transaction.d/piehole" "$@"\n'
    write_hook(site.repository, "reference-transaction", named)
    assert check(site) == ""
    accepted(push(world.work, site.repository, "HEAD:main"))
    write_hook(site.repository, "reference-transaction", named.replace("exec ", "") + "exit 0\n")
    assert "seems to lose the exit status of reference-transaction.d/piehole" in check(site)
