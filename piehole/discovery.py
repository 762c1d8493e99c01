"""Finding the repositories of this server: every bare repository with a ``piehole.group`` below some folders."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from piehole import git
from piehole.errors import GitError


def repositories(root: Path) -> Iterator[Path]:
    """The git directories of all installed repositories below ``root``, itself included, in order of their paths.

    Symbolic links are not followed, so no repository is found twice.
    """
    for git_dir in candidates(root):
        if has_group(git_dir):
            yield git_dir


def candidates(root: Path) -> Iterator[Path]:
    """Folders that look like bare repositories. Nothing below one is looked at."""
    for folder, names, files in os.walk(root.resolve()):
        if "HEAD" in files and "config" in files and "objects" in names and "refs" in names:
            names.clear()
            # Whoever may make a folder here could put a pipe there, and git would wait for it for ever.
            if (Path(folder) / "config").is_file():
                yield Path(folder)
        else:
            names.sort()


def has_group(git_dir: Path) -> bool:
    """Whether the repository itself says that it belongs to a group, and is bare.

    One whose configuration cannot be read counts, so that whoever opens it says why.
    """
    asked = ["config", "--local", "--get-regexp", r"^(piehole\.group|core\.bare)$"]
    try:
        found = dict(line.partition(" ")[::2] for line in git.lines(git.run(git_dir, asked, ok=(0, 1)).stdout))
    except GitError:
        return True
    return bool(found.get("piehole.group")) and found.get("core.bare", "true") != "false"
