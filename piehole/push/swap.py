"""The swap: all refs of a push in one etcd transaction, and its outcome.

The outcome is one of three. *Accepted*: the swap is in etcd. *Lost*: it is not and never will be; the outcome holds the state after
that was certain. *Unknown*: the deadline passed before the outcome was known. A transaction whose answer was lost may take effect
later, so no push is refused before a *fence* was written: every swap compares the mod_revision of ``@fence``, so after the fence a
swap that was judged before it can never succeed. Then the push's random id shows whether the swap came before the fence.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

import tenacity

from piehole.deadline import Deadline
from piehole.errors import EtcdError, EtcdFull, EtcdUnreachable
from piehole.etcd.model import Compare, Delete, Put
from piehole.fastpath.failpoints import Step, reached
from piehole.group import keys
from piehole.group.group_state import GroupState
from piehole.group.records import PushRecord
from piehole.group.replica import Replica
from piehole.refs import Command, encode, parents


@dataclass(frozen=True, slots=True)
class Basis:
    """The mod_revisions on which one ref was judged, and which its swap compares. Kept in the in-flight record.

    They are read once for a push and sent with every proposal of it, by whichever process. So a proposal that arrives late or
    twice has no effect that the first could not have.
    """

    revision: int
    ref: int
    group: int
    site: int
    fence: int
    parents: tuple[tuple[str, int], ...]
    writes: bool

    @classmethod
    def of(cls, command: Command, state: GroupState, *, writes: bool) -> Basis:
        return cls(
            revision=state.revision,
            ref=state.mod(command.ref),
            group=state.group.mod_revision if state.group else 0,
            site=state.site.mod_revision if state.site else 0,
            fence=state.mod(keys.FENCE),
            parents=tuple((name, state.mod(name)) for name in parents(command.ref)) if command.creates else (),
            writes=writes,
        )

    def holds(self, command: Command, now: Basis) -> bool:
        """Whether a swap on this basis can only find what ``now``, the basis of a later or equal state, was judged on."""
        same = (self.ref, self.group, self.site, self.writes) == (now.ref, now.group, now.site, now.writes)
        if not command.creates:
            return same
        # All names below it must be as old as this revision: from a revision to come the swap would compare nothing.
        return same and self.parents == now.parents and self.revision <= now.revision

    def dump(self) -> str:
        """The basis as one word, for the in-flight record. Parents are listed by position: :meth:`parse` derives their names from the ref's."""
        return json.dumps(
            [
                self.revision,
                self.ref,
                self.group,
                self.site,
                self.fence,
                [mod for _, mod in self.parents],
                int(self.writes),
            ],
            separators=(",", ":"),
        )

    @classmethod
    def parse(cls, ref: str, text: str) -> Basis:
        """
        :raises ValueError: the in-flight record is damaged
        """
        try:
            fields = json.loads(text)
        except RecursionError as error:
            raise ValueError(text[:60]) from error
        if not isinstance(fields, list) or len(fields) != 7 or not isinstance(fields[5], list):
            raise ValueError(text)
        revision, mod, group, site, fence, mods, writes = fields
        names = parents(ref)[: len(mods)]
        numbers = (revision, mod, group, site, fence, *mods)
        if not all(isinstance(number, int) for number in numbers) or len(names) != len(mods):
            raise ValueError(text)
        return cls(revision, mod, group, site, fence, tuple(zip(names, mods, strict=True)), bool(writes))


@dataclass(frozen=True, slots=True)
class HeldCopies:
    """The answers of other sites that hold what a swap brings, which it compares; and the removals of the keys of the request.

    ``warning``: what the pusher is told where fewer sites hold it than the group promises, and its setting lets the push pass.
    """

    compares: tuple[Compare, ...] = ()
    removals: tuple[Delete, ...] = ()
    warning: str = ""


@dataclass(frozen=True, slots=True)
class Proposal:
    """The moves of a push, each with its basis, and the push record to write with them."""

    push: PushRecord
    items: tuple[tuple[Command, Basis], ...]
    copies: HeldCopies = HeldCopies()

    @property
    def commands(self) -> list[Command]:
        return [command for command, _ in self.items]

    @property
    def written(self) -> list[tuple[Command, Basis]]:
        return [(command, basis) for command, basis in self.items if basis.writes]


