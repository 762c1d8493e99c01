"""What a machine must have for these hosts."""

from __future__ import annotations

import os
import subprocess

from tests.support.etcd import find_etcdctl, find_etcds
from tests.support.servers import NOT_POSSIBLE, Unavailable, find_program

_PROGRAMS = (
    *(
        "ip",
        "nft",
        "unshare",
        "nsenter",
        "setpriv",
        "pivot_root",
        "mount",
        "useradd",
        "openssl",
        "systemd-sysusers",
        "systemd-tmpfiles",
    ),
    *("sshd", "ssh-keygen", "nginx", "fcgiwrap", "git"),
)


def what_is_missing() -> str:
    """Why there can be no such hosts here, in one sentence; ``""`` where there can."""
    if os.geteuid() != 0:
        return f"{NOT_POSSIBLE}only root can make hosts in network namespaces"
    lacking = [name for name in _PROGRAMS if not _is_there(name)]
    etcds = find_etcds()
    if not etcds:
        lacking.append("etcd")
    elif find_etcdctl(next(iter(etcds.values()))) is None:
        lacking.append("etcdctl")
    if lacking:
        return f"this machine lacks {', '.join(lacking)}"
    trial = subprocess.run(
        ["unshare", "--net", "--mount", "--pid", "--fork", "--kill-child", "nft", "list", "ruleset"],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    return f"{NOT_POSSIBLE}no namespaces with nftables ({trial.stderr.strip()})" if trial.returncode else ""


def _is_there(name: str) -> bool:
    try:
        find_program(name)
    except Unavailable:
        return False
    return True
