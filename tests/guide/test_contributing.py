"""CONTRIBUTING.md, followed in a fresh clone: an environment of its own, a change with its test, the gates, the commit."""

from __future__ import annotations

import os
import shutil
import tomllib
from pathlib import Path

import pytest

from tests.guide.markdown import ROOT
from tests.guide.runner import Page, Place
from tests.support.git import git

# Where this environment gets its packages from; a test's own environment has nothing of it.
_PACKAGES = {name: value for name, value in os.environ.items() if name.startswith(("PIP_", "UV_"))}
_CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")


@pytest.fixture
def home_of_the_project(tmp_path: Path) -> str:
    """What stands for the project's public home: this checkout, with what is changed here and not committed yet."""
    if not (ROOT / ".git").exists():
        pytest.skip("this tree is no clone of git, so nothing can be cloned from it")
    changed = git(ROOT, "-c", "user.name=nobody", "-c", "user.email=", "stash", "create").stdout.strip()
    git(tmp_path, "clone", "-q", "--bare", "--shared", str(ROOT), "public.git")
    git(
        tmp_path / "public.git",
        "update-ref",
        "refs/heads/main",
        changed or git(ROOT, "rev-parse", "HEAD").stdout.strip(),
    )
    git(tmp_path / "public.git", "symbolic-ref", "HEAD", "refs/heads/main")
    source = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["urls"]["Source"]
    git(tmp_path, "config", "--global", f"url.{tmp_path / 'public.git'}.insteadOf", source)
    return str(source)


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.page("CONTRIBUTING.md")
def test_a_first_change(page: Page, home_of_the_project: str, tmp_path: Path) -> None:
    assert f"git clone -q {home_of_the_project}\n" in page.path.read_text()
    known = tmp_path / "mypy"  # what the last run of `make check` has learnt: half a minute less for two processors
    if (ROOT / ".mypy_cache").exists():
        shutil.copytree(ROOT / ".mypy_cache", known)
    told = {**os.environ, "PIP_CACHE_DIR": str(_CACHE / "pip"), **_PACKAGES, "MYPY_CACHE_DIR": str(known)}
    (tmp_path / "src").mkdir()
    page.run({"$": Place(env=told, cwd=tmp_path / "src")}, seconds=300)
    clone = tmp_path / "src" / "piehole"
    assert git(clone, "status", "--porcelain").stdout == ""
    assert git(clone, "diff", "--stat", "main", "version-hint").stdout.count("|") == 2
    assert max(page.seconds.values()) < 600