@dataclass(frozen=True, slots=True)
class Accepted:
    """``warning``: what the pusher is told all the same."""

    revision: int
    warning: str = ""


@dataclass(frozen=True, slots=True)
class Lost:
    """The swap did not happen and never will; ``now`` is the state after that was certain."""

    now: GroupState


@dataclass(frozen=True, slots=True)
class Unknown:
    why: str


Outcome = Accepted | Lost | Unknown


class Swapper:
    """Swaps refs of one group in etcd, for one site."""

    def __init__(self, replica: Replica) -> None:
        self._etcd = replica.etcd
        self._keyspace = replica.keyspace
        self._group = replica.config.group
        self._site = replica.config.site
        self._reader = replica.reader

    def propose(self, proposal: Proposal, deadline: Deadline, settle_by: Deadline, *, earlier: bool = False) -> Outcome:
        """Send the swap once, and determine its outcome.

        :param deadline: when to stop waiting for the swap itself
        :param settle_by: when to stop determining the outcome
        :param earlier: another process may have sent this same proposal before, and its outcome is not known
        :raises EtcdUnreachable: no endpoint was reached, so nothing was sent and nothing changed
        :raises EtcdRefused: etcd refused the transaction as such, nothing changed
        :raises EtcdFull: etcd has no space left, nothing changed
        """
        try:
            reached(Step.PROPOSING)
            # (Reading the keys in the same transaction would cost every push what only the few that lose need.)
            result = self._etcd.txn(self._compares(proposal), self._puts(proposal), deadline=deadline)
            reached(Step.SWAPPED)
        except EtcdUnreachable as error:
            if not (error.maybe_sent or earlier):
                raise
            return self._fence(proposal, settle_by, str(error))
        except EtcdFull as full:
            # This answer ends the proposal: it was applied before the answer, or it never will be.
            outcome = self._unfenced(proposal, settle_by, full.what, ended=not earlier)
            if isinstance(outcome, Lost) and not earlier:
                raise
            return outcome
        if result.succeeded:
            return Accepted(result.revision)
        if earlier:
            return self.settle(proposal, settle_by)
        try:
            now = self._reader.read(proposal.commands, settle_by)
        except EtcdError as error:
            return Unknown(f"The swap did not succeed, and the state of the group could not be read. {error}")
        return self._identify(proposal, now, settle_by)

    def settle(self, proposal: Proposal, settle_by: Deadline) -> Outcome:
        """Determine the outcome of a proposal that another process may have sent, and that is not sent again."""
        return self._fence(proposal, settle_by, "The outcome of an earlier proposal of this push is not known.")

    def operations(self, items: Sequence[tuple[Command, Basis]], copies: int = 0) -> int:
        """How many operations of one kind the swap of these has; etcd counts compares and puts apart.

        :param copies: how many answers of other sites it compares
        """
        proposal = Proposal(PushRecord("", self._site, "", ""), tuple(items))
        return max(len(self._compares(proposal)) + copies, len(self._puts(proposal)) + bool(copies))

    def _key(self, name: str) -> bytes:
        return self._keyspace.ref(self._group, name)

    def _compares(self, proposal: Proposal) -> list[Compare]:
        # Of bases that were read at different times the oldest counts: if anything changed in between, the swap fails and
        # everything is read again.
        fence = _oldest_fence(proposal)
        group = min(basis.group for _, basis in proposal.items)
        site = min(basis.site for _, basis in proposal.items)
        compares = [
            Compare(self._keyspace.group(self._group), mod_revision=group),
            # From the moment a site has left, or another machine has taken over its name, it swaps nothing.
            Compare(self._keyspace.site(self._group, self._site), mod_revision=site),
            Compare(self._key(keys.FENCE), mod_revision=fence),
        ]
        above: dict[str, int] = {}
        for command, basis in proposal.items:
            key = self._key(command.ref)
            if command.creates:
                # Nothing in [REF, REF0), which is the ref and all names below it, changed since it was read.
                compares.append(Compare(key, key + b"0", "<", basis.revision + 1))
                for name, mod in basis.parents:
                    above[name] = min(mod, above.get(name, mod))
            else:
                compares.append(Compare(key, mod_revision=basis.ref))
        compares += [Compare(self._key(name), mod_revision=mod) for name, mod in sorted(above.items())]
        return compares + list(proposal.copies.compares)

    def _puts(self, proposal: Proposal) -> list[Put | Delete]:
        puts = [Put(self._key(command.ref), encode(command.new)) for command, _ in proposal.written]
        return [*puts, Put(self._key(keys.PUSH), proposal.push.dump()), *proposal.copies.removals]

    def _fence(self, proposal: Proposal, settle_by: Deadline, why: str) -> Outcome:
        """Make sure that the swap cannot succeed from now on, and read the state after that.

        The fence is put without a compare: after it, the swap either has happened already or never will.
        """
        fence = Put(self._key(keys.FENCE), proposal.push.dump())
        attempts = tenacity.Retrying(
            retry=tenacity.retry_if_exception_type(EtcdUnreachable),
            wait=tenacity.wait_random_exponential(multiplier=0.02, max=0.5),
            stop=lambda _: settle_by.passed,
            reraise=True,
        )

        def attempt() -> GroupState:
            reached(Step.FENCING)
            self._etcd.txn([], [fence], deadline=settle_by.at_most(max(1.0, settle_by.remaining() / 2)))
            reached(Step.FENCED)
            return self._reader.read(proposal.commands, settle_by)

        try:
            now = attempts(attempt)
        except EtcdFull as full:
            return self._unfenced(proposal, settle_by, f"{why} Then: {full.what}", ended=False)
        except EtcdError as error:
            return Unknown(f"{why} Then: {error}")
        return self._identify(proposal, now, settle_by)

    def _unfenced(self, proposal: Proposal, settle_by: Deadline, why: str, *, ended: bool) -> Outcome:
        """Determine the outcome by one linearizable read: an etcd that is full takes no fence, or applies it and says that it did not.

        :param ended: no proposal of this push is under way any more. Else one may still be applied while what it compares is unchanged.
        """
        try:
            now = self._reader.read(proposal.commands, settle_by)
        except EtcdError as error:
            return Unknown(f"{why} Then: {error}")
        outcome = self._identify(proposal, now, settle_by)
        unchanged = now.mod(keys.FENCE) == _oldest_fence(proposal) and all(
            command.creates or now.mod(command.ref) == basis.ref for command, basis in proposal.items
        )
        return Unknown(why) if isinstance(outcome, Lost) and unchanged and not ended else outcome

    def _identify(self, proposal: Proposal, now: GroupState, settle_by: Deadline) -> Outcome:
        """Decide whether this swap moved the refs. All of them move together, so any one shows it."""
        for command, basis in proposal.written:
            # (An absent key proves nothing: the ref may have been created, deleted and reaped since.)
            if basis.ref and now.mod(command.ref) == basis.ref:
                return Lost(now)
        for command, basis in proposal.written[:1]:
            held = now.entries.get(command.ref)
            if held is not None and _is_same(
                PushRecord.of(now.entries.get(keys.PUSH), held.mod_revision), proposal.push
            ):
                return Accepted(held.mod_revision)  # it has not moved since, so no history is needed
            try:
                # Up to basis.revision the key was as in the basis, so the first change after that revision decides.
                first = self._etcd.first_change(
                    self._key(command.ref), basis.revision, deadline=settle_by, companion=self._key(keys.PUSH)
                )
                if first is not None and _is_same(self._reader.push_at(first.mod_revision, settle_by), proposal.push):
                    return Accepted(first.mod_revision)
            except EtcdError as error:
                return Unknown(str(error))
        return Lost(now)


def _oldest_fence(proposal: Proposal) -> int:
    return min(basis.fence for _, basis in proposal.items)


def _is_same(found: PushRecord | None, push: PushRecord) -> bool:
    return found is not None and found.id == push.id
