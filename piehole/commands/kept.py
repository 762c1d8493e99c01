"""``piehole kept``: the tips that this site keeps, and what is known of the change that left each of them behind."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from piehole import git
from piehole.commands.log import LoggedMove
from piehole.errors import GitError, PieholeError, UsageError
from piehole.group.replica import Replica
from piehole.refs import KEPT_REFS, LENGTHS, is_oid
from piehole.repository import kept_tips

_ABBREVIATED: Final = re.compile(r"[0-9a-f]{4,64}")
_SHOWN: Final = 20  # commits that `show` lists


@dataclass(frozen=True, slots=True)
class KeptTip:
    """One kept tip. ``since``: seconds since the epoch, 0 where unknown; ``subject`` is ``""`` where the object is not whole here.

    ``left_by``: the newest change that took a ref away from it; None where neither etcd nor the local log remember one.
    """

    oid: str
    since: int
    subject: str
    left_by: LoggedMove | None

    def as_json(self) -> dict[str, Any]:
        return {
            "oid": self.oid,
            "since": self.since or None,
            "subject": self.subject,
            "left_by": self.left_by.as_json() if self.left_by else None,
        }


def tips(replica: Replica, changes: Sequence[LoggedMove]) -> list[KeptTip]:
    """All tips that are kept here, the newest first.

    :param changes: what is known of the group's past, the newest first
    """
    since = kept_tips.kept_since(replica.repository)
    left: dict[str, LoggedMove] = {}
    for change in changes:
        if change.entry.old != change.entry.new and change.entry.ref.startswith("refs/"):
            left.setdefault(change.entry.old, change)
    subjects = _subjects(replica, [name.removeprefix(KEPT_REFS) for name in since])
    found = [
        KeptTip(oid, time, subjects.get(oid, ""), left.get(oid))
        for oid, time in ((name.removeprefix(KEPT_REFS), time) for name, time in since.items())
        if is_oid(oid, replica.config.object_format)  # somebody may have made a ref of another form there
    ]
    return sorted(found, key=lambda tip: (-tip.since, tip.oid))


def check_oid(replica: Replica, text: str) -> str:
    """An oid, or the beginning of one.

    :raises UsageError: it is neither
    """
    if not _ABBREVIATED.fullmatch(text) or len(text) > LENGTHS[replica.config.object_format]:
        raise UsageError(
            f"{text!r} is no object id: give one that `piehole kept` lists, in lower-case hexadecimal digits; its beginning is enough."
        )
    return text


def find(replica: Replica, text: str) -> str:
    """The kept tip that an administrator means by an oid or its beginning; a whole oid is taken as it is, whether it is kept or not.

    :raises UsageError: it is no oid
    :raises PieholeError: no kept tip begins so, or more than one
    """
    check_oid(replica, text)
    if len(text) == LENGTHS[replica.config.object_format]:
        return text
    oids = [name.removeprefix(KEPT_REFS) for name in kept_tips.kept_since(replica.repository)]
    found = [oid for oid in oids if oid.startswith(text)]
    if len(found) == 1:
        return found[0]
    if found:
        raise PieholeError(
            f"{text} is the beginning of {len(found)} kept tips: {', '.join(found[:5])}. Give more of it."
        )
    raise PieholeError(
        f"no tip that is kept at this site begins with {text}. `piehole kept` lists them; another site may keep more, and a whole "
        "object id is asked of all sites by `piehole kept restore`."
    )


def describe(replica: Replica, oid: str, now: str) -> list[str]:
    """What one kept tip is, and how it differs from what its ref has now.

    :param now: the oid that its ref has in the group, ``""`` for none
    :raises PieholeError: it is not here
    """
    repository = replica.repository
    if oid not in repository.kinds([oid]):
        raise PieholeError(
            f"{oid} is not in this repository. `piehole kept restore {oid} REF` asks the other sites for it."
        )
    lines = git.lines(repository.git("show", "--no-patch", "--no-color", "--format=fuller", oid))
    if not now or now not in repository.kinds([now]):
        return lines
    only = git.lines(repository.git("log", "--oneline", "--no-color", "--no-decorate", oid, f"^{now}", "--"))
    lines += ["", f"{len(only)} commit{'' if len(only) == 1 else 's'} that {now[:12]} does not have:"]
    lines += [f"  {line}" for line in only[:_SHOWN]] + (["  …"] if len(only) > _SHOWN else [])
    changed = git.lines(repository.git("diff", "--stat", "--no-color", "--no-ext-diff", now, oid, "--"))
    return [*lines, "", f"from {now[:12]} to it:", *(changed or [" no difference"])]


def _subjects(replica: Replica, oids: Sequence[str]) -> dict[str, str]:
    shown = ["for-each-ref", "--format=%(objectname) %(subject)", KEPT_REFS]
    try:
        lines = git.lines(replica.repository.git(*shown))
    except GitError:  # an object is missing or corrupt: the others are asked for one by one
        lines = []
        for oid in oids:
            lines += git.lines(replica.repository.git("log", "-1", "--format=%H %s", oid, "--", ok=(0, 128)))
    return dict(line.split(" ", 1) for line in lines if " " in line)
