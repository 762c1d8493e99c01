"""The site, built once for all tests of a run, and the browser of tests/page."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from piehole.files import lock
from tests.page.conftest import axe, browser, faults, tab

__all__ = ["axe", "browser", "faults", "tab"]

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As `make docs` builds it: a warning is an error."""
    shared = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        shared = shared.parent
    folder, said = shared / "site", shared / "site.log"
    with (shared / "site.lock").open("w") as guard:  # several test processes want it
        lock(guard.fileno())
        if not said.exists():
            sphinx = ["-m", "sphinx", "-q", "-W", "--keep-going", "-d", str(shared / "doctrees"), "docs", str(folder)]
            done = subprocess.run(
                [sys.executable, *sphinx], cwd=ROOT, capture_output=True, text=True, timeout=100, check=False
            )
            said.write_text(done.stderr)
    assert said.read_text() == "", "`make docs` fails"
    return folder
