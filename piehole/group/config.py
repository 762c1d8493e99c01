"""The configuration of one repository, read from the variables ``piehole.*`` of git's configuration (docs/configuration.md)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, TypeAlias

from piehole.errors import UsageError
from piehole.etcd.endpoint import Credentials
from piehole.group import keys
from piehole.group.limits import SiteLimits
from piehole.repository.fitness import setting_that_admits_gaps
from piehole.repository.git_settings import GitConfig

# Settings from a command line, by the variable's lower-case name.
Overrides: TypeAlias = Mapping[str, str | Sequence[str]]

DEFAULT_PROTOCOLS: Final = ("ssh", "https")
READ_GATES: Final = ("off", "wait", "strict")


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
    max_deletes: int = 0
    verify_every: float = 7 * 86400.0
    credentials: Credentials = field(default_factory=Credentials)
    object_format: str = "sha1"
    shared: str = ""
    admits_gaps: str = ""
    limits: SiteLimits = field(default_factory=SiteLimits)

    @property
    def keyspace(self) -> keys.Keyspace:
        return keys.Keyspace(self.prefix)


def seconds(name: str, text: str) -> float:
    """A time in the configuration: a number of seconds, as in ``10`` or ``2.5s``.

    :raises UsageError: the text is no such number
    """
    try:
        value = float(text.removesuffix("s"))
    except ValueError:
        value = -1.0
    if not 0 <= value < 1e6:
        raise UsageError(f"{name} is {text!r}; it must be a number of seconds, such as 10.")
    return value


def _count(name: str, text: str) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) < 10):
        raise UsageError(f"{name} is {text!r}; it must be a whole number, such as 100, or 0 for no limit.")
    return int(text)


def _one_of(name: str, text: str, words: Sequence[str]) -> str:
    if text.lower() not in words:
        raise UsageError(f"{name} is {text!r}; it must be {', '.join(words[:-1])} or {words[-1]}.")
    return text.lower()


_UNITS: Final = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def duration(name: str, text: str) -> float:
    """A time that may be long: ``7d``, ``12h``, ``90m``, or a number of seconds.

    :raises UsageError: the text is no such time
    """
    number, unit = (text[:-1], _UNITS[text[-1]]) if text[-1:] in _UNITS else (text, 1.0)
    try:
        value = float(number) * unit
    except ValueError:
        value = -1.0
    if not 0 <= value < 1e10:
        raise UsageError(f"{name} is {text!r}; it must be a time such as 7d, 12h or 90m, or 0 for never.")
    return value


def parse(git_dir: Path, found: GitConfig, overrides: Overrides | None = None) -> Config:
    """The configuration of one repository; ``overrides`` (lower-case variable -> value) come from the command line.

    :raises UsageError: a required setting is missing, or a value is malformed
    """
    given = overrides or {}

    def one(name: str, default: str = "") -> str:
        value = given.get(name.lower()) or found.one(f"piehole.{name.lower()}", default)
        return value if isinstance(value, str) else ",".join(value)

    def many(name: str) -> tuple[str, ...]:
        value = given.get(name.lower())
        return tuple(value) if value else found.many(f"piehole.{name.lower()}")

    for name in ("group", "site", "etcd"):
        if not (many(name) if name == "etcd" else one(name)):
            raise UsageError(
                f"piehole.{name} is not set for {git_dir}. Run `piehole install`, or set it with `git config piehole.{name} …`."
            )
    return Config(
        git_dir=git_dir,
        group=keys.check_group(one("group")),
        group_id=one("groupId"),
        site=keys.check_site(one("site")),
        site_id=one("siteId"),
        url=one("url"),
        etcd=many("etcd"),
        prefix=keys.Keyspace(one("prefix", keys.DEFAULT_PREFIX)).prefix,
        exclude=found.narrowest("piehole.exclude"),
        keep_for=one("keepFor", "90.days"),
        allow_protocol=many("allowProtocol") or DEFAULT_PROTOCOLS,
        hook_timeout=seconds("piehole.hookTimeout", one("hookTimeout", "10")),
        catch_up=seconds("piehole.catchUp", one("catchUp", "3")),
        copies_timeout=seconds("piehole.copiesTimeout", one("copiesTimeout", "10")),
        read_gate=_one_of("piehole.readGate", one("readGate", "off"), READ_GATES),
        read_wait=seconds("piehole.readWait", one("readWait", "3")),
        max_deletes=_count("piehole.maxDeletes", one("maxDeletes", "0")),
        verify_every=duration("piehole.verifyEvery", one("verifyEvery", "7d")),
        credentials=Credentials(
            *(one(name) or None for name in ("etcdCA", "etcdCert", "etcdKey", "etcdUser", "etcdPasswordFile"))
        ),
        object_format=found.one("extensions.objectformat", "sha1"),
        shared=found.one("core.sharedrepository"),
        admits_gaps=setting_that_admits_gaps(found),
        limits=SiteLimits.of(git_dir, found),
    )


def load(git_dir: Path, overrides: Overrides | None = None) -> Config:
    """Read and check the configuration of the repository at ``git_dir``.

    :raises UsageError: a required setting is missing or malformed
    :raises GitError: git cannot read the configuration
    """
    return parse(git_dir, GitConfig(git_dir), overrides)
