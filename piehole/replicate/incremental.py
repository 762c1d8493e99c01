"""The states that an incremental reconcile compares: those of the refs alone whose keys have changed since the last reconcile.

A reconcile that left nothing to do knows where every managed ref is. After that only the refs whose keys have changed are compared, and
each of them is where its key said it was, or already where the key says it shall be: a push went through here. Anything else, such as
a ref that somebody moved by hand, needs a full reconcile. Git has the last word: a move from where the ref is not fails under its lock,
and needs a full reconcile, too.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from piehole.etcd.model import KeyValue
from piehole.group import keys
from piehole.group.config import Config
from piehole.group.group_state import GroupState
from piehole.group.records import PushRecord
from piehole.refs import HEAD, is_ref_name, value_of, zero
from piehole.replicate.plan import DesiredState, desired_state
from piehole.repository.repository import ObservedState, Repository

FEW: Final = 128  # changed refs; more of them take a full reconcile
TIPS: Final = 16  # that a baseline remembers


@dataclass(frozen=True, slots=True)
class Baseline:
    """What a reconcile that left nothing to do has found: every managed ref was as the group had it at ``revision``.

    ``newest``: the group's newest change by then. ``tips``: commits that refs held here, the likeliest bases of what comes next first.
    ``since``: when the last full reconcile was (monotonic seconds); None: it was this one.
    """

    revision: int
    newest: int
    locked: Mapping[str, str]
    unadopted: tuple[str, ...]
    tips: tuple[str, ...]
    since: float | None


@dataclass(frozen=True, slots=True)
class ChangedRefs:
    """The refs whose keys have changed since: what the group wants of them, and where they are here.

    ``origin``: the site whose push the newest change was, ``""`` where it was none.
    """

    desired: DesiredState
    observed: ObservedState
    origin: str


# The names that have changed after a revision, with what they held at it (None: nothing); None where that is not known.
Changed = Mapping[str, KeyValue | None] | None


def refs_to_compare(baseline: Baseline, changed: Changed) -> list[str] | None:
    """The names of the refs to compare; None where a full reconcile is needed."""
    if not changed or len(changed) > FEW or HEAD in changed or not changed.keys().isdisjoint(baseline.locked):
        return None
    return list(changed)


def read_refs(repository: Repository, refs: list[str]) -> Mapping[str, str | None]:
    """What the files of these refs hold; None for a ref without a file of its own."""
    return {ref: repository.loose_value(ref) if is_ref_name(ref) else None for ref in refs}


def compare(
    config: Config, changed: Mapping[str, KeyValue | None], here: Mapping[str, str | None], state: GroupState
) -> ChangedRefs | None:
    """The two states of the refs whose keys have changed.

    :param here: by :func:`read_refs`, before the state was made
    :return: None where a full reconcile is needed
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
    return ChangedRefs(desired, ObservedState(refs), _origin(state, desired))


def _origin(state: GroupState, desired: DesiredState) -> str:
    push = PushRecord.of(state.entries.get(keys.PUSH), desired.newest)
    return push.site if push is not None else ""
