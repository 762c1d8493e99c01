"""Pushes and their agreement: whatever two sites do at once or one after the other, there is one history."""

from __future__ import annotations

import signal

from tests.support import git
from tests.support.assertions import accepted, refused
from tests.support.etcd_tamper import Tamper
from tests.support.git import MAIN, ZERO_SHA1
from tests.support.groups import Group, MakeGroup
from tests.support.process import descendants, send_signal
from tests.support.pushes import chain, finish, receive_pack, records, start_push
from tests.support.wait import PATIENCE, until

SIDE = "refs/heads/side"


def test_split_brain(make_group: MakeGroup) -> None:
    """A acknowledges and dies before anybody has fetched; B, pushed to from the old base, asks the group, not its disk."""
    group = make_group(2, settings={"piehole.catchUp": "1"})
    a, b = group
    ann, first = group.begun()
    bob = b.clone()
    b.pause()
    at_a = git.commit(ann, "ann's", file="ann.txt")
    accepted(git.push(ann, a.repository, "HEAD:main"))
    a.kill()
    a.repository.rename(a.root / "lost")
    b.resume()
    git.commit(bob, "bob's", file="bob.txt")
    said = refused(git.push(bob, b.repository, "HEAD:main"), "stale")
    assert at_a in said
    assert (b.at(), group.value()) == (first, at_a)
    # Ann's commit survives in her clone; with it the push goes through at the first try.
    git.git(bob, "pull", "-q", "--rebase", str(ann), "HEAD")
    accepted(git.push(bob, b.repository, "HEAD:main"))
    merged = git.rev_parse(bob)
    assert group.history() == [first, at_a, merged]
    (a.root / "lost").rename(a.repository)
    a.start()
    group.arrives(MAIN, merged)
    assert git.rev_parse(a.repository, f"{MAIN}~1") == at_a


def test_consensus_ahead(make_group: MakeGroup) -> None:
    """The group names what no disk has: that ref is refused and stuck, all else goes on, bringing the objects mends it."""
    group = make_group(2, settings={"piehole.catchUp": "1"})
    a, b = group
    work, first = group.begun()
    lost = git.commit(work, "lost")
    group.put(MAIN, lost)
    b.stuck(MAIN)
    other = a.clone()
    assert git.rev_parse(other) == first  # reading goes on, at the value before
    git.commit(other, "other")
    said = refused(git.push(other, a.repository, "HEAD:main"), "stale")
    assert lost in said
    assert "has not caught up" in said
    accepted(git.push(other, a.repository, "HEAD:side"))
    group.arrives(SIDE, git.rev_parse(other))
    shown = b.piehole("status", check=False)
    assert shown.status == 1
    assert f"{MAIN}: " in shown.out
    accepted(git.push(work, b.repository, "HEAD:main"))
    group.arrives(MAIN, lost, timeout=PATIENCE)
    # And where nobody has it any more, a person says which site is right.
    group.put(MAIN, "12" * 20)
    b.piehole("clobber", MAIN, "--yes")
    assert group.value() == lost
    group.arrives(MAIN, lost)
    git.commit(work, "goes on")
    accepted(git.push(work, a.repository, "HEAD:main"))


def test_disk_ahead(make_group: MakeGroup) -> None:
    """A ref that was moved past the hooks goes back to the group's value, and its tip is kept."""
    group = make_group(2)
    a, b = group
    work, first = group.begun()
    stray = git.commit(work, "stray")
    git.git(a.repository, "fetch", "-q", str(work), stray)
    a.move(MAIN, stray)
    accepted(git.push(work, b.repository, f"{first}:refs/heads/side"))
    group.arrives(MAIN, first)
    assert stray in a.kept()
    assert group.history() == [first]
    # Where the move was meant, a person says so.
    a.kill()
    a.move(MAIN, stray)
    a.piehole("clobber", MAIN, "--yes")
    a.start()
    group.arrives(MAIN, stray)


