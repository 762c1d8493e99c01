"""`piehole install --dry-run` names each file, setting and key that the same command then makes or changes, and changes nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import pytest

from tests.install.bed import InstallBed
from tests.support.command_line import Answer
from tests.support.git import git

# Of one moment, and of the ref or the folder that is named.
_BESIDE: Final = ("piehole/state.lock", "logs/", "refs/")


def _founded(bed: InstallBed) -> None:
    bed["a"].make()
    bed.commit("one")
    git(bed.work, "push", "-q", str(bed["a"].repository), "HEAD:main", "HEAD:topic")
    bed.run("a")


def _founding(bed: InstallBed) -> None:
    bed["a"].make()
    bed.commit("one")
    git(bed.work, "push", "-q", str(bed["a"].repository), "HEAD:main", "HEAD:topic")


def _joining(bed: InstallBed) -> None:
    _founded(bed)
    bed["b"].make()
    git(bed.work, "push", "-q", str(bed["b"].repository), "HEAD:mine")


def _broken(bed: InstallBed) -> None:
    _founded(bed)
    repository = bed["a"].repository
    git(repository, "config", "piehole.announce", "1s")
    bed.run("a")
    git(repository, "config", "piehole.announce", "0")  # post-receive has to go
    git(repository, "config", "--unset", "core.fsync")
    (repository / "hooks" / "update").unlink()


def _left(bed: InstallBed) -> None:
    _joining(bed)
    bed.run("b")
    assert bed.piehole("leave", "-C", str(bed["b"].repository), "--yes").status == 0


CASES: dict[str, tuple[Callable[[InstallBed], None], str, tuple[str, ...]]] = {
    "founding": (_founding, "a", ()),
    "joining": (_joining, "b", ()),
    "joining, and adopting": (_joining, "b", ("--adopt",)),
    "repairing": (_broken, "a", ()),
    "coming back": (_left, "b", ()),
    "taking a name over": (_joining, "b", ("--site", "a", "--replace", "--yes")),
}


def _settings(bed: InstallBed, site: str) -> dict[str, str]:
    lines = git(bed[site].repository, "config", "--local", "--list").stdout.splitlines()
    return {line: line.partition("=")[0] for line in lines}


def _keys(bed: InstallBed) -> dict[str, int]:
    return {key: one.mod_revision for key, one in bed.etcd.look_prefix(f"{bed.prefix}/").items()}


@pytest.mark.parametrize("case", CASES)
def test_what_is_made_or_changed_was_named_before(bed: InstallBed, case: str) -> None:
    prepare, site, options = CASES[case]
    prepare(bed)
    files, settings, keys = bed.contents(site), _settings(bed, site), _keys(bed)
    dry = bed.run(site, *options, "--dry-run")
    assert (bed.contents(site), _keys(bed)) == (files, keys)
    folder = bed[site].repository / "piehole" / "inflight"
    assert (f"would make the folder {folder}" in dry.out) is not folder.is_dir()
    assert dry.out.endswith("nothing was changed (--dry-run)\n"), dry
    assert bed.run(site, *options).status == 0
    after = bed.contents(site)
    changed = [name for name in files.keys() | after.keys() if files.get(name) != after.get(name)]
    assert [name for name in changed if name != "config" and not name.startswith(_BESIDE) and name not in dry.out] == []
    said = dry.out.lower()
    assert [name for line, name in _settings(bed, site).items() if line not in settings and name not in said] == []
    written = [key for key, revision in _keys(bed).items() if keys.get(key) != revision]
    assert written or case == "repairing"
    for key in written:
        _, found, ref = key.partition(f"{bed.prefix}/ref/g/refs/")
        assert (
            key in dry.out
            or (found and f"would adopt refs/{ref} (" in dry.out)
            or (key.endswith("/HEAD") and "would adopt HEAD (" in dry.out)
        ), key


def test_where_nothing_would_change_it_says_so(bed: InstallBed) -> None:
    _founded(bed)
    said = bed.run("a", "--dry-run").out
    assert "everything is as it should be" in said
    assert "would" not in said


def _refused(answer: Answer, status: int, *words: str) -> None:
    assert answer.status == status, answer
    assert all(word in answer.err for word in words), answer
    assert "would" not in answer.out
    assert "nothing was changed" not in answer.out


def test_what_install_would_refuse_a_dry_run_refuses_with_the_same_words(bed: InstallBed) -> None:
    _joining(bed)
    for changes in ({"site": "a"}, {"group": "no group"}, {"url": None}):
        dry, real = (bed.run("b", *options, **changes) for options in (("--dry-run",), ()))
        _refused(dry, real.status, real.err)
