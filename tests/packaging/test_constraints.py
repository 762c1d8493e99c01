"""constraints.txt is in step with pyproject.toml, and it is what this environment holds."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import NormalizedName, canonicalize_name

from tools import audit

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PINNED = {canonicalize_name(line.name): str(line.specifier).removeprefix("==") for line in audit.pinned()}


def _asked_for() -> Iterator[Requirement]:
    project = PROJECT["project"]
    for listed in (
        PROJECT["build-system"]["requires"],
        project["dependencies"],
        *project["optional-dependencies"].values(),
        *PROJECT["dependency-groups"].values(),
    ):
        yield from (Requirement(one) for one in listed if isinstance(one, str))


def test_all_that_is_asked_for_is_pinned_to_a_version_that_will_do() -> None:
    wrong = [
        str(one) for one in _asked_for() if not one.specifier.contains(PINNED.get(canonicalize_name(one.name), "0"))
    ]
    assert wrong == [], "run `make constraints`"


def test_what_is_installed_here_and_all_that_it_needs_is_pinned_and_has_that_version() -> None:
    """So the file is complete: it names what the packages need, too."""
    todo, found = list(_asked_for()), dict[NormalizedName, str]()
    while todo:
        one = todo.pop()
        name = canonicalize_name(one.name)
        try:
            there = metadata.distribution(name)
        except metadata.PackageNotFoundError:
            continue  # of a group that is not installed
        if name in found:
            continue
        found[name] = there.version
        todo += [
            needed
            for needed in map(Requirement, there.requires or ())
            if needed.marker is None or any(needed.marker.evaluate({"extra": extra}) for extra in ("", *one.extras))
        ]
    assert {name: version for name, version in found.items() if PINNED.get(name) != version} == {}, (
        "run `make constraints`, or `tools/bootstrap dev` where this environment is older"
    )
