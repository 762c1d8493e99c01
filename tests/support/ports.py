"""Free loopback ports for servers that must know their port beforehand."""

from __future__ import annotations

import random
import socket
from pathlib import Path

LOOPBACK = "127.0.0.1"
_EPHEMERAL = Path("/proc/sys/net/ipv4/ip_local_port_range")
_LOWEST = 15_000


class PortTaken(Exception):
    """Somebody else took the port between its choice and its use: choose another and begin again."""


def free_ports(count: int) -> list[int]:
    """``count`` different ports that are free now.

    They lie below the range from which the kernel takes the ports of outgoing connections, so that a server that is
    killed and started again finds its port free. Two test processes may still choose the same one: be ready for
    PortTaken.
    """
    chosen: list[int] = []
    while len(chosen) < count:
        port = _candidate()
        if port not in chosen and _is_free(port):
            chosen.append(port)
    return chosen


def answers(port: int) -> bool:
    """Does somebody accept connections there?"""
    try:
        with socket.create_connection((LOOPBACK, port), timeout=1):
            return True
    except OSError:
        return False


def _candidate() -> int:
    try:
        ceiling = int(_EPHEMERAL.read_text().split()[0])
    except OSError:
        ceiling = 0
    if ceiling - _LOWEST > 1_000:
        return random.SystemRandom().randrange(_LOWEST, ceiling)
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        port: int = probe.getsockname()[1]
        return port


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
        return True
