"""The settings ``piehole.*`` of git's configuration: one row for each, from which the reference and `piehole config` are made."""

from __future__ import annotations

from typing import Final, NamedTuple

_WRITTEN: Final = "`piehole install` makes it, and a copied or changed one halts the site"


class PieholeSetting(NamedTuple):
    """One setting.

    :param meaning: what it is, in Markdown; its first sentence stands alone
    :param default: what counts where it is set nowhere, in the form in which it is set
    :param otherwise: what the reference says in place of a default: ``required``, ``those of the system``
    :param see: the page below docs/ that tells more
    :param several: it may have several values
    :param commas: a value may hold several, separated by commas
    :param changes: what else changes it in a repository; there, `piehole config` does not
    :param server: whether it may be set for a whole server; ``only``: nowhere else
    :param after: what has to follow a change, besides that the controller reads it
    """

    name: str
    meaning: str
    default: tuple[str, ...] = ()
    otherwise: str = "none"
    see: str = ""
    several: bool = False
    commas: bool = True
    changes: str = ""
    server: bool = True
    repository: bool = True
    after: str = ""

    @property
    def key(self) -> str:
        """Its name as git lists it."""
        return f"piehole.{self.name.lower()}"


_ROWS: Final = (
    PieholeSetting(
        "group",
        "The name of the group of repositories that act as one. It may contain `/`. No part of it may be empty, be `refs` or `HEAD`, "
        "contain white space, or begin with `@` or `.`. A repository belongs to piehole if its own configuration has this setting.",
        otherwise="required",
        changes="`piehole install --group GROUP` joins a group, `piehole rename GROUP` gives it another name",
        server=False,
    ),
    PieholeSetting(
        "site",
        "The name of this server, unique within the group: letters, digits, `.`, `_`, `-`.",
        otherwise="required",
        changes="`piehole install --site SITE` does, and registers the site",
    ),
    PieholeSetting(
        "url",
        "The URL from which the other sites fetch this repository: `ssh://`, `https://`, `http://`, `git://`, `file:///`, `user@host:path`, "
        "or an absolute path (which counts as `file`).",
        otherwise="required by install",
        changes="`piehole install --url URL` does, and tells the other sites",
        server=False,
    ),
    PieholeSetting(
        "etcd",
        "The client URLs of the etcd members: `http://host:port`, `https://host:port` or `host:port` (http). Several values, tried in order.",
        otherwise="required",
        several=True,
    ),
    PieholeSetting(
        "prefix",
        "The prefix of all keys in etcd. It begins with `/` and does not end with it.",
        ("/piehole",),
        changes="`piehole uninstall`, then `piehole install --prefix PREFIX` does: under another prefix there is another group",
    ),
    PieholeSetting(
        "exclude",
        "Refs that are not part of the group at this site. Each value is one glob over full names, in which `*` also matches `/` "
        "(`refs/pull/*`). Several values. Set the same values at every site.",
        several=True,
        commas=False,
    ),
    PieholeSetting(
        "keepFor",
        "How long a replaced tip is kept, in hours, days or weeks (`12h`, `90d`, `12w`), or as an expiry date in Git's syntax (`90.days`, "
        "`3.months`, `never`).",
        ("90.days",),
    ),
    PieholeSetting(
        "allowProtocol",
        "The protocols that this site may use to fetch from peers: `ssh`, `https`, `http`, `git`, `file`. Several values. `install` allows `file` "
        "where this site's own `--url` is a path.",
        ("ssh", "https"),
        several=True,
    ),
    PieholeSetting(
        "root",
        "Folders in which the controller, `reconcile --once` and `status` look for repositories if none is given. Several values. For "
        "`--system` or the account's own configuration.",
        several=True,
        repository=False,
        after="restart the controller, which looks for its folders when it starts: `systemctl restart piehole-controller`",
    ),
    PieholeSetting("hookTimeout", "How long one push may wait for etcd in total.", ("10",)),
    PieholeSetting(
        "catchUp",
        "How long the refusal of a push waits until this site has fetched the newer value, so that the user's next pull receives it.",
        ("3",),
    ),
    PieholeSetting(
        "copiesTimeout",
        "How long a push waits for other sites to hold what it brings, where the group promises copies (`piehole group set copies`). It is "
        "not taken from `piehole.hookTimeout`.",
        ("10",),
    ),
    PieholeSetting(
        "readGate",
        "What a fetch through `piehole upload-pack` or `piehole http-backend` gets where this site is behind the group: `off` serves and asks "
        "nobody, `wait` serves with a warning, `strict` refuses.",
        ("off",),
        see="guides/fresh-reads.md",
    ),
    PieholeSetting(
        "readWait",
        "How long such a fetch waits until this site has reached what was the newest in the group when it began.",
        ("3",),
    ),
    PieholeSetting(
        "maxDeletes",
        "How many refs of the group one push to this site may delete. A push that asks for more deletes none of them (`too-many:`). 0: no "
        "limit. `install` suggests 100.",
        ("0",),
    ),
    PieholeSetting(
        "pusherFrom",
        "Where the name of a pusher comes from, tried in this order: `env:NAME` (a variable that the login or the web server sets), "
        "`key-comment` (the comment of the ssh key, from the account's `.ssh/authorized_keys`) or `key-comment:FILE`, `account`. Several "
        "values.",
        ("env:GL_USER", "env:REMOTE_USER", "key-comment", "account"),
        see="guides/pushers.md",
        several=True,
    ),
    PieholeSetting(
        "announce",
        "How long a push to this site waits to tell its user how many sites have it already (`piehole: 2 of 3 sites have it`), at most `10s`. "
        "`off` or `0`: nothing is said, and nothing waits. After a change run `piehole install`, which writes or removes the hook "
        "`post-receive`.",
        ("0",),
        see="guides/tracing-a-push.md#how-many-sites-have-it",
        after="run `piehole install` in each repository that it is for, which writes or removes the hook post-receive",
    ),
    PieholeSetting(
        "verifyEvery",
        "How often the controller proves all files and the history of the repository, in the background: `7d`, `12h`, `90m`, or seconds. "
        "`0`: never.",
        ("7d",),
    ),
    PieholeSetting(
        "etcdCA",
        "Path of a file with the certificates that sign etcd's certificate.",
        otherwise="those of the system",
    ),
    PieholeSetting("etcdCert", "Path of a client certificate for etcd. Set it and `piehole.etcdKey`, or neither."),
    PieholeSetting("etcdKey", "Path of the key of that certificate."),
    PieholeSetting(
        "etcdUser", "The user for etcd's own authentication. Set it and `piehole.etcdPasswordFile`, or neither."
    ),
    PieholeSetting("etcdPasswordFile", "Path of the file with that user's password."),
    PieholeSetting(
        "groupId",
        "The id of the group, which reveals a wrong etcd. Written by `piehole install`; never copy or change it.",
        otherwise="",
        changes=_WRITTEN,
        server=False,
    ),
    PieholeSetting(
        "siteId",
        "The id of the site, which reveals a second machine with the same site name. Written by `piehole install`; never copy or change it.",
        otherwise="",
        changes=_WRITTEN,
        server=False,
    ),
)  # fmt: skip
SETTINGS: Final = {row.name: row for row in _ROWS}
_BY_KEY: Final = {row.key: row for row in _ROWS}


def default(name: str) -> str:
    """What a setting with one value is where nobody has set it."""
    return "".join(SETTINGS[name].default)


def find(name: str) -> PieholeSetting | None:
    """The setting of this name: ``readGate`` or ``piehole.readGate``, in any case of its letters."""
    lower = name.lower()
    return _BY_KEY.get(lower if lower.startswith("piehole.") else f"piehole.{lower}")
