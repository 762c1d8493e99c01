"""Each page of docs/trouble: the group is brought into the trouble, the page is read and typed, and the trouble is over."""

from __future__ import annotations

import json
import os
import shutil
import time
from pathlib import Path

import pytest

from tests.guide.runner import Page
from tests.guide.trouble_bed import TroubleBed, bed, page_etcd
from tests.support import git
from tests.support.copying import promise
from tests.support.etcd_tamper import tampering
from tests.support.git import MAIN
from tests.support.sites import Site
from tests.support.wait import until

__all__ = ["bed", "page_etcd"]


def _is_over(bed: TroubleBed) -> None:
    """All sites are in step, and `piehole status` has nothing to say."""
    bed.group.in_step()
    for site in bed.group:
        found = site.piehole("status", "--json", "--wait", "10").json["repositories"][0]
        assert not {"halted", "stuck", "corrupt", "locked", "unadopted", "pending"} & {
            name for name, value in found.items() if value
        }


def _set(site: Site, name: str, value: str) -> None:
    """`git config`, and its controller has read it."""
    before = len(site.events("repository.served"))
    git.git(site.repository, "config", name, value)
    until(lambda: len(site.events("repository.served")) > before, 20, f"the controller has read {name}")


def _silence(bed: TroubleBed, site: Site) -> None:
    """Its controller is killed, and its last sign of life was long ago."""
    site.kill()
    for key, value in bed.group.etcd.get_prefix(f"/piehole/alive/{site}/").items():
        bed.group.etcd.put(key, json.dumps({**json.loads(value), "lease": "1"}))


# ---- what a pusher sees


@pytest.mark.page("docs/trouble/stale.md")
def test_stale(bed: TroubleBed, page: Page) -> None:
    oslo, lima = bed.sites("oslo", "lima")
    oslo.stop()  # else Git itself says that there is something to fetch first
    theirs = bed.bob(lima)
    mine = git.commit(bed.work, "from alice")
    bed.refuse("stale")
    oslo.start()
    bed.read(page)
    _is_over(bed)
    assert git.git(bed.work, "merge-base", "--is-ancestor", theirs, bed.group.value() or "").returncode == 0
    assert bed.group.value() not in (theirs, mine)


@pytest.mark.slow
@pytest.mark.page("docs/trouble/no-quorum.md")
def test_no_quorum(bed: TroubleBed, page: Page) -> None:
    bed.sites("oslo", "lima")
    mine = git.commit(bed.work, "from alice")
    bed.etcd.kill()
    bed.refuse("no-quorum")
    bed.read(page)
    bed.group.arrives(MAIN, mine)
    _is_over(bed)


@pytest.mark.page("docs/trouble/wrong-group.md")
def test_wrong_group(bed: TroubleBed, page: Page) -> None:
    oslo, _ = bed.sites("oslo", "lima")
    oslo.stop()
    git.git(oslo.repository, "config", "piehole.prefix", "/pieholes")
    git.commit(bed.work, "from alice")
    bed.refuse("wrong-group")
    bed.read(page)
    _is_over(bed)


@pytest.mark.slow
@pytest.mark.page("docs/trouble/went-back.md")
def test_went_back(bed: TroubleBed, page: Page, tmp_path: Path) -> None:
    bed.sites("oslo", "lima")
    bed.etcd.terminate()
    bed.etcd.copy_data(tmp_path / "backup")
    bed.etcd.start()
    newest = bed.push("after the backup", published=True)
    bed.etcd.kill()
    bed.etcd.restore_data(tmp_path / "backup")
    bed.etcd.start()
    for site in bed.group:
        site.wait_event("site.halted")
    git.commit(bed.work, "one more")
    bed.refuse("went-back")
    bed.read(page)
    bed.group.arrives(MAIN, newest)
    _is_over(bed)


@pytest.mark.page("docs/trouble/locked.md")
def test_locked(bed: TroubleBed, page: Page) -> None:
    bed.sites("oslo", "lima")
    git.git(bed.work, "push", "--quiet", "origin", "HEAD:release")
    first = git.rev_parse(bed.work)
    bed.group.put("refs/heads/release", "locked by the release team")
    git.commit(bed.work, "from alice")
    bed.refuse("locked", "HEAD:release")
    bed.read(page)
    _is_over(bed)
    assert bed.group.value("refs/heads/release") == first


@pytest.mark.page("docs/trouble/unadopted.md")
def test_unadopted(bed: TroubleBed, page: Page) -> None:
    oslo, _ = bed.sites("oslo", "lima")
    first = oslo.at()
    oslo.move("refs/heads/topic", first)
    git.commit(bed.work, "from alice")
    bed.refuse("unadopted", "HEAD:topic")
    bed.read(page)
    bed.group.arrives("refs/heads/topic", first)
    _is_over(bed)


