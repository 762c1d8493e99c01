"""A site gets another URL, and the one that it had goes on answering."""

from __future__ import annotations

from pathlib import Path

from tests.support import git
from tests.support.git import MAIN
from tests.support.groups import MakeGroup


def test_a_changed_url_is_used_at_once(make_group: MakeGroup, tmp_path: Path) -> None:
    group = make_group(2, started=False)
    a, b = group
    asked = tmp_path / "asked"
    with group.git_that(tmp_path / "wrapper", "upload-pack", f'echo "$@" >> {asked}'):
        group.start()
        for message in ("one", "two"):
            oid = group.commit(message)
            group.push("a")
            group.arrives(MAIN, oid, [b])
        assert str(a.repository) in asked.read_text()
        moved = tmp_path / "moved.git"
        moved.symlink_to(a.repository)
        a.piehole("install", "--url", str(moved))
        asked.write_text("")
        oid = group.commit("three")
        group.push("a")
        group.arrives(MAIN, oid, [b])
    assert str(moved) in asked.read_text()
    assert str(a.repository) not in asked.read_text()


def test_a_site_that_registers_itself_again_is_asked_at_its_new_url(make_group: MakeGroup, tmp_path: Path) -> None:
    """Its record vanished from etcd, and its configuration has another URL meanwhile."""
    group = make_group(2, started=False)
    a, b = group
    asked = tmp_path / "asked"
    with group.git_that(tmp_path / "wrapper", "upload-pack", f'echo "$@" >> {asked}'):
        group.start()
        oid = group.commit("one")
        group.push("a")
        group.arrives(MAIN, oid, [b])
        a.stop()
        moved = tmp_path / "moved.git"
        moved.symlink_to(a.repository)
        git.git(a.repository, "config", "piehole.url", str(moved))
        group.etcd.delete(f"{group.prefix}/site/{group.name}/a")
        group.reconcile("a")
        asked.write_text("")
        oid = group.commit("two")
        group.push("a")
        group.arrives(MAIN, oid, [b])
    assert str(moved) in asked.read_text()
    assert str(a.repository) not in asked.read_text()
