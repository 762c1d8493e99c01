"""Finding the repositories of this server: every bare repository with a ``piehole.group`` below some folders."""

from __future__ import annotations

import os
from collections.abc import Container, Iterator
from pathlib import Path
from typing import Final

from piehole import git
from piehole.errors import GitError

_AT_ONCE: Final = 8


def repositories(root: Path, unread: list[str] | None = None) -> Iterator[Path]:
    """The git directories of all installed repositories below ``root``, itself included, in order of their paths.

    Symbolic links are not followed, so no repository is found twice.

    :param unread: as in :func:`candidates`
    """
    from concurrent.futures import ThreadPoolExecutor  # which a command for one repository does not need

    found = list(candidates(root, unread=unread))
    with ThreadPoolExecutor(_AT_ONCE) as pool:  # each is asked by a process of git
        yield from (git_dir for git_dir, has in zip(found, pool.map(has_group, found), strict=True) if has)


def candidates(root: Path, known: Container[str] = (), unread: list[str] | None = None) -> Iterator[Path]:
    """Folders that look like bare repositories. Nothing below one is searched.

    :param known: paths that were found before: they are not read again, and the caller checks whether they still exist
    :param unread: gets the folders that are there and cannot be read now (closed to this account, no descriptor is free, the disk
        fails): nobody knows what is below them
    """
    waiting = [str(root.resolve())]
    while waiting:
        folder = waiting.pop()
        if folder in known:
            yield Path(folder)
            continue
        try:
            with os.scandir(folder) as entries:
                # In a repository a folder may be a symbolic link; on the way to one none is followed.
                found = {entry.name: (_is_folder(entry), entry.is_symlink()) for entry in entries}
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError:
            if unread is not None:
                unread.append(folder)
            continue
        folders = {name for name, (is_folder, _) in found.items() if is_folder}
        if {"HEAD", "config"} <= found.keys() - folders and {"objects", "refs"} <= folders:
            # Whoever may make a folder here could put a pipe there, and git would wait for it forever.
            if os.path.isfile(f"{folder}/config"):  # noqa: PTH113 -- pathlib raises an error where the account may not look
                yield Path(folder)
        else:
            below = (name for name in folders if not found[name][1])
            waiting += [f"{folder.rstrip('/')}/{name}" for name in sorted(below, reverse=True)]


def _is_folder(entry: os.DirEntry[str]) -> bool:
    """Whether it is a folder, also by a symbolic link. A link that leads nowhere must not hide what lies beside it."""
    try:
        return entry.is_dir()
    except OSError:
        return False


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
