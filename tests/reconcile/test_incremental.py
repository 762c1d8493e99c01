"""A site follows the consensus, whatever its own refs say, and loses nothing on the way."""

from __future__ import annotations

import pytest

from piehole.repository import kept_tips
from tests.support.git import MAIN, ZERO_SHA1, git
from tests.support.groups import Group
from tests.support.sites import KEPT


def test_empty_site_catches_up(bed: Group) -> None:
    bed.install("a", "b")
    tip = bed.commit()
    bed.push("a", "HEAD:main", "HEAD:refs/tags/v1", "HEAD:refs/notes/x")
    answer = bed.reconcile("b")
    assert answer.status == 0, answer
    assert bed["b"].refs() == {MAIN: tip, "refs/tags/v1": tip, "refs/notes/x": tip}
    bed["b"].fsck()


def test_sha256_groups_work_end_to_end(bed: Group) -> None:
    bed.object_format = "sha256"
    bed.install("a", "b")
    first = bed.commit("one")
    bed.push("a")
    assert bed.reconcile("b").status == 0
    assert len(first) == 64
    assert bed["b"].at() == first
    second = bed.commit("two")
    bed.push("b", "HEAD:main", "HEAD:side")
    bed.push("b", ":side")
    assert bed.reconcile("a").status == 0
    assert bed["a"].refs() == {MAIN: second}


def test_an_administrator_rewinds_a_ref_and_every_site_follows(bed: Group) -> None:
    bed.install("a", "b")
    old = bed.commit("one")
    new = bed.commit("two")
    bed.push("a")
    bed.reconcile("b")
    bed.put(MAIN, f"{old}\n")
    for site in ("a", "b"):
        answer = bed.reconcile(site)
        assert answer.status == 0, answer
        assert bed[site].at() == old
        assert bed[site].kept() == {new}
    # And it can be had back.
    git(bed["a"].repository, "update-ref", "refs/heads/rescued", f"{KEPT}{new}")
    assert bed["a"].at("refs/heads/rescued") == new


def test_disk_ahead(bed: Group) -> None:
    """The consensus wins over a local ref that was moved past the hooks, and its tip is kept."""
    bed.install("a", "b")
    tip = bed.commit("one")
    bed.push("a")
    stray = bed.commit("two")
    git(bed.work, "push", "-q", str(bed["a"].repository), "HEAD:refs/elsewhere", check=False)
    git(bed["a"].repository, "fetch", "-q", str(bed.work), stray)
    bed["a"].move(MAIN, stray)
    answer = bed.reconcile("a")
    assert answer.status == 0, answer
    assert bed["a"].at() == tip
    assert stray in bed["a"].kept()


def test_a_ref_that_was_deleted_past_the_hooks_comes_back(bed: Group) -> None:
    bed.install("a")
    tip = bed.commit()
    bed.push("a")
    bed["a"].move(MAIN, "")
    assert bed.reconcile("a").status == 0
    assert bed["a"].at() == tip


def test_a_tombstone_deletes_here_and_keeps_the_tip(bed: Group) -> None:
    bed.install("a", "b")
    tip = bed.commit()
    bed.push("a", "HEAD:main", "HEAD:side")
    bed.reconcile("b")
    bed.push("a", ":side")
    assert bed.reconcile("b").status == 0
    assert bed["b"].refs() == {MAIN: tip}
    assert tip in bed["b"].kept()


def test_a_key_that_is_absent_deletes_nothing(bed: Group) -> None:
    bed.install("a")
    tip = bed.commit()
    bed.push("a", "HEAD:main", "HEAD:side")
    bed.etcd.delete(bed.key("refs/heads/side"))
    answer = bed.reconcile("a")
    assert answer.status == 0
    assert bed["a"].at("refs/heads/side") == tip
    assert "unadopted: refs/heads/side" in answer.out


def test_reordered_recreate(bed: Group) -> None:
    """Created, deleted and created again: a site that saw nothing of it takes the last word."""
    bed.install("a", "b")
    first = bed.commit("one")
    bed.push("a", "HEAD:main", "HEAD:side")
    bed.reconcile("b")
    bed.push("a", ":side")
    second = bed.commit("two")
    bed.push("a", "HEAD:side")
    assert bed.reconcile("b").status == 0
    assert bed["b"].at("refs/heads/side") == second
    assert bed["b"].at() == first


def test_head_is_replicated(bed: Group) -> None:
    bed.install("a", "b")
    bed.commit()
    bed.push("a", "HEAD:trunk")
    bed.put("HEAD", "ref: refs/heads/trunk\n")
    for site in ("a", "b"):
        assert bed.reconcile(site).status == 0
        assert bed[site].head() == "refs/heads/trunk"


