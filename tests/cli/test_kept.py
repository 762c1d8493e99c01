from __future__ import annotations

from pathlib import Path

import pytest

from piehole.cli import common
from tests.conftest import OwnEtcd
from tests.support import git
from tests.support.assertions import accepted
from tests.support.command_line import Answer, piehole_in_process
from tests.support.etcd_binary import EtcdOptions
from tests.support.git import MAIN, ZERO_SHA1
from tests.support.groups import Group

TOPIC = "refs/heads/topic"


def kept(group: Group, *arguments: str, site: str = "a") -> Answer:
    action, *rest = arguments or ("list",)
    return piehole_in_process("kept", action, "-C", group[site].repository, *rest)


def as_account(group: Group, name: str, *refspecs: str, site: str = "a") -> None:
    accepted(git.push(group.work, group[site].repository, *refspecs, env={"REMOTE_USER": name}))


def deleted(group: Group, who: str = "anna") -> str:
    """A branch that an account has deleted at every site; its tip, which no other ref has."""
    tip = group.commit("on topic")
    group.push("a", f"HEAD:{TOPIC}")
    as_account(group, who, f":{TOPIC}")
    assert group.reconcile("a", "b").status == 0
    return tip


def test_list_says_since_when_of_which_ref_and_by_whom(pair: Group) -> None:
    assert "no tip is kept" in kept(pair).out
    assert piehole_in_process("kept", "-C", pair["a"].repository, "list", "--json").json["kept"] == []
    assert piehole_in_process("kept", "-C", pair["a"].repository, "--json").json["kept"] == []
    tip = deleted(pair)
    answer = kept(pair)
    assert answer.status == 0
    assert f"{TOPIC} -> nothing at revision" in answer.line(tip[:12])
    assert "by anna at a (push): on topic" in answer.line(tip[:12])
    (one,) = kept(pair, "list", "--json").json["kept"]
    assert (one["oid"], one["subject"], one["left_by"]["pusher"]) == (tip, "on topic", "anna")
    assert one["since"] > 0
    assert one["left_by"]["push"] == next(
        record["id"] for record in pair.pushes().values() if record["pusher"] == "anna"
    )


def test_list_names_a_tip_whose_object_is_damaged_and_one_that_nobody_remembers(pair: Group) -> None:
    tip = deleted(pair)
    site = pair["a"].repository
    pair.etcd.put(pair.key("refs/heads/other"), pair["a"].at())
    git.git(site, "update-ref", f"refs/piehole/kept/{pair['a'].at()}", pair["a"].at())
    (site / "objects" / tip[:2] / tip[2:]).unlink()
    answer = kept(pair)
    assert tip[:12] in answer.out
    assert answer.line(pair["a"].at()[:12]).endswith(" ? one")
    assert kept(pair, "show", tip).status == 1


def test_show_tells_what_would_be_won(pair: Group) -> None:
    first, tip = pair["a"].at(), pair.commit("two")
    pair.push("a")
    pair.commit("instead", onto=first)
    as_account(pair, "anna", f"+HEAD:{MAIN}")
    answer = kept(pair, "show", tip[:8])
    assert answer.status == 0
    assert "1 commit that" in answer.out
    assert f"{tip[:7]} two" in answer.out
    assert "file.txt | 2 +-" in answer.out
    assert [one["oid"] for one in kept(pair, "show", tip, "--json").json["kept"]] == [tip]


def test_one_tip_comes_back_as_its_ref_at_every_site(pair: Group) -> None:
    tip = deleted(pair)
    asked = kept(pair, "restore", tip[:8])
    assert asked.status == 1
    assert f"{TOPIC}: nothing -> {tip[:12]} (new)" in asked.out or f"-> {tip[:12]}" in asked.out
    assert "--yes" in asked.err
    assert kept(pair, "restore", tip[:8], "--yes").status == 0
    assert pair.value(TOPIC) == tip
    assert pair.reconcile("a", "b").status == 0
    assert [pair["a"].at(TOPIC), pair["b"].at(TOPIC)] == [tip, tip]
    assert "restored" in pair["b"].piehole("log", TOPIC, "-n", "1").out


def test_one_tip_comes_back_under_another_name_that_must_be_free(pair: Group) -> None:
    tip = deleted(pair)
    taken = kept(pair, "restore", tip, MAIN, "--yes")
    assert (taken.status, pair.value()) == (1, pair["a"].at())
    assert f"{MAIN}: is there already" in taken.out
    assert kept(pair, "restore", tip, "refs/heads/rescued", "--yes").status == 0
    assert pair.value("refs/heads/rescued") == tip


