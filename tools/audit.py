"""Audit the packages that an installation, a build or a developer may bring: those of constraints.txt that are installed here.

Usage: python -m tools.audit (`make audit`)

Always: the files of each package have the hashes that its wheel names, and its licence is allowed. Where a database of advisories
answers: no version has a known fault (pip-audit). Exit status: 0 nothing was found; 1 a fault; 3 no fault was found, but the
database did not answer for all.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any, Final

from packaging.requirements import Requirement

ROOT: Final = Path(__file__).resolve().parents[1]
# What may be used, and shipped beside piehole; as SPDX, classifiers and older metadata write it.
_ALLOWED: Final = re.compile(
    r"\b(MIT|BSD|0BSD|Apache|ISC|MPL|Mozilla Public|PSF|PSFL|Python Software Foundation|Public Domain|CC0)\b"
)
_EXCEPTIONS: Final = {
    "atheris": "its metadata names none; Apache-2.0 by its LICENSE file",
    "grokmirror": "GPL-3.0-or-later; measurements run it, nothing ships it",
}


def pinned() -> Iterator[Requirement]:
    """The lines of constraints.txt that hold for this Python and machine."""
    text = (ROOT / "constraints.txt").read_text()
    lines = (Requirement(line) for line in text.splitlines() if line and line[0] != "#")
    return (line for line in lines if line.marker is None or line.marker.evaluate())


def changed_files(package: metadata.Distribution) -> Iterator[str]:
    """The files that do not have the hash that the wheel named."""
    for file in package.files or ():
        if file.hash is None or file.suffix == ".pyc":
            continue
        try:
            found = hashlib.new(file.hash.mode, Path(str(file.locate())).read_bytes(), usedforsecurity=False).digest()
        except FileNotFoundError:
            yield f"{file} is missing"
            continue
        if base64.urlsafe_b64encode(found).rstrip(b"=").decode() != file.hash.value:
            yield f"{file} is not what the wheel brought"


def refused_licence(package: metadata.Distribution) -> str:
    """What a package says of its licence, where that is not allowed; ``""`` where it is."""
    told = package.metadata.json
    if expression := str(told.get("license_expression", "")):
        fine = all(_ALLOWED.search(part) for part in expression.split(" AND "))
        return "" if fine else expression
    words = [str(told.get("license", "")).partition("\n")[0]]
    words += [one for one in told.get("classifier", []) if one.startswith("License ::")]
    return "" if any(map(_ALLOWED.search, words)) else "; ".join(filter(None, words)) or "no licence"


def advisories(lines: list[Requirement], *options: str) -> tuple[list[str], list[str]]:
    """The known faults of these versions, and the packages for which no database answered."""
    text = "".join(f"{line.name}{line.specifier}\n" for line in lines)
    command = ["pip-audit", "-r", "/dev/stdin", "--no-deps", "--disable-pip", "--progress-spinner", "off", "-f", "json"]
    try:
        done = subprocess.run(
            [Path(sys.executable).with_name(command[0]), *command[1:], *options],
            input=text,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        answered: dict[str, Any] = {one["name"]: one for one in json.loads(done.stdout)["dependencies"]}
    except (OSError, subprocess.TimeoutExpired, ValueError):
        answered = {}
    faults = [
        f"{name} {one['version']}: {found['id']}, fixed in {', '.join(found['fix_versions']) or 'no version'}"
        for name, one in answered.items()
        for found in one.get("vulns", ())
    ]
    return faults, [line.name for line in lines if "vulns" not in answered.get(line.name, {})]


def main(arguments: list[str]) -> int:
    faults: list[str] = []
    installed: list[Requirement] = []
    for line in pinned():
        try:
            package = metadata.distribution(line.name)
        except metadata.PackageNotFoundError:
            continue  # of a group that is not installed
        installed.append(line)
        faults += [f"{line.name}: {fault}" for fault in changed_files(package)]
        licence = refused_licence(package)
        if licence and line.name not in _EXCEPTIONS:
            faults.append(f"{line.name}: its licence is not allowed: {licence}")
    known, unanswered = advisories(installed, *arguments)
    faults += known
    say = sys.stdout.write
    say("".join(f"{fault}\n" for fault in faults))
    say(
        f"{len(installed)} packages: {len(faults) or 'no'} fault{'s' * (len(faults) != 1)} in files, licences and advisories\n"
    )
    if unanswered:
        say(
            f"not checked: no database of advisories answered for {len(unanswered)} of them. Run `make audit` where the network "
            "reaches one (pypi.org)\n"
        )
    return 1 if faults else 3 if unanswered else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
