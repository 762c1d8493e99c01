"""What makes a repository unfit for piehole. ``install`` refuses such a repository, and ``check`` names each problem."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from piehole import git
from piehole.errors import GitError, PieholeError
from piehole.repository.git_settings import GitConfig

OLDEST_GIT: Final = (2, 36)  # core.fsync; the hook reference-transaction itself came with 2.28


@dataclass(frozen=True, slots=True)
class Fault:
    """A problem and its fix. A warning is about something that piehole supports, within the limits that it names."""

    what: str
    fix: str
    warning: bool = False

    def __str__(self) -> str:
        return f"{self.what}: {self.fix}"


def find_repository(folder: Path) -> Path:
    """The git directory of the bare repository at ``folder``.

    :raises PieholeError: there is none, or it is not bare
    """
    if not folder.is_dir():
        raise PieholeError(f"there is no folder {folder}.")
    asked = ["rev-parse", "--absolute-git-dir", "--is-bare-repository"]
    try:
        try:
            shown = git.run(None, ["-C", str(folder), *asked]).stdout
        except GitError as error:
            if "safe.bareRepository" not in error.stderr:
                raise
            shown = git.run(folder.resolve(), asked).stdout  # named outright, as that setting asks for
    except GitError as error:
        if "dubious ownership" in error.stderr:
            raise PieholeError(
                f"git refuses {folder} because another account owns it (safe.directory). Run this as the repository's owner."
            ) from error
        raise PieholeError(f"{folder} is no git repository. Make one with `git init --bare {folder}`.") from error
    git_dir, bare = git.lines(shown)
    if bare != "true":
        raise PieholeError(
            f"{folder} is not a bare repository: its work tree would not follow. Use a bare one (`git clone --bare`)."
        )
    if re.search(r"[\n\r]", git_dir):
        raise PieholeError(f"{git_dir!r} cannot be served: its path holds a line break.")
    return Path(git_dir)


def git_version() -> tuple[int, ...]:
    shown = git.lines(git.run(None, ["version"]).stdout)[0]
    return tuple(int(part) for part in re.findall(r"\d+", shown)[:3])


def faults(git_dir: Path) -> list[Fault]:
    """What makes this repository unfit, and the warnings."""
    found: list[Fault] = []
    config = GitConfig(git_dir)
    version = git_version()
    if version < OLDEST_GIT:
        found.append(
            Fault(
                f"git {'.'.join(map(str, version))} is too old", f"install git {OLDEST_GIT[0]}.{OLDEST_GIT[1]} or newer"
            )
        )
    hooks_path = config.one("core.hookspath")
    if hooks_path and (git_dir / hooks_path).resolve() != (git_dir / "hooks").resolve():
        found.append(
            Fault(
                f"core.hooksPath is {hooks_path}, so git runs no hook of {git_dir / 'hooks'}",
                f"set it for this repository alone: git -C {git_dir} config core.hooksPath hooks",
            )
        )
    if (git_dir / "shallow").exists():
        found.append(Fault("the repository is shallow, its history is cut", "complete it with `git fetch --unshallow`"))
    if config.one("extensions.partialclone") or any(
        config.one(f"remote.{name}.promisor") == "true" for name in _remotes(git_dir)
    ):
        found.append(
            Fault(
                "the repository is a partial clone, objects are missing on purpose", "clone it again without a filter"
            )
        )
    if (git_dir / "info" / "grafts").exists():
        found.append(
            Fault(
                "info/grafts rewrites history as this site sees it",
                "remove the file, or make the change real with `git replace --convert-graft-file` and a rewrite",
            )
        )
    alternates = git_dir / "objects" / "info" / "alternates"
    if alternates.exists():
        found.append(
            Fault(
                f"objects are borrowed from {alternates.read_text().strip()}",
                "this works as long as nothing is pruned there; `git repack -a -d` and removing objects/info/alternates ends it",
                warning=True,
            )
        )
    if (git_dir / "lfs").exists():
        found.append(
            Fault(
                "the repository uses Git LFS",
                "piehole replicates the pointers, not the large files: give all sites one LFS server",
                warning=True,
            )
        )
    return found


def _remotes(git_dir: Path) -> list[str]:
    return git.lines(git.run(git_dir, ["remote"]).stdout)


def refuse_unfit(git_dir: Path) -> list[Fault]:
    """The warnings about a repository that is fit.

    :raises PieholeError: it is unfit
    """
    found = faults(git_dir)
    grave = [fault for fault in found if not fault.warning]
    if grave:
        raise PieholeError(f"{git_dir} cannot be installed. " + " ".join(f"{fault}." for fault in grave))
    return found
