"""The tree of errors. Foreign errors are translated once, at the edge, with their cause chained.

::

    PieholeError                 exit status 1: anything about a repository, group or peer
    ├── UsageError               exit status 2: wrong arguments, or a required setting is missing
    ├── EtcdError                etcd was needed and could not be used
    │   ├── EtcdUnreachable      exit status 3: no endpoint answered in time, or there is no quorum
    │   ├── EtcdRefused          etcd answered and said no (authentication, permission, bad request)
    │   │   └── NoAccess         this account cannot read the etcd credentials
    │   ├── EtcdFull             etcd's database is full; a write that was answered so may have been made
    │   └── Compacted            the requested history was compacted: list again
    ├── GitError                 a git process failed where it must not
    │   └── GitSilent            a git process gave no answer in time and was killed
    ├── TransferError            a fetch from one peer failed: try the next one
    │   └── TransferRejected     the peer sent something that is corrupt, incomplete or too large
    └── Halted                   this site must not move refs: etcd or this disk went back, wrong group, name taken

Every error's text is a sentence for people: it says what happened, to what, and the command that fixes it, if there is one.
"""

from __future__ import annotations

from typing import Final

# The stable words after `piehole:` in what a pusher sees (each has a page in docs/trouble).
STALE: Final = "stale"
NO_QUORUM: Final = "no-quorum"
WRONG_GROUP: Final = "wrong-group"
WENT_BACK: Final = "went-back"
LOCKED: Final = "locked"
UNADOPTED: Final = "unadopted"
RESERVED: Final = "reserved"
TOO_MANY: Final = "too-many"
CONFLICT: Final = "conflict"
NO_ACCESS: Final = "no-access"
UNKNOWN: Final = "unknown"
CORRUPT: Final = "corrupt"
COPIES: Final = "copies"
BEHIND: Final = "behind"


class PieholeError(Exception):
    """Base of every error that piehole raises on purpose; ``exit_status`` is what the command line ends with."""

    exit_status = 1


class UsageError(PieholeError):
    """Wrong arguments, or a required setting is missing."""

    exit_status = 2


class EtcdError(PieholeError):
    """etcd was needed and could not be used."""


class EtcdUnreachable(EtcdError):
    """No endpoint gave an answer before the deadline, or the cluster has no quorum.

    ``maybe_sent`` is true when a request may have reached a member, so that a write may still take effect later.
    """

    exit_status = 3

    def __init__(self, message: str, *, maybe_sent: bool = False) -> None:
        super().__init__(message)
        self.maybe_sent = maybe_sent


class EtcdRefused(EtcdError):
    """etcd answered, and said no: authentication, permission, too many operations, or a malformed request."""

    def __init__(self, message: str, *, status: int = 0, too_many: bool = False) -> None:
        super().__init__(message)
        self.status = status
        self.too_many = too_many


class NoAccess(EtcdRefused):
    """This account cannot read a credential for etcd: the password file, a certificate or its key."""


class EtcdFull(EtcdError):
    """etcd's database is full (its alarm NOSPACE), so it takes no further writes; reads go on.

    A write that was answered so may have been made all the same. But its outcome is decided: a linearizable read tells.
    """

    def __init__(self, what: str) -> None:
        super().__init__(
            f'{what} Compact and defragment etcd, then disarm its alarm NOSPACE (docs/guides/etcd.md, "Space"). What was '
            "being written may be written all the same: then run the same command again, it goes on where it stopped."
        )
        self.what = what


class Compacted(EtcdError):
    """The requested history was compacted, or the cluster is another one: list again."""


class GitError(PieholeError):
    """A git process failed where it must not. ``stderr`` holds what git said."""

    def __init__(self, message: str, *, returncode: int = -1, stderr: str = "") -> None:
        super().__init__(message)
        self.returncode = returncode
        self.stderr = stderr


class GitSilent(GitError):
    """A git process gave no answer in time and was killed. Trying the same with less input takes as long again."""


class TransferError(PieholeError):
    """One peer could not give the objects: unreachable, refused, lacks them, stalled or too slow."""


class TransferRejected(TransferError):
    """A peer sent something that must not become visible: corrupt, incomplete, or larger than allowed."""


class Halted(PieholeError):
    """This site must not move refs until an administrator decides. ``token`` is the stable word for the reason."""

    def __init__(self, token: str, message: str) -> None:
        super().__init__(message)
        self.token = token
