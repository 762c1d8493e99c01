"""Copies of the program, to be changed for a test: the three packages below a folder of their own.

What runs from a copy: ``python -m piehole.cli …`` in :meth:`Tree.environment`, with a working directory that holds no package of
these names; and the hooks that such a command installs, since a hook runs the packages beside its entry.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from tests.support.groups import Group
from tests.support.sites import Site

PACKAGES: Final = ("piehole", "controller", "hooks")
SOURCE: Final = Path(__file__).resolve().parents[2]


class Tree:
    """A copy of the program in ``folder``, which is made."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for package in PACKAGES:
            ignored = shutil.ignore_patterns("__pycache__")
            shutil.copytree(SOURCE / package, folder / package, ignore=ignored)

    def patch(self, name: str, old: str, new: str) -> Tree:
        """Replace a text that stands in the file exactly once.

        :raises AssertionError: it does not stand there any more: the test has to follow the code
        """
        path = self.folder / name
        text = path.read_text()
        assert text.count(old) == 1, f"{name} has this text {text.count(old)} times, not once:\n{old}"
        path.write_text(text.replace(old, new))
        return self

    def append(self, name: str, text: str) -> Tree:
        """Add to the end of a file: what is defined there takes the place of what was defined before."""
        path = self.folder / name
        path.write_text(f"{path.read_text()}\n\n{text}")
        return self

    def environment(self, inherited: Mapping[str, str]) -> dict[str, str]:
        """The environment in which Python finds this copy before any other."""
        return environment_of(self.folder, inherited)


def environment_of(tree: Path, inherited: Mapping[str, str]) -> dict[str, str]:
    return {**inherited, "PYTHONPATH": str(tree), "PYTHONSAFEPATH": "1"}


class TreeSite(Site):
    """A site whose program is a tree of its own: its controller, its hooks and what is run by hand there.

    :param program: the tree
    """

    def __init__(self, group: Group, name: str, program: Path) -> None:
        super().__init__(group, name)
        self.program = program

    @property
    def environment(self) -> dict[str, str]:
        return environment_of(self.program, self.group.environment)

    def install(self, *, replace: bool = False, **_: object) -> None:
        """By the tree's own command line; all join empty."""
        settings = ["--group", self.group.name, "--site", self.name, "--url", self.url, "--prefix", self.group.prefix]
        settings += ["--replace"] if replace else []
        self.piehole("install", *settings, "--etcd", ",".join(self.group.endpoints))
        shim = (self.repository / "hooks" / "update").read_text()
        assert str(self.program) in shim, f"the hooks of {self} are not those of its tree:\n{shim}"
