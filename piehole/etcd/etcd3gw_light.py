"""etcd3gw, imported without ``requests`` and ``futurist``: they are most of what its import takes, and each command that asks etcd would
pay for them.

Only etcd3gw's own session and its own watcher use these packages. piehole gives its client another session
(:mod:`piehole.etcd.http_session`), and watches by itself.
"""

from __future__ import annotations

import importlib
import sys
from http import HTTPStatus
from types import ModuleType
from typing import Any


class _Later(ModuleType):
    """Stands for a package, which is imported when something of it is used that is not here.

    :param here: what etcd3gw uses while it is imported
    """

    def __init__(self, name: str, **here: object) -> None:
        super().__init__(name)
        vars(self).update(here)
        self.only_at_first = tuple(here)
        sys.modules.setdefault(name, self)

    def __getattr__(self, name: str) -> Any:
        self.withdraw()
        return getattr(importlib.import_module(self.__name__), name)

    def withdraw(self) -> None:
        """Leave the name to the package; whoever has this in its place goes on using it."""
        if sys.modules.get(self.__name__) is self:
            del sys.modules[self.__name__]
            for name in self.only_at_first:
                delattr(self, name)


_standing = (
    _Later("requests", codes={one.name.lower(): one.value for one in HTTPStatus}),
    _Later("futurist", ThreadPoolExecutor=object, GreenThreadPoolExecutor=object),  # for the type of a function
)
try:
    from etcd3gw.client import Etcd3Client
    from etcd3gw.exceptions import Etcd3Exception
finally:
    for _one in _standing:
        _one.withdraw()

__all__ = ["Etcd3Client", "Etcd3Exception"]
