"""The git settings that `piehole install` makes in a repository, each with its reason."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Sequence
from copy import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple

from piehole import git
from piehole.refs import HELD_REFS, KEPT_REFS


@dataclass(frozen=True, slots=True)
class Setting:
    name: str
    value: str
    why: str
    several: bool = False
    # Only where nobody has set it at all, and not missed where it is not set.
    default: bool = False


_HELD: Final = Setting(
    "transfer.hideRefs",
    HELD_REFS.rstrip("/"),
    "what a push to another site brings is not shown before it is accepted",
    several=True,
)
SETTINGS: Final = (
    Setting("core.logAllRefUpdates", "always", "every ref has a reflog, so any earlier tip can be found"),
    Setting("core.fsync", "all", "an accepted push survives a power failure"),
    Setting(
        "core.filesRefLockTimeout", "1000", "a push waits a moment for the controller's own ref moves (milliseconds)"
    ),
    Setting("reftable.lockTimeout", "1000", "the same, and other pushes, where one lock is for all refs"),
    Setting("receive.fsckObjects", "true", "malformed objects are refused where they are pushed, before they spread"),
    Setting(
        "pack.writeReverseIndex",
        "true",
        "a large pack answers the peers in 3 ms instead of 8; git's default since 2.41",
    ),
    Setting("uploadpack.allowAnySHA1InWant", "true", "peers ask for exactly the object that the consensus names"),
    Setting(f"gc.{KEPT_REFS}*.reflogExpire", "never", "the reflogs of kept tips say since when they are kept"),
    Setting(f"gc.{KEPT_REFS}*.reflogExpireUnreachable", "never", "as above"),
    Setting(
        "transfer.hideRefs", KEPT_REFS.rstrip("/"), "kept tips are piehole's own and not shown to clients", several=True
    ),
    _HELD,
    Setting(
        "receive.advertisePushOptions", "true", "`git push -o piehole.verbose` shows the id of the push", default=True
    ),
)


def canonical(name: str) -> str:
    """A setting's name as git lists it: only a subsection keeps its case."""
    section, _, variable = name.rpartition(".")
    head, dot, subsection = section.partition(".")
    return f"{head.lower()}{dot}{subsection}.{variable.lower()}"


def missing(git_dir: Path, *, defaults: bool = False) -> list[Setting]:
    """The settings that this repository's own configuration lacks, or has with another value.

    :param defaults: also those that are made only where they are set nowhere
    """
    found = GitConfig(git_dir)
    lacking = []
    for setting in SETTINGS:
        if setting.default:
            lacking += [setting] if defaults and not found.one(canonical(setting.name)) else []
            continue
        held: Iterable[str] = (
            found.every(canonical(setting.name)) if setting.several else (found.local(canonical(setting.name)),)
        )
        if setting.value not in held:
            lacking.append(setting)
    return lacking


def hide_held_refs(git_dir: Path) -> None:
    """Hide held refs from clients, where an older piehole was installed here. :raises GitError: the configuration cannot be written"""
    if _HELD.value not in GitConfig(git_dir).every(canonical(_HELD.name)):
        git.run(git_dir, ["config", "--local", "--add", _HELD.name, _HELD.value])


def apply(git_dir: Path) -> list[Setting]:
    """Set what is missing; return what was set.

    :raises GitError: the configuration cannot be written
    """
    lacking = missing(git_dir, defaults=True)
    for setting in lacking:
        mode = "--add" if setting.several else "--replace-all"
        git.run(git_dir, ["config", "--local", mode, setting.name, setting.value])
    return lacking


def write(git_dir: Path | None, name: str, values: Sequence[str], scope: str = "local") -> None:
    """Set ``piehole.NAME`` in this scope to exactly these values; none unsets it. Never is it unset in between.

    :raises GitError: the file cannot be written
    """
    asked = ["config", f"--{scope}"]
    if not values:
        git.run(git_dir, [*asked, "--unset-all", f"piehole.{name}"], ok=(0, 5))
    for number, value in enumerate(values):
        git.run(git_dir, [*asked, "--add" if number else "--replace-all", f"piehole.{name}", value])


class ConfigValue(NamedTuple):
    """One line of git's configuration. ``scope`` is git's word: system, global, local, worktree or command."""

    scope: str
    file: str
    value: str


class GitConfig:
    """All of git's configuration as one repository (or the machine) sees it, read by one git process."""

    def __init__(self, git_dir: str | os.PathLike[str] | None) -> None:
        """
        :raises GitError: git cannot read its configuration
        """
        listed = git.run(git_dir, ["config", "--list", "--show-scope", "--show-origin", "--null"]).stdout
        fields = listed.decode("utf-8", "surrogateescape").split("\0")[:-1]
        self._values: dict[str, list[ConfigValue]] = {}
        for scope, origin, entry in zip(fields[::3], fields[1::3], fields[2::3], strict=True):
            name, separator, value = entry.partition("\n")
            found = ConfigValue(scope, origin.removeprefix("file:"), value if separator else "true")
            self._values.setdefault(name, []).append(found)

    def one(self, name: str, default: str = "") -> str:
        """The effective value: the last one, as in git itself. Names are lower-case."""
        found = self._values.get(name)
        return found[-1].value if found else default

    def is_true(self, name: str) -> bool:
        """Whether git takes the effective value for true."""
        return self.one(name, "false").lower() in ("true", "yes", "on", "1")

    def names(self) -> tuple[str, ...]:
        """The names of all variables that are set."""
        return tuple(self._values)

    def many(self, name: str) -> tuple[str, ...]:
        """All values of the narrowest scope that sets the name: a repository's list replaces the server's. Commas separate values, too."""
        return tuple(part.strip() for value in self.narrowest(name) for part in value.split(",") if part.strip())

    def narrowest(self, name: str) -> tuple[str, ...]:
        """All values of the narrowest scope that sets the name, unsplit: they may hold commas, as ref names do."""
        found = self.places(name)
        return tuple(one.value for one in found if one.scope == found[-1].scope)

    def every(self, name: str) -> tuple[str, ...]:
        """All values of all scopes, as git itself reads lists such as transfer.hideRefs."""
        return tuple(one.value for one in self.places(name))

    def system(self, name: str) -> tuple[str, ...]:
        """All values that the server's own configuration sets: the only ones that hold for every account."""
        return tuple(one.value for one in self.places(name) if one.scope == "system")

    def local(self, name: str) -> str:
        """The value that the repository itself sets, or ``""``."""
        return next((one.value for one in reversed(self.places(name)) if one.scope == "local"), "")

    def places(self, name: str) -> Sequence[ConfigValue]:
        """All values of all scopes, each with its place; the last one counts most."""
        return self._values.get(name, ())

    def only(self, scopes: Collection[str]) -> GitConfig:
        """What these scopes set."""
        found = copy(self)
        chosen = {name: [one for one in values if one.scope in scopes] for name, values in self._values.items()}
        found._values = {name: values for name, values in chosen.items() if values}
        return found
