"""tools/release in a small project of its own."""

from __future__ import annotations

import hashlib
import subprocess
from pathlib import Path

import pytest

from tests.contract.release_project import Project
from tests.support.git import git


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path / "project")


_ALL = ["check", "audit", "test-all", "build", "test-all tests/packaging"]


def test_a_release_runs_every_step_and_ends_with_an_annotated_tag_and_what_to_publish(project: Project) -> None:
    said = project.release()
    assert project.ran() == _ALL
    assert git(project.folder, "cat-file", "-t", "v1.2.0").stdout.strip() == "tag"
    message = git(project.folder, "tag", "-l", "--format=%(contents)", "v1.2.0").stdout
    digest = hashlib.sha256(b"wheel\n").hexdigest()
    assert message.startswith("piehole 1.2.0\n\n* A thing.\n")
    assert f"{digest}  a.whl\n" in message
    assert "older" not in message
    checked = subprocess.run(
        ["sha256sum", "-c", "SHA256SUMS"], cwd=project.folder / "dist", capture_output=True, check=False
    )
    assert checked.returncode == 0
    assert "git push origin main v1.2.0" in said
    assert "https://git.example.com/piehole/releases" in said


def test_a_rehearsal_runs_every_step_and_makes_no_tag(project: Project) -> None:
    said = project.release("--rehearsal")
    assert project.ran() == _ALL
    assert project.tags() == ""
    assert "would make the tag v1.2.0" in said
    project.release()
    assert project.ran() == ["audit"], "what the rehearsal of the same commit has passed is not done again"
    assert project.tags() == "v1.2.0"


def test_after_a_failure_it_goes_on_where_it_stopped(project: Project) -> None:
    project.write("broken-test-all", "")
    assert "make test-all ended with 2" in project.release(status=1)
    assert project.ran() == ["check", "audit", "test-all"]
    (project.folder / "broken-test-all").unlink()
    project.release()
    assert project.ran() == ["audit", "test-all", "build", "test-all tests/packaging"]
    project.release()
    assert project.ran() == ["audit"], "once more is harmless"


def test_another_commit_begins_anew(project: Project) -> None:
    project.release("--rehearsal")
    project.ran()
    project.write("new", "")
    project.commit()
    project.release()
    assert project.ran() == _ALL


@pytest.mark.parametrize(
    ("name", "old", "new", "why"),
    [
        ("pyproject.toml", "git.example.com", "git.example.org", "the project has no public home yet"),
        ("pyproject.toml", '"1.2.0"', '"1.3.0"', "version 1.2.0, but pyproject.toml has 1.3.0"),
        ("CHANGELOG.md", "## 1.2.0 (", "## 1.2.0 - (", "CHANGELOG.md: the first heading must be `## 1.2.0 ("),
        ("CHANGELOG.md", "* A thing.", "", "CHANGELOG.md says nothing of 1.2.0"),
    ],
)
def test_what_is_not_ready_is_refused_before_anything_runs(
    project: Project, name: str, old: str, new: str, why: str
) -> None:
    project.replace(name, old, new)
    assert why in project.release(status=1)
    assert project.ran() == []
    assert project.tags() == ""


def test_a_tree_that_is_not_clean_or_not_main_is_refused(project: Project) -> None:
    project.write("piehole/new.py", "")
    assert "the tree is not clean" in project.release("--rehearsal", status=1)
    (project.folder / "piehole/new.py").unlink()
    git(project.folder, "switch", "-qc", "other")
    assert "releases are made on main" in project.release(status=1)
    assert "a release would stop here: this is the branch other" in project.release("--rehearsal")


def test_an_older_main_than_upstreams_is_refused(project: Project, tmp_path: Path) -> None:
    git(tmp_path, "clone", "-q", "--bare", str(project.folder), "upstream.git")
    git(project.folder, "remote", "add", "origin", str(tmp_path / "upstream.git"))
    git(project.folder, "fetch", "-q", "origin")
    git(project.folder, "branch", "-q", "--set-upstream-to=origin/main")
    git(project.folder, "commit", "-q", "--amend", "-m", "in other words")
    assert "git pull --ff-only" in project.release(status=1)


def test_a_version_that_is_tagged_elsewhere_is_refused(project: Project) -> None:
    project.release()
    project.write("new", "")
    project.commit()
    assert "v1.2.0 is a tag of another commit: raise the version" in project.release(status=1)


def test_advisories_that_could_not_be_asked_for_stop_a_release_and_not_a_rehearsal(project: Project) -> None:
    project.write("audited", "3")
    assert "known faults of the packages could not be asked for" in project.release(status=1)
    assert "a release would stop here: known faults" in project.release("--rehearsal")
    project.write("audited", "1")
    assert "the audit found a fault" in project.release("--rehearsal", status=1)


def test_artefacts_that_have_changed_since_they_were_tested_are_not_tagged(project: Project) -> None:
    project.release("--rehearsal")
    (project.folder / "dist/a.whl").write_text("another\n")
    assert "not those that were built and tested" in project.release(status=1)
    assert project.tags() == ""


def test_the_tag_is_signed_where_a_key_is_configured(project: Project, tmp_path: Path) -> None:
    key = tmp_path / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True, timeout=30)
    (tmp_path / "signers").write_text(f"pusher@example.org {key.with_suffix('.pub').read_text()}")
    for name, value in (
        ("gpg.format", "ssh"),
        ("user.signingKey", f"{key}.pub"),
        ("gpg.ssh.allowedSignersFile", f"{tmp_path}/signers"),
    ):
        git(project.folder, "config", name, value)
    project.release()
    assert "Good" in git(project.folder, "tag", "-v", "v1.2.0").stderr


def test_steps_are_left_out_in_a_rehearsal_only(project: Project) -> None:
    assert "--skip is for a rehearsal only" in project.release("--skip", "tests", status=2)
    project.release("--rehearsal", "--skip", "tests", "--skip", "gates")
    assert project.ran() == ["audit", "build", "test-all tests/packaging"]
