"""Which objects of a push other sites hold already, since their refs contain them: nobody needs to be asked for copies of these."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from time import monotonic
from typing import Final

from piehole import git
from piehole.deadline import Deadline
from piehole.errors import EtcdError, GitError
from piehole.group.group_state import GroupState, live
from piehole.group.replica import Replica
from piehole.group.sites import GroupSite, GroupSites
from piehole.push.copy_answers import Answers
from piehole.refs import decode, is_oid

_KNOWN_FOR: Final = 60.0  # seconds; a tip that a ref leaves behind is kept for days
_NEW_FOR: Final = 600.0
_MOST: Final = 10_000
_FEW: Final = 8  # commits that are asked for one by one
_CAUGHT_UP: Final = 1.0  # seconds for the view to reach a linearizable read


class HeldElsewhere:
    """What is known of the objects of one group. Safe to use from many threads.

    A site that has published the revision R holds every value that a ref had at R, and still has when the refs are read after that:
    no other value lies in between. Whatever is contained in such a value, the site holds, too.
    """

    def __init__(self, replica: Replica, answers: Answers) -> None:
        self._replica = replica
        self._repository = replica.repository
        self._answers = answers
        self._new: dict[str, float] = {}
        self._holders: dict[str, tuple[float, Mapping[str, str]]] = {}  # the holders of an object, each with its id

    def note_new(self, oids: Collection[str]) -> None:
        """Note those of these that are not here yet, while git keeps the objects of the push apart: nobody can hold them."""
        asked = list(dict.fromkeys(oids))
        try:
            here = self._repository.kinds(asked) if asked else {}
        except GitError:
            return
        self._new = _recent(self._new, _NEW_FOR) | dict.fromkeys((oid for oid in asked if oid not in here), monotonic())

    def unclear(self, oids: Iterable[str]) -> list[str]:
        """Those that others may hold already."""
        known = self._new
        return [oid for oid in oids if oid not in known]

    def note_holders(self, holders: Mapping[str, Mapping[str, str]]) -> None:
        """Note which sites hold an object for certain, each with its id."""
        at, here = monotonic(), self._replica.config.site
        for oid, found in holders.items():
            self._holders[oid] = (at, {site: known for site, known in found.items() if site != here})

    def holders(self, oid: str, members: Mapping[str, str]) -> set[str]:
        """The members of which it is known that they hold it."""
        at, found = self._holders.get(oid, (float("-inf"), {}))
        if monotonic() - at > _KNOWN_FOR:
            return set()
        return {site for site, known in found.items() if known and members.get(site) == known}

    def examine(self, oids: Sequence[str], sites: GroupSites, count: int, deadline: Deadline) -> None:
        """Find out which of these objects at least ``count`` other sites hold.

        :raises EtcdError: etcd could not be used
        """
        able = sorted((one for one in sites.sites if self._counts(one)), key=lambda one: -one.revision)
        if count < 1 or len(able) < count or not oids:
            return
        passed = able[count - 1].revision
        holders = {one.site: one.id for one in able if one.revision >= passed}
        try:
            state = self._answers.refs(sites.revision, deadline.at_most(_CAUGHT_UP))
            held = self._contained(oids, _values(state, passed, self._repository.object_format)) if state else set()
        except (EtcdError, GitError):
            return  # then they are asked
        at = monotonic()
        self._holders = {oid: one for oid, one in self._holders.items() if at - one[0] < _KNOWN_FOR}
        for oid in held:
            self._holders[oid] = (at, holders)

    def _counts(self, one: GroupSite) -> bool:
        if one.site == self._replica.config.site or one.left or one.corrupt or one.fault or not one.id:
            return False
        # What the former machine of this name has published says nothing of the one that took it over.
        return one.progress is not None and (not one.replaced or one.progress.time > one.replaced)

    def _contained(self, oids: Sequence[str], values: Collection[str]) -> set[str]:
        """Those of the objects that one of these values contains: it is the value, or both are commits and one descends from the other."""
        found = {oid for oid in oids if oid in values}
        rest = [oid for oid in oids if oid not in found]
        if not rest or (self._replica.git_dir / "shallow").exists():
            return found
        kinds = self._repository.kinds(rest)
        commits = [oid for oid in rest if kinds.get(oid) == "commit"]
        if commits and not self._outside(commits, values):
            return found.union(commits)
        if 1 < len(commits) <= _FEW:
            found.update(oid for oid in commits if not self._outside([oid], values))
        return found

    def _outside(self, commits: Sequence[str], values: Iterable[str]) -> bool:
        """Whether any of these commits is in no history of these values."""
        asked = "".join(f"{oid}\n" for oid in [*commits, *(f"^{value}" for value in values)])
        return bool(
            git.lines(self._repository.git("rev-list", "-n1", "--ignore-missing", "--stdin", stdin=asked.encode()))
        )


def _values(state: GroupState, passed: int, object_format: str) -> set[str]:
    """The values of live refs that have not changed since this revision."""
    entries = ((name, kv) for name, kv in state.entries.items() if name.startswith("refs/") and live(kv))
    values = {decode(kv.value).removesuffix("\n") for _, kv in entries if kv.mod_revision <= passed}
    return {value for value in values if is_oid(value, object_format)}


def _recent(known: Mapping[str, float], seconds: float) -> dict[str, float]:
    now = monotonic()
    return {oid: at for oid, at in list(known.items())[-_MOST:] if now - at < seconds}
