"""The gate is closed except where it is known to be open, and maintenance is none of its business."""

from __future__ import annotations

from pathlib import Path

import pytest

from piehole.fastpath import processes
from tests.support.assertions import accepted, refused
from tests.support.git import MAIN, ZERO_SHA1, commit, git, push, refs
from tests.support.groups import Group
from tests.support.ports import free_ports
from tests.support.pushes import chain, records, write_hook

MAINTENANCE = (
    ("gc", "--quiet"),
    ("gc", "--prune=now", "--aggressive", "--quiet"),
    ("pack-refs", "--all", "--prune"),
    ("repack", "-adq"),
    ("maintenance", "run", "--task=gc", "--quiet"),
    ("reflog", "expire", "--all", "--expire=now"),
)


def far_from_etcd(site: Path) -> None:
    """From now on nothing that asks etcd can succeed here."""
    (port,) = free_ports(1)
    git(site, "config", "--replace-all", "piehole.etcd", f"http://127.0.0.1:{port}")
    git(site, "config", "piehole.hookTimeout", "1")


def test_maintenance_is_not_deletion(world: Group) -> None:
    """Maintenance neither reaches the consensus nor is it refused, and pushes go on as before."""
    site, work, _ = world.founded()
    accepted(push(work, site, "HEAD:a", "HEAD:b/c", "HEAD:refs/tags/v1"))
    before = world.etcd.look_prefix(world.prefix), refs(site)
    endpoint = git(site, "config", "piehole.etcd").stdout.strip()
    for arguments in MAINTENANCE:
        far_from_etcd(site)
        # Loose refs again, so that each of them has something to pack.
        git(site, "update-ref", "refs/heads/a", refs(site)["refs/heads/b/c"])
        git(site, *arguments)
        assert (world.etcd.look_prefix(world.prefix), refs(site)) == before, arguments
    git(site, "config", "--replace-all", "piehole.etcd", endpoint)
    tip = commit(work)
    accepted(push(work, site, "HEAD:main", ":a"))
    assert world.value() == tip
    assert world.value("refs/heads/a") == ZERO_SHA1
    assert "refs/heads/a" not in refs(site)


def test_disk_ahead(world: Group) -> None:
    """An administrator's update-ref passes the gate and stays local; the consensus wins, and the tip is kept."""
    site, work, first = world.founded()
    before = world.etcd.look_prefix(world.prefix)
    stray = commit(work, "stray")
    git(site, "fetch", "-q", str(work), stray)
    git(site, "update-ref", MAIN, stray)
    git(site, "branch", "by-hand", stray)
    assert world.etcd.look_prefix(world.prefix) == before
    assert world.reconcile(site).status == 0
    assert refs(site)[MAIN] == first
    assert refs(site)[f"refs/piehole/kept/{stray}"] == stray
    assert refs(site)["refs/heads/by-hand"] == stray


@pytest.mark.parametrize("hook", ["update", "reference-transaction"])
def test_a_hook_that_chains_to_piehole_s_works(world: Group, hook: str) -> None:
    site, work, first = world.founded()
    chain(site, hook, 'echo "$0" >>"$GIT_DIR/chained"\n"$piehole" "$@"\nstatus=$?\nexit $status')
    second = commit(work)
    accepted(push(work, site, "HEAD:main"))
    assert world.history() == [first, second]
    assert (site / "chained").exists()
    world.etcd.put(world.key(MAIN), "frozen")
    commit(work)
    refused(push(work, site, "HEAD:main"), "locked")


def test_a_wrapper_of_git_s_name_does_not_open_the_gate(world: Group) -> None:
    """Hook managers are called git-hooks; they are no git that moves refs."""
    site, work, first = world.founded()
    name = "reference-transaction"
    chain(
        site,
        name,
        'exec bash -c \'exec -a git-hooks sh -c "\\"\\$0\\" \\"\\$@\\"; exit \\$?" "$@"\' "$0" "$piehole" "$@"',
    )
    second = commit(work)
    accepted(push(work, site, "HEAD:main"))
    assert world.history() == [first, second]


def test_a_line_that_update_did_not_announce_is_refused(world: Group) -> None:
    site, work, first = world.founded()
    write_hook(site, "update", "#!/bin/sh\nexit 0\n")
    commit(work)
    said = refused(push(work, site, "HEAD:main"), "no-access")
    assert MAIN in said
    assert world.refs() == {MAIN: first}
    assert refs(site)[MAIN] == first


