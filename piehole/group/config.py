"""The configuration of one repository, read from the variables ``piehole.*`` of git's configuration (docs/reference/settings.md)."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeAlias

from piehole.deadline import seconds
from piehole.errors import UsageError
from piehole.etcd.endpoint import Credentials, Endpoint
from piehole.group import keys
from piehole.group.limits import SiteLimits
from piehole.repository.fitness import setting_that_admits_gaps
from piehole.repository.git_settings import GitConfig
from piehole.repository.settings import SETTINGS, PieholeSetting, default

# Settings from a command line, by the variable's lower-case name.
Overrides: TypeAlias = Mapping[str, str | Sequence[str]]

DEFAULT_PROTOCOLS: Final = SETTINGS["allowProtocol"].default
READ_GATES: Final = ("off", "wait", "strict")
_LONGEST: Final = 1e6  # seconds: a socket takes no time limit above 24 days


@dataclass(frozen=True, slots=True)
class Config:
    """The settings of piehole in a repository's git configuration. Times are seconds; ``shared`` is the value of core.sharedRepository.

    ``admits_gaps``: the setting with which git accepts incomplete histories here, ``""`` where there is none; ``limits``: of
    the names that this disk can hold.
    """

    git_dir: Path
    group: str
    group_id: str
    site: str
    site_id: str
    url: str
    etcd: tuple[str, ...]
    prefix: str = keys.DEFAULT_PREFIX
    exclude: tuple[str, ...] = ()
    keep_for: str = "90.days"
    allow_protocol: tuple[str, ...] = DEFAULT_PROTOCOLS
    hook_timeout: float = 10.0
    catch_up: float = 3.0
    copies_timeout: float = 10.0
    read_gate: str = "off"
    read_wait: float = 3.0
    announce: float = 0.0
    max_deletes: int = 0
    pusher_from: tuple[str, ...] = ()
    verify_every: float = 7 * 86400.0
    credentials: Credentials = field(default_factory=Credentials)
    object_format: str = "sha1"
    shared: str = ""
    admits_gaps: str = ""
    limits: SiteLimits = field(default_factory=SiteLimits)

    @property
    def keyspace(self) -> keys.Keyspace:
        return keys.Keyspace(self.prefix)


def _count(name: str, text: str) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) < 10):
        raise UsageError(f"{name} is {text!r}; it must be a whole number, such as 100, or 0 for no limit.")
    return int(text)


def _one_of(name: str, text: str, words: Sequence[str]) -> str:
    if text.lower() not in words:
        raise UsageError(f"{name} is {text!r}; it must be {', '.join(words[:-1])} or {words[-1]}.")
    return text.lower()


_LONGEST_ANNOUNCE: Final = 10.0  # seconds


def _announce(text: str) -> float:
    value = 0.0 if text.lower() in ("off", "false", "no") else seconds("piehole.announce", text)
    if value > _LONGEST_ANNOUNCE:
        raise UsageError(
            f"piehole.announce is {text!r}; a push waits for it, so at most {_LONGEST_ANNOUNCE:g}s, or off."
        )
    return value


_SOURCE: Final = re.compile(r"env:[A-Za-z_]\w*|key-comment(:[^\x00-\x1f]+)?|account", re.ASCII)


def _pusher_from(sources: tuple[str, ...]) -> tuple[str, ...]:
    for source in sources:
        if not _SOURCE.fullmatch(source):
            raise UsageError(
                f"piehole.pusherFrom is {source!r}; it must be env:NAME, key-comment, key-comment:FILE or account."
            )
    return sources


# How the text of a setting with one value is read; those that are not here are taken as they are.
_READ: Final[Mapping[str, Callable[[str], Any]]] = {
    "group": keys.check_group,
    "site": keys.check_site,
    "prefix": lambda text: keys.Keyspace(text).prefix,
    **{
        name: partial(seconds, f"piehole.{name}", longest=_LONGEST)
        for name in ("hookTimeout", "catchUp", "copiesTimeout", "readWait")
    },
    "readGate": lambda text: _one_of("piehole.readGate", text, READ_GATES),
    "announce": _announce,
    "maxDeletes": partial(_count, "piehole.maxDeletes"),
    "verifyEvery": partial(seconds, "piehole.verifyEvery", longest=1e10),
}


def parse(
    git_dir: Path,
    found: GitConfig,
    overrides: Overrides | None = None,
    needed: Sequence[str] = ("group", "site", "etcd"),
) -> Config:
    """The configuration of one repository; ``overrides`` (lower-case variable -> value) come from the command line.

    :param needed: the settings that must be there
    :raises UsageError: a required setting is missing, or a value is malformed
    """
    given = overrides or {}

    def one(name: str) -> str:
        value = given.get(name.lower()) or found.one(f"piehole.{name.lower()}", default(name))
        return value if isinstance(value, str) else ",".join(value)

    def read(name: str) -> Any:
        return _READ[name](one(name))

    def many(name: str) -> tuple[str, ...]:
        value = given.get(name.lower())
        return tuple(value) if value else found.many(f"piehole.{name.lower()}")

    missing = [name for name in needed if not (many(name) if name == "etcd" else one(name))]
    if missing:
        raise UsageError(_missing(git_dir, missing, given))
    return Config(
        git_dir=git_dir,
        group=read("group"),
        group_id=one("groupId"),
        site=read("site"),
        site_id=one("siteId"),
        url=one("url"),
        etcd=many("etcd"),
        prefix=read("prefix"),
        exclude=found.narrowest("piehole.exclude"),
        keep_for=one("keepFor"),
        allow_protocol=many("allowProtocol") or DEFAULT_PROTOCOLS,
        hook_timeout=read("hookTimeout"),
        catch_up=read("catchUp"),
        copies_timeout=read("copiesTimeout"),
        read_gate=read("readGate"),
        read_wait=read("readWait"),
        announce=read("announce"),
        pusher_from=_pusher_from(many("pusherFrom")),
        max_deletes=read("maxDeletes"),
        verify_every=read("verifyEvery"),
        credentials=Credentials(
            *(one(name) or None for name in ("etcdCA", "etcdCert", "etcdKey", "etcdUser", "etcdPasswordFile"))
        ),
        object_format=found.one("extensions.objectformat", "sha1"),
        shared=found.one("core.sharedrepository"),
        admits_gaps=setting_that_admits_gaps(found),
        limits=SiteLimits.of(git_dir, found),
    )


def _missing(git_dir: Path, missing: Sequence[str], given: Overrides) -> str:
    """Name all settings that are missing, and the command that makes them, with the options that were given."""
    *others, last = (f"piehole.{name}" for name in missing)
    names = f"{', '.join(others)} and {last} are" if others else f"{last} is"
    words = ["piehole", "install", str(git_dir)]
    for name in ("group", "site", "url", "etcd"):
        value = given.get(name, ())
        for one in (value,) if isinstance(value, str) else value:
            words += [f"--{name}", one]
    wanted = " ".join(f"--{name} {name.upper()}" for name in missing)
    return f"{names} not set for {git_dir}. Run `{shlex.join(words)} {wanted}` (docs/reference/settings.md)."


def load(git_dir: Path, overrides: Overrides | None = None) -> Config:
    """Read and check the configuration of the repository at ``git_dir``.

    :raises UsageError: a required setting is missing or malformed
    :raises GitError: git cannot read the configuration
    """
    return parse(git_dir, GitConfig(git_dir), overrides)


def check(name: str, values: Sequence[str]) -> None:
    """Read the values of one setting as piehole does where it uses them, whatever else is set.

    :param name: one of :data:`piehole.repository.settings.SETTINGS`
    :raises UsageError: what reading them says
    """
    setting = SETTINGS[name]
    if not setting.several and len(values) > 1:
        raise UsageError(f"piehole.{name} has one value, and {len(values)} are given.")
    for one in _split(setting, values):
        if not one.strip():
            raise UsageError(f"a value of piehole.{name} is empty.")
        (_READ.get(name) or _USED.get(name, lambda _text: None))(one)


def _split(setting: PieholeSetting, values: Sequence[str]) -> list[str]:
    parts = setting.several and setting.commas
    return [part.strip() for value in values for part in value.split(",")] if parts else list(values)


def _url(text: str) -> None:
    from piehole.transfer.urls import parse_url  # which a push does without

    parse_url(text, _PROTOCOLS)


def _protocol(text: str) -> None:
    _one_of("piehole.allowProtocol", text, _PROTOCOLS)


def _keep_for(text: str) -> None:
    from piehole.repository.kept_tips import check_keep_for

    check_keep_for(text)


def _path(name: str, text: str) -> None:
    if not Path(text).is_absolute():
        raise UsageError(f"piehole.{name} is {text!r}; it must be an absolute path: it is read in another folder.")


def _folder(text: str) -> None:
    _path("root", text)
    if not Path(text).is_dir():
        raise UsageError(f"piehole.root is {text!r}, and there is no such folder.")


_PROTOCOLS: Final = ("ssh", "https", "http", "git", "file")
# Likewise for those that are read where they are used.
_USED: Final[Mapping[str, Callable[[str], Any]]] = {
    "url": _url,
    "etcd": Endpoint.parse,
    "allowProtocol": _protocol,
    "keepFor": _keep_for,
    "pusherFrom": lambda text: _pusher_from((text,)),
    "root": _folder,
    **{name: partial(_path, name) for name in ("etcdCA", "etcdCert", "etcdKey", "etcdPasswordFile")},
}
