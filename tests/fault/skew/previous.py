"""The version before, as a tree that runs; and a group whose sites, hooks and controllers may be of different versions."""

from __future__ import annotations

import io
import subprocess
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from tests.fault.tree import PACKAGES, SOURCE, TreeSite
from tests.support.command_line import Answer
from tests.support.groups import Group

# The last commit before the formats were recorded in `recorded/`.
COMMIT: Final = "2d9b0d577a073d6e300e859f7e40eb3ad94bdf36"


def unpack(into: Path, commit: str = COMMIT) -> bool:
    """Put the version before, or that of another commit, below ``into``; False where this checkout has no history to take it from."""
    done = subprocess.run(
        ["git", "-C", str(SOURCE), "archive", commit, *PACKAGES], capture_output=True, timeout=60, check=False
    )
    if done.returncode:
        return False
    with tarfile.open(fileobj=io.BytesIO(done.stdout)) as archive:
        archive.extractall(into, filter="data")
    return True


class SkewedSite(TreeSite):
    """A site whose hooks are of one version and whose controller is of another."""

    def __init__(self, group: Group, name: str, hooks: Path, controller: Path) -> None:
        super().__init__(group, name, controller)
        self.hooks = hooks

    def install(self, **_: object) -> None:
        with self._of(self.hooks):
            super().install()

    def log_problems(self) -> list[str]:
        """Nothing: a version before has its own events."""
        return []

    def run(self, tree: Path, *arguments: str, check: bool = True) -> Answer:
        """A command of this version."""
        with self._of(tree):
            return self.piehole(*arguments, check=check)

    @contextmanager
    def _of(self, tree: Path) -> Iterator[None]:
        before, self.program = self.program, tree
        try:
            yield
        finally:
            self.program = before