def test_what_somebody_has_pushed_since_stays_unless_forced_and_is_kept_then(pair: Group) -> None:
    tip = deleted(pair)
    new = pair.commit("anew", onto=pair["a"].at())
    as_account(pair, "bob", f"HEAD:{TOPIC}")
    answer = kept(pair, "restore", tip, "--yes")
    assert (answer.status, pair.value(TOPIC)) == (1, new)
    assert f"{TOPIC}: moved to {new[:12]} since by bob: left alone" in answer.out
    assert kept(pair, "restore", tip, "--force", "--yes").status == 0
    assert pair.reconcile("a", "b").status == 0
    assert [site.at(TOPIC) for site in pair] == [tip, tip]
    assert new in pair["a"].kept()


def test_a_ref_that_was_deleted_since_by_somebody_else_stays_deleted(pair: Group) -> None:
    tip = pair.commit("two")
    pair.push("a", f"HEAD:{TOPIC}")
    pair.commit("instead", onto=pair["a"].at())
    as_account(pair, "anna", f"+HEAD:{TOPIC}")
    as_account(pair, "bob", f":{TOPIC}")
    answer = kept(pair, "restore", "--since", "10m", "--pusher", "anna", "--yes")
    assert (answer.status, pair.value(TOPIC)) == (1, ZERO_SHA1)
    assert f"{TOPIC}: deleted since by bob" in answer.out
    assert kept(pair, "restore", "--since", "10m", "--pusher", "anna", "--force", "--yes").status == 0
    assert pair.value(TOPIC) == tip


def test_what_one_account_deleted_and_overwrote_comes_back_in_one_transaction(pair: Group) -> None:
    first, before = pair["a"].at(), pair.commit("two")
    pair.push("a")
    tip = deleted(pair, who="bob")
    extra = pair.commit("three", onto=first)
    pair.push("a", "HEAD:refs/heads/extra")
    as_account(pair, "anna", f"+{first}:{MAIN}", ":refs/heads/extra", f"{first}:refs/heads/made")
    several = kept(pair, "restore", "--since", "10m", "--yes")
    assert (several.status, pair.value("refs/heads/extra")) == (1, ZERO_SHA1)
    assert "anna: 2" in several.err
    assert "bob: 1" in several.err
    answer = kept(pair, "restore", "--since", "10m", "--pusher", "anna", "--yes")
    assert answer.status == 0, answer
    assert (pair.value(), pair.value("refs/heads/extra")) == (before, extra)
    assert pair.changes()[-1].revision == pair.changes("refs/heads/extra")[-1].revision
    assert pair.value("refs/heads/made") == first
    assert pair.value(TOPIC) != tip
    assert kept(pair, "restore", "--since", "10m", "--pusher", "anna").out.endswith("nothing to bring back\n")


def test_one_push_is_named_by_its_id_or_by_a_revision_of_it(pair: Group) -> None:
    tip = deleted(pair)
    other = pair.commit("other")
    pair.push("a", "HEAD:refs/heads/other")
    as_account(pair, "anna", ":refs/heads/other")
    revision, record = next((at, one) for at, one in pair.pushes().items() if one["pusher"] == "anna")
    assert kept(pair, "restore", "--since", "10m", "--push", "1", "--yes").status == 0
    assert kept(pair, "restore", "--since", "10m", "--push", str(revision), "--yes").status == 0
    assert (pair.value(TOPIC), pair.value("refs/heads/other")) == (tip, ZERO_SHA1)
    assert pair.reconcile("a").status == 0
    as_account(pair, "anna", f":{TOPIC}")
    assert kept(pair, "restore", "--since", "10m", "--push", record["id"], "--yes").status == 0
    assert other not in (pair.value(TOPIC), pair.value("refs/heads/other"))


def test_a_tip_that_this_site_lacks_is_fetched_from_the_site_that_keeps_it(pair: Group) -> None:
    tip = pair.commit("only at a")
    pair.push("a", f"HEAD:{TOPIC}")
    as_account(pair, "anna", f":{TOPIC}")
    assert pair.reconcile("b").status == 0
    assert not git.has_object(pair["b"].repository, tip)
    assert kept(pair, "restore", "--since", "10m", "--yes", site="b").status == 0
    assert pair.value(TOPIC) == tip
    assert tip in pair["b"].kept()
    assert pair.reconcile("a", "b").status == 0
    assert [site.at(TOPIC) for site in pair] == [tip, tip]


