"""The git settings that `piehole install` makes in a repository, each with its reason."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from piehole import git
from piehole.group import keys
from piehole.group.config import GitConfig


@dataclass(frozen=True, slots=True)
class Setting:
    name: str
    value: str
    why: str
    several: bool = False


SETTINGS: Final = (
    Setting("core.logAllRefUpdates", "always", "every ref has a reflog, so any earlier tip can be found"),
    Setting("core.fsync", "all", "an accepted push survives a power failure"),
    Setting(
        "core.filesRefLockTimeout", "1000", "a push waits a moment for the controller's own ref moves (milliseconds)"
    ),
    Setting("receive.fsckObjects", "true", "malformed objects are refused where they are pushed, before they spread"),
    Setting(
        "pack.writeReverseIndex",
        "true",
        "a large pack answers the peers in 3 ms instead of 8; git's default since 2.41",
    ),
    Setting("uploadpack.allowAnySHA1InWant", "true", "peers ask for exactly the object that the consensus names"),
    Setting(f"gc.{keys.KEPT}*.reflogExpire", "never", "the reflogs of kept tips say since when they are kept"),
    Setting(f"gc.{keys.KEPT}*.reflogExpireUnreachable", "never", "as above"),
    Setting(
        "transfer.hideRefs", keys.KEPT.rstrip("/"), "kept tips are piehole's own and not shown to clients", several=True
    ),
)


def _canonical(name: str) -> str:
    """A setting's name as git lists it: only a subsection keeps its case."""
    section, _, variable = name.rpartition(".")
    head, dot, subsection = section.partition(".")
    return f"{head.lower()}{dot}{subsection}.{variable.lower()}"


def shared_mode(shared: str) -> int:
    """The mode of a folder that everybody writes who may push, for a value of core.sharedRepository (git-config(1))."""
    if shared in ("group", "true", "1"):
        return 0o2770
    if shared in ("all", "world", "everybody", "2"):
        return 0o2777
    try:
        bits = int(shared, 8) & 0o666 if shared.startswith("0") else 0
    except ValueError:
        bits = 0
    # Who may read and write files may enter the folder; for the group's sake new files get the folder's group.
    return 0o700 | bits | (bits & 0o444) >> 2 | (0o2000 if bits & 0o060 else 0)


def missing(git_dir: Path) -> list[Setting]:
    """Those settings that this repository's own configuration lacks or has otherwise."""
    found = GitConfig(git_dir)
    lacking = []
    for setting in SETTINGS:
        held: Iterable[str] = (
            found.every(_canonical(setting.name)) if setting.several else (found.local(_canonical(setting.name)),)
        )
        if setting.value not in held:
            lacking.append(setting)
    return lacking


def apply(git_dir: Path) -> list[Setting]:
    """Set what is missing; return what was set.

    :raises GitError: the configuration cannot be written
    """
    lacking = missing(git_dir)
    for setting in lacking:
        mode = "--add" if setting.several else "--replace-all"
        git.run(git_dir, ["config", "--local", mode, setting.name, setting.value])
    return lacking


def write(git_dir: Path, name: str, values: Iterable[str]) -> None:
    """Set ``piehole.NAME`` in the repository's own configuration to exactly these values; none unsets it."""
    git.run(git_dir, ["config", "--local", "--unset-all", f"piehole.{name}"], ok=(0, 5))
    for value in values:
        git.run(git_dir, ["config", "--local", "--add", f"piehole.{name}", value])
