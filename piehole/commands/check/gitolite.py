"""Whether gitolite, if it guards the repository, asks piehole after its own rules have admitted a ref."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from piehole import git
from piehole.errors import PieholeError
from piehole.repository import hook_files
from piehole.repository.fitness import Fault

_TRIGGER: Final = "piehole"
_FIX: Final = "see docs/guides/gitolite.md, then run `gitolite setup`"
_PATIENCE: Final = 10.0  # seconds


def faults(git_dir: Path) -> Iterator[Fault]:
    """Why gitolite does not ask piehole. Then every push is refused, because `update` never announces a ref to the gate."""
    if not hook_files.is_gitolite(git_dir):
        return
    try:
        triggers = _configured("ACCESS_2")
        folders = _configured("LOCAL_CODE")
    except PieholeError as error:
        yield Fault(
            f"gitolite guards this repository, and its settings cannot be read ({error})",
            "run this as the account and in the HOME that gitolite has, with gitolite on PATH",
            warning=True,
        )
        return
    if not any(line.split()[:1] == [_TRIGGER] for line in triggers):
        yield Fault(f"gitolite's rc file enables no trigger `{_TRIGGER}` for ACCESS_2, so every push is refused", _FIX)
    paths = [Path(folder) / "triggers" / _TRIGGER for folder in folders]
    if not any(os.access(path, os.X_OK) for path in paths):
        where = paths[0] if paths else f"triggers/{_TRIGGER} below LOCAL_CODE (which is not set)"
        yield Fault(f"{where} is missing or not executable, so every push is refused", _FIX)


def _configured(name: str) -> list[str]:
    """The lines of one setting of gitolite's rc file; empty where it is not set.

    :raises PieholeError: gitolite cannot read its settings
    """
    try:
        done = subprocess.run(
            ["gitolite", "query-rc", name],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_PATIENCE,
            env=git.environment(),
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise PieholeError(str(error)) from error
    # gitolite ends with 1 where a setting is not there, and says why where it is something else.
    if done.returncode and done.stderr.strip():
        raise PieholeError(done.stderr.strip())
    return done.stdout.splitlines()
