"""Founding a group, joining one, coming back, and running it again."""

from __future__ import annotations

import json
import shutil
import stat
import sys

import pytest

from piehole.group import rollback_guard
from piehole.repository import fitness, git_settings, hook_files
from tests.install.bed import InstallBed
from tests.support.command_line import piehole_in_process
from tests.support.git import MAIN, ZERO_SHA1, git, make_bare
from tests.support.sites import KEPT


def with_history(bed: InstallBed, site: str, *refs: str) -> str:
    """A bare repository whose refs are all at one new commit."""
    bed[site].make()
    tip = bed.commit(f"of {site}")
    git(bed[site].repository, "fetch", "-q", str(bed.work), "HEAD")
    for ref in refs or (MAIN,):
        bed[site].move(ref, tip)
    return tip


def test_an_empty_repository_founds_a_group(bed: InstallBed) -> None:
    bed["a"].make()
    answer = bed.run("a")
    assert answer.status == 0, answer
    group = json.loads(bed.stored()[f"{bed.prefix}/group/g"])
    assert group["object_format"] == "sha1"
    assert "adopting" not in group
    site = json.loads(bed.stored()[f"{bed.prefix}/site/g/a"])
    assert site["url"] == str(bed["a"].repository)
    assert site["id"] == git(bed["a"].repository, "config", "piehole.siteId").stdout.strip()
    assert bed.value("HEAD") == "ref: refs/heads/main"
    for hook in hook_files.HOOKS:
        assert stat.S_IMODE((bed["a"].repository / "hooks" / hook).stat().st_mode) & 0o111


def test_the_founder_adopts_all_its_refs_and_nothing_else(bed: InstallBed) -> None:
    tip = with_history(bed, "a", MAIN, "refs/tags/v1", "refs/notes/x", "refs/heads/ci/1", f"{KEPT}{'ab' * 20}")
    git(bed["a"].repository, "symbolic-ref", "refs/heads/alias", MAIN)
    git(bed["a"].repository, "config", "piehole.exclude", "refs/heads/ci/*")
    assert bed.run("a").status == 0
    found = {key.removeprefix(bed.key("")): value for key, value in bed.etcd.get_prefix(bed.key("refs/")).items()}
    assert found == dict.fromkeys((MAIN, "refs/tags/v1", "refs/notes/x"), tip)


def test_an_interrupted_founding_goes_on(bed: InstallBed) -> None:
    tip = with_history(bed, "a", MAIN, "refs/heads/side")
    assert bed.run("a").status == 0
    # As if it had been killed after the first of two transactions.
    record = json.loads(bed.stored()[f"{bed.prefix}/group/g"])
    bed.etcd.put(f"{bed.prefix}/group/g", json.dumps({**record, "adopting": "a"}))
    bed.etcd.delete(bed.key("refs/heads/side"))
    bed.etcd.delete(f"{bed.prefix}/progress/g/a")
    (bed["a"].repository / "piehole" / "state.json").unlink()
    answer = bed.run("a")
    assert answer.status == 0, answer
    assert bed.value("refs/heads/side") == tip
    assert "adopting" not in json.loads(bed.stored()[f"{bed.prefix}/group/g"])
    assert bed.reconcile("a").status == 0


def test_a_founding_that_was_cut_off_before_the_group_was_there_goes_on(bed: InstallBed) -> None:
    with_history(bed, "a")
    assert bed.run("a").status == 0
    bed.etcd.delete_prefix(f"{bed.prefix}/")
    (bed["a"].repository / "piehole" / "state.json").unlink()
    assert bed.run("a").status == 0
    assert bed.reconcile("a").status == 0


def test_who_lost_the_race_to_found_joins_when_run_again(bed: InstallBed) -> None:
    with_history(bed, "a")
    assert bed.run("a").status == 0
    bed["b"].make()
    git(bed["b"].repository, "config", "piehole.group", "g")
    git(bed["b"].repository, "config", "piehole.site", "b")
    git(bed["b"].repository, "config", "piehole.groupId", "the id that this one would have given it")
    assert bed.run("b").status == 0
    assert bed.reconcile("b").status == 0


def test_a_joiner_lists_what_differs_and_changes_nothing(bed: InstallBed) -> None:
    theirs = with_history(bed, "a", MAIN, "refs/heads/same")
    assert bed.run("a").status == 0
    mine = with_history(bed, "b", MAIN, "refs/heads/mine")
    bed["b"].move("refs/heads/same", theirs)
    before = bed.etcd.get_prefix(bed.key("refs/"))
    answer = bed.run("b")
    assert answer.status == 0, answer
    assert f"not adopted: refs/heads/mine ({mine[:12]} here, the group has no such ref)" in answer.out
    assert f"not adopted: {MAIN} ({mine[:12]} here, the group has {theirs})" in answer.out
    assert "refs/heads/same" not in answer.out
    assert bed.etcd.get_prefix(bed.key("refs/")) == before
    assert bed["b"].at() == mine
    assert bed.reconcile("b").status == 0
    assert bed["b"].at() == theirs
    assert bed["b"].at("refs/heads/mine") == mine