@pytest.mark.page("docs/trouble/reserved.md")
def test_reserved(bed: TroubleBed, page: Page) -> None:
    bed.sites("oslo", "lima")
    bed.refuse("reserved", "HEAD:refs/piehole/mine")
    bed.read(page)
    bed.group.arrives("refs/heads/mine", git.rev_parse(bed.work))


@pytest.mark.page("docs/trouble/too-many.md")
def test_too_many(bed: TroubleBed, page: Page) -> None:
    oslo, _ = bed.sites("oslo", "lima")
    names = ["old-1", "old-2", "old-3"]
    git.git(bed.work, "push", "--quiet", "origin", *(f"HEAD:refs/heads/{name}" for name in names))
    _set(oslo, "piehole.maxDeletes", "2")
    bed.refuse("too-many", *(f":{name}" for name in names))
    bed.read(page)
    for name in names:
        bed.group.arrives(f"refs/heads/{name}", "")


@pytest.mark.page("docs/trouble/conflict.md")
def test_conflict(bed: TroubleBed, page: Page) -> None:
    bed.sites("oslo", "lima")
    bed.push(ref="refs/heads/topic")
    bed.refuse("conflict", "HEAD:refs/heads/topic/a")
    bed.read(page)
    bed.group.arrives("refs/heads/topic-a", git.rev_parse(bed.work))


@pytest.mark.page("docs/trouble/no-access.md")
def test_no_access(bed: TroubleBed, page: Page) -> None:
    oslo, _ = bed.sites("oslo", "lima")
    (oslo.repository / "hooks" / "reference-transaction").unlink()
    mine = git.commit(bed.work, "from alice")
    bed.refuse("no-access")
    bed.read(page)
    bed.group.arrives(MAIN, mine)


@pytest.mark.page("docs/trouble/unknown.md")
def test_unknown(bed: TroubleBed, page: Page) -> None:
    with tampering(bed.etcd.endpoint) as tamper:
        bed.sites("oslo", endpoints=[tamper.endpoint])
        mine = git.commit(bed.work, "from alice")
        tamper.always("hang answer", "swap")
        tamper.always("hold request", "fence")
        bed.refuse("unknown")
        tamper.always("pass", "swap", "fence")
        bed.read(page)
        assert bed.group.value() == mine


@pytest.mark.page("docs/trouble/copies.md")
def test_copies(bed: TroubleBed, page: Page) -> None:
    _, lima = bed.sites("oslo", "lima")
    promise(bed.group, 2)
    _silence(bed, lima)
    mine = git.commit(bed.work, "from alice")
    bed.refuse("copies")
    bed.read(page)
    bed.group.arrives(MAIN, mine)
    _is_over(bed)


# ---- what an administrator sees


def _shallow_clone(bed: TroubleBed) -> Path:
    """Of a repository that the group knows nothing of."""
    upstream = git.make_bare(bed.folder / "upstream.git")
    work = bed.group.clone(upstream)
    git.commit(work, "one")
    git.commit(work, "two")
    git.git(work, "push", "--quiet", "origin", "HEAD:main")
    shallow = git.clone(f"file://{upstream}", bed.group.fresh("shallow"), "--depth", "1", "--origin", "upstream")
    git.git(shallow, "remote", "add", "origin", bed.group["oslo"].url)
    return shallow


@pytest.mark.slow
@pytest.mark.page("docs/trouble/corrupt.md")
def test_corrupt(bed: TroubleBed, page: Page) -> None:
    oslo, lima = bed.sites("oslo", "lima")
    _set(oslo, "receive.shallowUpdate", "true")
    bed.work = _shallow_clone(bed)
    bed.refuse("corrupt", "HEAD:vendor")
    lima.stop()
    git.git(lima.repository, "repack", "-adq")
    for path in (lima.repository / "objects" / "pack").iterdir():
        path.unlink()
    bed.read(page)
    lima.start()
    bed.group.arrives("refs/heads/vendor", git.rev_parse(bed.work))
    _is_over(bed)
    lima.fsck()


