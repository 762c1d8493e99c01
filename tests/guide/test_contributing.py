"""CONTRIBUTING.md, followed in a fresh clone: an environment of its own, a change with its test, the gates, the commit."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.guide.markdown import ROOT
from tests.guide.runner import Page, Place
from tests.support.git import git


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.page("CONTRIBUTING.md")
def test_a_first_change(page: Page, home_of_the_project: str, packages: dict[str, str], tmp_path: Path) -> None:
    assert f"git clone -q {home_of_the_project}\n" in page.path.read_text()
    known = tmp_path / "mypy"  # what the last run of `make check` has learnt: half a minute less for two processors
    if (ROOT / ".mypy_cache").exists():
        shutil.copytree(ROOT / ".mypy_cache", known)
    (tmp_path / "src").mkdir()
    page.run({"$": Place(env={**packages, "MYPY_CACHE_DIR": str(known)}, cwd=tmp_path / "src")}, seconds=300)
    clone = tmp_path / "src" / "piehole"
    assert git(clone, "status", "--porcelain").stdout == ""
    assert git(clone, "diff", "--stat", "main", "version-hint").stdout.count("|") == 2
    assert max(page.seconds.values()) < 600
