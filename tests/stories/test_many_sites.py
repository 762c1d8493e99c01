"""Groups of many sites: a fetch looks up few of them, and still finds whoever has the objects."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from tests.support import git
from tests.support.git import MAIN, commit, push
from tests.support.groups import Group, MakeGroup

_STRANGERS = 40


def _with_strangers(group: Group, folder: Path) -> None:
    """Sites that nobody can fetch from, whose names come before most others."""
    for number in range(_STRANGERS):
        record = {"format": 1, "id": f"stranger-{number}", "url": str(folder / f"nothing{number}")}
        group.etcd.put(f"{group.prefix}/site/{group.name}/b{number:03}", json.dumps(record))


def test_the_site_that_pushed_is_asked_first_however_many_others_there_are(
    make_group: MakeGroup, tmp_path: Path
) -> None:
    group = make_group(1, started=False)
    last = group.add("zz").build()
    _with_strangers(group, tmp_path)
    group.start()
    work = last.clone()
    oid = commit(work)
    assert push(work, last.url, f"HEAD:{MAIN}").returncode == 0
    group.arrives(MAIN, oid)
    assert group[0].wait_event("reconcile", moved=1)["peer"] == "zz"
    assert group[0].events("peer.failed") == []


def test_whoever_has_the_objects_is_found_where_the_site_that_pushed_is_gone(
    make_group: MakeGroup, tmp_path: Path
) -> None:
    group = make_group(1, started=False)
    holder, last = group.add("yy").build(), group.add("zz").build()
    _with_strangers(group, tmp_path)
    for site in (holder, last):
        site.start()
    work = last.clone()
    oid = commit(work)
    assert push(work, last.url, f"HEAD:{MAIN}").returncode == 0
    group.arrives(MAIN, oid, [holder])
    last.kill()
    shutil.rmtree(last.repository)
    group[0].start()
    group.arrives(MAIN, oid, [group[0]], timeout=60)
    assert group[0].wait_event("reconcile", moved=1)["peer"] == "yy"
    git.git(group[0].repository, "fsck", "--full")
