"""The sites of the page: oslo, lima and kyoto of the group tools, and quito, which is about to join."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.life.page import Administrator
from tests.support import git
from tests.support.assertions import accepted
from tests.support.groups import Group, MakeGroup
from tests.support.sites import Site
from tests.support.wait import until

SITES = ("oslo", "lima", "kyoto")


@dataclass(frozen=True)
class Life:
    """One group, and who looks after it."""

    group: Group
    admin: Administrator

    def __getitem__(self, name: str) -> Site:
        return next(site for site in self.group if site.name == name)

    def site(self, name: str, repository: str = "tools.git") -> Site:
        """One more site, neither made nor installed."""
        return named(self.group, name, repository)


def named(group: Group, name: str, repository: str = "tools.git", *, disk: str = "") -> Site:
    """A site on a disk (a folder) of its own. Others reach it by its host's name, a link that :func:`move_host` leads elsewhere."""
    site = group.add(name, root=group.folder / "disks" / (disk or name))
    site.repository = site.root / repository
    site.url = str(group.folder / name / repository)
    site.root.mkdir(parents=True, exist_ok=True)
    if not (group.folder / name).is_symlink():
        move_host(group, name, site.root)
    return site


def move_host(group: Group, name: str, to: Path | None) -> None:
    """The host of this name is this disk from now on; None: it cannot be reached."""
    (group.folder / name).unlink(missing_ok=True)
    if to is not None:
        (group.folder / name).symlink_to(to)


def live(
    make_group: MakeGroup,
    folder: Path,
    sites: Sequence[str] = SITES,
    *,
    name: str = "tools",
    endpoints: Sequence[str] = (),
    started: bool = True,
    locally: bool = True,
) -> Life:
    """The group with these sites, their controllers running.

    :param locally: the repositories' own configuration has ``piehole.etcd``, too; otherwise the server's alone
    """
    group = make_group(0, name=name, endpoints=endpoints, started=False)
    # As --system would be on a server. Hooks that run without a controller do not read it: HOME is the pusher's.
    for protocol in ("file", "git"):
        git.git(folder, "config", "--global", "--add", "piehole.allowProtocol", protocol)
    for endpoint in group.endpoints:
        git.git(folder, "config", "--global", "--add", "piehole.etcd", endpoint)
    for site in sites:
        built = named(group, site).build()
        if not locally:
            git.git(built.repository, "config", "--unset-all", "piehole.etcd")
    life = Life(group, Administrator(group, folder / "admin"))
    if started:
        group.start()
    return life


def history(work: Path, commits: int, *, ref: str = "refs/heads/main", size: int = 400) -> str:
    """So many commits on top of the ref, three objects each, none of which can be compressed; returns the newest."""
    lines: list[bytes] = []
    parent = git.git(work, "rev-parse", "--verify", "--quiet", ref, check=False).stdout.strip()
    for number in range(commits):
        text = os.urandom(size // 2).hex().encode()
        lines.append(b"blob\nmark :%d\ndata %d\n%s\n" % (number + 1, len(text), text))
    for number in range(commits):
        lines.append(
            b"commit %s\ncommitter A Pusher <pusher@example.org> %d +0000\ndata 2\nc\n" % (ref.encode(), number)
        )
        if number == 0 and parent:
            lines.append(b"from %s\n" % parent.encode())
        lines.append(b"M 100644 :%d file%d\n\n" % (number + 1, number % 50))
    git.git(work, "fast-import", "--quiet", "--force", stdin=b"".join(lines).decode())
    return git.rev_parse(work, ref)


def begun(life: Life, commits: int = 3) -> Path:
    """A user's clone; so many commits of it are on main at every site."""
    work = git.clone(life.group[0].repository, life.group.fresh("work"))
    history(work, commits)
    git.git(work, "reset", "--hard", "--quiet", "refs/heads/main")
    accepted(git.push(work, life.group[0].repository, "refs/heads/main"))
    life.group.in_step()
    return work


def bytes_fetched(site: Site) -> int:
    """Of pack data, by this site's controller so far."""
    return sum(event.get("bytes", 0) for event in site.events("reconcile"))


class Held:
    """Fetches that have begun and do not go on. ``begun``: at least one has received some of its pack."""

    def __init__(self, gate: Path, seen: Path) -> None:
        self._gate = gate
        self._seen = seen

    def wait_begun(self) -> None:
        until(self._seen.exists, 40, "the fetch has begun")

    def release(self) -> None:
        """Let them go on, and all that come later."""
        if not self._gate.exists():
            return
        # Whoever waits has the gate open for reading, or is about to: opened for both, this does not wait for anybody.
        writer = os.open(self._gate, os.O_RDWR)
        self._gate.unlink()
        os.close(writer)


@contextmanager
def held_fetches(group: Group, folder: Path, repository: str, *, after: int = 60_000) -> Iterator[Held]:
    """Controllers that are started inside receive so many bytes from repositories of this name, and then nothing more."""
    folder.mkdir()
    gate = folder / "gate"
    os.mkfifo(gate)
    script = f"""case " $* " in *{repository}*)
    "$git" "$@" | {{
        dd bs=65536 count={after} iflag=count_bytes status=none
        : >"$seen"
        if [ -e {gate} ]; then cat {gate} >/dev/null 2>&1; fi
        cat
    }}
    exit
    ;;
esac"""
    with group.git_that(folder / "git", "upload-pack", script) as seen:
        held = Held(gate, seen)
        try:
            yield held
        finally:
            held.release()
