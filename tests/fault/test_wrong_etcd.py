"""A wrong etcd: emptied, another cluster, an older snapshot, groups or prefixes mixed up. No ref goes back or away; pushes are refused
with the mend, whether a controller runs or the hook decides itself."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.conftest import OwnEtcd
from tests.support import git
from tests.support.assertions import accepted, refused
from tests.support.etcd import EtcdProcess
from tests.support.git import MAIN
from tests.support.groups import Group, MakeGroup
from tests.support.wait import until


@dataclass
class Disaster:
    """A group in step, and another one beside it in the same etcd; ``strike`` is done while no controller runs."""

    group: Group
    etcd: EtcdProcess
    other: Group
    folder: Path
    own_etcd: OwnEtcd

    def emptied(self) -> None:
        self.etcd.kill()
        self.etcd.wipe()
        self.etcd.start()

    def another_cluster(self) -> None:
        elsewhere = self.own_etcd()
        for site in self.group:
            git.git(site.repository, "config", "--replace-all", "piehole.etcd", elsewhere.endpoint)

    def older_snapshot(self) -> None:
        self.etcd.kill()
        self.etcd.restore_snapshot(self.folder / "backup")
        self.etcd.start()

    def older_snapshot_overtaken(self) -> None:
        self.older_snapshot()
        for number in range(60):
            self.etcd.raw.put("/elsewhere", str(number))

    def group_mixed_up(self) -> None:
        for site in self.group:
            git.git(site.repository, "config", "piehole.group", self.other.name)

    def prefix_mixed_up(self) -> None:
        for site in self.group:
            git.git(site.repository, "config", "piehole.prefix", f"{self.group.prefix}-nowhere")


_WAYS: dict[str, tuple[Callable[[Disaster], None], str, tuple[str, ...]]] = {
    "emptied": (Disaster.emptied, "wrong-group", ("piehole clobber",)),
    "another cluster": (Disaster.another_cluster, "wrong-group", ("another etcd", "piehole clobber")),
    "older snapshot": (Disaster.older_snapshot, "went-back", ("piehole accept", "piehole clobber --newest")),
    "overtaken": (Disaster.older_snapshot_overtaken, "went-back", ("piehole accept", "piehole clobber --newest")),
    "group mixed up": (Disaster.group_mixed_up, "wrong-group", ("piehole.etcd", "piehole.prefix")),
    "prefix mixed up": (Disaster.prefix_mixed_up, "wrong-group", ("`piehole.prefix` is wrong",)),
}


@pytest.mark.parametrize("way", _WAYS)
def test_with_a_wrong_etcd_no_ref_goes_back_or_away_and_pushes_are_refused_with_the_mend(
    make_group: MakeGroup, own_etcd: OwnEtcd, tmp_path: Path, way: str
) -> None:
    strike, token, mend = _WAYS[way]
    etcd = own_etcd()
    group = make_group(2, etcd=etcd)
    other = make_group(1, etcd=etcd, name="other")
    work = group[0].clone()
    git.commit(work, "one")
    accepted(git.push(work, "origin", "HEAD:main", "HEAD:refs/heads/side"))
    group.arrives(MAIN, git.rev_parse(work))
    etcd.save_snapshot(tmp_path / "backup")
    newest = git.commit(work, "two")
    accepted(git.push(work, "origin", "HEAD:main", "HEAD:refs/heads/later"))
    group.arrives(MAIN, newest)
    pushed = etcd.raw.look(group.key(MAIN))
    assert pushed is not None
    for site in group:
        until(lambda site=site: site.progress() >= pushed.mod_revision, 20, f"{site.name} has told of it")  # type: ignore[misc]
        site.stop()
    before = [site.refs() for site in group]

    strike(Disaster(group, etcd, other, tmp_path, own_etcd))
    git.commit(work, "three")
    for mode in ("the hook decides itself", "a controller runs"):
        if mode == "a controller runs":
            for site in group:
                site.start()
                site.wait_event("site.halted", token=token)
        for site in group:
            said = refused(git.push(work, site.url, "HEAD:main"), token)
            assert all(words in said for words in mend), (mode, said)
        assert [site.refs() for site in group] == before, mode
