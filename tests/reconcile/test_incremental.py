"""A site follows the consensus, whatever its own refs say, and loses nothing on the way."""

from __future__ import annotations

import pytest

from piehole.repository import kept_tips
from tests.reconcile.bed import KEPT, MAIN, ZERO, Bed
from tests.support.git import git


def test_empty_site_catches_up(bed: Bed) -> None:
    bed.install("a", "b")
    tip = bed.commit()
    bed.push("a", "HEAD:main", "HEAD:refs/tags/v1", "HEAD:refs/notes/x")
    answer = bed.reconcile("b")
    assert answer.status == 0, answer
    assert bed.refs("b") == {MAIN: tip, "refs/tags/v1": tip, "refs/notes/x": tip}
    assert bed.complete("b")


def test_sha256_groups_work_end_to_end(bed: Bed) -> None:
    bed.object_format = "sha256"
    bed.install("a", "b")
    first = bed.commit("one")
    bed.push("a")
    assert bed.reconcile("b").status == 0
    assert len(first) == 64
    assert bed.tip("b") == first
    second = bed.commit("two")
    bed.push("b", "HEAD:main", "HEAD:side")
    bed.push("b", ":side")
    assert bed.reconcile("a").status == 0
    assert bed.refs("a") == {MAIN: second}


def test_an_administrator_rewinds_a_ref_and_every_site_follows(bed: Bed) -> None:
    bed.install("a", "b")
    old = bed.commit("one")
    new = bed.commit("two")
    bed.push("a")
    bed.reconcile("b")
    bed.put(MAIN, f"{old}\n")
    for site in ("a", "b"):
        answer = bed.reconcile(site)
        assert answer.status == 0, answer
        assert bed.tip(site) == old
        assert bed.kept(site) == {new}
    # And it can be had back.
    git(bed.path("a"), "update-ref", "refs/heads/rescued", f"{KEPT}{new}")
    assert bed.at("a", "refs/heads/rescued") == new


def test_disk_ahead(bed: Bed) -> None:
    """The consensus wins over a local ref that was moved past the hooks, and its tip is kept."""
    bed.install("a", "b")
    tip = bed.commit("one")
    bed.push("a")
    stray = bed.commit("two")
    git(bed.work, "push", "-q", str(bed.path("a")), "HEAD:refs/elsewhere", check=False)
    git(bed.path("a"), "fetch", "-q", str(bed.work), stray)
    bed.move("a", MAIN, stray)
    answer = bed.reconcile("a")
    assert answer.status == 0, answer
    assert bed.tip("a") == tip
    assert stray in bed.kept("a")


def test_a_ref_that_was_deleted_past_the_hooks_comes_back(bed: Bed) -> None:
    bed.install("a")
    tip = bed.commit()
    bed.push("a")
    bed.move("a", MAIN, "")
    assert bed.reconcile("a").status == 0
    assert bed.tip("a") == tip


def test_a_tombstone_deletes_here_and_keeps_the_tip(bed: Bed) -> None:
    bed.install("a", "b")
    tip = bed.commit()
    bed.push("a", "HEAD:main", "HEAD:side")
    bed.reconcile("b")
    bed.push("a", ":side")
    assert bed.reconcile("b").status == 0
    assert bed.refs("b") == {MAIN: tip}
    assert tip in bed.kept("b")


def test_a_key_that_is_absent_deletes_nothing(bed: Bed) -> None:
    bed.install("a")
    tip = bed.commit()
    bed.push("a", "HEAD:main", "HEAD:side")
    bed.etcd.delete(bed.key("refs/heads/side"))
    answer = bed.reconcile("a")
    assert answer.status == 0
    assert bed.at("a", "refs/heads/side") == tip
    assert "unadopted: refs/heads/side" in answer.out


def test_reordered_recreate(bed: Bed) -> None:
    """Created, deleted and created again: a site that saw nothing of it takes the last word."""
    bed.install("a", "b")
    first = bed.commit("one")
    bed.push("a", "HEAD:main", "HEAD:side")
    bed.reconcile("b")
    bed.push("a", ":side")
    second = bed.commit("two")
    bed.push("a", "HEAD:side")
    assert bed.reconcile("b").status == 0
    assert bed.at("b", "refs/heads/side") == second
    assert bed.tip("b") == first


