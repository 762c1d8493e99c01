"""Make anew what git derives from packs and commits: indexes, reverse indexes, commit-graphs, multi-pack-indexes and bitmaps.

The damaged file goes to ``<repository>/piehole/damaged/`` and is not deleted. An index is replaced by one rename, so that its pack is
there for git all the time.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path
from typing import Final

from piehole import git
from piehole.errors import GitError
from piehole.files import sync
from piehole.transfer import maintenance, soundness
from piehole.transfer.damaged_files import FOLDER, put_aside

_EACH: Final = 3600.0  # seconds for one git process; a large pack is read and unpacked


def indexes(git_dir: Path, damaged: Collection[Path], object_format: str) -> list[Path]:
    """Make the damaged indexes of whole packs anew, and the reverse indexes beside them; returns what is damaged still.

    :raises OSError: a file cannot be moved
    """
    left = list(damaged)
    packs = {path.with_suffix(".pack") for path in damaged if path.suffix in (".idx", ".rev")}
    for pack in sorted(packs - set(damaged)):
        if soundness.ends_with_its_checksum(pack, object_format, None) and _index(git_dir, pack, object_format):
            left = [path for path in left if path not in (pack.with_suffix(".idx"), pack.with_suffix(".rev"))]
    return left


def _index(git_dir: Path, pack: Path, object_format: str) -> bool:
    with tempfile.TemporaryDirectory(prefix="view-", dir=git_dir / "piehole") as made:
        made_index = Path(made) / f"{pack.stem}.idx"
        command = [
            "-c",
            "core.fsync=all",
            "index-pack",
            f"--object-format={object_format}",
            "--rev-index",
            "-o",
            str(made_index),
        ]
        with suppress(GitError):
            # Run outside of the repository: it then looks at the pack alone.
            git.run(None, [*command, str(pack)], timeout=_EACH)
        if not made_index.exists():
            return False
        folder = git_dir / FOLDER
        folder.mkdir(parents=True, exist_ok=True)
        for made_file in (made_index, made_index.with_suffix(".rev")):
            old = pack.with_suffix(made_file.suffix)
            if not made_file.exists() or (made_file.suffix == ".rev" and not old.exists()):
                continue
            if old.exists():
                put_aside(folder, old, leave=True)
            made_file.chmod(0o444)
            made_file.replace(old)
        sync(pack.parent)
    return True


def derived(git_dir: Path, gone: Collection[Path]) -> None:
    """Make anew what was taken out: a commit-graph, a multi-pack-index, a bitmap. What git cannot make now it makes the next time that
    small packs are combined; it works without.
    """
    graphs = any("commit-graph" in f"{path.parent.name}/{path.name}" for path in gone)
    bitmaps = any(path.suffix == ".bitmap" for path in gone)
    if graphs:
        with suppress(GitError):
            commits = maintenance.commits_to_list(git_dir)
            _try(git_dir, ["commit-graph", "write", "--stdin-commits", "--split"], commits)
    if bitmaps:
        # Also in place of a single pack's: git prefers it, and it needs no pack to be written anew.
        bitmaps = _try(git_dir, ["multi-pack-index", "write", "--bitmap"])
    if any(path.name.startswith("multi-pack-index") for path in gone) and not bitmaps:
        _try(git_dir, ["multi-pack-index", "write"])


def _try(git_dir: Path, command: list[str], stdin: bytes = b"") -> bool:
    careful = ["-c", "core.fsync=all", "-c", f"core.hooksPath={os.devnull}"]
    try:
        git.run(git_dir, [*careful, *command], stdin=stdin, timeout=_EACH)
    except GitError:
        return False
    return True