def test_reordered_recreate(make_group: MakeGroup) -> None:
    """Created, deleted, created again, and heard of late and all at once: the value that holds now counts."""
    group = make_group(2)
    a, b = group
    work, first = group.begun()
    group.published()
    b.pause()
    accepted(git.push(work, a.repository, "HEAD:side", "HEAD:gone"))
    accepted(git.push(work, a.repository, ":side"))
    second = git.commit(work, "second")
    accepted(git.push(work, a.repository, "HEAD:side"))
    accepted(git.push(work, a.repository, ":gone"))
    b.resume()
    group.arrives(SIDE, second)
    assert group.in_step() == {MAIN: first, SIDE: second}
    assert group.history(SIDE) == [first, ZERO_SHA1, second]
    # Events that are put again by hand, in the wrong order, are only values that hold now.
    for value in (ZERO_SHA1, first, ZERO_SHA1, second):
        group.put(SIDE, value)
    group.published(SIDE)
    assert group.in_step() == {MAIN: first, SIDE: second}


def test_reordered_recreate_a_push_of_the_first_life_fails_in_the_second(world: Group, tamper: Tamper) -> None:
    """The same value in both lives, and the late swap is told apart from a timely one all the same."""
    a = world["a"].build(endpoints=[tamper.endpoint], settings={"piehole.hookTimeout": "30"}).repository
    work = world.clone(a)
    first = git.commit(work, "first")
    accepted(git.push(work, a, "HEAD:side"))
    b = world["b"].build().repository
    assert world.reconcile(b).status == 0
    second = git.commit(work, "second")
    before = tamper.seen.count("swap")
    tamper.once("swap", "hold request")
    pushing = start_push(work, a, "HEAD:side")
    tamper.wait_for("swap", before + 1)
    accepted(git.push(work, b, ":side"))
    accepted(git.push(work, b, f"{first}:refs/heads/side"))
    (answer,) = tamper.deliver()
    assert not answer.get("succeeded", False)
    assert world.history(SIDE) == [first, ZERO_SHA1, first]
    tamper.drop()
    accepted(finish(pushing))  # asked anew: a fast-forward of the second life
    assert world.history(SIDE) == [first, ZERO_SHA1, first, second]


def test_half_atomic(make_group: MakeGroup) -> None:
    """One stale ref among several: nothing changes, at no site and in no key; known beforehand, or by the swap alone."""
    group = make_group(2, settings={"piehole.catchUp": "0.2"})
    a, b = group
    work, first = group.begun("side")
    git.git(work, "checkout", "-q", "-B", "theirs")
    theirs = git.commit(work, "theirs", file="theirs.txt")
    git.git(work, "checkout", "-q", "main")
    git.commit(work, "ours")
    everything = ("--atomic", "HEAD:main", "HEAD:side", "HEAD:new")
    group.put(SIDE, theirs)  # which no site has, so that A's side stays behind
    assert theirs in refused(git.push(work, a.repository, *everything), "stale")
    assert (group.history(), group.value("refs/heads/new")) == ([first], None)
    assert a.refs() == {MAIN: first, SIDE: first}
    group.put(SIDE, first)
    chain(
        a.repository,
        "reference-transaction",
        'if [ "$1" = prepared ]; then touch arrived; until [ -e go ]; do sleep 0.02; done; fi\nexec "$piehole" "$@"',
    )
    pushing = start_push(work, a.repository, *everything)
    until((a.repository / "arrived").exists, PATIENCE, "every ref has been admitted")
    accepted(git.push(work, b.repository, f"{theirs}:{SIDE}"))
    (a.repository / "go").touch()
    assert finish(pushing).returncode != 0
    assert (group.history(), group.value("refs/heads/new")) == ([first], None)
    assert group.in_step() == {MAIN: first, SIDE: theirs}


