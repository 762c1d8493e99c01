"""What is built, once for all processes that share the tests; and a folder with all wheels, so that no installation asks an index."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.packaging.built import ROOT, Built, build, commit


def _once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], object]) -> Path:
    """A folder that the first process makes and all others find."""
    above = factory.getbasetemp()
    folder = (above.parent if above.name.startswith("popen-") else above) / name
    with folder.with_name(f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / ".done").exists():
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            make(folder)
            (folder / ".done").touch()
    return folder


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    """What `make build` makes; or the folder that PIEHOLE_TEST_DIST names, which `tools/release` has built and will publish."""
    if given := os.environ.get("PIEHOLE_TEST_DIST"):
        (Path(given) / ".commit").write_text(commit())
        return Built(Path(given))
    missing = [one for one in ("git", "dpkg-buildpackage", "dh") if shutil.which(one) is None]
    if missing or not (ROOT / ".git").exists():
        pytest.skip(f"no {', '.join(missing) or 'clone of git to build from'} on this machine")
    return Built(_once(tmp_path_factory, "dist", lambda folder: build(ROOT, folder, commit())))


@pytest.fixture(scope="session")
def wheels(built: Built, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheels that piehole needs, and those that make its wheel from the sdist, of the versions of constraints.txt."""

    def fetch(folder: Path) -> None:
        command = [
            sys.executable,
            "-m",
            "pip",
            "download",
            "-q",
            "-d",
            str(folder),
            "-c",
            f"{built.folder}/constraints.txt",
        ]
        tools = ["hatchling", "hatch-fancy-pypi-readme", "pip", "setuptools"]
        subprocess.run([*command, "--only-binary", ":all:", str(built.wheel), *tools], check=True, timeout=300)

    return _once(tmp_path_factory, "wheels", fetch)
