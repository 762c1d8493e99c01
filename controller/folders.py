"""Scans the root folders of a controller for repositories, and reports which are new or configured otherwise."""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import structlog

from piehole.repository import discovery

Stamp = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class FolderScan:
    """``present``: every repository of a group; ``changed``: those whose configuration is new or was written since the last scan."""

    present: frozenset[str]
    changed: tuple[Path, ...]


class Folders:
    """Reads a repository's configuration only when its file has changed: a scan of thousands of repositories must be cheap."""

    def __init__(self, roots: Sequence[Path]) -> None:
        self._roots = roots
        self._stamps: dict[str, Stamp] = {}
        self._grouped: set[str] = set()
        self._unread: set[str] = set()
        self._log = structlog.get_logger()

    def forget(self, git_dir: Path | None = None) -> None:
        """Have the next scan report a repository (None: every one) as changed."""
        if git_dir is None:
            self._stamps.clear()
        else:
            self._stamps.pop(str(git_dir), None)

    def scan(self) -> FolderScan:
        """A repository is gone where its file or a folder above it is not there. Where that cannot be read now, it is what it was."""
        seen: set[str] = set()
        changed: list[Path] = []
        unread: list[str] = []
        for root in self._roots:
            for git_dir in discovery.candidates(root, self._stamps, unread):
                key = str(git_dir)
                try:
                    found = os.stat(f"{key}/config")  # noqa: PTH116 -- pathlib takes twice as long, for thousands of them
                except (FileNotFoundError, NotADirectoryError):
                    continue
                except OSError:
                    seen.add(key)
                    continue
                if not stat.S_ISREG(found.st_mode):  # git would wait for ever for a pipe
                    continue
                seen.add(key)
                stamp = (found.st_mtime_ns, found.st_size, found.st_ino)
                if self._stamps.get(key) == stamp:
                    continue
                self._stamps[key] = stamp
                if discovery.has_group(git_dir):
                    self._grouped.add(key)
                    changed.append(git_dir)
                else:
                    self._grouped.discard(key)
        hidden = tuple(f"{folder.rstrip('/')}/" for folder in unread)
        self._complain_of(unread)
        for gone in [key for key in self._stamps.keys() - seen if not key.startswith(hidden)]:
            del self._stamps[gone]
            self._grouped.discard(gone)
        return FolderScan(frozenset(self._grouped), tuple(changed))

    def _complain_of(self, unread: Sequence[str]) -> None:
        """Log the folders that cannot be read, once for each."""
        for folder in set(unread) - self._unread:
            self._log.warning("folder.unreadable", folder=folder)
        self._unread = set(unread)