def test_df_conflict(make_group: MakeGroup) -> None:
    """A directory and a file of one name, created at two sites at once: one of them exists, everywhere."""
    group = make_group(2, started=False)
    a, b = group
    work, first = group.begun()
    chain(
        a.repository,
        "reference-transaction",
        'if [ "$1" = prepared ]; then touch arrived; until [ -e go ]; do sleep 0.02; done; fi\nexec "$piehole" "$@"',
    )
    pushing = start_push(work, a.repository, "HEAD:topic")
    until((a.repository / "arrived").exists, PATIENCE, "A's has been admitted, and holds its lock")
    accepted(git.push(work, b.repository, "HEAD:topic/one"))
    (a.repository / "go").touch()
    refused(finish(pushing), "conflict")
    group.start()
    assert group.in_step() == {MAIN: first, "refs/heads/topic/one": first}
    # Put by hand, the key that was created first wins everywhere, and the other is reported.
    group.put("refs/heads/x", first)
    group.put("refs/heads/x/y", first)
    for site in group:
        assert "refs/heads/x" in site.stuck("refs/heads/x/y")
        assert (site.at("refs/heads/x"), site.at("refs/heads/x/y")) == (first, "")


def test_late_proposal(world: Group, tamper: Tamper) -> None:
    """A swap that reaches etcd after its push was refused takes no effect."""
    a = world["a"].build(endpoints=[tamper.endpoint], settings={"piehole.hookTimeout": "30"}).repository
    work = world.clone(a)
    first = git.commit(work, "first")
    accepted(git.push(work, a, "HEAD:main"))
    b = world["b"].build().repository
    assert world.reconcile(b).status == 0
    git.commit(work, "ours")
    before = tamper.seen.count("swap")
    tamper.once("swap", "hold request")
    pushing = start_push(work, a, "HEAD:main")
    tamper.wait_for("swap", before + 1)
    git.git(work, "checkout", "-q", "-B", "theirs", first)
    theirs = git.commit(work, "theirs")
    accepted(git.push(work, b, "HEAD:main"))
    tamper.drop()
    refused(finish(pushing), "stale")
    (answer,) = tamper.deliver()
    assert not answer.get("succeeded", False)
    assert world.history() == [first, theirs]


def test_late_proposal_of_a_hook_that_is_gone(make_group: MakeGroup) -> None:
    """A controller that was stopped wakes after the hook has decided without it, and does nothing more."""
    group = make_group(2)
    a, b = group[0], group[1]
    work, first = group.begun()
    a.pause()
    second = git.commit(work, "second")
    accepted(git.push(work, a.repository, "HEAD:main"))
    until(lambda: b.at() == second, PATIENCE, "b has the push, so that the next one is not stale there")
    accepted(git.push(work, b.repository, "--force", f"{first}:refs/heads/main"))
    a.resume()
    group.published()
    group.arrives(MAIN, first)
    assert group.history() == [first, second, first]


def test_reaped_create(world: Group, tamper: Tamper) -> None:
    """A creation hangs while its ref is made, deleted and reaped: the key is absent again, and it must not succeed."""
    a = world["a"].build(endpoints=[tamper.endpoint]).repository
    work = world.clone(a)
    git.commit(work, "first")
    accepted(git.push(work, a, "HEAD:main"))
    b = world["b"].build().repository
    assert world.reconcile(b).status == 0
    for record in records(a):
        record.unlink()  # so that the next record is the next push's
    before = tamper.seen.count("swap")
    tamper.once("swap", "hold request")
    pushing = start_push(work, a, "HEAD:side")
    tamper.wait_for("swap", before + 1)
    pid = receive_pack(a)
    for one in (pid, *descendants(pid)):
        send_signal(one, signal.SIGKILL)  # nobody is left who could fence it
    assert finish(pushing).returncode != 0
    accepted(git.push(work, b, "HEAD:side"))
    accepted(git.push(work, b, ":side"))

    def reaped() -> bool:
        assert world.reconcile(a).status == 0
        assert world.reconcile(b).status == 0
        return world.value(SIDE) is None

    until(reaped, PATIENCE, "the tombstone is reaped")
    (answer,) = tamper.deliver()
    assert not answer.get("succeeded", False)
    assert world.value(SIDE) is None


