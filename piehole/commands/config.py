"""``piehole config``: the settings ``piehole.*`` of a repository or of this server, where each comes from, and changing one."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from piehole.commands.secrets import hide_userinfo
from piehole.errors import GitError, PieholeError, UsageError
from piehole.group import config as configuration
from piehole.repository import git_settings
from piehole.repository.fitness import Fault
from piehole.repository.git_settings import GitConfig
from piehole.repository.repository import Repository
from piehole.repository.settings import SETTINGS, PieholeSetting, find

LOCAL: Final = "local"
SERVER: Final = ("system", "global")
_RELOAD: Final = "a running controller reads it after `systemctl reload piehole-controller` (SIGHUP)"


@dataclass(frozen=True, slots=True)
class FoundSetting:
    """What a setting is here. ``scope``: git's word, or ``default``; ``file``: where it is set; ``fault``: why it cannot be used."""

    setting: PieholeSetting
    values: tuple[str, ...]
    scope: str
    file: str = ""
    fault: str = ""


@dataclass(frozen=True, slots=True)
class UnknownSetting:
    """A variable ``piehole.*`` that piehole does not read, so that it has no effect. Its value may be anything, and is not kept."""

    name: str
    scope: str
    file: str
    nearest: str

    @property
    def fault(self) -> Fault:
        meant = f"did you mean piehole.{self.nearest}? " if self.nearest else ""
        place = f"-f {self.file}" if self.file else f"--{self.scope}"
        return Fault(
            f"{self.name} in {self.file or self.scope} is no setting of this version of piehole, so it has no effect",
            f"{meant}`git config {place} --unset-all {self.name}` removes it",
            warning=True,
        )


def read(git_dir: Path | None, scopes: Sequence[str] = ()) -> GitConfig:
    """The configuration of a repository, or of this server; ``scopes``: only what these say.

    :raises GitError: git cannot read it
    """
    found = GitConfig(git_dir)
    return found if git_dir and not scopes else found.only(scopes or (*SERVER, "command"))


def show(found: GitConfig, names: Sequence[str] = tuple(SETTINGS)) -> list[FoundSetting]:
    """The settings of these names, passwords in URLs hidden."""
    return [_show(found, SETTINGS[name]) for name in names]


def _show(found: GitConfig, setting: PieholeSetting) -> FoundSetting:
    places = found.places(setting.key)
    if not places:
        return FoundSetting(setting, setting.default, "default")
    split = found.many if setting.several and setting.commas else found.narrowest
    values = split(setting.key) if setting.several else (places[-1].value,)
    fault = ""
    try:
        configuration.check(setting.name, values)
        if places[-1].scope == LOCAL:
            _refuse_in_repository(setting)
    except UsageError as error:
        fault = hide_userinfo(str(error))
    return FoundSetting(setting, tuple(map(hide_userinfo, values)), places[-1].scope, places[-1].file, fault)


def unknown(found: GitConfig) -> list[UnknownSetting]:
    """What is set below ``piehole.`` and is no setting."""
    known = {setting.key: setting.name for setting in SETTINGS.values()}
    names = [name for name in found.names() if name.startswith("piehole.") and name not in known]
    return [
        UnknownSetting(name, place.scope, place.file, "".join(known[one] for one in _near(name, list(known))))
        for name in names
        for place in found.places(name)[-1:]
    ]


def _near(name: str, known: Sequence[str]) -> list[str]:
    return difflib.get_close_matches(name, known, n=1, cutoff=0.75)


def faults(git_dir: Path) -> Iterator[Fault]:
    """What is set here and cannot be used, or is no setting at all."""
    found = GitConfig(git_dir)
    for one in show(found):
        if one.fault:
            yield Fault(one.fault, f"`piehole config -C {git_dir} {one.setting.name} VALUE` sets it ({one.file})")
    yield from (one.fault for one in unknown(found))


def named(name: str) -> PieholeSetting:
    """
    :raises UsageError: there is no such setting
    """
    setting = find(name)
    if setting is None:
        near = difflib.get_close_matches(name.removeprefix("piehole."), list(SETTINGS), n=1)
        meant = f" (did you mean {near[0]!r}?)" if near else ""
        place = f" A repository is named with -C {name}." if Path(name).is_dir() else ""
        raise UsageError(f"there is no setting {name!r}{meant}. `piehole config` lists them all.{place}")
    return setting


def change(git_dir: Path | None, setting: PieholeSetting, values: Sequence[str], scope: str) -> list[str]:
    """Set a setting to these values, or unset it where there are none; what to know and to do then.

    :param scope: ``local``, ``global`` or ``system``
    :raises UsageError: it is not changed in this way, or not to these values
    :raises PieholeError: this account may not write the configuration, or somebody else is writing it
    """
    before = read(git_dir, () if scope == LOCAL else SERVER)
    _refuse_elsewhere(setting, before, scope)
    if values:
        configuration.check(setting.name, values)
    elif not before.only([scope]).places(setting.key):
        return [f"{setting.name} is not set there: nothing was changed"]
    elif (
        before.local("piehole.group")
        and setting.otherwise == "required"
        and {one.scope for one in before.places(setting.key)} == {scope}
    ):
        raise UsageError(
            f"piehole.{setting.name} is needed, and it is set nowhere else. Give it another value instead."
        )
    if scope == LOCAL and git_dir:
        Repository(git_dir).check_owner()
    try:
        git_settings.write(git_dir, setting.name, values, scope)
    except GitError as error:
        hint = " Run this as root." if scope == "system" and "ermission denied" in error.stderr else ""
        raise PieholeError(
            f"piehole.{setting.name} was not set: {error.stderr.removeprefix('error: ')}.{hint}"
        ) from error
    return [*_what_follows(git_dir, setting, values, scope), *_trouble(git_dir)]


def _refuse_elsewhere(setting: PieholeSetting, before: GitConfig, scope: str) -> None:
    name = f"piehole.{setting.name}"
    if scope == LOCAL:
        _refuse_in_repository(setting)
    if scope != LOCAL and not setting.server:
        raise UsageError(f"{name} is a repository's own, so it is not set with --{scope}.")
    if setting.changes and (scope == LOCAL or (setting.name == "prefix" and before.one("piehole.prefix"))):
        raise UsageError(f"{name} is not changed here: {setting.changes}.")


def _refuse_in_repository(setting: PieholeSetting) -> None:
    if not setting.repository:
        raise UsageError(
            f"piehole.{setting.name} is a setting of the whole server: use --system, or --global for this account alone."
        )


def _trouble(git_dir: Path | None) -> Iterator[str]:
    """Why a repository that belongs to a group cannot be served with what is set."""
    found = GitConfig(git_dir)
    if git_dir is None or not found.local("piehole.group"):
        return
    try:
        configuration.parse(git_dir, found)
    except UsageError as error:
        yield f"warning: nothing can be pushed here until this is right, too: {error}"


def _what_follows(git_dir: Path | None, setting: PieholeSetting, values: Sequence[str], scope: str) -> list[str]:
    """Sentences for the administrator."""
    found = GitConfig(git_dir)
    said = []
    now = found.places(setting.key)
    if git_dir and now and (scope != LOCAL or not values) and now[-1].scope != scope:
        said.append(f"note: here {now[-1].file} decides, which sets it, too")
    if scope == "global":
        said.append(
            "note: this account's own: the controller, and whoever pushes, read it only where they run as this account"
        )
    if setting.after:
        said.append(setting.after)
    elif scope == LOCAL:
        said.append("a running controller reads it within five seconds")
    else:
        said.append(f"{_RELOAD}; repositories that set it themselves keep theirs")
    return said
