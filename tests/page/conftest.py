"""A browser for all tests of this folder, and axe, which looks for what hinders people."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from piehole.files import lock
from tests.page.bed import MadeUpPage, made_up_page
from tests.page.chromium import Chromium, Tab, chromium
from tests.support.servers import Unavailable

_HERE = Path(__file__).parent
_CACHE = _HERE.parents[1] / ".cache" / "page"


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chromium]:
    try:
        with chromium(tmp_path_factory.mktemp("chromium")) as made:
            yield made
    except Unavailable as missing:
        pytest.skip(f"page: {missing}")


@pytest.fixture
def tab(browser: Chromium) -> Iterator[Tab]:
    """A new page of the browser, as wide as a laptop. At its end the browser must have complained about nothing."""
    made = Tab(browser)
    made.size(1280, 900)
    yield made
    complaints = made.complaints()
    made.close()
    assert made.faults_allowed or complaints == []


@pytest.fixture
def made_up() -> Iterator[MadeUpPage]:
    with made_up_page() as page:
        yield page


@pytest.fixture(scope="session")
def axe() -> str:
    """The source of axe-core, of the version and with the checksum that package-lock.json names."""
    if shutil.which("npm") is None:
        pytest.skip("page: no npm on PATH, which brings axe-core (Debian: apt-get install npm)")
    _CACHE.mkdir(parents=True, exist_ok=True)
    found = _CACHE / "node_modules" / "axe-core" / "axe.min.js"
    with (_CACHE / "lock").open("w") as guard:  # several test processes may want it
        lock(guard.fileno())
        names = ("package.json", "package-lock.json")
        if not found.exists() or any((_CACHE / name).read_bytes() != (_HERE / name).read_bytes() for name in names):
            for name in names:
                shutil.copyfile(_HERE / name, _CACHE / name)
            npm = ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--cache", str(_CACHE / "npm")]
            done = subprocess.run(npm, cwd=_CACHE, capture_output=True, text=True, timeout=100, check=False)
            if done.returncode:
                pytest.skip(f"page: npm cannot get axe-core: {done.stderr.strip()[-300:]}")
    return found.read_text()


@pytest.fixture
def faults(tab: Tab, axe: str) -> Callable[[], list[str]]:
    """What axe finds on the page that is open, serious and critical."""

    def look() -> list[str]:
        tab.run(f"{axe}; undefined")
        found = tab.run(
            "axe.run(document, {resultTypes: ['violations'], preload: location.protocol !== 'file:'}).then((found) => found.violations"
            ".filter((one) => ['serious', 'critical'].includes(one.impact))"
            ".map((one) => `${one.id}: ${one.nodes.map((node) => node.html + ' ' + node.failureSummary).join('; ')}`))"
        )
        return list(found)

    return look
