"""The events of the controller's log: each name with its level, its meaning and its fields.

docs/reference/log-events.md is made from this list (`make docs`). Names and fields are a contract with scripts. The list is
not used while the controller runs: tests compare it with the calls in the source, and with the logs of the controllers that they start.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

# What each line has.
ALWAYS: Final = ("event", "level", "timestamp")
# What the lines about one repository have, about one etcd, about the hooks' socket, and about a push to this site.
REPOSITORY: Final = ("repository", "group", "site")
ETCD: Final = ("etcd", "prefix")
SOCKET: Final = ("socket",)
PUSH: Final = (*SOCKET, *REPOSITORY, "push", "pusher")

FIELDS: Final = {
    "event": "the name of the event",
    "level": "`debug`, `info`, `warning`, `error` or `critical`",
    "timestamp": "when, in UTC (local time on a terminal)",
    "exception": "the traceback of a bug, as text",
    "advice": "what fixes it",
    "bytes": "how many bytes were received from other sites",
    "changed": "in how many groups something has changed",
    "count": "how many refs it concerns",
    "deferred": "refs that a push holds at this moment (at most 5)",
    "done": "how much of it is done, in `unit`",
    "endpoint": "the member of etcd",
    "error": "what went wrong, a sentence",
    "etcd": "the members of etcd, separated by commas",
    "fix": "the command that fixes it",
    "folder": "a folder below a root of the controller",
    "group": "the group",
    "head": "where HEAD points now",
    "kept": "old tips that are kept (at most 5)",
    "faults": "what does not live, sentences",
    "http": "the address of the web server",
    "keys": "how many keys there are",
    "kind": "in `reconcile.failed` the class of the error; else what made the change, if it was no push: `clobber`, `adopted`, …",
    "locked": "refs whose value in etcd is no object id (at most 5)",
    "moved": "how many refs were moved",
    "ms": "how long it took, in milliseconds",
    "peer": "the other site, or several separated by commas",
    "prefix": "the prefix of the keys in etcd",
    "push": "the push's id, as `piehole log --json` has it",
    "pusher": "who pushed ([Who pushed](../guides/pushers.md))",
    "reason": "why, a sentence",
    "refs": "names of refs (at most 5); in `refs.put_back` an object, with what was undone",
    "repositories": "how many repositories are served",
    "repository": "the path of the repository",
    "revision": "the revision of etcd",
    "seconds": "how long it took, in seconds",
    "site": "this site",
    "socket": "the path of the socket for the hooks",
    "sound": "whether everything was found sound",
    "stuck": "refs that cannot be moved, each with the reason (at most 5)",
    "total": "how much there is to do, in `unit`",
    "unit": "`bytes`, or what is counted: `refs`, `sites`",
    "work": "what is being done",
    "token": "the stable token ([Trouble](../trouble/index.md#what-do-you-see))",
}


@dataclass(frozen=True, slots=True)
class LogEvent:
    """``context`` and ``fields`` are always there, ``sometimes`` where there is something to say.

    :param levels: the usual one first
    """

    levels: tuple[str, ...]
    text: str
    fields: tuple[str, ...] = ()
    context: tuple[str, ...] = ()
    sometimes: tuple[str, ...] = ()


_DEBUG, _INFO, _WARNING, _ERROR = ("debug",), ("info",), ("warning",), ("error",)
# Debug where etcd is away: that is logged once, as `etcd.trouble`.
_FAILED: Final = ("warning", "debug")


def _failed(text: str) -> LogEvent:
    return LogEvent(_FAILED, f"{text}. It is tried again later", ("error",), REPOSITORY)


EVENTS: Final[Mapping[str, LogEvent]] = {
    # The controller
    "controller.started": LogEvent(_INFO, "The controller is ready", ("repositories", "socket")),
    "controller.reloading": LogEvent(_INFO, "It reads every configuration again (SIGHUP)"),
    "controller.stopping": LogEvent(_INFO, "It was told to end (SIGTERM)"),
    "controller.stopped": LogEvent(_INFO, "It has ended"),
    "controller.broken": LogEvent(("critical",), "A bug has ended one of its threads, so it ends", ("error",)),
    "controller.unhealthy": LogEvent(
        ("critical",), "Parts of it do not live. systemd's watchdog starts it again", ("faults",)
    ),
    "controller.healthy": LogEvent(_INFO, "All its parts live again"),
    "http.listening": LogEvent(_INFO, "The web server answers", ("http",)),
    "http.open": LogEvent(_WARNING, "Other machines can reach the web server", ("http", "reason", "fix")),
    "overview.crashed": LogEvent(
        _ERROR, "A bug has kept it from noting for the page and the metrics what has happened", ("exception",)
    ),
    "http.crashed": LogEvent(_ERROR, "A bug has kept it from answering a request", ("exception",)),
    "folder.unreadable": LogEvent(
        _WARNING, "A folder cannot be read: its repositories count as unchanged", ("folder",)
    ),
    "heartbeat.failed": LogEvent(_WARNING, "Its sign of life could not be written to etcd", ("etcd", "error")),
    "traces.failed": LogEvent(
        _WARNING,
        "The collector of traces does not take them (at most once a minute). Pushes do not wait for it",
        ("error",),
    ),
    "turn.crashed": LogEvent(_ERROR, "A bug has ended one turn of work", ("repository", "exception")),
    "turn.slow": LogEvent(_DEBUG, "A turn takes long, so another thread was started for the others", ("repository",)),
    "work.continues": LogEvent(
        _INFO,
        "Work on a repository has lasted 30 seconds, or 30 more: a first clone, a large fetch, a repair, a verification",
        ("repository", "work", "seconds"),
        (),
        ("done", "total", "unit"),
    ),
    # Repositories
    "repository.served": LogEvent(_INFO, "The controller serves a repository", REPOSITORY),
    "repository.left": LogEvent(_INFO, "It serves it no longer: it is gone, or was uninstalled", ("repository",)),
    "repository.refused": LogEvent(_ERROR, "It cannot serve it", ("repository", "reason")),
    "repository.unreadable": LogEvent(
        _DEBUG, "The configuration of a repository cannot be read", ("repository", "error")
    ),
    "repository.corrupt": LogEvent(_ERROR, "Objects of the repository are corrupt", ("reason",), REPOSITORY),
    "repository.repaired": LogEvent(_WARNING, "Corrupt objects were repaired", ("reason",), REPOSITORY),
    "repository.verified": LogEvent(_INFO, "All objects were proven", ("repository", "seconds", "sound")),
    "repository.not_verified": LogEvent(
        _WARNING, "The objects could not be proven", ("repository", "seconds", "error")
    ),
    "verification.unknown": LogEvent(
        _DEBUG, "When a repository was last proven cannot be read", ("repository", "error")
    ),
    "pointer.restored": LogEvent(
        _WARNING, "The file by which hooks find the controller was gone, and is back", ("repository",)
    ),
    # Pushes
    "push.accepted": LogEvent(
        _INFO,
        "The group has taken refs of a push to this site",
        ("refs", "count", "revision", "ms"),
        PUSH,
    ),
    "push.arrived": LogEvent(
        _INFO,
        "Refs that were pushed to another site (`peer`), or changed there otherwise (`kind`), have their values here, too. `ms`: since the "
        "watch of etcd has told of it",
        ("push", "peer", "pusher", "refs", "count", "revision"),
        REPOSITORY,
        ("ms", "kind"),
    ),
    "push.refused": LogEvent(
        _WARNING,
        "A push to this site was refused: its refs, or some of them (at most 5 lines for each push)",
        ("refs", "count", "token", "reason"),
        PUSH,
    ),
    "proposal.dropped": LogEvent(
        _WARNING, "The hook of a push has gone, so nothing was proposed", ("repository", "push"), SOCKET
    ),
    "hook.gone": LogEvent(_DEBUG, "A client has closed its connection", ("error",), SOCKET),
    "hook.refused": LogEvent(
        _WARNING, "A client asked for something that is not allowed or not known", ("error",), SOCKET
    ),
    "hooks.not_accepted": LogEvent(_ERROR, "No further connection can be taken", ("error", "advice"), SOCKET),
    "answer.crashed": LogEvent(
        _ERROR, "A bug has ended one answer; the hook decides by itself", ("exception",), SOCKET
    ),
    "socket.restored": LogEvent(_WARNING, "The socket was gone, and is back", (), SOCKET),
    # Replication
    "reconcile": LogEvent(
        ("info", "warning", "debug"),
        "Refs or HEAD were moved here, or what is stuck or locked has changed. Warning: something is stuck",
        ("revision", "moved", "refs", "peer", "bytes", "ms"),
        REPOSITORY,
        ("stuck", "locked", "deferred", "kept", "head"),
    ),
    "reconcile.failed": LogEvent(
        _FAILED, "Refs could not be brought to the group's values", ("error", "kind"), REPOSITORY
    ),
    "peer.failed": LogEvent(_WARNING, "Another site did not give the objects", ("peer", "reason"), REPOSITORY),
    "refs.put_back": LogEvent(
        _WARNING, "Refs were changed here without a push, and that was undone", ("count", "refs"), REPOSITORY
    ),
    "refs.unadopted": LogEvent(
        _WARNING, "Refs are here for which the group has no value", ("count", "refs", "reason", "fix"), REPOSITORY
    ),
    "site.halted": LogEvent(
        _ERROR, "This site moves no refs until an administrator decides", ("token", "reason"), REPOSITORY
    ),
    "site.resumed": LogEvent(_INFO, "It moves refs again", (), REPOSITORY),
    "copy.held": LogEvent(
        _INFO, "This site holds what a push to another site brings", ("push", "peer", "ms"), REPOSITORY
    ),
    "copy.not_held": LogEvent(_FAILED, "It could not be held", ("push", "reason"), REPOSITORY),
    "copies.failed": _failed("Held copies could not be released"),
    "log.failed": _failed("The log of refs could not be written"),
    "progress.failed": _failed("How far this site has come could not be published"),
    "dumb_http.failed": _failed("The files for dumb http could not be written"),
    "maintenance.failed": _failed("Small packs could not be combined"),
    "expiry.failed": _failed("Old kept tips could not be removed"),
    "drop.failed": _failed("What `piehole kept drop` asks for could not be done"),
    "reaping.failed": _failed("The keys of deleted refs could not be removed"),
    # etcd
    "etcd.connected": LogEvent(_INFO, "The watch of etcd runs", ("endpoint", "revision"), ETCD),
    "etcd.trouble": LogEvent(
        _FAILED, "etcd cannot be used. Debug where the words are those of the last time", ("error",), ETCD
    ),
    "sites.trouble": LogEvent(
        _FAILED,
        "What is shown of other sites cannot be read. Debug where the words are those of the last time",
        ("error",),
        ETCD,
    ),
    "informer.listed": LogEvent(_INFO, "All keys were read", ("revision", "keys", "changed")),
    "informer.ended": LogEvent(_DEBUG, "The watch has ended", ("error",), ETCD),
}


def problems(line: Mapping[str, Any]) -> Iterator[str]:
    """What is wrong with one line of a log, by this list."""
    name = line.get("event")
    known = EVENTS.get(str(name))
    if known is None:
        yield f"{name} is not listed"
        return
    required = {*ALWAYS, *known.context, *known.fields}
    if line.get("level") not in known.levels:
        yield f"{name} has the level {line.get('level')}"
    yield from (f"{name} lacks {field}" for field in sorted(required - line.keys()))
    yield from (f"{name} has {field}" for field in sorted(line.keys() - required - {*known.sometimes}))
