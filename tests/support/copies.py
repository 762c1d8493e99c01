"""Requests for copies as a site writes them, and the objects that they ask for."""

from __future__ import annotations

import json
import secrets
from collections.abc import Sequence
from pathlib import Path

from tests.support import git
from tests.support.assertions import accepted
from tests.support.git import MAIN
from tests.support.groups import Group, MakeGroup
from tests.support.sites import Site
from tests.support.wait import until

HELD = "refs/piehole/held/"
_LEASE = 60  # seconds


def put_objects(site: Site, work: Path, *revisions: str) -> list[str]:
    """Have a site hold these commits of a clone as receive-pack leaves them before the swap: present, and no ref has them."""
    oids = [git.rev_parse(work, revision) for revision in revisions or ("HEAD",)]
    git.git(site.repository, "fetch", "--quiet", "--no-write-fetch-head", str(work), *oids)
    return oids


def held(site: Site) -> dict[str, list[str]]:
    """What a site holds: the oids for each push."""
    found: dict[str, list[str]] = {}
    for ref in git.refs(site.repository):
        if ref.startswith(HELD):
            push_id, _, oid = ref.removeprefix(HELD).partition("/")
            found.setdefault(push_id, []).append(oid)
    return found


def prune(site: Site) -> None:
    """Remove all that no ref of a site needs."""
    git.git(site.repository, "repack", "--quiet", "-a", "-d")
    git.git(site.repository, "prune", "--expire=now")


class CopiesAsked:
    """One request for copies. ``id``: of its push."""

    def __init__(
        self,
        group: Group,
        site: str,
        oids: Sequence[str],
        *,
        bases: Sequence[str] = (),
        seconds: int = _LEASE,
        push_id: str = "",
        text: str = "",
    ) -> None:
        self._group = group
        self._site = site
        self.id = push_id or secrets.token_hex(16)
        self.oids = list(oids)
        self.lease = int(group.etcd.call("/lease/grant", {"TTL": str(seconds)})["ID"])
        fields = {"site": site, "oids": self.oids, "bases": list(bases), "time": "", "lease": f"{self.lease:x}"}
        self.key = group.key(f"@copies/{self.id}")
        value = text.replace("%(lease)s", f"{self.lease:x}") or json.dumps(fields)
        self.revision = group.etcd.put(self.key, value, lease=self.lease)

    def holders(self) -> list[str]:
        """The sites that say they hold the objects."""
        start = f"{self.key}/"
        return sorted(key[len(start) :] for key in self._group.etcd.get_prefix(start))

    def wait(self, *sites: str, timeout: float = 15.0) -> CopiesAsked:
        """Wait until at least these sites say that they hold the objects."""
        until(lambda: set(self.holders()) >= set(sites), timeout, f"{', '.join(sites)} hold {self.id}")
        return self

    def refs(self, site: Site) -> list[str]:
        """The oids that a site holds for this push."""
        start = f"{HELD}{self.id}/"
        return sorted(ref[len(start) :] for ref in git.refs(site.repository) if ref.startswith(start))

    def swap(self, refs: dict[str, str], *, push_id: str = "", last: bool = True) -> int:
        """Move refs as the push's swap does: with the last one, the keys of the request go in the same transaction."""
        puts = {self._group.key(ref): oid for ref, oid in refs.items()}
        record = {"id": push_id or self.id, "site": self._site, "pusher": "somebody", "time": ""}
        puts[self._group.key("@push")] = json.dumps(record)
        return self._group.etcd.change(puts, [self.key, f"{self.key}/"] if last else [])

    def end(self) -> None:
        """Delete the keys, as a push that is refused does."""
        self._group.etcd.change({}, [self.key, f"{self.key}/"])

    def revoke(self) -> None:
        """End the lease, as time does for a push that died."""
        self._group.etcd.call("/lease/revoke", {"ID": str(self.lease)})


def pair(make_group: MakeGroup, size: int = 2) -> tuple[Group, Path, str]:
    group = make_group(size)
    return (group, *group.begun())


def ask(group: Group, work: Path, base: str, message: str = "second") -> CopiesAsked:
    """Ask from the first site for a new commit upon ``base``."""
    return ask_from(group[0], work, base, message)


def ask_from(site: Site, work: Path, base: str, message: str = "another") -> CopiesAsked:
    git.commit(work, message)
    return CopiesAsked(site.group, site.name, put_objects(site, work), bases=[base])


def released(*sites: Site) -> None:
    for site in sites:
        until(lambda site=site: not held(site), 15, f"{site} holds nothing any more: {held(site)}")  # type: ignore[misc]


def slow_pair(make_group: MakeGroup, folder: Path) -> tuple[Group, Path, str, Path]:
    """As ``pair``, but the second site needs a second for each fetch; and the file that is there once it has begun one."""
    group = make_group(2, started=False)
    group[0].start()
    work = group.clone(group[0].repository)
    first = git.commit(work, "first")
    accepted(git.push(work, group[0].repository, "HEAD:main"))
    with group.git_that(folder / "bin", "upload-pack", 'echo once >> "$seen"; sleep 1; exec "$git" "$@"') as seen:
        group[1].start()
    group.arrives(MAIN, first)
    seen.unlink()
    return group, work, first, seen
