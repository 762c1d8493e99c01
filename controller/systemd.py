"""Reports the controller's state to systemd: sd_notify(3) and its watchdog, as datagrams to the socket that ``NOTIFY_SOCKET`` names.

Without that variable nothing is sent, and a datagram that cannot be sent is dropped: no service manager may delay a site.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Mapping
from typing import Final

_WITHIN: Final = 0.2  # seconds in which a datagram must be accepted: the loop that sends it has other work


class Notifier:
    """Safe to use from one thread.

    :param environment: the process's own; read here only
    :param clock: monotonic seconds
    """

    def __init__(
        self, environment: Mapping[str, str] = os.environ, clock: Callable[[], float] = time.monotonic
    ) -> None:
        name = environment.get("NOTIFY_SOCKET", "")
        # "@" stands for the NUL with which the name of an abstract socket begins.
        self._address = "\0" + name[1:] if name.startswith("@") else name
        self._clock = clock
        self._every = _watchdog_interval(environment)  # seconds; None: no watchdog runs
        self._alive_at = float("-inf")

    def ready(self, status: str = "") -> None:
        """Started, or done with reloading; ``status`` is one line for ``systemctl status``."""
        self._send("READY=1", *_status(status))

    def reloading(self) -> None:
        """The configuration is being read again; :meth:`ready` must follow."""
        # Type=notify-reload requires the time, by the clock that systemd reads (CLOCK_MONOTONIC).
        self._send("RELOADING=1", f"MONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}")

    def stopping(self) -> None:
        self._send("STOPPING=1")

    def alive(self) -> None:
        """Reset the watchdog, if one runs and it is time; call this from the loop that the watchdog watches."""
        now = self._clock()
        if self._every is not None and now - self._alive_at >= self._every * 0.9:
            self._alive_at = now
            self._send("WATCHDOG=1")

    def _send(self, *lines: str) -> None:
        if not self._address:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as one:
                one.settimeout(_WITHIN)
                one.sendto("\n".join(lines).encode(), self._address)
        except OSError:
            pass  # the manager is gone, or its queue is full: it will notice by itself


def _status(text: str) -> list[str]:
    return [f"STATUS={' '.join(text.split())}"] if text else []


def _watchdog_interval(environment: Mapping[str, str]) -> float | None:
    """sd_watchdog_enabled(3): the variables count only for the process that ``WATCHDOG_PID`` names, where it names one."""
    try:
        micros = int(environment.get("WATCHDOG_USEC", ""))
        pid = int(environment.get("WATCHDOG_PID", "") or os.getpid())
    except ValueError:
        return None
    return micros / 2e6 if micros > 0 and pid == os.getpid() else None
