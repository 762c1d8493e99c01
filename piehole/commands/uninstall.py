"""``piehole uninstall``: remove hooks, configuration and records; refs, reflogs and git's own settings stay."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

from piehole import git
from piehole.commands import leave
from piehole.deadline import Deadline
from piehole.errors import EtcdError, PieholeError, UsageError
from piehole.fastpath import controller_socket
from piehole.group import sites
from piehole.group.replica import Replica
from piehole.refs import KEPT_REFS
from piehole.replicate.release_copies import release_all
from piehole.repository import held_refs, hook_files
from piehole.repository.git_settings import GitConfig
from piehole.repository.repository import Repository

_PATIENCE: Final = 5.0  # seconds for etcd, which is not needed
_CONTROLLER_PATIENCE: Final = 15.0  # seconds; a controller looks through its folders every five
_LOOK_EVERY: Final = 0.1


def uninstall(
    git_dir: Path, overrides: Mapping[str, str | Sequence[str]], say: Callable[[str], None], *, record: bool = True
) -> None:
    """
    :param record: whether the site's record in etcd is marked as left, too
    :raises PieholeError: this runs under another account than the repository's owner
    :raises GitError: the configuration cannot be written
    """
    Repository(git_dir).check_owner()
    if record:
        # First: from now on the hooks refuse, so no push can pass while they are removed.
        _leave(git_dir, overrides, say)
    chained = {
        hook: hook_files.place(git_dir, hook).relative_to(git_dir / "hooks").as_posix()
        for hook in hook_files.EVERY
        if hook_files.is_chained(git_dir / "hooks" / hook)
    }
    removed = hook_files.remove(git_dir)
    say(f"hooks: removed {', '.join(removed)}" if removed else "hooks: there were none of piehole's")
    if hook_files.is_gitolite(git_dir):
        say(
            "note: gitolite's gate stays, and refuses every push until gitolite.conf leaves this repository out: "
            'see "Taking a repository out" in docs/guides/gitolite.md'
        )
        chained = {}
    for hook, name in chained.items():
        say(
            f"note: {git_dir / 'hooks' / hook} is somebody else's and still calls {name}, which is gone: take that line out"
        )
    if _has_section(git_dir):
        git.run(git_dir, ["config", "--local", "--remove-section", "piehole"])
        say(
            "configuration: removed piehole.*; git's own settings (core.*, receive.*, uploadpack.*, transfer.*) stay as they are"
        )
    else:
        say("configuration: there was no piehole.* in it")
    if (git_dir / "piehole").is_dir():
        _wait_for_controller(git_dir)
        shutil.rmtree(git_dir / "piehole")
        say(f"removed {git_dir / 'piehole'}")
    repository = Repository(git_dir)
    release_all(repository, held_refs.held(repository))
    kept = git.lines(git.run(git_dir, ["for-each-ref", "--format=%(refname)", KEPT_REFS]).stdout)
    say(f"refs stay as they are{f', {len(kept)} kept tips below {KEPT_REFS} too' if kept else ''}")


def preview(git_dir: Path, overrides: Mapping[str, str | Sequence[str]], *, record: bool = True) -> list[str]:
    """What :func:`uninstall` would do.

    :raises PieholeError: this runs under another account than the repository's owner
    """
    Repository(git_dir).check_owner()
    lines = []
    if record:
        try:
            replica, deadline = Replica.open(git_dir, overrides), Deadline(_PATIENCE)
            everybody = sites.read_sites(replica, deadline).sites
            if sites.is_ours(replica, everybody):
                site, state = replica.config.site, replica.reader.list_group(deadline)
                alone = leave.held_alone(replica, state, everybody, site, deadline)
                lines += [f"the site {site!r} would leave the group {replica.config.group!r}"]
                lines += [f"only at {site}: {ref}" for ref in alone]
        except PieholeError as error:
            lines.append(f"the site's record in etcd would stay as it is: {error}")
    lines += [f"would remove {path}" for path in hook_files.ours(git_dir)]
    lines += ["would remove piehole.* from its configuration"] if _has_section(git_dir) else []
    return lines + ([f"would remove {git_dir / 'piehole'}"] if (git_dir / "piehole").is_dir() else [])


def _wait_for_controller(git_dir: Path) -> None:
    """Wait until no controller serves the repository: it would write its files again. It notices within seconds that the settings are gone."""
    deadline = Deadline(_CONTROLLER_PATIENCE)
    while not deadline.passed:
        try:
            controller_socket.ask_status(str(git_dir))
        except controller_socket.NoController:
            return
        time.sleep(_LOOK_EVERY)


def _has_section(git_dir: Path) -> bool:
    found = git.run(git_dir, ["config", "--local", "--name-only", "--get-regexp", r"^piehole\."], ok=(0, 1))
    return bool(found.stdout)


def _leave(git_dir: Path, overrides: Mapping[str, str | Sequence[str]], say: Callable[[str], None]) -> None:
    site = GitConfig(git_dir).one("piehole.site") or "SITE"
    elsewhere = f"`piehole leave --site {site}` at another site marks it as left."
    try:
        replica = Replica.open(git_dir, overrides)
        deadline = Deadline(_PATIENCE)
        members = sites.read_sites(replica, deadline)
        everybody = members.sites
        if not sites.is_ours(replica, everybody):
            say(f"the record of the site {site!r} is not this repository's (or gone), so it stays as it is")
            return
        state = replica.reader.list_group(deadline)
        alone = leave.held_alone(replica, state, everybody, site, deadline)
        promised = leave.promise_without(replica, state, members, site)
        changed = leave.leave(replica, site, deadline)
    except UsageError as error:
        say(f"the site's record in etcd stays as it is: {error}")
    except EtcdError as error:
        say(f"it is not known whether the site's record is marked as left: {error} {elsewhere}")
    except PieholeError as error:
        say(f"the site's record was not marked as left: {error}")
    else:
        say(f"the site {site!r} {'has left' if changed else 'had already left'} the group {replica.config.group!r}")
        if changed and not promised.possible:
            say(
                f"note: the group promises copies, {promised.after}, so every push is refused (copies:) until a site joins, or "
                f"`piehole group set copies {max(1, promised.sites)}` at a site of the group lowers the promise"
            )
        if alone and changed:
            say(
                f"note: no other site is known to have the newest of {', '.join(alone[:5])}{' …' if len(alone) > 5 else ''} yet: "
                "keep this repository, and let it be fetched from, until they do"
            )