def test_excluded_refs_stay_apart(bed: Group) -> None:
    bed.install("a", "b")
    git(bed["b"].repository, "config", "--add", "piehole.exclude", "refs/heads/ci/*")
    git(bed["b"].repository, "config", "--add", "piehole.exclude", "refs/heads/a,main")
    tip = bed.commit()
    bed.push("a", "HEAD:main", "HEAD:ci/1")
    answer = bed.reconcile("b")
    assert answer.status == 0, answer
    assert bed["b"].refs() == {MAIN: tip}, "a comma in a pattern is part of a name"


def test_locked_refs_are_named_and_do_not_count(bed: Group) -> None:
    bed.install("a", "b")
    tip = bed.commit()
    bed.push("a", "HEAD:main", "HEAD:side")
    bed.put("refs/heads/side", "locked by the administrator")
    answer = bed.reconcile("b")
    assert answer.status == 0, answer
    assert "locked: refs/heads/side" in answer.out
    assert bed["b"].refs() == {MAIN: tip}


@pytest.mark.parametrize("value", ["ABCDEF0123456789" * 2 + "abcdef01", "abc123", "0" * 64, ""])
def test_what_is_no_oid_moves_nothing(bed: Group, value: str) -> None:
    bed.install("a")
    tip = bed.commit()
    bed.push("a")
    bed.put(MAIN, value)
    answer = bed.reconcile("a")
    assert answer.status == 0
    assert f"locked: {MAIN}" in answer.out
    assert bed["a"].at() == tip


def test_mass_deletion(bed: Group) -> None:
    """A site that emptied its refs deletes nothing anywhere, and gets them back."""
    bed["a"].make()
    tip = bed.commit()
    git(bed["a"].repository, "fetch", "-q", str(bed.work), "HEAD")
    for ref in (MAIN, *(f"refs/heads/b{n}" for n in range(30))):
        bed["a"].move(ref, tip)
    bed.install("a", "b")
    bed.reconcile("b")
    for ref in bed["a"].refs():
        bed["a"].move(ref, "")
    assert bed.reconcile("b").status == 0
    assert len(bed["b"].refs()) == 31
    assert bed.reconcile("a").status == 0
    assert bed["a"].refs() == bed["b"].refs()
    assert set(bed["a"].refs().values()) == {tip}


def test_df_conflict(bed: Group) -> None:
    """Of two live keys that cannot stand beside each other, the one created first wins at every site."""
    bed.install("a", "b")
    tip = bed.commit()
    bed.push("a", "HEAD:main", "HEAD:x/y")
    bed.put("refs/heads/x", tip)
    for site in ("a", "b"):
        answer = bed.reconcile(site)
        assert answer.status == 1
        assert "stuck: refs/heads/x:" in answer.err
        assert bed[site].at("refs/heads/x/y") == tip
        assert not bed[site].at("refs/heads/x")
    bed.etcd.delete(bed.key("refs/heads/x"))
    assert bed.reconcile("a", "b").status == 0


def test_df_conflict_is_won_by_the_older_key_also_where_the_younger_ref_stands(bed: Group) -> None:
    bed.install("a", "b")
    tip = bed.commit()
    bed.push("a", "HEAD:main", "HEAD:x/y")
    bed.push("a", ":x/y")
    bed.push("a", "HEAD:x")
    bed.reconcile("a")
    bed.put("refs/heads/x/y", tip)
    older, younger = (bed.etcd.look(bed.key(ref)) for ref in ("refs/heads/x/y", "refs/heads/x"))
    assert older is not None
    assert younger is not None
    assert older.create_revision < younger.create_revision, "the tombstone was not reaped, so its key is the older one"
    answer = bed.reconcile("a")
    assert answer.status == 1
    assert bed["a"].at("refs/heads/x/y") == tip
    assert not bed["a"].at("refs/heads/x")


def test_unadopted_blocks(bed: Group) -> None:
    """A local ref without opinion that stands where a consensus ref must go is kept, then removed."""
    bed.install("a", "b")
    tip = bed.commit("one")
    bed.push("a", "HEAD:main")
    bed.reconcile("b")
    mine = bed.commit("mine")
    git(bed["b"].repository, "fetch", "-q", str(bed.work), mine)
    bed["b"].move("refs/heads/x", mine)
    bed["b"].move("refs/heads/z/1", mine)
    bed["b"].move("refs/heads/z/2", mine)
    git(bed.work, "reset", "-q", "--hard", tip)
    bed.push("a", "HEAD:x/y", "HEAD:z")
    answer = bed.reconcile("b")
    assert answer.status == 0, answer
    assert bed["b"].refs() == {MAIN: tip, "refs/heads/x/y": tip, "refs/heads/z": tip}
    assert bed["b"].kept() == {mine}


