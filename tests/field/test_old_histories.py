"""Histories that git's fsck refuses, and servers whose own settings check what they fetch."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.assertions import accepted, arrives
from tests.support.git import MAIN, clone, commit, git, push, rev_parse
from tests.support.groups import MakeGroup


def old_commit(work: Path, kind: str) -> str:
    """A commit as old tools have made them: a time zone of seven digits, or a tree whose modes begin with a zero."""
    commit(work)
    text = git(work, "cat-file", "commit", "HEAD").stdout
    if kind == "time zone":
        text = text.replace("+0000", "+051800")
    else:
        blob = rev_parse(work, "HEAD:file.txt")
        raw = b"0100644 file.txt\0" + bytes.fromhex(blob)
        source = work / "tree"
        source.write_bytes(raw)
        tree = git(work, "hash-object", "-w", "-t", "tree", "--literally", str(source)).stdout.strip()
        source.unlink()
        text = text.replace(rev_parse(work, "HEAD^{tree}"), tree)
    oid = git(work, "hash-object", "-w", "-t", "commit", "--literally", "--stdin", stdin=text).stdout.strip()
    git(work, "update-ref", MAIN, oid)
    return oid


ID = {"time zone": "badTimezone", "mode": "zeroPaddedFilemode"}


@pytest.mark.parametrize("kind", list(ID))
def test_an_old_history_founds_a_group_and_reaches_its_sites(make_group: MakeGroup, tmp_path: Path, kind: str) -> None:
    group = make_group(0, started=False)
    site = group.add("a").make()
    work = clone(site.repository, tmp_path / "old")
    tip = old_commit(work, kind)
    accepted(push(work, site.repository, "HEAD:main"))
    site.install(adopt=())
    assert group.value() == tip
    b = group.add("b").build()
    assert group.reconcile("a", "b").status == 0
    assert b.at() == tip


@pytest.mark.parametrize("kind", list(ID))
def test_a_push_of_an_old_history_is_refused_with_its_id_and_accepted_once_that_is_allowed(
    make_group: MakeGroup, tmp_path: Path, kind: str
) -> None:
    group = make_group(2, started=False)
    a, b = group
    work = clone(a.repository, tmp_path / "old")
    tip = old_commit(work, kind)
    with group.unchanged(a.repository):
        said = push(work, a.repository, "HEAD:main").stderr
    assert ID[kind] in said
    # What docs/guides/install.md says: at the site that is pushed to, nowhere else.
    git(a.repository, "config", f"receive.fsck.{ID[kind]}", "ignore")
    accepted(push(work, a.repository, "HEAD:main"))
    assert group.reconcile("a", "b").status == 0
    assert b.at() == tip
    # The next push to the other site brings only what is new, so nothing has to be allowed there.
    mine = group.clone(b.repository)
    commit(mine)
    accepted(push(mine, b.repository, "HEAD:main"))


@pytest.mark.parametrize("small", [True, False], ids=["small pack", "index-pack"])
@pytest.mark.parametrize("kind", list(ID))
def test_fsck_settings_of_one_server_do_not_stop_what_another_admitted(
    make_group: MakeGroup, tmp_path: Path, kind: str, small: bool
) -> None:
    system = tmp_path / "gitconfig-of-b"
    system.write_text(
        "[transfer]\n\tfsckObjects = true\n[fetch]\n\tfsckObjects = true\n[receive]\n\tfsckObjects = true\n"
    )
    group = make_group(1, started=True)
    a = group["a"]
    git(a.repository, "config", "receive.fsckObjects", "false")
    work, _ = group.begun()
    group.environment = {**group.environment, "GIT_CONFIG_SYSTEM": str(system), "GIT_CONFIG_NOSYSTEM": "0"}
    b = group.add("b").build()
    # (What a controller passes on to its gits knows no such variable: its home has the same settings.)
    home = tmp_path / "home-of-b"
    home.mkdir()
    (home / ".gitconfig").write_text(system.read_text() + (Path.home() / ".gitconfig").read_text())
    group.environment = {**group.environment, "HOME": str(home)}
    b.start()
    arrives([b], MAIN, a.at())
    tip = old_commit(work, kind) if small else _many(work, kind)
    accepted(push(work, a.repository, "HEAD:main"))
    arrives([b], MAIN, tip)


def _many(work: Path, kind: str) -> str:
    """As old_commit, in a pack that is too large to be taken without git."""
    commit(
        work, file="large.bin", content="".join(f"{number * 7919 % 100_003:05d}{number}" for number in range(30_000))
    )
    return old_commit(work, kind)