@pytest.mark.parametrize("claim", ["a reused pid", "another boot", "another ref", "another value"])
def test_a_record_that_is_not_of_this_push_opens_nothing(world: Group, claim: str) -> None:
    """The record of a dead process whose pid came back, and a record that announced something else."""
    site, work, first = world.founded()
    real = '"$boot.$namespace.$PPID.$started.$machine"'
    named = {
        "a reused pid": '"$boot.$namespace.$PPID.1.$machine"',
        "another boot": '"0-0.$namespace.$PPID.$started.$machine"',
    }
    announced = {"another ref": "$1x $2 $3", "another value": f"$1 $2 {first}"}
    snapshot = next(
        line.split(" ")[4]
        for record in records(site)
        for line in record.read_text().splitlines()
        if line.startswith("want ")
    )
    write_hook(
        site,
        "update",
        f"""#!/bin/sh
boot=$(cat /proc/sys/kernel/random/boot_id)
machine={processes.machine()}
namespace=$(readlink /proc/self/ns/pid | tr -dc 0-9)
started=$(sed 's/.*) //' /proc/$PPID/stat | cut -d' ' -f20)
printf 'piehole 1 0123456789abcdef\\nwant %s %s\\n' "{announced.get(claim, "$1 $2 $3")}" '{snapshot}' \\
    >piehole/inflight/{named.get(claim, real)}
""",
    )
    commit(work)
    refused(push(work, site, "HEAD:main"), "no-access")
    assert world.refs() == {MAIN: first}
    assert refs(site)[MAIN] == first


def test_a_veto_of_somebody_s_own_update_hook_moves_nothing(world: Group) -> None:
    site, work, first = world.founded()
    chain(site, "update", '"$piehole" "$@" && exit 1')
    commit(work)
    assert push(work, site, "HEAD:main").returncode != 0
    assert world.refs() == {MAIN: first}


def test_git_gc_after_a_push_by_the_receive_pack_itself_is_let_pass(world: Group) -> None:
    site, work, _ = world.founded()
    git(site, "config", "receive.autoGC", "true")
    git(site, "config", "gc.auto", "1")
    git(site, "config", "gc.autoDetach", "false")
    git(site, "config", "maintenance.auto", "true")
    for number in range(3):
        tip = commit(work, str(number))
        accepted(push(work, site, "HEAD:main"))
    assert world.value() == tip == refs(site)[MAIN]


def test_nothing_in_the_pusher_s_environment_changes_what_the_hooks_do(world: Group, tmp_path: Path) -> None:
    """Neither Python's variables, nor git's, nor names of our own, nor what lies in the working directory."""
    site, work, first = world.founded()
    evil = tmp_path / "evil"
    (site / "piehole" / "__init__.py").write_text("raise SystemExit(0)\n")
    for folder in (evil / "piehole", evil / "hooks", site / "hooks"):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "__init__.py").write_text("raise SystemExit(0)\n")
        (folder / "main.py").write_text("def run(*arguments): return 0\n")
    for name in ("sitecustomize", "usercustomize", "os", "site"):
        (evil / f"{name}.py").write_text("raise SystemExit(0)\n")
    poison = {
        "PYTHONPATH": str(evil),
        "PYTHONSTARTUP": str(evil / "os.py"),
        "PYTHONHOME": "",
        "PYTHONUSERBASE": str(evil),
        "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": "piehole.exclude",
        "GIT_CONFIG_VALUE_0": "refs/*",
        "PIEHOLE_ETCD": "http://127.0.0.1:1",
        "PIEHOLE_EXCLUDE": "refs/*",
        "GIT_GRAFT_FILE": str(evil / "grafts"),
        "GIT_REPLACE_REF_BASE": "refs/heads/",
    }
    assignments = " ".join(f"{name}='{value}'" for name, value in poison.items())
    second = commit(work)
    accepted(push(work, site, f"--receive-pack=env {assignments} git-receive-pack", "HEAD:main"))
    assert world.history() == [first, second]
    world.etcd.put(world.key(MAIN), "frozen")
    commit(work)
    refused(push(work, site, f"--receive-pack=env {assignments} git-receive-pack", "HEAD:main"), "locked")


def test_a_client_that_has_gone_away_does_not_undo_what_the_group_has_taken(world: Group) -> None:
    """Nobody reads what the hook says any more: that is no veto."""
    site, work, first = world.founded()
    # The reading end of the pipe is closed at once.
    chain(
        site,
        "reference-transaction",
        '{ "$piehole" "$@"; echo $? >status; } 2>&1 >/dev/null </dev/stdin | :\nexit $(cat status)',
    )
    second = commit(work)
    push(work, site, "HEAD:main")
    assert world.history() == [first, second]
    assert refs(site)[MAIN] == second