def test_nothing_makes_room_for_a_ref_that_cannot_come(bed: Group) -> None:
    bed.install("a", "b")
    tip = bed.commit()
    bed.push("a")
    bed.reconcile("b")
    bed["b"].move("refs/heads/x", tip)
    bed.put("refs/heads/x/y", "12" * 20)
    answer = bed.reconcile("b")
    assert answer.status == 1
    assert "stuck: refs/heads/x/y" in answer.err
    assert bed["b"].at("refs/heads/x") == tip


@pytest.mark.parametrize("target", [MAIN, "refs/heads/nowhere"])
def test_symref_flip(bed: Group, target: str) -> None:
    """A symbolic ref below refs/ is never written through, and a consensus key of its name is reported as stuck."""
    bed.install("a", "b")
    tip = bed.commit()
    bed.push("a")
    bed.reconcile("b")
    git(bed["b"].repository, "symbolic-ref", "refs/heads/alias", target)
    newer = bed.commit("two")
    bed.push("a", "HEAD:alias")
    answer = bed.reconcile("b")
    assert answer.status == 1
    assert "stuck: refs/heads/alias" in answer.err
    assert "symbolic" in answer.err
    assert git(bed["b"].repository, "symbolic-ref", "refs/heads/alias").stdout.strip() == target
    assert bed["b"].at() == tip
    git(bed["b"].repository, "symbolic-ref", "--delete", "refs/heads/alias")
    assert bed.reconcile("b").status == 0
    assert bed["b"].at("refs/heads/alias") == newer


@pytest.mark.slow
def test_many_refs_move_at_once(bed: Group) -> None:
    """2,000 new refs over many tips, then all of them rewritten: every tip that is left behind is kept."""
    bed["a"].make()
    tips = [bed.commit(str(n)) for n in range(70)]
    git(bed["a"].repository, "fetch", "-q", str(bed.work), "HEAD")
    names = [f"refs/heads/n{n}" for n in range(2000)]
    create = "".join(f"create {name} {tips[n % 70]}\n" for n, name in enumerate(names))
    git(bed["a"].repository, "update-ref", "--stdin", stdin=create)
    bed.install("a", "b")
    answer = bed.reconcile("b")
    assert answer.status == 0, answer
    assert bed["b"].refs() == bed["a"].refs()
    assert len(bed["b"].refs()) == 2000
    for n, name in enumerate(names):
        bed.put(name, tips[(n + 2) % 70])
    answer = bed.reconcile("b")
    assert answer.status == 0, answer
    assert bed["b"].refs() == {name: tips[(n + 2) % 70] for n, name in enumerate(names)}
    assert bed["b"].kept() == {tips[68], tips[69]}, "every other tip moved forward"


def test_kept_tips_expire(bed: Group) -> None:
    bed.install("a")
    old = bed.commit("one")
    new = bed.commit("two")
    bed.push("a")
    bed.put(MAIN, old)
    bed.reconcile("a")
    assert bed["a"].kept() == {new}
    bed.reconcile("a")
    assert bed["a"].kept() == {new}, "90 days have not passed"
    git(bed["a"].repository, "config", "piehole.keepFor", "now")
    assert bed.reconcile("a").status == 0
    assert bed["a"].kept() == set()


def test_the_same_tip_can_be_deleted_again_and_again(bed: Group) -> None:
    """Keeping a tip anew needs no lock that a push which deletes holds itself."""
    bed.install("a")
    tip = bed.commit()
    bed.push("a")
    for _ in range(3):
        bed.push("a", "HEAD:side")
        bed.push("a", ":side")
        git(bed["a"].repository, "pack-refs", "--all")
    assert bed["a"].kept() == {tip}


def test_a_tip_that_is_kept_again_starts_its_time_anew(bed: Group) -> None:
    bed.install("a")
    tip = bed.commit()
    bed.push("a")
    repository = bed["a"].replica().repository
    kept_tips.keep(repository, [tip])
    log = bed["a"].repository / "logs" / f"{KEPT}{tip}"
    log.write_text(f"{ZERO_SHA1} {tip} A <a@example.org> 1000000000 +0000\tpiehole: kept\n")
    assert kept_tips.kept_since(repository) == {f"{KEPT}{tip}": 1000000000}
    kept_tips.keep(repository, [tip])
    assert kept_tips.kept_since(repository)[f"{KEPT}{tip}"] > 1000000000
