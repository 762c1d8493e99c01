"""What `make build` made, and the tree that it was made from."""

from __future__ import annotations

import os
import subprocess
import tarfile
import zipfile
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path

ROOT = Path(__file__).parents[2]


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", "-C", str(ROOT), *arguments], capture_output=True, text=True, check=True, timeout=60)
    return done.stdout.strip()


def commit() -> str:
    """What is checked out, with what is changed here and not yet committed. What git does not know is left out."""
    if not _git("status", "--porcelain", "--untracked-files=no"):
        return _git("rev-parse", "HEAD")
    return _git("-c", "user.name=nobody", "-c", "user.email=", "stash", "create")


def build(checkout: Path, into: Path, what: str, *, umask: int = 0o022, env: Mapping[str, str] | None = None) -> None:
    """Run `tools/build`."""
    done = subprocess.run(
        ["sh", str(checkout / "tools" / "build"), str(into), what],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=500,
        umask=umask,
        env={**os.environ, **(env or {})},
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:]
    (into / ".commit").write_text(what)


class Built:
    """The folder ``dist/``."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (self.wheel,) = folder.glob("*.whl")
        (self.sdist,) = folder.glob("*.tar.gz")
        (self.deb,) = folder.glob("*.deb")
        (self.sbom,) = folder.glob("*.cdx.json")
        self.commit = (folder / ".commit").read_text()
        self.version = self.wheel.name.split("-")[1]

    @property
    def artefacts(self) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in self.folder.iterdir() if path.name[0] != "."}

    @cached_property
    def tree(self) -> dict[str, int]:
        """The files of the commit that was built, and the mode of each."""
        listed = _git("ls-tree", "-r", self.commit)
        return {line.partition("\t")[2]: int(line[:6], 8) & 0o777 for line in listed.splitlines()}

    @cached_property
    def in_wheel(self) -> dict[str, int]:
        """The files of the wheel, and the mode of each."""
        with zipfile.ZipFile(self.wheel) as archive:
            return {one.filename: one.external_attr >> 16 & 0o777 for one in archive.infolist()}

    @cached_property
    def in_sdist(self) -> dict[str, int]:
        with tarfile.open(self.sdist) as archive:
            return {one.name.partition("/")[2]: one.mode for one in archive.getmembers() if one.isfile()}

    def metadata(self) -> bytes:
        with zipfile.ZipFile(self.wheel) as archive:
            return archive.read(f"piehole-{self.version}.dist-info/METADATA")
