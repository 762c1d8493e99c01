"""What no other tool checks about the files: no path of one person's machine, and one version everywhere.

Prints a line for each fault and ends with 1 if there is one. Standard library only.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

# Parents of a checkout that many machines have: their names say nothing about anybody, and may stand in examples.
_ORDINARY = frozenset(
    Path("/", *name.split("/"))
    for name in (
        *("", "app", "build", "builds", "code", "data", "home", "mnt", "opt", "repo", "root", "src", "srv", "tmp"),
        *("usr/local/src", "usr/src", "var/lib", "var/tmp", "workspace"),
    )
)
_NEVER_LOOK_INTO = frozenset({".git", ".venv", ".cache", "build", "dist"})


def _files(root: Path) -> list[Path]:
    """What is, or would be, in the repository; without git, everything but the folders that tools make."""
    listed = subprocess.run(
        ["git", "-C", str(root), "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        capture_output=True,
        text=True,
        check=False,
    )
    if listed.returncode == 0:
        paths = [root / name for name in listed.stdout.split("\0") if name]
    else:
        paths = [path for path in root.rglob("*") if not _NEVER_LOOK_INTO & set(path.relative_to(root).parts)]
    return [path for path in paths if path.is_file() and not path.is_symlink()]


def machine_paths(root: Path, files: list[Path]) -> Iterator[str]:
    """Lines that name this checkout or the folder around it."""
    folders = [root] + ([root.parent] if root.parent not in _ORDINARY else [])
    # Not in the middle of a longer path: "{tmp}/app/x" is no path of this machine.
    names = "|".join(re.escape(str(folder)) for folder in folders)
    pattern = re.compile(rf"(?<![\w.)}}~-])(?:{names})(?=[/\s\"'`)]|$)", re.MULTILINE)
    for path in files:
        if path.name == ".gitignore":
            continue  # its patterns begin with a slash, too
        text = path.read_bytes().decode(errors="replace")
        for match in pattern.finditer(text):
            line = text.count("\n", 0, match.start()) + 1
            yield f"{path.relative_to(root)}:{line}: names a folder of this machine: {match[0]}"


def version_faults(root: Path) -> Iterator[str]:
    """The version in pyproject.toml, in the package and on top of the change log are one."""
    version = tomllib.loads((root / "pyproject.toml").read_text())["project"]["version"]
    package = re.search(r'^__version__ = "(.+)"$', (root / "piehole" / "__init__.py").read_text(), re.MULTILINE)
    if package is not None and package[1] != version:
        yield f"piehole/__init__.py: version {package[1]}, but pyproject.toml has {version}"
    log = root / "CHANGELOG.md"
    if log.exists():
        top = re.search(r"^## \[?v?(\d[^\]\s]*)", log.read_text(), re.MULTILINE)
        if top is None or top[1] != version:
            told = top[1] if top else "none"
            yield f"CHANGELOG.md: the newest version is {told}, but pyproject.toml has {version}"


def main() -> int:
    root = Path(__file__).resolve().parent.parent
    faults = [*machine_paths(root, _files(root)), *version_faults(root)]
    for fault in faults:
        print(fault)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