@pytest.mark.page("docs/trouble/behind.md")
def test_behind(bed: TroubleBed, page: Page) -> None:
    oslo, lima = bed.sites("oslo", "lima")
    git.git(lima.repository, "config", "piehole.readWait", "0.5")
    _set(lima, "piehole.readGate", "strict")
    oslo.piehole("install", "--url", str(oslo.root / "projekt.git"))
    mine = bed.push()
    gate = f"{bed.folder}/bin/piehole upload-pack"
    fetched = git.git(bed.work, "fetch", "--upload-pack", gate, str(lima.repository), check=False)
    bed.said += fetched.stderr.splitlines()
    bed.read(page)
    bed.group.arrives(MAIN, mine)
    _is_over(bed)


@pytest.mark.page("docs/trouble/halted.md")
def test_halted(bed: TroubleBed, page: Page) -> None:
    _, lima = bed.sites("oslo", "lima")
    bed.group.published()
    lima.stop()
    (lima.repository / "piehole" / "state.json").write_text("{")
    bed.push()
    lima.start()
    bed.read(page)
    _is_over(bed)


@pytest.mark.page("docs/trouble/stuck.md")
def test_stuck(bed: TroubleBed, page: Page) -> None:
    _, lima = bed.sites("oslo", "lima")
    git.git(lima.repository, "symbolic-ref", "refs/heads/release", MAIN)
    git.git(bed.work, "push", "--quiet", "origin", "HEAD:release")
    lima.stuck("refs/heads/release")
    bed.read(page)
    _is_over(bed)


@pytest.mark.skipif(shutil.which("pgrep") is None, reason="no pgrep on this machine (Debian: procps)")
@pytest.mark.page("docs/trouble/locks.md")
def test_locks(bed: TroubleBed, page: Page) -> None:
    _, lima = bed.sites("oslo", "lima")
    lock = lima.repository / "refs" / "heads" / "main.lock"
    lock.touch()
    os.utime(lock, (time.time() - 60, time.time() - 60))
    bed.push()
    lima.stuck(MAIN)
    bed.read(page)
    _is_over(bed)


@pytest.mark.page("docs/trouble/silent.md")
def test_silent(bed: TroubleBed, page: Page) -> None:
    _, lima = bed.sites("oslo", "lima")
    _silence(bed, lima)
    bed.read(page)
    _is_over(bed)


@pytest.mark.page("docs/trouble/never-seen.md")
def test_never_seen(bed: TroubleBed, page: Page) -> None:
    bed.sites("oslo")
    bed.group.add("lima").build()
    record = {
        "format": 1,
        "id": "an install that was interrupted",
        "url": "ssh://git@kyoto.example.org/srv/git/project.git",
    }
    bed.group.etcd.put("/piehole/site/project/kyoto", json.dumps(record))
    bed.read(page)
    _is_over(bed)


@pytest.mark.page("docs/trouble/left.md")
def test_left(bed: TroubleBed, page: Page) -> None:
    oslo, _ = bed.sites("oslo", "lima")
    oslo.piehole("leave", "--site", "lima", "--yes")
    bed.read(page)
    _is_over(bed)


@pytest.mark.page("docs/trouble/no-controller.md")
def test_no_controller(bed: TroubleBed, page: Page) -> None:
    _, lima = bed.sites("oslo", "lima")
    lima.stop()
    bed.push()
    bed.read(page)
    _is_over(bed)


@pytest.mark.page("docs/trouble/refused.md")
def test_refused(bed: TroubleBed, page: Page) -> None:
    _, lima = bed.sites("oslo", "lima")
    bed.start_second(lima)
    until(lambda: "repository.refused" in (bed.folder / "lima-2.log").read_text(), 20, "the second is refused")
    bed.read(page)
    _is_over(bed)


@pytest.mark.page("docs/trouble/overdue.md")
def test_overdue(bed: TroubleBed, page: Page) -> None:
    _, lima = bed.sites("oslo", "lima")
    path = lima.repository / "piehole" / "verified"
    path.write_text(json.dumps({"result": "sound", "proven": "2020-01-02T00:00:00+00:00"}))
    bed.read(page)
    assert "not proven" not in lima.piehole("status").out


@pytest.mark.page("docs/trouble/pending.md")
def test_pending(bed: TroubleBed, page: Page) -> None:
    _, lima = bed.sites("oslo", "lima")
    tree = git.rev_parse(lima.repository, "main^{tree}")
    other = git.git(lima.repository, "commit-tree", "-m", "made here", tree).stdout.strip()
    lima.move(MAIN, other)
    bed.read(page)
    _is_over(bed)


@pytest.mark.page("docs/trouble/failing.md")
def test_failing(bed: TroubleBed, page: Page) -> None:
    _, lima = bed.sites("oslo", "lima")
    (lima.repository / "packed-refs").write_text("nothing\n")
    bed.push()
    lima.wait_event("reconcile.failed")
    bed.read(page)
    _is_over(bed)
