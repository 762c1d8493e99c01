"""etcd3gw, imported without ``requests`` and ``futurist``: they are most of what its import takes, and each command that asks etcd would
pay for them.

Only etcd3gw's own session and its own watcher use these packages. piehole gives its client another session
(:mod:`piehole.etcd.http_session`), and watches by itself.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Mapping
from http import HTTPStatus
from types import ModuleType, SimpleNamespace
from typing import Any


class _Later(ModuleType):
    """Stands for a package, which is imported when something of it is used that is not here.

    :param instead: what stands for its names until somebody imports it
    :param at_first: what etcd3gw uses while it is imported, and not later
    """

    def __init__(self, name: str, instead: Mapping[str, object], **at_first: object) -> None:
        super().__init__(name)
        vars(self).update(at_first)
        self.only_at_first = tuple(at_first)
        self.instead = instead
        sys.modules.setdefault(name, self)

    def __getattr__(self, name: str) -> Any:
        if name in self.instead and sys.modules.get(self.__name__, self) is self:
            return self.instead[name]
        self.withdraw()
        return getattr(importlib.import_module(self.__name__), name)

    def withdraw(self) -> None:
        """Leave the name to the package; whoever has this in its place goes on using it."""
        if sys.modules.get(self.__name__) is self:
            del sys.modules[self.__name__]
            for name in self.only_at_first:
                delattr(self, name)


class _NeverRaised(Exception):
    """For ``except`` clauses: what is not imported raises nothing."""


# Etcd3Client.post looks at these after each request.
_CODES = {one.name.lower(): one.value for one in HTTPStatus}
_EXCEPTIONS = SimpleNamespace(Timeout=_NeverRaised, ConnectionError=_NeverRaised)

_standing = (
    _Later("requests", {"codes": _CODES, "exceptions": _EXCEPTIONS}),
    _Later("futurist", {}, ThreadPoolExecutor=object, GreenThreadPoolExecutor=object),  # for the type of a function
)
try:
    from etcd3gw.client import Etcd3Client
    from etcd3gw.exceptions import Etcd3Exception
finally:
    for _one in _standing:
        _one.withdraw()

__all__ = ["Etcd3Client", "Etcd3Exception"]
