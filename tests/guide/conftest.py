"""The page that a test runs, as its mark says.

    @pytest.mark.page("docs/guides/backup.md")            # or some of its sections: page("docs/…", "Restore", "Check")
    def test_a_backup_and_its_restore(page: Page, bed: ThreeServers) -> None:
        page.run(bed.places)

A test that passes has run everything that its mark names; ``test_every_page.py`` reads the marks.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.guide.markdown import ROOT
from tests.guide.runner import Page
from tests.support.git import git

_PACKAGES = {name: value for name, value in os.environ.items() if name.startswith(("PIP_", "UV_"))}


@pytest.fixture
def page(request: pytest.FixtureRequest) -> Iterator[Page]:
    mark = request.node.get_closest_marker("page")
    page = Page(*mark.args)
    yield page
    assert page.failed or not page.left, f"nothing has run the commands of lines {[block.line for block in page.left]}"


@pytest.fixture
def packages() -> dict[str, str]:
    """An environment that gets its packages from where this one gets them; a test's own has nothing of it."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return {**os.environ, "PIP_CACHE_DIR": str(cache / "pip"), **_PACKAGES}


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