def test_adopt_takes_all_that_moves_nothing_back(bed: InstallBed) -> None:
    theirs = with_history(bed, "a", MAIN, "refs/heads/rewritten", "refs/heads/gone", "refs/heads/locked")
    assert bed.run("a").status == 0
    bed.put("refs/heads/gone", ZERO_SHA1)
    bed.put("refs/heads/locked", "by the administrator")
    bed.put("refs/heads/folder/x", theirs)
    newer = with_history(bed, "b", MAIN, "refs/heads/mine", "refs/heads/gone", "refs/heads/locked", "refs/heads/folder")
    git(bed.work, "checkout", "-q", "--orphan", "other")
    unrelated = bed.commit("unrelated")
    git(bed["b"].repository, "fetch", "-q", str(bed.work), "HEAD")
    bed["b"].move("refs/heads/rewritten", unrelated)
    answer = bed.run("b", "--adopt")
    assert answer.status == 0, answer
    assert "adopted 2 refs" in answer.out
    assert bed.value(MAIN) == newer
    assert bed.value("refs/heads/mine") == newer
    assert bed.value("refs/heads/rewritten") == theirs
    assert bed.value("refs/heads/gone") == ZERO_SHA1
    assert bed.value("refs/heads/locked") == "by the administrator"
    assert bed.value("refs/heads/folder") is None
    for ref in ("rewritten", "gone", "locked", "folder"):
        assert f"not adopted: refs/heads/{ref} " in answer.out


def test_adopt_takes_exactly_the_refs_that_are_named(bed: InstallBed) -> None:
    with_history(bed, "a", MAIN, "refs/heads/x")
    assert bed.run("a").status == 0
    git(bed.work, "checkout", "-q", "--orphan", "other")
    mine = with_history(bed, "b", MAIN, "refs/heads/x", "refs/heads/y")
    assert bed.run("b", "--adopt", "refs/heads/nowhere").status == 2
    assert bed.run("b", "--adopt", "refs/heads/x").status == 0
    assert bed.value("refs/heads/x") == mine
    assert bed.value("refs/heads/y") is None
    assert bed.value(MAIN) not in (None, mine)


def test_running_it_again_changes_nothing(bed: InstallBed) -> None:
    with_history(bed, "a")
    assert bed.run("a").status == 0
    before, keys = bed.contents("a"), bed.stored()
    answer = bed.run("a")
    assert answer.status == 0, answer
    assert bed.contents("a") == before
    assert bed.stored() == keys


def test_running_it_again_repairs(bed: InstallBed) -> None:
    """Edited and lost hooks, settings, the site's record, an interpreter that moved away."""
    bed["a"].make()
    assert bed.run("a").status == 0
    sound, keys = bed.contents("a"), bed.stored()
    hooks = bed["a"].repository / "hooks"
    (hooks / "update").write_text((hooks / "update").read_text().replace(sys.executable, "/nowhere/python"))
    (hooks / "reference-transaction").unlink()
    for name in {one.name for one in git_settings.SETTINGS}:
        git(bed["a"].repository, "config", "--unset-all", name)
    git(bed["a"].repository, "config", "core.logAllRefUpdates", "false")
    bed.etcd.delete(f"{bed.prefix}/site/g/a")
    assert any(
        "another version or for another interpreter" in fault for fault in hook_files.faults(bed["a"].repository)
    )
    assert {one.name for one in git_settings.missing(bed["a"].repository)} == {
        one.name for one in git_settings.SETTINGS if not one.default
    }
    assert bed.run("a").status == 0
    assert hook_files.faults(bed["a"].repository) == []
    assert git_settings.missing(bed["a"].repository) == []
    repaired = bed.contents("a")
    assert {name: text for name, text in repaired.items() if name != "config"} == {
        name: text for name, text in sound.items() if name != "config"
    }
    assert bed.stored() == keys
    (hooks / "update").chmod(0o644)
    assert bed.run("a").status == 0
    assert (hooks / "update").stat().st_mode & 0o111


def test_reflogs_that_were_switched_off_are_a_fault_that_check_names(bed: InstallBed) -> None:
    bed["a"].make()
    assert bed.run("a").status == 0
    git(bed["a"].repository, "config", "core.logAllRefUpdates", "false")
    answer = piehole_in_process("check", "-C", bed["a"].repository)
    assert answer.status == 1
    assert "logAllRefUpdates" in answer.out + answer.err


def test_a_repository_of_a_group_that_etcd_does_not_know_founds_nothing(bed: InstallBed) -> None:
    with_history(bed, "a")
    assert bed.run("a").status == 0
    bed.etcd.delete_prefix(f"{bed.prefix}/")
    answer = bed.run("a")
    assert answer.status == 1
    assert "no record of it" in answer.err
    assert bed.stored() == {}