def test_stale_view(make_group: MakeGroup, tamper: Tamper) -> None:
    """A reconcile whose view is older than the local refs takes no acknowledged push for a stray change."""
    group = make_group(1, endpoints=(tamper.endpoint,))
    a = group[0]
    work, _ = group.begun("side")
    group.published()
    # From now on the controller's watch hears nothing: its view stays where it is.
    a.kill()
    tamper.always("hold request", "watch")
    a.start()
    second = git.commit(work, "second")
    accepted(git.push(work, a.repository, "HEAD:main"))
    assert a.at() == second
    # Something that even the old view knows how to mend shows that a reconcile has acted on it.
    git.git(a.repository, "update-ref", "-d", SIDE)
    a.signal(signal.SIGHUP)
    until(lambda: a.at(SIDE), PATIENCE, "the reconcile has acted")
    assert a.at() == second
    reflog = git.git(a.repository, "reflog", "show", "--format=%H", MAIN).stdout.split()
    assert reflog[0] == second
    assert reflog.count(second) == 1


def test_mass_deletion(make_group: MakeGroup) -> None:
    """An emptied disk and an emptied etcd delete nothing anywhere; real deletions keep every tip at every site."""
    group = make_group(2)
    a, b = group
    work, first = group.begun()
    tips = {f"refs/heads/b{n}": git.commit(work, str(n)) for n in range(5)}
    accepted(git.push(work, a.repository, *(f"{oid}:{ref}" for ref, oid in tips.items())))
    everything = {MAIN: first, **tips}
    assert group.in_step() == everything
    group.published("refs/heads/b4")
    # A disk whose refs are gone.
    for ref in everything:
        git.git(a.repository, "update-ref", "-d", ref)
    accepted(git.push(work, b.repository, f"{first}:refs/heads/another"))
    everything["refs/heads/another"] = first
    assert group.in_step() == everything
    # A listing that is empty.
    group.etcd.delete_prefix(group.key("refs/"))
    group.put("refs/heads/later", first)
    everything["refs/heads/later"] = first
    for site in group:
        until(lambda site=site: site.at("refs/heads/later"), PATIENCE)  # type: ignore[misc]
        assert site.refs() == everything
    a.piehole("clobber", "--yes")
    # What is meant.
    accepted(git.push(work, b.repository, *(f":{ref}" for ref in tips)))
    assert all(group.value(ref) in (ZERO_SHA1, None) for ref in tips)
    for site in group:
        until(lambda site=site: not tips.keys() & site.refs().keys(), PATIENCE)  # type: ignore[misc]
        assert {*tips.values()} <= site.kept()


def test_unadopted_blocks(make_group: MakeGroup) -> None:
    """A local ref without opinion makes room for the group's, and is kept; one that is in nobody's way stays."""
    group = make_group(2)
    a, b = group
    work, first = group.begun()
    mine = git.commit(work, "mine")
    git.git(b.repository, "fetch", "-q", str(work), mine)
    for ref in ("refs/heads/x", "refs/heads/z/1", "refs/heads/stays"):
        b.move(ref, mine)
    accepted(git.push(work, a.repository, f"{first}:refs/heads/x/y", f"{first}:refs/heads/z"))
    group.arrives("refs/heads/x/y", first)
    group.arrives("refs/heads/z", first)
    assert b.refs() == {
        MAIN: first,
        "refs/heads/x/y": first,
        "refs/heads/z": first,
        "refs/heads/stays": mine,
    }
    assert mine in b.kept()
    assert group.value("refs/heads/stays") is None


def test_symref_flip(make_group: MakeGroup) -> None:
    """A ref below refs/ that becomes symbolic is not adopted and not written through."""
    group = make_group(2)
    a, b = group
    work, first = group.begun()
    git.git(b.repository, "symbolic-ref", "refs/heads/alias", MAIN)
    second = git.commit(work, "second")
    refused(git.push(work, b.repository, "HEAD:alias"), "reserved")
    assert (group.value("refs/heads/alias"), group.value()) == (None, first)
    accepted(git.push(work, a.repository, "HEAD:alias"))
    assert "symbolic" in b.stuck("refs/heads/alias")
    assert b.at() == first
    assert git.git(b.repository, "symbolic-ref", "refs/heads/alias").stdout.strip() == MAIN
    git.git(b.repository, "symbolic-ref", "--delete", "refs/heads/alias")
    group.arrives("refs/heads/alias", second)
    group.arrives(MAIN, first)
