"""The files that were installed with piehole, whichever way that was: those for servers (``deploy/``), and the pages on trouble."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple


class DeployFile(NamedTuple):
    """One row of the table in ``deploy/README.md``: files that belong together, and where they usually go."""

    names: str
    place: str
    meaning: str


class TroublePage(NamedTuple):
    """A page of ``docs/trouble``. Its title is the words that it explains, as piehole prints them."""

    name: str
    words: tuple[str, ...]
    path: Path


def deploy_folder() -> Path:
    return _folder("deploy", "deploy")


def _folder(name: str, in_checkout: str) -> Path:
    """Beside this module where piehole was installed from a package, else in the checkout."""
    package = Path(__file__).resolve().parent
    inside = package / name
    return (inside if inside.is_dir() else package.parent / in_checkout).resolve()


def trouble_index() -> Path:
    """The page that leads to the others."""
    return _folder("trouble", "docs/trouble") / "index.md"


def trouble_pages() -> list[TroublePage]:
    found = []
    for path in sorted(trouble_index().parent.glob("*.md")):
        if path != trouble_index():
            with path.open() as file:
                title = file.readline()
            words = tuple(word.strip(" `:\n") for word in title.removeprefix("# ").split(","))
            found.append(TroublePage(path.stem, words, path))
    return found


def described() -> Iterator[DeployFile]:
    """What the folder holds, as its README lists it."""
    for line in (deploy_folder() / "README.md").read_text().splitlines():
        if line.startswith("| `"):
            plain = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", line).replace("`", "")
            yield DeployFile(*(cell.strip() for cell in plain.strip("|").split("|")))
