"""The files for servers (``deploy/``) that were installed with piehole, whichever way that was."""

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


def deploy_folder() -> Path:
    """Beside this module where piehole was installed from a package, at the top of a checkout."""
    package = Path(__file__).resolve().parent
    inside = package / "deploy"
    return (inside if inside.is_dir() else package.parent / "deploy").resolve()


def described() -> Iterator[DeployFile]:
    """What the folder holds, as its README lists it."""
    for line in (deploy_folder() / "README.md").read_text().splitlines():
        if line.startswith("| `"):
            plain = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", line).replace("`", "")
            yield DeployFile(*(cell.strip() for cell in plain.strip("|").split("|")))
