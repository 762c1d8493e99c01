"""A site that has just come back empty is not fresh before it has everything: not to a reader, nor to the other sites."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from tests.reads.bed import FRONTS, Front, oid_of
from tests.support import git
from tests.support.assertions import accepted
from tests.support.git import MAIN
from tests.support.groups import Group, MakeGroup
from tests.support.sites import Site
from tests.support.wait import until


@pytest.fixture(params=FRONTS)
def front(request: pytest.FixtureRequest, tmp_path: Path) -> Front:
    return Front(tmp_path / "bin", request.param)


def begun(make_group: MakeGroup, mode: str = "strict") -> tuple[Group, str]:
    """Two sites that have a commit and have told of it, behind the gate."""
    group = make_group(2, settings={"piehole.readGate": mode, "piehole.readWait": "0.3"})
    oid = group.commit()
    accepted(git.push(group.work, group[0].repository, "HEAD:main"))
    group.arrives(MAIN, oid)
    newest = group.etcd.look(group.key(MAIN))
    assert newest is not None
    until(lambda: group[1].progress() >= newest.mod_revision, what="b has told of it")
    return group, oid


def emptied(site: Site) -> Path:
    """A repository with this one's settings and state, and without its refs and objects."""
    fresh = git.make_bare(site.group.folder / "empty.git")
    for name in ("config", "HEAD"):
        shutil.copy2(site.repository / name, fresh / name)
    for name in ("hooks", "piehole"):
        shutil.rmtree(fresh / name, ignore_errors=True)
        shutil.copytree(site.repository / name, fresh / name, symlinks=True)
    return fresh


def test_a_repository_that_was_swapped_for_an_empty_one_is_not_what_the_controller_has_reconciled(
    make_group: MakeGroup, front: Front
) -> None:
    group, oid = begun(make_group)
    assert oid_of(front.listed(group[1])) == oid
    fresh = emptied(group[1])
    source = group[0].repository.rename(group.folder / "away.git")
    group[1].repository.rename(group.folder / "aside.git")
    fresh.rename(group[1].repository)
    got = front.listed(group[1])
    assert (got.returncode, got.stdout) == (128, ""), got.stderr
    assert "behind: " in got.stderr
    assert group[1].piehole("wait", MAIN, "--timeout", "0.3", check=False).status == 1
    source.rename(group[0].repository)
    group.put("@fence", "{}")  # as `install` does there: who waits for objects asks again at once
    git.git(group[1].repository, "config", "piehole.readWait", "30")
    until(lambda: oid_of(front.listed(group[1])) == oid, what="the gate opens when the site has everything")


def test_a_site_that_was_emptied_and_installed_again_under_its_controller_claims_nothing_that_it_had(
    make_group: MakeGroup,
) -> None:
    """The site's id and its settings are what they were, so the configuration does not tell."""
    group, oid = begun(make_group)
    source = group[0].repository.rename(group.folder / "away.git")
    id_before = group[1].replica().config.site_id
    shutil.rmtree(group[1].repository)
    group[1].build()
    assert group[1].replica().config.site_id == id_before
    group[1].stuck(MAIN)
    end = time.monotonic() + 2.5  # a reconcile that is stuck is followed by a turn that publishes, within a second
    while time.monotonic() < end:
        assert group[1].progress() == 0, "what the former repository had"
        time.sleep(0.1)
    assert group[1].piehole("wait", MAIN, "--timeout", "0.3", check=False).status == 1
    source.rename(group[0].repository)
    group.put("@fence", "{}")  # as `install` does there: who waits for objects asks again at once
    group.arrives(MAIN, oid)
    until(lambda: group[1].progress() > 0, what="b has told that it has everything")


@pytest.mark.parametrize("program", ["upload-pack", "http-backend"])
def test_a_repository_that_comes_while_git_starts_is_not_served_unasked(
    make_group: MakeGroup, front: Front, program: str
) -> None:
    """The gate found none, so it asked nobody; git would serve the one that was put there meanwhile."""
    group, _ = begun(make_group)
    group[1].stop()
    fresh, place = emptied(group[1]), group[1].repository
    place.rename(group.folder / "aside.git")
    with group.git_that(group.folder / "late", program, f"mv {fresh} {place}") as seen:
        path = f"{seen.parent}:{os.environ['PATH']}"
        if program == "upload-pack":
            command = f"PATH={path} {front.upload_pack}"
            got = git.git(group.folder, "ls-remote", f"--upload-pack={command}", str(place), check=False)
            assert got.returncode == 128
            assert f"fatal: '{place}' does not appear to be a git repository" in got.stderr
        else:
            asked = {"GIT_PROJECT_ROOT": str(group[1].root), "PATH_INFO": f"/{place.name}/info/refs", "PATH": path}
            request = {"GIT_HTTP_EXPORT_ALL": "1", "REQUEST_METHOD": "GET", "QUERY_STRING": "service=git-upload-pack"}
            done = subprocess.run(
                [str(front.http_backend)],
                env={**os.environ, **asked, **request},
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=60,
                check=False,
            )
            assert done.stdout.startswith(b"Status: 404 ")
    assert fresh.exists(), "git was not asked"
