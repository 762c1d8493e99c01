"""Files that hold secrets: only the account that needs them may read or replace them."""

from __future__ import annotations

import grp
import pwd
import stat
from collections.abc import Iterator
from pathlib import Path

from piehole.etcd.endpoint import Credentials
from piehole.repository.fitness import Fault


def faults(credentials: Credentials) -> Iterator[Fault]:
    """Report each etcd secret that another account can read or write."""
    for setting, name in (
        ("piehole.etcdPasswordFile", credentials.password_file),
        ("piehole.etcdKey", credentials.key),
    ):
        if not name:
            continue
        try:
            found = Path(name).stat()
        except OSError:  # the check of the links to etcd reports a missing file
            continue
        who = _strangers(found.st_mode, found.st_uid, found.st_gid)
        if who:
            yield Fault(
                f"{name} ({setting}) can be read or written by {who}: whoever has it can move every ref of every group",
                f"chmod 600 {name}, then change the password or key, since it may be known by now",
            )


def _strangers(mode: int, uid: int, gid: int) -> str:
    """Who can access the file besides its owner, in words; "" if nobody can. A group whose only member is the owner does not count."""
    if mode & (stat.S_IROTH | stat.S_IWOTH):
        return "every account of this server"
    if not mode & (stat.S_IRGRP | stat.S_IWGRP):
        return ""
    try:
        group = grp.getgrgid(gid)
        names = {*group.gr_mem, *(one.pw_name for one in pwd.getpwall() if one.pw_gid == gid)}
        names -= {"root", pwd.getpwuid(uid).pw_name}
    except KeyError:
        return f"the group {gid}"
    return f"the group {group.gr_name} ({', '.join(sorted(names))})" if names else ""