def test_a_copy_of_another_sites_repository_becomes_a_site_of_its_own(bed: InstallBed) -> None:
    tip = with_history(bed, "a")
    assert bed.run("a").status == 0
    assert bed.reconcile("a").status == 0
    shutil.copytree(bed["a"].repository, bed["b"].repository, symlinks=True)
    answer = bed.run("b")
    assert answer.status == 0, answer
    records = [json.loads(bed.stored()[f"{bed.prefix}/site/g/{site}"])["id"] for site in ("a", "b")]
    assert len(set(records)) == 2
    assert bed.reconcile("a", "b").status == 0
    assert bed["b"].at() == tip


def test_a_site_that_left_comes_back(bed: InstallBed) -> None:
    tip = with_history(bed, "a", MAIN, "refs/heads/side")
    assert bed.run("a").status == 0
    bed["b"].make()
    assert bed.run("b").status == 0
    assert bed.reconcile("a", "b").status == 0
    assert piehole_in_process("leave", "-C", bed["b"].repository, "--yes").status == 0
    assert bed.reconcile("b").status == 1
    bed.push("a", ":side")
    assert bed.reconcile("a").status == 0
    assert bed.value("refs/heads/side") is None, "nobody waits for a site that left"
    answer = bed.run("b")
    assert answer.status == 0, answer
    assert "not adopted: refs/heads/side" in answer.out
    assert bed.reconcile("b").status == 0
    assert bed["b"].at("refs/heads/side") == tip
    assert "left" not in json.loads(bed.stored()[f"{bed.prefix}/site/g/b"])


def test_a_site_that_was_uninstalled_comes_back(bed: InstallBed) -> None:
    with_history(bed, "a")
    assert bed.run("a").status == 0
    bed["b"].make()
    assert bed.run("b").status == 0
    assert bed.reconcile("b").status == 0
    assert piehole_in_process("uninstall", bed["b"].repository).status == 0
    assert bed.run("b").status == 0
    assert bed.reconcile("b").status == 0


def test_replace_takes_a_name_over(bed: InstallBed) -> None:
    tip = with_history(bed, "a")
    assert bed.run("a").status == 0
    bed["b"].make()
    assert bed.run("b").status == 0
    assert bed.reconcile("b").status == 0
    bed["new"].make()
    answer = bed.run("new", site="b")
    assert answer.status == 1
    assert str(bed["b"].repository) in answer.err
    assert "--replace" in answer.err
    assert bed.run("new", "--replace", site="b").status == 0
    assert bed.reconcile("new").status == 0
    assert bed["new"].at() == tip
    assert bed.reconcile("b").status == 1


def test_etcd_is_given_as_several_values_or_with_commas(bed: InstallBed) -> None:
    bed["a"].make()
    down = "http://127.0.0.1:1"
    assert bed.run("a", "--etcd", f"{bed.etcd.endpoint},{down}", etcd=down).status == 0
    found = git(bed["a"].repository, "config", "--get-all", "piehole.etcd").stdout.split()
    assert found == [down, bed.etcd.endpoint, down]
    git(bed["a"].repository, "config", "--replace-all", "piehole.etcd", f"{down}, {bed.etcd.endpoint}")
    assert bed.reconcile("a").status == 0


def test_the_configuration_may_come_from_elsewhere(bed: InstallBed) -> None:
    bed["a"].make()
    git(bed["a"].repository, "config", "--global", "piehole.etcd", bed.etcd.endpoint)
    git(bed["a"].repository, "config", "--global", "piehole.site", "oslo")
    assert bed.run("a", etcd=None, site=None).status == 0
    assert f"{bed.prefix}/site/g/oslo" in bed.stored()


@pytest.mark.parametrize(
    ("shared", "folder", "records"), [("", 0o700, 0o700), ("group", 0o2750, 0o2770), ("0664", 0o2755, 0o2775)]
)
def test_whoever_may_push_may_announce(bed: InstallBed, shared: str, folder: int, records: int) -> None:
    bed["a"].make()
    if shared:
        git(bed["a"].repository, "config", "core.sharedRepository", shared)
    assert bed.run("a").status == 0
    assert stat.S_IMODE((bed["a"].repository / "piehole").stat().st_mode) == folder
    assert stat.S_IMODE((bed["a"].repository / "piehole" / "inflight").stat().st_mode) == records
    readable = stat.S_IMODE((bed["a"].repository / "piehole" / "state.json").stat().st_mode)
    assert readable == 0o600 | folder & 0o044


def test_two_repositories_of_one_site_share_nothing(bed: InstallBed) -> None:
    make_bare(bed["a"].repository)
    make_bare(bed["other"].repository)
    assert bed.run("a").status == 0
    assert bed.run("other", site="a", group="h").status == 0
    assert bed.run("other", site="a").status == 1
    assert fitness.faults(bed["other"].repository) == []
    assert rollback_guard.load(bed["other"].repository).published is not None
