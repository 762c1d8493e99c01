"""What an administrator does to gitolite and to piehole, and what either says of the other."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.gitolite.bed import DEPLOY, Bed, GitoliteSite

pytestmark = pytest.mark.slow


@pytest.fixture
def repository(oslo: GitoliteSite) -> Path:
    return oslo.repository("tools")


@pytest.fixture
def rc(oslo: GitoliteSite) -> Iterator[Path]:
    """The rc file of oslo, put back at the end."""
    text = oslo.rc.read_text()
    yield oslo.rc
    oslo.rc.write_text(text)


def check(site: GitoliteSite) -> list[str]:
    """The faults that `piehole check` finds in tools."""
    said = site.piehole("check", str(site.repository("tools")), check=False).stdout
    return [line for line in said.splitlines() if line.startswith("fault: ")]


def test_check_is_content(oslo: GitoliteSite, lima: GitoliteSite) -> None:
    assert check(oslo) == check(lima) == []


def test_gitolite_setup_run_again_changes_nothing(
    bed: Bed, oslo: GitoliteSite, work: Path, branch: str, repository: Path
) -> None:
    update = repository / "hooks" / "update"
    before = {path.name: path.read_bytes() for path in (repository / "hooks").iterdir()}
    oslo.run("gitolite", "setup")
    oslo.run("gitolite", "setup", "--hooks-only")
    assert {path.name: path.read_bytes() for path in (repository / "hooks").iterdir()} == before
    assert update.readlink() == oslo.home / ".gitolite" / "hooks" / "common" / "update"
    assert check(oslo) == []
    assert oslo.push("alice", work, "tools", f"HEAD:refs/heads/{branch}").returncode == 0
    assert bed.value("tools", f"refs/heads/{branch}")


def test_install_run_again_leaves_gitolite_s_hook_alone(oslo: GitoliteSite, repository: Path) -> None:
    update = repository / "hooks" / "update"
    before = update.readlink()
    oslo.piehole("install", str(repository))
    assert update.readlink() == before
    assert check(oslo) == []


@pytest.mark.parametrize("slip", ["the trigger is not enabled", "the trigger cannot be run", "it has no URL"])
def test_where_gitolite_does_not_ask_piehole_no_push_is_accepted(
    bed: Bed, oslo: GitoliteSite, work: Path, branch: str, rc: Path, slip: str
) -> None:
    trigger = oslo.home / "local" / "triggers" / "piehole"
    before, local = bed.pushes("tools"), oslo.refs("tools")
    try:
        if "enabled" in slip:
            rc.write_text(rc.read_text().replace("    piehole     ACCESS_2        .\n", ""))
        elif "URL" in slip:
            rc.write_text(rc.read_text().replace(f"'piehole {oslo.base}'", "'piehole'"))
        else:
            trigger.chmod(0o644)
        done = oslo.push("alice", work, "tools", f"HEAD:refs/heads/{branch}")
        assert done.returncode != 0
        assert "piehole: no-access: " in done.stderr
        assert (bed.pushes("tools"), oslo.refs("tools")) == (before, local)
        if "URL" not in slip:
            (fault,) = check(oslo)
            assert "docs/guides/gitolite.md" in fault
    finally:
        trigger.chmod(0o755)


def test_a_gate_that_was_replaced_refuses_pushes_and_check_names_it(
    bed: Bed, oslo: GitoliteSite, work: Path, branch: str, repository: Path
) -> None:
    """An administrator puts a hook of the same name into hooks/common, and gitolite links it everywhere."""
    gate = oslo.home / "local" / "hooks" / "common" / "reference-transaction"
    before, text = bed.pushes("tools"), gate.read_text()
    try:
        gate.write_text("#!/bin/sh\nexit 0\n")
        oslo.run("gitolite", "setup", "--hooks-only")
        done = oslo.push("alice", work, "tools", f"HEAD:refs/heads/{branch}")
        assert done.returncode != 0
        assert "piehole: no-access: " in done.stderr
        assert bed.pushes("tools") == before
        assert "docs/guides/gitolite.md" in check(oslo)[0]
        said = oslo.piehole("install", str(repository), check=False)
        assert said.returncode == 1
        assert "docs/guides/gitolite.md" in said.stderr
    finally:
        gate.write_text(text)
    assert check(oslo) == []


def test_hooks_of_piehole_s_that_are_gone_are_mended(
    bed: Bed, oslo: GitoliteSite, work: Path, branch: str, repository: Path
) -> None:
    before = bed.pushes("tools")
    for name in ("update.piehole", "reference-transaction.piehole"):
        (repository / "hooks" / name).unlink()
        assert oslo.push("alice", work, "tools", f"HEAD:refs/heads/{branch}").returncode != 0
        assert "piehole install" in check(oslo)[0]
        oslo.run("gitolite", "trigger", "POST_COMPILE")
        assert check(oslo) == []
    assert bed.pushes("tools") == before
    assert oslo.push("alice", work, "tools", f"HEAD:refs/heads/{branch}").returncode == 0


def test_install_in_a_repository_of_a_plain_gitolite_names_the_way(bed: Bed) -> None:
    """gitolite alone, as its package sets it up: nothing is changed, and the page is named."""
    plain = GitoliteSite(bed, f"plain-{bed.fresh('x').name}")
    try:
        plain.set_up()
        repository = plain.repository("testing")
        hooks = {path.name for path in (repository / "hooks").iterdir()}
        words = ("--group", "plain", "--site", "plain", "--url", plain.url("testing"), "--etcd", bed.endpoint)
        said = plain.piehole("install", str(repository), *words, "--prefix", bed.prefix, check=False)
        assert said.returncode == 1
        assert "gitolite" in said.stderr
        assert "docs/guides/gitolite.md" in said.stderr
        assert {path.name for path in (repository / "hooks").iterdir()} == hooks
        assert "plain" not in bed.groups()
    finally:
        plain.end()


def test_uninstall_says_that_the_gate_stays(bed: Bed, oslo: GitoliteSite, work: Path, repository: Path) -> None:
    name = f"own/alice/{work.name}"
    assert oslo.push("alice", work, name, "HEAD:main").returncode == 0
    said = oslo.piehole("uninstall", str(oslo.repository(name))).stdout
    assert "docs/guides/gitolite.md" in said
    assert oslo.push("alice", work, name, "HEAD:other").returncode != 0


def test_a_push_past_gitolite_is_refused(
    bed: Bed, oslo: GitoliteSite, work: Path, branch: str, repository: Path
) -> None:
    """`gitolite push` on the server skips the access rules, and with them piehole: the gate knows of nothing."""
    before = bed.pushes("tools")
    for push in ("gitolite push", "git push"):
        done = oslo.run(
            "sh", "-c", f'cd "$0" && {push} "$1" "HEAD:refs/heads/$2"', str(work), str(repository), branch, check=False
        )
        assert done.returncode != 0
        if push.startswith("gitolite"):
            assert "piehole: no-access: " in done.stderr
    assert bed.pushes("tools") == before


def test_the_pieces_are_executable() -> None:
    for name in ("hooks/common/reference-transaction", "triggers/piehole"):
        assert (DEPLOY / "local" / name).stat().st_mode & 0o111 == 0o111
