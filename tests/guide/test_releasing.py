"""docs/development/releasing.md, in a small project of its own."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.contract.release_project import Project
from tests.guide.runner import Page, Place


@pytest.mark.page("docs/development/releasing.md")
def test_a_rehearsal_and_a_release(page: Page, tmp_path: Path) -> None:
    project = Project(tmp_path / "project")
    page.run({"$": Place(env=os.environ, cwd=project.folder)})
    assert project.tags() == "v1.2.0"
