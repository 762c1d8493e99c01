"""What install tells the person who runs it, and what its repairs are good for."""

from __future__ import annotations

from piehole.repository import git_settings
from piehole.repository.hook_files import HOOKS
from tests.install.bed import InstallBed
from tests.support.assertions import refused
from tests.support.command_line import piehole_in_process
from tests.support.git import git, push


def test_it_says_all_that_it_sets_and_why_and_the_second_time_nothing(bed: InstallBed) -> None:
    bed["a"].make()
    said = bed.run("a").out.splitlines()
    for setting in git_settings.SETTINGS:
        assert f"set {setting.name} = {setting.value} ({setting.why})" in said
        values = git(bed["a"].repository, "config", "--local", "--get-all", setting.name).stdout.split()
        assert values == [one.value for one in git_settings.SETTINGS if one.name == setting.name]
    assert "hooks: wrote pre-receive, update, reference-transaction" in said
    assert "founded the group 'g'" in said
    assert f"registered the site 'a' with the URL {bed['a'].repository}" in said
    assert said[-1] == f"{bed['a'].repository} is the site 'a' of the group 'g'"
    again = bed.run("a").out
    assert "set " not in again
    assert "hooks: as they should be" in again
    assert "founded" not in again


def test_a_setting_that_lists_keeps_what_somebody_has_put_there(bed: InstallBed) -> None:
    bed["a"].make()
    git(bed["a"].repository, "config", "transfer.hideRefs", "refs/internal")
    for _ in range(2):
        assert bed.run("a").status == 0
        hidden = git(bed["a"].repository, "config", "--get-all", "transfer.hideRefs").stdout.split()
        assert hidden == ["refs/internal", "refs/piehole/kept", "refs/piehole/held"]


def test_after_the_interpreter_has_moved_pushes_are_refused_in_words_until_install_is_run_again(
    bed: InstallBed,
) -> None:
    bed.install("a")
    bed.commit("one")
    bed.push("a")
    for hook in HOOKS:
        path = bed["a"].repository / "hooks" / hook
        lines = path.read_text().splitlines(keepends=True)
        path.write_text("".join("python=/nowhere/bin/python\n" if one.startswith("python=") else one for one in lines))
    newer = bed.commit("two")
    said = refused(push(bed.work, bed["a"].repository, "HEAD:main"), "no-access")
    assert "/nowhere/bin/python" in said
    assert "piehole install" in said
    checked = piehole_in_process("check", "-C", bed["a"].repository)
    assert checked.status == 1
    assert "was written by another version or for another interpreter" in checked.out
    assert "hooks: wrote pre-receive, update, reference-transaction" in bed.run("a").out
    bed.push("a")
    assert bed.value() == newer


def test_a_site_that_comes_back_under_another_url_is_found_there(bed: InstallBed) -> None:
    bed.install("a", "b")
    moved = bed.folder / "elsewhere.git"
    bed["b"].repository.rename(moved)
    answer = piehole_in_process("install", moved, "--url", str(moved))
    assert answer.status == 0, answer
    assert f"registered the site 'b' with the URL {moved}" in answer.out
    tip = bed.commit("one")
    done = push(bed.work, moved, "HEAD:main")
    assert done.returncode == 0, done.stderr
    assert bed.reconcile("a").status == 0
    assert bed["a"].at() == tip


def test_protocols_that_peers_do_not_allow_by_themselves_are_noted(bed: InstallBed) -> None:
    bed["a"].make()
    git(bed["a"].repository, "config", "--unset-all", "piehole.allowProtocol")
    said = bed.run("a", url="http://example.org/a.git").out
    assert "note: peers fetch over http only where piehole.allowProtocol has it" in said
    assert "note:" not in bed.run("a", url="ssh://git@example.org/a.git").out


def test_a_site_whose_url_is_a_path_may_fetch_from_paths(bed: InstallBed) -> None:
    repository = bed["a"].make().repository
    git(repository, "config", "--unset-all", "piehole.allowProtocol")
    previewed = bed.run("a", "--dry-run").out
    assert "would set piehole.allowProtocol = ssh, https, file" in previewed
    said = bed.run("a").out
    assert "set piehole.allowProtocol = ssh, https, file (the URL of this site is a path)" in said
    assert git(repository, "config", "--get-all", "piehole.allowProtocol").stdout.split() == ["ssh", "https", "file"]
    assert "allowProtocol" not in bed.run("a").out
