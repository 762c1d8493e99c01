"""The pages of docs/reference/ and the manual pages are made from the code."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from piehole.cli.parser import COMMANDS
from tools import reference
from tools.reference.commands import MAN

ROOT = Path(__file__).parents[2]
PAGES = sorted((ROOT / MAN).glob("*.1"))
pages = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)


def test_the_reference_and_the_manual_pages_say_what_the_code_says() -> None:
    stale = [name for name, text in reference.texts().items() if (ROOT / name).read_text() != text]
    assert stale == [], "run `make docs`"


def test_each_command_has_a_manual_page_and_no_other_thing_has() -> None:
    assert {page.name for page in PAGES} == {"piehole.1", *(f"piehole-{name}.1" for name in COMMANDS)}


def test_the_folder_that_is_installed_whole_holds_nothing_else() -> None:
    made = {ROOT / name for name in reference.texts() if name.startswith("share/")}
    assert {path for path in (ROOT / "share").rglob("*") if path.is_file()} == made


@pages
@pytest.mark.skipif(not shutil.which("mandoc"), reason="mandoc is not installed")
def test_mandoc_finds_nothing_wrong(page: Path) -> None:
    done = subprocess.run(["mandoc", "-T", "lint", str(page)], capture_output=True, text=True, timeout=30, check=False)
    # A word that is longer than a line cannot be broken.
    assert [line for line in done.stdout.splitlines() if "input text line longer" not in line] == []


@pytest.mark.skipif(not shutil.which("man"), reason="man is not installed")
def test_man_shows_them() -> None:
    for page in PAGES:
        done = subprocess.run(
            ["man", "--warnings", "-E", "UTF-8", "-l", str(page)],
            env={"PATH": "/usr/bin:/bin", "MANPAGER": "cat", "MANWIDTH": "80", "LC_ALL": "C.UTF-8"},
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
        assert (done.returncode, done.stderr) == (0, ""), page
        assert "piehole" in done.stdout
