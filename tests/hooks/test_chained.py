"""Somebody's own hooks beside piehole's: what they may do, and that no refusal of theirs reaches the consensus."""

from __future__ import annotations

import pytest

from tests.support.assertions import accepted, refused
from tests.support.command_line import piehole
from tests.support.git import MAIN, ZERO_SHA1, commit, git, push, refs
from tests.support.groups import Group
from tests.support.pushes import chain, finish, start_push, write_hook
from tests.support.wait import until

RUN = '"$piehole" "$@"'
# A `reference-transaction` that looks at the refs itself, and hands them on.
PASS_ON = f"""\
lines=$(cat)
printf '%s\\n' "$lines" | {RUN}
exit $?
"""


@pytest.mark.parametrize("options", [(), ("--atomic",)], ids=["each", "atomic"])
def test_what_a_foreign_update_refuses_never_reaches_the_consensus(world: Group, options: tuple[str, ...]) -> None:
    site, work, _ = world.founded()
    chain(site, "update", f'case $1 in *secret*) echo "no $1 here" >&2; exit 1 ;; esac\nexec {RUN}')
    before, local = world.etcd.look_prefix(world.prefix), refs(site)
    tip = commit(work)
    pushed = push(work, site, *options, "HEAD:secret-plan", *(["HEAD:main"] if options else []))
    assert pushed.returncode != 0
    assert "no refs/heads/secret-plan here" in pushed.stderr
    assert (world.etcd.look_prefix(world.prefix), refs(site)) == (before, local)
    accepted(push(work, site, "HEAD:main"))
    assert world.value() == tip


def test_a_foreign_update_that_reads_what_is_pushed(world: Group) -> None:
    site, work, first = world.founded()
    chain(
        site,
        "update",
        f'git log --format=%s "$2..$3" >said || exit 1\ngit diff --stat "$2" "$3" >>said\ncat\nexec {RUN}',
    )
    tip = commit(work, "what is pushed")
    accepted(push(work, site, "HEAD:main"))
    assert world.history() == [first, tip]
    assert (site / "said").read_text().startswith("what is pushed\n")


def test_a_foreign_update_may_run_longer_than_piehole_waits_for_etcd(world: Group) -> None:
    site, work, first = world.founded()
    git(site, "config", "piehole.hookTimeout", "1")
    for hook in ("update", "reference-transaction"):
        chain(site, hook, f"sleep 1.2\nexec {RUN}")
    tip = commit(work)
    accepted(push(work, site, "HEAD:main"))
    assert world.history() == [first, tip]


@pytest.mark.parametrize("hook", ["update", "post-receive"])
def test_a_ref_that_a_foreign_hook_moves_itself_is_no_push(world: Group, hook: str) -> None:
    """It stays local, is not the group's, and does not hold up the push."""
    site, work, first = world.founded()
    move = f"git update-ref refs/heads/by-a-hook {first}"
    if hook == "update":
        chain(site, hook, f"{move} || exit 1\nexec {RUN}")
    else:
        write_hook(site, hook, f"#!/bin/sh\n{move}\n")
    tip = commit(work)
    accepted(push(work, site, "HEAD:main"))
    assert world.refs() == {MAIN: tip}
    assert refs(site)["refs/heads/by-a-hook"] == first
    assert world.reconcile(site).status == 0
    assert refs(site) == {MAIN: tip, "refs/heads/by-a-hook": first}


def test_a_foreign_update_that_moves_the_pushed_ref_itself_ends_the_push_before_the_consensus(world: Group) -> None:
    site, work, first = world.founded()
    chain(site, "update", f'git update-ref "$1" "$3" "$2" || exit 1\nexec {RUN}')
    commit(work)
    assert push(work, site, "HEAD:main").returncode != 0
    assert world.history() == [first]
    assert world.reconcile(site).status == 0
    assert refs(site)[MAIN] == first


@pytest.mark.parametrize("options", [(), ("--atomic",)], ids=["each", "atomic"])
def test_a_foreign_reference_transaction_that_aborts_in_prepared_keeps_it_from_the_consensus(
    world: Group, options: tuple[str, ...]
) -> None:
    site, work, first = world.founded()
    accepted(push(work, site, "HEAD:old"))
    chain(
        site, "reference-transaction", f'lines=$(cat)\n[ "$1" = prepared ] && exit 1\nprintf "%s\\n" "$lines" | {RUN}'
    )
    commit(work)
    with world.unchanged():
        assert push(work, site, *options, "HEAD:main", "HEAD:new", ":old").returncode != 0
    assert refs(site)[MAIN] == first
    assert world.value("refs/heads/new") is None