def test_head_is_replicated(bed: Bed) -> None:
    bed.install("a", "b")
    bed.commit()
    bed.push("a", "HEAD:trunk")
    bed.put("HEAD", "ref: refs/heads/trunk\n")
    for site in ("a", "b"):
        assert bed.reconcile(site).status == 0
        assert bed.head(site) == "refs/heads/trunk"


def test_excluded_refs_stay_apart(bed: Bed) -> None:
    bed.install("a", "b")
    git(bed.path("b"), "config", "--add", "piehole.exclude", "refs/heads/ci/*")
    git(bed.path("b"), "config", "--add", "piehole.exclude", "refs/heads/a,main")
    tip = bed.commit()
    bed.push("a", "HEAD:main", "HEAD:ci/1")
    answer = bed.reconcile("b")
    assert answer.status == 0, answer
    assert bed.refs("b") == {MAIN: tip}, "a comma in a pattern is part of a name"


def test_locked_refs_are_named_and_do_not_count(bed: Bed) -> None:
    bed.install("a", "b")
    tip = bed.commit()
    bed.push("a", "HEAD:main", "HEAD:side")
    bed.put("refs/heads/side", "locked by the administrator")
    answer = bed.reconcile("b")
    assert answer.status == 0, answer
    assert "locked: refs/heads/side" in answer.out
    assert bed.refs("b") == {MAIN: tip}


@pytest.mark.parametrize("value", ["ABCDEF0123456789" * 2 + "abcdef01", "abc123", "0" * 64, ""])
def test_what_is_no_oid_moves_nothing(bed: Bed, value: str) -> None:
    bed.install("a")
    tip = bed.commit()
    bed.push("a")
    bed.put(MAIN, value)
    answer = bed.reconcile("a")
    assert answer.status == 0
    assert f"locked: {MAIN}" in answer.out
    assert bed.tip("a") == tip


def test_mass_deletion(bed: Bed) -> None:
    """A site that emptied its refs deletes nothing anywhere, and gets them back."""
    bed.bare("a")
    tip = bed.commit()
    git(bed.path("a"), "fetch", "-q", str(bed.work), "HEAD")
    for ref in (MAIN, *(f"refs/heads/b{n}" for n in range(30))):
        bed.move("a", ref, tip)
    bed.install("a", "b")
    bed.reconcile("b")
    for ref in bed.refs("a"):
        bed.move("a", ref, "")
    assert bed.reconcile("b").status == 0
    assert len(bed.refs("b")) == 31
    assert bed.reconcile("a").status == 0
    assert bed.refs("a") == bed.refs("b")
    assert set(bed.refs("a").values()) == {tip}


def test_df_conflict(bed: Bed) -> None:
    """Of two live keys that cannot stand beside each other, the one created first wins at every site."""
    bed.install("a", "b")
    tip = bed.commit()
    bed.push("a", "HEAD:main", "HEAD:x/y")
    bed.put("refs/heads/x", tip)
    for site in ("a", "b"):
        answer = bed.reconcile(site)
        assert answer.status == 1
        assert "stuck: refs/heads/x:" in answer.err
        assert bed.at(site, "refs/heads/x/y") == tip
        assert not bed.at(site, "refs/heads/x")
    bed.etcd.delete(bed.key("refs/heads/x"))
    assert bed.reconcile("a", "b").status == 0


def test_df_conflict_is_won_by_the_older_key_also_where_the_younger_ref_stands(bed: Bed) -> None:
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
    assert bed.at("a", "refs/heads/x/y") == tip
    assert not bed.at("a", "refs/heads/x")


def test_unadopted_blocks(bed: Bed) -> None:
    """A local ref without opinion that stands where a consensus ref must go is kept, then removed."""
    bed.install("a", "b")
    tip = bed.commit("one")
    bed.push("a", "HEAD:main")
    bed.reconcile("b")
    mine = bed.commit("mine")
    git(bed.path("b"), "fetch", "-q", str(bed.work), mine)
    bed.move("b", "refs/heads/x", mine)
    bed.move("b", "refs/heads/z/1", mine)
    bed.move("b", "refs/heads/z/2", mine)
    git(bed.work, "reset", "-q", "--hard", tip)
    bed.push("a", "HEAD:x/y", "HEAD:z")
    answer = bed.reconcile("b")
    assert answer.status == 0, answer
    assert bed.refs("b") == {MAIN: tip, "refs/heads/x/y": tip, "refs/heads/z": tip}
    assert bed.kept("b") == {mine}


