"""Bugs to plant in a copy of the program, one at a time, each with the run in which the checker has to see it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from tests.fault.history.schedule import Fault


@dataclass(frozen=True, slots=True)
class Patch:
    """In ``file``, ``old`` (which stands there exactly once) becomes ``new``."""

    file: str
    old: str
    new: str


@dataclass(frozen=True)
class Mutant:
    """:param caught_by: rules of the checker, any of which tells this bug
    :param weights: what the pushers do; the faults are those that bring the bug out
    """

    name: str
    patches: tuple[Patch, ...]
    caught_by: frozenset[str]
    weights: Mapping[str, int]
    faults: tuple[Fault, ...] = ()
    seconds: float = 6.0
    home: float = 0.8
    pushers: int = 6
    pause: float = 0.02
    sites: int = 3
    copies: int = 1
    readers: int = 0


def _each(kind: str, *, at: float = 0.5, variant: int = 0, lasts: float = 30.0) -> tuple[Fault, ...]:
    """The same fault at all three sites."""
    return tuple(Fault(at + number / 10, kind, number, variant, lasts) for number in range(3))


_OWN: Final = {"own": 1}

MUTANTS: Final = (
    Mutant(
        "no_compare",
        (
            Patch(
                "piehole/push/swap.py",
                "                compares.append(Compare(key, mod_revision=basis.ref))\n",
                "                pass\n",
            ),
        ),
        frozenset({"fork"}),
        {"shared": 1, "forced": 2},
        seconds=10.0,
        pushers=8,
        home=0.5,
    ),
    Mutant(
        "no_connectivity_check",
        (
            Patch(
                "piehole/transfer/fetch.py",
                "        if not (connectivity.is_closed(ask, wants, haves) if haves else connectivity.is_self_contained(ask, wants)):\n",
                "        if False and not (connectivity.is_closed(ask, wants, haves) if haves else connectivity.is_self_contained(ask, wants)):\n",
            ),
        ),
        frozenset({"unsound"}),
        _OWN,
        _each("liar", lasts=3.0),
    ),
    Mutant(
        "deleted_key_is_deletion",
        (
            Patch(
                "piehole/replicate/plan.py",
                "    opinions = set(moves)\n",
                "    for ref in unadopted:\n"
                '        moves[ref] = Command(ref, observed.refs[ref], "0" * len(observed.refs[ref]))\n'
                "    opinions = set(moves)\n",
            ),
        ),
        frozenset({"vanished"}),
        _OWN,
        (Fault(1.0, "key-delete", 0, 0, 3.0),),
    ),
    Mutant(
        "swap_in_update",
        (
            Patch(
                "hooks/push_hooks.py",
                "            record.announce(inflight.Announcement(ref, old, new, answer.value, managed=True))\n"
                '        elif answer.kind == "free":\n',
                "            record.announce(inflight.Announcement(ref, old, new, answer.value, managed=True))\n"
                "            self._propose(record, [record.announced[ref]])\n"
                '        elif answer.kind == "free":\n',
            ),
            Patch(
                "hooks/push_hooks.py",
                "if one is not None]\n",
                "if one is not None and not one.settled]\n",
            ),
        ),
        frozenset({"half", "twice"}),
        {"pair": 2, "own-pair": 1},
    ),
    Mutant(
        "progress_too_early",
        (
            Patch(
                "controller/progress_publisher.py",
                "        if report.converged:\n",
                "        if True:\n",
            ),
        ),
        frozenset({"early"}),
        _OWN,
        _each("peer-cut", variant=0, lasts=5.0),
    ),
    Mutant(
        "unknown_is_refused",
        (
            Patch(
                "piehole/push/hook_protocol.py",
                "_refused(Refuse(UNKNOWN, f",
                '_refused(Refuse("stale", f',
            ),
        ),
        frozenset({"refused"}),
        _OWN,
        _each("link-deaf", variant=0, lasts=4.5),
        seconds=7.0,
    ),
    Mutant(
        "unknown_is_accepted",
        (
            Patch(
                "piehole/push/hook_protocol.py",
                "    if isinstance(outcome, Unknown):\n",
                '    if isinstance(outcome, Unknown):\n        return Answer("accepted", "1")\n    if isinstance(outcome, Unknown):\n',
            ),
        ),
        frozenset({"lost"}),
        _OWN,
        _each("link-dead", variant=0, lasts=4.5),
        seconds=7.0,
    ),
    Mutant(
        "code_8_is_definite",
        (
            Patch(
                "piehole/etcd/json_gateway.py",
                '        return EtcdFull(f"etcd at {endpoint} is full ({words}).")\n',
                '        return EtcdRefused(f"etcd at {endpoint} is full ({words}).", status=429)\n',
            ),
        ),
        frozenset({"refused"}),
        _OWN,
        _each("error-applied", variant=0),
    ),
    Mutant(
        "packing_is_deletion",
        (
            Patch("hooks/shim.sh", "\tcase $parent in gitpack-refs*) exit 0 ;; esac\n", ""),
            Patch(
                "hooks/push_hooks.py",
                '        if git and command != "receive-pack":\n            return\n',
                '        if git and command != "receive-pack":\n'
                '            name = processes.identity(git) if command == "pack-refs" else None\n'
                "            record = inflight.Record(self.git_dir, name).open() if name else None\n"
                "            for old, new, ref in (line.split(' ', 2) for line in lines) if record else ():\n"
                '                answer = self._client.ask(record, Question("admit", [(ref, old, new)]))\n'
                '                if answer.kind == "take":\n'
                "                    record.announce(inflight.Announcement(ref, old, new, answer.value, managed=True))\n"
                "                    self._propose(record, [record.announced[ref]])\n"
                "            return\n",
            ),
        ),
        frozenset({"unasked"}),
        _OWN,
        (Fault(2.0, "gc", 0, 1, 0.5),),
        seconds=5.0,
    ),
    Mutant(
        "half_a_push",
        (
            Patch(
                "piehole/push/swap.py",
                "encode(command.new)) for command, _ in proposal.written]",
                "encode(command.new)) for command, _ in proposal.written[:1]]",
            ),
        ),
        frozenset({"half"}),
        {"pair": 2, "own-pair": 1},
    ),
    Mutant(
        "lock_removed_by_time",
        (
            Patch(
                "piehole/repository/stale_locks.py",
                "        if held_locks.mark(str(lock)) == mark:\n",
                "        if lock.exists():\n            time.sleep(max(0.0, 1.0 - (time.time() - lock.lstat().st_mtime)))\n",
            ),
        ),
        frozenset({"robbed"}),
        {"create": 2, "delete": 2},
        tuple(Fault(0.5 + number / 2, "foreign-lock", number, 0, 2.5) for number in range(12)),
        seconds=10.0,
    ),
    Mutant(
        "nothing_is_kept",
        (
            Patch("piehole/replicate/reconcile.py", "                kept_tips.keep(repository, kept)\n", ""),
            Patch(
                "piehole/push/admission.py",
                "        kept_tips.keep(self._repository, tips)\n",
                "",
            ),
        ),
        frozenset({"dropped"}),
        {"own": 1, "forced": 2},
    ),
    Mutant(
        "swap_without_copies",
        (
            Patch(
                "piehole/push/copies_gate.py",
                '        return basis.writes and bool(new.strip("0")) and self._promised.get(basis.group, False)\n',
                "        return False\n",
            ),
            Patch(
                "piehole/push/copies_gate.py",
                "        if not self._promised.get(group, True):\n            return None, _NOTHING\n",
                "        return None, _NOTHING\n",
            ),
        ),
        frozenset({"uncopied"}),
        _OWN,
        copies=2,
    ),
    Mutant(
        "answer_before_the_copy",
        (
            Patch(
                "piehole/replicate/hold_copies.py",
                "        oids = list(dict.fromkeys(request.oids))\n        self._hide()\n",
                "        if not again:\n            return self.tell(push_id, asked, request.lease)\n"
                "        oids = list(dict.fromkeys(request.oids))\n        self._hide()\n",
            ),
        ),
        frozenset({"uncopied"}),
        _OWN,
        copies=2,
    ),
    Mutant(
        "held_by_no_ref",
        (
            Patch(
                "piehole/replicate/hold_copies.py",
                "            held_refs.hold(repository, begun, push_id, oids)\n",
                "            pass\n",
            ),
        ),
        frozenset({"uncopied"}),
        _OWN,
        copies=2,
    ),
    Mutant(
        "gate_believes_the_view",
        (
            Patch(
                "controller/readers.py",
                "            revision, now = newest_push(self._replica, Deadline(max(_READ, config.read_wait)))\n",
                "            revision, now = self._etcd_view.informer.cache.newest(config.group), seen\n",
            ),
        ),
        frozenset({"stale"}),
        _OWN,
        tuple(Fault(at, "link-deaf", 2, 0, 2.0) for at in (1.0, 4.0, 7.0, 10.0)),
        seconds=13.0,
        home=1.0,
        pushers=2,
        pause=0.8,
        readers=3,
    ),
    Mutant(
        "gate_takes_a_later_change_for_an_arrival",
        (
            Patch(
                "piehole/replicate/freshness.py",
                "        if kv.create_revision > revision:\n",
                "        if kv.mod_revision > revision:\n",
            ),
        ),
        frozenset({"stale"}),
        _OWN,
        tuple(Fault(at, "controller-kill", 1, 0, 3.0) for at in (1.0, 5.0, 9.0)),
        seconds=13.0,
        home=1.0,
        pushers=3,
        pause=0.3,
        readers=3,
    ),
)
