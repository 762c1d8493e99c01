"""Mark a site as left, and find what only that site is known to have."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from piehole.deadline import Deadline
from piehole.errors import PieholeError
from piehole.etcd.model import Compare, Put, prefix_end
from piehole.group import keys, promise, rollback_guard, sites
from piehole.group.group_state import GroupState
from piehole.group.records import GroupRecord, PushRecord, SiteRecord
from piehole.group.replica import Replica
from piehole.group.sites import GroupSite, GroupSites

_LOOKED_UP: Final = 50  # push records


def held_alone(
    replica: Replica, state: GroupState, everybody: Sequence[GroupSite], site: str, deadline: Deadline, copies: int = 1
) -> list[str]:
    """The refs whose newest value only this one site is known to have: it reached or made them, and no other has come so far.

    A site that is known to be corrupt is no copy.

    :param copies: name the refs whose newest value fewer than so many other sites are known to have
    :raises EtcdError: etcd could not be used
    """
    sound = [one.revision for one in everybody if not (one.site == site or one.left or one.corrupt)]
    others = sorted(sound, reverse=True)[copies - 1] if copies <= len(sound) else -1
    reached = max((one.revision for one in everybody if one.site == site), default=-1)
    newer = {name: mod for name, mod in sites.ref_revisions(state).items() if mod > others}
    unsure = sorted({mod for mod in newer.values() if mod > reached}, reverse=True)[:_LOOKED_UP]
    pushes = {mod: sites.push_if_known(replica, mod, deadline) for mod in unsure}
    made = {mod for mod, push in pushes.items() if push is not None and push.site == site}
    return sorted(name for name, mod in newer.items() if mod <= reached or mod in made)


@dataclass(frozen=True, slots=True)
class PromiseWithout:
    """What becomes of the group's promise of copies when a site leaves: of how many sites, and whether that can be kept at all.

    ``guards`` hold as long as this is so: with others that leave at the same time, or a higher promise, it would not be.
    """

    before: str
    after: str
    needed: int
    sites: int
    guards: tuple[Compare, ...] = ()

    @property
    def possible(self) -> bool:
        return self.needed <= max(1, self.sites)


def promise_without(replica: Replica, state: GroupState, everybody: GroupSites, site: str) -> PromiseWithout:
    """
    :raises RecordError: the group's record cannot be used
    """
    k, group = replica.keyspace, replica.config.group
    record = GroupRecord.parse(state.group.value) if state.group else None
    guards = [Compare(k.group(group), mod_revision=state.group.mod_revision if state.group else 0)]
    if record is None or not record.promises_copies:
        return PromiseWithout("", "", 1, len(everybody.sites), tuple(guards))
    guards.append(Compare(k.sites(group), prefix_end(k.sites(group)), "<", everybody.revision + 1))
    now = promise.members(everybody.sites)
    then = {name: id_ for name, id_ in now.items() if name != site}
    before, after = promise.words(record, now), promise.words(record, then)
    return PromiseWithout(before, after, promise.needed(record, then), len(then), tuple(guards))


def leave(
    replica: Replica, site: str, deadline: Deadline, guards: Sequence[Compare] = (), *, dry: bool = False
) -> bool:
    """Mark the site's record as left; False where it had left already.

    :param guards: what else must be so still
    :param dry: change nothing
    :raises Halted: etcd holds another group, or this site's name belongs to another machine now
    :raises PieholeError: the group has no such site, or its record was changed at this very moment
    :raises EtcdError: etcd could not be used
    """
    config, key = replica.config, replica.keyspace.site(replica.config.group, site)
    state = replica.reader.read([], deadline)
    halted = rollback_guard.check_group(config, state.group.value if state.group else None)
    if halted is not None:
        raise halted
    found = replica.etcd.range(key, deadline=deadline).kvs
    if not found:
        known = ", ".join(one.site for one in sites.list_sites(replica, deadline)) or "none"
        raise PieholeError(f"the group {config.group!r} has no site {site!r}. Its sites: {known}.")
    record = SiteRecord.parse(found[0].value)
    if record.left or dry:
        return not record.left
    guard = Compare(key, mod_revision=found[0].mod_revision)
    # All controllers watch the fence, so that the one of the site that left is halted at once.
    heard = PushRecord.create(config.site, "left")
    puts = [Put(key, record.leaving().dump()), Put(replica.keyspace.ref(config.group, keys.FENCE), heard.dump())]
    if not replica.etcd.txn([guard, *guards], puts, deadline=deadline).succeeded:
        raise PieholeError(
            f"somebody else changed the record of the site {site!r}, or of the group, at this very moment. Check `piehole sites`, and try "
            "again."
        )
    return True