def test_nothing_makes_room_for_a_ref_that_cannot_come(bed: Bed) -> None:
    bed.install("a", "b")
    tip = bed.commit()
    bed.push("a")
    bed.reconcile("b")
    bed.move("b", "refs/heads/x", tip)
    bed.put("refs/heads/x/y", "12" * 20)
    answer = bed.reconcile("b")
    assert answer.status == 1
    assert "stuck: refs/heads/x/y" in answer.err
    assert bed.at("b", "refs/heads/x") == tip


@pytest.mark.parametrize("target", [MAIN, "refs/heads/nowhere"])
def test_symref_flip(bed: Bed, target: str) -> None:
    """A symbolic ref below refs/ is never written through, and a consensus key of its name is reported as stuck."""
    bed.install("a", "b")
    tip = bed.commit()
    bed.push("a")
    bed.reconcile("b")
    git(bed.path("b"), "symbolic-ref", "refs/heads/alias", target)
    newer = bed.commit("two")
    bed.push("a", "HEAD:alias")
    answer = bed.reconcile("b")
    assert answer.status == 1
    assert "stuck: refs/heads/alias" in answer.err
    assert "symbolic" in answer.err
    assert git(bed.path("b"), "symbolic-ref", "refs/heads/alias").stdout.strip() == target
    assert bed.tip("b") == tip
    git(bed.path("b"), "symbolic-ref", "--delete", "refs/heads/alias")
    assert bed.reconcile("b").status == 0
    assert bed.at("b", "refs/heads/alias") == newer


def test_many_refs_move_at_once(bed: Bed) -> None:
    """2,000 new refs over many tips, then all of them rewritten: every tip that is left behind is kept."""
    bed.bare("a")
    tips = [bed.commit(str(n)) for n in range(70)]
    git(bed.path("a"), "fetch", "-q", str(bed.work), "HEAD")
    names = [f"refs/heads/n{n}" for n in range(2000)]
    create = "".join(f"create {name} {tips[n % 70]}\n" for n, name in enumerate(names))
    git(bed.path("a"), "update-ref", "--stdin", stdin=create)
    bed.install("a", "b")
    answer = bed.reconcile("b")
    assert answer.status == 0, answer
    assert bed.refs("b") == bed.refs("a")
    assert len(bed.refs("b")) == 2000
    for n, name in enumerate(names):
        bed.put(name, tips[(n + 2) % 70])
    answer = bed.reconcile("b")
    assert answer.status == 0, answer
    assert bed.refs("b") == {name: tips[(n + 2) % 70] for n, name in enumerate(names)}
    assert bed.kept("b") == {tips[68], tips[69]}, "every other tip moved forward"


def test_kept_tips_expire(bed: Bed) -> None:
    bed.install("a")
    old = bed.commit("one")
    new = bed.commit("two")
    bed.push("a")
    bed.put(MAIN, old)
    bed.reconcile("a")
    assert bed.kept("a") == {new}
    bed.reconcile("a")
    assert bed.kept("a") == {new}, "90 days have not passed"
    git(bed.path("a"), "config", "piehole.keepFor", "now")
    assert bed.reconcile("a").status == 0
    assert bed.kept("a") == set()


def test_the_same_tip_can_be_deleted_again_and_again(bed: Bed) -> None:
    """Keeping a tip anew needs no lock that a push which deletes holds itself."""
    bed.install("a")
    tip = bed.commit()
    bed.push("a")
    for _ in range(3):
        bed.push("a", "HEAD:side")
        bed.push("a", ":side")
        git(bed.path("a"), "pack-refs", "--all")
    assert bed.kept("a") == {tip}


def test_a_tip_that_is_kept_again_starts_its_time_anew(bed: Bed) -> None:
    bed.install("a")
    tip = bed.commit()
    bed.push("a")
    repository = bed.replica("a").repository
    kept_tips.keep(repository, [tip])
    log = bed.path("a") / "logs" / f"{KEPT}{tip}"
    log.write_text(f"{ZERO} {tip} A <a@example.org> 1000000000 +0000\tpiehole: kept\n")
    assert kept_tips.kept_since(repository) == {f"{KEPT}{tip}": 1000000000}
    kept_tips.keep(repository, [tip])
    assert kept_tips.kept_since(repository)[f"{KEPT}{tip}"] > 1000000000
