"""The names of keys in etcd, and the rules for the names of groups, sites and refs.

The layout is a contract with scripts outside the project (docs/reference/keys.md). Names are text; a ref's name keeps
its bytes (surrogateescape), since git allows any of them.
"""

from __future__ import annotations

import re
from typing import Final

from piehole.errors import UsageError
from piehole.refs import HEAD, decode, encode
from piehole.repository.settings import default

PUSH: Final = "@push"
FENCE: Final = "@fence"
# Names below which sites ask each other for something: they are no refs, and no state of a group has them.
COPIES: Final = "@copies"
DROP: Final = "@drop"
REQUESTS: Final = (f"{COPIES}/", f"{DROP}/")
DEFAULT_PREFIX: Final = default("prefix")

_SITE: Final = re.compile(r"[A-Za-z0-9._-]+")


def check_group(name: str) -> str:
    """The name of a group. It may contain ``/``.

    :raises UsageError: it is empty, holds white space, or has a component with another meaning in a key
    """
    for part in name.split("/"):
        if not part or part in ("refs", HEAD) or part[0] in "@." or re.search(r"[\x00-\x20\x7f]", part):
            raise UsageError(
                f"{name!r} cannot be a group's name: no component may be empty, contain white space, be 'refs' or 'HEAD', "
                "or start with '@' or '.'. Choose another, such as 'tools/compiler'."
            )
    return name


def is_site(name: str) -> bool:
    return _SITE.fullmatch(name) is not None


def check_site(name: str) -> str:
    """The name of a site: one server's unique name.

    :raises UsageError: it holds anything but ASCII letters, digits, ``.``, ``_`` and ``-``
    """
    if not is_site(name):
        raise UsageError(
            f"{name!r} cannot be a site's name: use only letters, digits, '.', '_' and '-', such as 'oslo-1'."
        )
    return name


def name_below(start: bytes, key: bytes) -> str | None:
    """The name that a key has in the group whose keys begin with ``start``; None for a key of another, such as a nested group's, and for
    what sites ask each other.
    """
    if not key.startswith(start):
        return None
    name = decode(key[len(start) :])
    if name.startswith(REQUESTS):
        return None
    return name if name.startswith(("refs/", "@")) or name.partition("/")[0] in ("refs", HEAD) else None


class Keyspace:
    """All keys below one prefix."""

    def __init__(self, prefix: str = DEFAULT_PREFIX) -> None:
        """
        :raises UsageError: the prefix is empty, does not begin with ``/``, or ends with one
        """
        if not prefix.startswith("/") or prefix.endswith("/") or re.search(r"[\x00-\x20\x7f]", prefix):
            raise UsageError(
                f"piehole.prefix is {prefix!r}; it must begin with '/', not end with it, such as '/piehole'."
            )
        self.prefix = prefix
        self.refs = encode(f"{prefix}/ref/")

    def ref(self, group: str, name: str) -> bytes:
        """The key of a ref, of ``HEAD``, ``@push`` or ``@fence``."""
        return self.refs + encode(f"{group}/{name}")

    def group_refs(self, group: str) -> bytes:
        """What all keys of :meth:`ref` for this group begin with. A nested group's keys begin with it, too."""
        return self.refs + encode(f"{group}/")

    def copies(self, group: str, push_id: str) -> bytes:
        """The key with which a site asks the others to hold the new objects of a push."""
        return self.ref(group, f"{COPIES}/{push_id}")

    def copy(self, group: str, push_id: str, site: str) -> bytes:
        """The key with which a site says that it holds the new objects of a push."""
        return self.ref(group, f"{COPIES}/{push_id}/{site}")

    def drops(self, group: str) -> bytes:
        """What the keys of all requests to drop an object begin with, and of the answers."""
        return self.ref(group, f"{DROP}/")

    def drop(self, group: str, oid: str) -> bytes:
        """The key with which an administrator asks all sites to remove an object."""
        return self.ref(group, f"{DROP}/{oid}")

    def drop_answer(self, group: str, oid: str, site: str) -> bytes:
        """The key with which a site says what has become of it there."""
        return self.ref(group, f"{DROP}/{oid}/{site}")

    def group(self, group: str) -> bytes:
        return encode(f"{self.prefix}/group/{group}")

    def site(self, group: str, site: str) -> bytes:
        return encode(f"{self.prefix}/site/{group}/{site}")

    def sites(self, group: str) -> bytes:
        return encode(f"{self.prefix}/site/{group}/")

    def progress(self, group: str, site: str) -> bytes:
        return encode(f"{self.prefix}/progress/{group}/{site}")

    def all_progress(self, group: str) -> bytes:
        return encode(f"{self.prefix}/progress/{group}/")

    def alive(self, site: str, controller: str) -> bytes:
        """The key with which one controller that serves sites of this name says that it lives."""
        return self.all_alive(site) + encode(controller)

    def all_alive(self, site: str) -> bytes:
        return encode(f"{self.prefix}/alive/{site}/")

    def split_ref(self, key: bytes) -> tuple[str, str] | None:
        """``(group, name)`` of a key below ``PREFIX/ref/``, or None where it is no such key.

        The name starts at the first component that no group's name can hold.
        """
        if not key.startswith(self.refs):
            return None
        parts = decode(key[len(self.refs) :]).split("/")
        for n, part in enumerate(parts):
            if part in ("refs", HEAD) or part.startswith("@"):
                return ("/".join(parts[:n]), "/".join(parts[n:])) if n else None
        return None

    def bucket(self, key: bytes) -> str | None:
        """Which keys below ``PREFIX/ref/`` belong together: a group's refs under its name, what its sites ask each other under
        ``GROUP/@copies`` and ``GROUP/@drop``. None for a key that is none of piehole's.
        """
        split = self.split_ref(key)
        if split is None:
            return None
        group, name = split
        return f"{group}/{name.partition('/')[0]}" if name.startswith(REQUESTS) else group

    def split_site(self, prefix: bytes, key: bytes) -> str | None:
        """The site that a key directly below ``prefix`` belongs to; None for keys of nested groups."""
        name = decode(key[len(prefix) :])
        return name if _SITE.fullmatch(name) else None