def test_a_tip_that_nobody_has_any_more_is_named_and_the_others_come_back(pair: Group) -> None:
    tip = deleted(pair)
    gone = pair.commit("gone")
    pair.push("a", "HEAD:refs/heads/gone")
    as_account(pair, "anna", ":refs/heads/gone")
    site: Path = pair["a"].repository
    git.git(site, "update-ref", "-d", f"refs/piehole/kept/{gone}")
    (site / "objects" / gone[:2] / gone[2:]).unlink()
    answer = kept(pair, "restore", "--since", "10m", "--yes")
    assert (answer.status, pair.value(TOPIC), pair.value("refs/heads/gone")) == (1, tip, ZERO_SHA1)
    assert f"refs/heads/gone: {gone[:12]} cannot be had" in answer.out


def test_more_refs_than_one_transaction_takes_come_back_in_parts_and_that_is_said_before(
    own_etcd: OwnEtcd, prefix: str, tmp_path: Path
) -> None:
    group = Group(tmp_path, [own_etcd(options=EtcdOptions(max_txn_ops=128)).endpoint], prefix).install("a")
    names = [f"refs/heads/many/{number:03}" for number in range(150)]
    tip = group.commit("many")
    group.push("a")
    site = group["a"].repository
    git.git(site, "update-ref", "--stdin", stdin="".join(f"create {name} {tip}\n" for name in names))
    assert piehole_in_process("clobber", "-C", site, "--yes").status == 0
    git.git(site, "update-ref", "--stdin", stdin="".join(f"delete {name}\n" for name in names))
    assert piehole_in_process("clobber", "-C", site, "--delete", "--yes").status == 0
    asked = kept(group, "restore", "--since", "10m")
    assert "only in 2 transactions" in asked.out, asked
    assert group.value(names[0]) == ZERO_SHA1
    answer = kept(group, "restore", "--since", "10m", "--yes")
    assert answer.status == 0, answer
    assert [group.value(name) for name in names] == [tip] * 150
    assert len({entry.mod_revision for entry in group.etcd.look_prefix(group.key("refs/heads/many/")).values()}) == 2


def test_wrong_arguments_are_refused_in_words(pair: Group) -> None:
    tip = deleted(pair)
    for arguments, words in (
        (("show",), "arguments are required: OID"),
        (("show", "HEAD"), "is no object id"),
        (("show", tip.upper()), "is no object id"),
        (("list", tip), "unrecognized arguments"),
        (("list", "--since", "10m"), "unrecognized arguments"),
        (("restore",), "needs either"),
        (("restore", tip, "--since", "10m"), "needs either"),
        (("restore", tip, "--pusher", "anna"), "go with --since"),
        (("restore", tip, "refs/piehole/kept/x"), "no managed ref"),
        (("restore", "--since", "soon"), "is no time"),
        (("restore", tip, "--json"), "unrecognized arguments"),
        (("purge",), "invalid choice"),
    ):
        answer = kept(pair, *arguments)
        assert (answer.status, words in answer.err) == (2, True), (arguments, answer)
    assert kept(pair, "show", "0123").status == 1
    assert kept(pair, "restore", "f" * 40, "refs/heads/x", "--yes").status == 1


def test_where_somebody_moves_one_ref_meanwhile_nothing_is_written_before_it_is_shown_again(
    pair: Group, monkeypatch: pytest.MonkeyPatch
) -> None:
    tip = deleted(pair)
    other = pair.commit("other")
    pair.push("a", "HEAD:refs/heads/other")
    as_account(pair, "anna", ":refs/heads/other")
    seen: list[tuple[str | None, str | None]] = []

    def confirm(_question: str, **_: object) -> None:
        seen.append((pair.value(TOPIC), pair.value("refs/heads/other")))
        if len(seen) == 1:
            pair.put(TOPIC, pair["a"].at())

    monkeypatch.setattr(common, "confirm", confirm)
    answer = kept(pair, "restore", "--since", "10m", "--pusher", "anna")
    assert (answer.status, answer.out.count("somebody changed the group meanwhile")) == (1, 1)
    assert [one for _, one in seen] == [ZERO_SHA1, ZERO_SHA1]
    assert (pair.value(TOPIC), pair.value("refs/heads/other")) == (pair["a"].at(), other)
    assert tip in pair["a"].kept()