def test_a_foreign_reference_transaction_that_reads_and_passes_on(world: Group) -> None:
    site, work, first = world.founded()
    chain(site, "reference-transaction", PASS_ON)
    tip = commit(work)
    accepted(push(work, site, "HEAD:main", "HEAD:side"))
    accepted(push(work, site, "--atomic", ":side", "HEAD:other"))
    assert world.history() == [first, tip]
    assert world.history("refs/heads/side") == [tip, ZERO_SHA1]
    assert refs(site) == {MAIN: tip, "refs/heads/other": tip, f"refs/piehole/kept/{tip}": tip}
    git(site, "gc", "--quiet", "--prune=now")
    assert world.refs() == {MAIN: tip, "refs/heads/side": ZERO_SHA1, "refs/heads/other": tip}


@pytest.mark.parametrize("deletion", [False, True], ids=["update", "deletion"])
def test_a_foreign_reference_transaction_that_keeps_the_lines_to_itself_is_refused(
    world: Group, deletion: bool
) -> None:
    """Nothing on standard input is not nothing to agree on."""
    site, work, first = world.founded()
    accepted(push(work, site, "HEAD:old"))
    before, local = world.refs(), refs(site)
    chain(site, "reference-transaction", f"cat >/dev/null\n{RUN}")
    commit(work)
    said = refused(push(work, site, ":old" if deletion else "HEAD:main"), "no-access")
    assert "standard input" in said
    assert world.refs() == before
    assert refs(site) == local
    assert first


def test_a_chain_that_swallows_the_refusal_of_update_is_stopped_by_the_gate(world: Group) -> None:
    site, work, first = world.founded()
    chain(site, "update", f"{RUN}\nexit 0")
    world.etcd.put(world.key(MAIN), "locked by hand")
    commit(work)
    refused(push(work, site, "HEAD:main"), "no-access")
    assert world.value() == "locked by hand"
    assert refs(site)[MAIN] == first


def test_a_chain_that_swallows_the_refusal_of_reference_transaction_moves_this_site_only_until_it_looks_again(
    world: Group,
) -> None:
    """What docs/guides/hooks.md warns of: the group is not touched, and the site comes back to it, the tip kept."""
    site, work, first = world.founded()
    tip, theirs = commit(work, "mine"), commit(work, "theirs")
    accepted(push(work, site, f"{theirs}:refs/heads/elsewhere"))
    name = "reference-transaction"
    chain(site, name, "")
    write_hook(site, name, f'#!/bin/sh\n"$(dirname "$0")/{name}.piehole" "$@"\nexit 0\n')
    chain(site, "update", f"{RUN} || exit 1\n: >announced\nuntil [ -e go ]; do sleep 0.02; done")
    pushing = start_push(work, site, f"{tip}:{MAIN}")
    until((site / "announced").exists, 20, "the push is announced")
    world.etcd.put(world.key(MAIN), theirs)  # somebody else wins between this push's `update` and its `prepared`
    (site / "go").touch()
    assert finish(pushing).returncode == 0, "what the hook drops, git cannot know"
    assert refs(site)[MAIN] == tip
    assert world.history() == [first, theirs]
    assert world.reconcile(site).status == 0
    assert refs(site)[MAIN] == theirs
    assert any(
        one.startswith("warning: ") and "exit status" in one for one in piehole("check", str(site)).out.splitlines()
    )


def test_other_hooks_run_as_they_always_did(world: Group) -> None:
    site, work, first = world.founded()
    for hook in ("pre-receive", "post-receive"):
        write_hook(site, hook, f"#!/bin/sh\ncat >>{hook}.lines\n")
    write_hook(site, "post-update", '#!/bin/sh\necho "$@" >>post-update.lines\n')
    tip = commit(work)
    accepted(push(work, site, "HEAD:main"))
    for hook in ("pre-receive", "post-receive"):
        assert (site / f"{hook}.lines").read_text() == f"{first} {tip} {MAIN}\n"
    assert (site / "post-update.lines").read_text() == f"{MAIN}\n"
    world["a"].build()  # installed again: they are still nobody's business
    assert "pre-receive.lines" in (site / "hooks" / "pre-receive").read_text()


def test_what_a_foreign_pre_receive_refuses_never_reaches_the_consensus(world: Group) -> None:
    site, work, _ = world.founded()
    write_hook(site, "pre-receive", "#!/bin/sh\necho not today >&2\nexit 1\n")
    before = world.etcd.look_prefix(world.prefix)
    commit(work)
    pushed = push(work, site, "HEAD:main")
    assert pushed.returncode != 0
    assert "not today" in pushed.stderr
    assert world.etcd.look_prefix(world.prefix) == before


def test_a_post_receive_that_fails_changes_nothing_of_what_was_agreed(world: Group) -> None:
    site, work, first = world.founded()
    for hook in ("post-receive", "post-update"):
        write_hook(site, hook, "#!/bin/sh\nexit 1\n")
    tip = commit(work)
    accepted(push(work, site, "HEAD:main"))
    assert world.history() == [first, tip]
    assert refs(site)[MAIN] == tip
