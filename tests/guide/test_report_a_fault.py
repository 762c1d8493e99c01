"""The pages about settings and about the report of a fault, at a site whose group has no controller."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from tests.guide.runner import Page, Place
from tests.support.groups import Group, MakeGroup


@pytest.fixture
def oslo(make_group: MakeGroup, tmp_path: Path) -> tuple[Group, dict[str, Place]]:
    """A site whose repository is called tools.git. The machine's own journal is not asked."""
    group = make_group(0)
    group.install("tools")
    repository = group["tools"].repository
    (tmp_path / "bin").mkdir()
    for name in ("journalctl", "systemctl"):
        (tmp_path / "bin" / name).write_text(f"#!/bin/sh\necho {name}\n")
        (tmp_path / "bin" / name).chmod(0o755)
    path = f"{tmp_path / 'bin'}:{Path(sys.executable).parent}:{os.environ['PATH']}"
    written = ("report.tar.gz", "report.zip", "with-log.zip", "controller.log")
    replaced = {f"/tmp/{name}": str(tmp_path / name) for name in written}  # noqa: S108 -- as the page has it
    here = {"/srv/git/tools.git": str(repository), "01-tools.git": f"01-{repository.name}"}
    place = Place(env={"PATH": path}, replaced=replaced | here)
    return group, {"git@oslo$": place, "root@oslo#": place}


@pytest.mark.page("docs/reference/settings.md")
def test_a_setting_is_changed_and_shown(page: Page, oslo: tuple[Group, dict[str, Place]]) -> None:
    page.run(oslo[1])


@pytest.mark.slow  # three reports, each by a dozen processes
@pytest.mark.page("docs/guides/report-a-fault.md")
def test_a_report_is_made(page: Page, oslo: tuple[Group, dict[str, Place]], tmp_path: Path) -> None:
    group, places = oslo
    group.commit("one")
    group.push("tools")
    page.run(places)
    assert {path.name for path in tmp_path.glob("*.*")} >= {"report.tar.gz", "report.zip", "with-log.zip"}
