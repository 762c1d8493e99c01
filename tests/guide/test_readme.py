"""The README's commands, typed in an empty folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.guide.runner import Page, Place


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.page("README.md")
def test_the_demo_sets_itself_up_and_ends_as_expected(
    page: Page, home_of_the_project: str, packages: dict[str, str], tmp_path: Path
) -> None:
    text = page.path.read_text()
    assert f"git clone -q {home_of_the_project} " in text
    assert len(text.splitlines()) <= 60, "it is one screen"
    (tmp_path / "src").mkdir()
    page.run({"$": Place(env=packages, cwd=tmp_path / "src")}, seconds=200)
