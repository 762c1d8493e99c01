"""What a few changes of the group ask of a repository that had settled before them, without a look at all of its refs.

A reconcile that left nothing to do knows where every managed ref is. After that only the refs whose keys have changed need a look, and
each of them is where its key said it was, or already where the key says it shall be: a push went through here. Anything else, such as
a ref that somebody moved by hand, is for a reconcile that looks at everything. Git has the last word: a move from where the ref is not
fails under its lock, and is looked into by such a reconcile, too.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from piehole.etcd.model import KeyValue
from piehole.group import keys
from piehole.group.config import Config
from piehole.group.group_state import GroupState
from piehole.group.records import PushRecord, RecordError
from piehole.refs import HEAD, is_ref_name, value_of, zero
from piehole.replicate.plan import Desired, desired_state
from piehole.repository.repository import Observed, Repository

FEW: Final = 128  # refs
TIPS: Final = 16


@dataclass(frozen=True, slots=True)
class Settled:
    """What a reconcile that left nothing to do has found: every managed ref was as the group had it at ``revision``.

    ``newest``: the group's newest change by then. ``tips``: commits that refs held here, the likeliest bases of what comes next first.
    ``since``: the time (monotonic seconds) from which on no look was at everything; None: the last one was.
    """

    revision: int
    newest: int
    locked: Mapping[str, str]
    unadopted: tuple[str, ...]
    tips: tuple[str, ...]
    since: float | None


@dataclass(frozen=True, slots=True)
class Changes:
    """The refs whose keys have changed since: what the group wants of them, and where they are here.

    ``origin``: the site whose push the newest change was, ``""`` where it was none.
    """

    desired: Desired
    observed: Observed
    origin: str


# The names that have changed after a revision, with what they held at it (None: nothing); None where that is not known.
Changed = Mapping[str, KeyValue | None] | None


def names(settled: Settled, changed: Changed) -> list[str] | None:
    """The names to look at; None where everything must be looked at."""
    if not changed or len(changed) > FEW or HEAD in changed or not changed.keys().isdisjoint(settled.locked):
        return None
    return list(changed)


def look(repository: Repository, refs: list[str]) -> Mapping[str, str | None]:
    """What the files of these refs say."""
    return {ref: repository.loose_value(ref) if is_ref_name(ref) else None for ref in refs}


def changes(
    config: Config, changed: Mapping[str, KeyValue | None], here: Mapping[str, str | None], state: GroupState
) -> Changes | None:
    """
    :param here: by :func:`look`, before the state was made
    :return: None where everything must be looked at
    """
    entries = {name: state.entries[name] for name in changed if name in state.entries}
    desired = desired_state(entries, config.object_format, config.exclude)
    if desired.locked:
        return None
    refs: dict[str, str] = {}
    none = zero(config.object_format)
    for ref, value in desired.refs.items():
        held = changed[ref]
        try:
            before = value_of(held.value if held is not None else None, config.object_format) or none
        except ValueError:
            return None
        found = here[ref]
        if found is None:
            # Packed, or not there. Where a move follows, git sees under its lock whether it is where it was; where none would, nobody.
            if value.oid in (before, none):
                return None
            found = before
        elif found not in (before, value.oid):
            return None
        if found != none:
            refs[ref] = found
    return Changes(desired, Observed(refs), _origin(state, desired))


def _origin(state: GroupState, desired: Desired) -> str:
    push = state.entries.get(keys.PUSH)
    if push is None or push.mod_revision != desired.newest:
        return ""
    try:
        return PushRecord.parse(push.value).site
    except RecordError:
        return ""
