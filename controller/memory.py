"""How much memory is kept for later."""

from __future__ import annotations

import ctypes
from typing import Final

_M_ARENA_MAX: Final = -8  # <malloc.h>
_ARENAS: Final = 2


def give_back() -> None:
    """Give the system what is free, also between what is in use. It takes milliseconds."""
    _tell("malloc_trim", 0)


def share_arenas() -> None:
    """Have all threads allocate from few arenas; to be called before there are threads.

    By default glibc makes eight for each processor, and what one thread has freed in one is not there for another: over some ten
    thousand pushes the daemon's some forty threads, which all do the same work in turn, kept a third more than they needed.
    """
    _tell("mallopt", _M_ARENA_MAX, _ARENAS)


def _tell(function: str, *numbers: int) -> None:
    """Call what glibc has, and others need not have: then nothing happens."""
    try:
        getattr(ctypes.CDLL(None), function)(*numbers)
    except (OSError, AttributeError):
        pass
