"""Which objects of a push other sites hold already, since their refs contain them: nobody needs to be asked for copies of these."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from time import monotonic, time
from typing import Final, NamedTuple

from piehole import git
from piehole.deadline import Deadline
from piehole.errors import GitError
from piehole.etcd.model import KeyValue
from piehole.group.group_state import GroupState, live
from piehole.group.replica import Replica
from piehole.group.sites import GroupSite
from piehole.push.copy_answers import Answers
from piehole.push.copy_reading import CopyReader, Reading
from piehole.refs import HEAD, decode

_KNOWN_FOR: Final = 60.0  # seconds; a tip that a ref leaves behind is kept for days
_FORESEEN_FOR: Final = 600.0
_GRAIN: Final = 0.02  # seconds; a file's time may be that of the last tick of the kernel's clock
_MOST: Final = 10_000
_SOME: Final = 3  # refs that name one object
_FEW: Final = 8  # commits that are asked for one by one
_NAMES: Final = 50  # refs that are read again

Wanted = Mapping[str, Sequence[str]]  # objects, each with the refs that are to name it


class _Container(NamedTuple):
    """A ref whose value contains an object, as a view shows it."""

    ref: str
    mod_revision: int


class HeldElsewhere:
    """What is known of the objects of one group. Safe to use from many threads.

    A site that has published the revision R holds the value that a ref has had from some revision up to R on, if it still has it when
    that record was read: no other value lies in between. Whatever this value contains, the site holds, too.
    """

    def __init__(self, replica: Replica, reader: CopyReader, answers: Answers) -> None:
        self._replica = replica
        self._repository = replica.repository
        self._reader = reader
        self._answers = answers
        self._foreseen: dict[str, float] = {}  # by the clock of the files
        self._holders: dict[str, tuple[float, Mapping[str, str]]] = {}  # the holders of an object, each with its id

    def foresee(self, oids: Collection[str]) -> None:
        """Note that a push is about to bring some of these: git keeps the objects of the push apart as yet."""
        now = time()
        known = {oid: at for oid, at in list(self._foreseen.items())[-_MOST:] if abs(now - at) < _FORESEEN_FOR}
        self._foreseen = known | dict.fromkeys(oids, now)

    def unclear(self, wanted: Wanted) -> Wanted:
        """Those that others may hold already."""
        return {oid: refs for oid, refs in wanted.items() if not self._is_new(oid)}

    def _is_new(self, oid: str) -> bool:
        """Whether the push has brought this object, found without a process where git keeps it in a file of its own."""
        since = self._foreseen.get(oid)
        try:
            path = self._replica.git_dir / "objects" / oid[:2] / oid[2:]
            return since is not None and path.lstat().st_ctime > since - _GRAIN
        except OSError:
            return False

    def note_holders(self, holders: Mapping[str, Mapping[str, str]]) -> None:
        """Note which sites hold an object for certain, each with its id."""
        at, here = monotonic(), self._replica.config.site
        for oid, found in holders.items():
            self._holders[oid] = (at, {site: known for site, known in found.items() if site != here})

    def knows_some(self, oids: Iterable[str]) -> bool:
        """Whether holders of any of these objects are known."""
        return any(oid in self._holders for oid in oids)

    def holders(self, oid: str, members: Mapping[str, str]) -> set[str]:
        """The members of which it is known that they hold it."""
        at, found = self._holders.get(oid, (float("-inf"), {}))
        if monotonic() - at > _KNOWN_FOR:
            return set()
        return {site for site, known in found.items() if known and members.get(site) == known}

    def examine(self, push_id: str, wanted: Wanted, deadline: Deadline) -> Reading | None:
        """Find out who holds these objects already; None where nobody can tell, and etcd was not asked.

        :raises EtcdError: etcd could not be used
        """
        if not wanted or (self._replica.git_dir / "shallow").exists():
            return None
        try:
            containers = self._containers(wanted, self._answers.state(deadline))
        except GitError:
            return None
        names = list(dict.fromkeys(one.ref for several in containers.values() for one in several))[:_NAMES]
        if not names:
            return None
        reading = self._reader.read(push_id, deadline, names)
        at = monotonic()
        known = {oid: one for oid, one in list(self._holders.items())[-_MOST:] if at - one[0] < _KNOWN_FOR}
        able = [site for site in reading.sites.sites if self._counts(site)]
        for oid, several in containers.items():
            passed = [one.mod_revision for one in several if reading.refs.get(one.ref) == one.mod_revision]
            if passed:
                known[oid] = (at, {site.site: site.id for site in able if site.revision >= min(passed)})
        self._holders = known
        return reading

    def _counts(self, one: GroupSite) -> bool:
        if one.site == self._replica.config.site or one.left or one.corrupt or one.fault or not one.id:
            return False
        return one.progress is not None

    def _containers(self, wanted: Wanted, state: GroupState) -> dict[str, list[_Container]]:
        """For each object some refs that contain it: that name it or, where both are commits, a descendant of it. Of all refs only those are
        tried for the latter that the object is pushed to, and the default branch.
        """
        found: dict[str, list[_Container]] = {}
        for name, kv in state.entries.items():
            value = _value(kv)
            if value in wanted and name.startswith("refs/"):
                # Those that have not changed for long: most sites have them.
                found[value] = sorted([*found.get(value, ()), _Container(name, kv.mod_revision)], key=_age)[:_SOME]
        kinds = self._repository.kinds(list(wanted))
        commits = [oid for oid in wanted if kinds.get(oid) == "commit"]
        head = decode(state.value(HEAD) or b"").strip().removeprefix("ref: ")
        if commits and self._contains(state, head, commits):
            pairs = [(oid, head) for oid in commits]
        else:
            tried = {head} if len(commits) == 1 else set()
            names = {oid: dict.fromkeys([*wanted[oid][:_SOME], head]) for oid in commits[:_FEW]}
            pairs = [(oid, name) for oid, several in names.items() for name in several if name not in tried]
            pairs = [(oid, name) for oid, name in pairs if self._contains(state, name, [oid])]
        for oid, name in pairs:
            found.setdefault(oid, []).append(_Container(name, state.mod(name)))
        return found

    def _contains(self, state: GroupState, name: str, commits: Iterable[str]) -> bool:
        """Whether the value of this ref is here, and its history has all of these commits."""
        kv = state.entries.get(name)
        if kv is None or not live(kv) or self._repository.kinds([_value(kv)]).get(_value(kv)) != "commit":
            return False
        asked = "".join(f"{oid}\n" for oid in [*commits, f"^{_value(kv)}"]).encode()
        return not git.lines(self._repository.git("rev-list", "-n1", "--stdin", stdin=asked))


def _age(one: _Container) -> int:
    return one.mod_revision


def _value(kv: KeyValue) -> str:
    return decode(kv.value).removesuffix("\n")
