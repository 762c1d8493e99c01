"""The hooks that decide: ``update`` admits one ref, ``reference-transaction`` in state ``prepared`` performs the swap.

:mod:`hooks.decide` gets the decision. They run in the push's helper (:mod:`hooks.helper`) or, without one, each in a process of its own,
so everything that is imported here costs each push time.
"""

from __future__ import annotations

import os
from time import sleep

from hooks.decide import DecisionClient
from piehole.fastpath import inflight, processes
from piehole.fastpath.failpoints import Step, reached
from piehole.fastpath.hook_messages import SHOWN, Answer, Question, explained, parse_ref_updates

TYPE_CHECKING = False  # importing typing costs a hook 4 ms; type checkers take this name as true
if TYPE_CHECKING:
    from collections.abc import Callable

    from piehole.fastpath.ref_files import NewNames

_RESERVED = "refs/piehole/"  # piehole.refs.PIEHOLE_REFS; importing that module would cost each push time


class Refused(Exception):
    """The hook says no. ``token`` is the stable word, the text is the sentence."""

    def __init__(self, token: str, sentence: str) -> None:
        super().__init__(sentence)
        self.token = token


def say(line: str) -> None:
    """Write to the pusher. Where the client has gone nobody reads it, and the decision holds all the same."""
    try:
        # Not sys.stderr: what it could not write makes the interpreter end with a status of its own, which git takes for a veto.
        os.write(2, f"{line}\n".encode("utf-8", "surrogateescape"))
    except OSError:
        pass


class PushHooks:
    """The hooks of one push."""

    def __init__(
        self,
        git_dir: str,
        libraries: str,
        git_process: tuple[int, str] | None = None,
        client: DecisionClient | None = None,
    ) -> None:
        """
        :param git_process: the pid of the git that runs these hooks, and its command; found out where it is not given
        """
        self.git_dir = git_dir
        self._gate_path = f"{git_dir}/hooks/reference-transaction"
        self._git_process = git_process or processes.nearest_git(os.getpid())
        self._client = client or DecisionClient(git_dir, libraries, self._git_process[0])
        self.record: inflight.Record | None = None
        self._new_names: NewNames | None = None
        self._print: Callable[[str], None] = say
        # Taken now: a decision in this process forgets what the pusher's environment holds.
        self._namespace = os.environ.get("GIT_NAMESPACE", "")
        self._environ = dict(os.environ)
        self._pusher = ""
        self.signer = ""  # who has signed this push, where git has verified that

    def awaited_by(self, process: str, said: list[str]) -> PushHooks:
        """From now on the hook ``process`` (:func:`piehole.fastpath.processes.identity`) waits for the result, and ``said`` gets the messages."""
        self._client.hook = process
        self._print = said.append
        return self

    def _say(self, token: str, sentence: str) -> None:
        self._print(f"piehole: {token}: {sentence}")

    def run(self, arguments: list[str], lines: list[str]) -> int:
        """The exit status of the hook that ``arguments`` name."""
        try:
            if arguments[0] == "update" and len(arguments) == 4:
                self.update(*arguments[1:])
            elif arguments[:2] == ["reference-transaction", "prepared"]:
                self.prepared(lines)
        except Refused as refused:
            known = f" (push {self.record.push_id[:SHOWN]})" if self.record is not None and self.record.push_id else ""
            self._say(refused.token, f"{refused}{known}{explained(refused.token)}")
            return 1
        except OSError as error:
            self._say("no-access", f"cannot work in {self.git_dir}: {error}; run `piehole check` there")
            return 1
        return 0

    def update(self, ref: str, old: str, new: str) -> None:
        """Admit one ref, read-only, and announce it to ``prepared``."""
        if self._namespace:
            raise Refused(
                "reserved", f"cannot push into the namespace {self._namespace!r} (GIT_NAMESPACE); push without it"
            )
        self._check_gate()
        reached(Step.UPDATE_BEGUN)
        record = self._current(inflight.Record.open)
        self._check_number(record)
        self._check_beside(record, ref, old)
        answer = self._client.ask(record, Question("admit", [(ref, old, new)], pusher=self.pusher()))
        reached(Step.ADMITTING)
        if answer.kind == "take":
            self._check_reflog(ref)
            record.announce(inflight.Announcement(ref, old, new, answer.value, managed=True))
        elif answer.kind == "free":
            record.announce(inflight.Announcement(ref, old, new, "-", managed=False))
        else:
            raise self._refused(answer)
        if answer.kind == "take" and answer.sentence:
            # Announced already: a reconcile that moves the ref while the push waits would have git refuse it.
            held = self._client.hold(record, (ref, old, new))
            if held.kind != "held":
                raise self._refused(held)
            if held.sentence:
                self._say("copies", held.sentence)
        reached(Step.ANNOUNCED)

    def prepared(self, lines: list[str]) -> None:
        """Swap all refs of this transaction, whose locks git holds. A ref that ``update`` did not announce is refused."""
        git, command = self._git_process
        if git and command != "receive-pack":
            return
        if not lines:
            self._refuse_swallowed_lines()
        try:
            asked = parse_ref_updates(lines)
        except ValueError as error:
            raise Refused(
                "no-access",
                f"{error}; a hook chained before piehole's `reference-transaction` must pass standard input on as it came",
            ) from error
        managed = [one for one in asked if one[2].startswith("refs/") and not one[2].startswith(_RESERVED)]
        if not managed:
            return
        try:
            record = self._current(inflight.Record.load)
        except FileNotFoundError:
            record = inflight.Record(self.git_dir, "")  # nothing was announced, so every line is refused below
        wanted = self._without_rejected(
            [one for one in (self._announced(record, *line) for line in managed) if one is not None]
        )
        if any((old + new).strip("0") for old, new, _ in managed):  # else it is the packed half of a deletion
            from hooks import git_locks

            git_locks.note(record, wanted, [one for *_, ref in managed if not (one := record.announced[ref]).managed])
        if wanted:
            reached(Step.PREPARED_BEGUN)
            for one in wanted:
                self._check_reflog(one.ref)
            self._propose(record, wanted)

    def _without_rejected(self, wanted: list[inflight.Announcement]) -> list[inflight.Announcement]:
        """Without the refs that git has rejected: it names them, too, where it moves many refs together, and moves the others alone."""
        from hooks import git_locks  # the helper has imported it while nobody waited

        try:
            rejected = git_locks.rejected(self.git_dir, wanted)
        except git_locks.NotKnown as error:
            raise Refused("stale", f"{error}; push again") from error
        for one in wanted:
            if one.ref in rejected:
                self._say("stale", f"{one.ref} does not move: {rejected[one.ref]}; pull and push again")
        return [one for one in wanted if one.ref not in rejected]

    def _check_number(self, record: inflight.Record) -> None:
        """Refuse what etcd does not take. (With ``--atomic``, and in newer git always, all refs are asked about before any moves.)"""
        if len(record.waiting) >= self._client.most:
            raise Refused(
                "too-many",
                f"more than {self._client.most} refs do not fit into one etcd transaction; push fewer at once, or have the "
                "administrator raise etcd's --max-txn-ops (deploy/ sets 8192)",
            )

    def _check_beside(self, record: inflight.Record, ref: str, old: str) -> None:
        """Refuse a new ref that cannot stand beside another one of this push: where git moves both together, it rejects one of them,
        and which one depends on its version.
        """
        if self._new_names is None:
            from piehole.fastpath.ref_files import NewNames  # the helper has imported it while nobody waited

            self._new_names = NewNames()
            for one in record.announced.values():
                if not one.old.strip("0"):
                    self._new_names.add(one.ref)
        rival = "" if old.strip("0") else self._new_names.add(ref)
        if rival:
            raise Refused("conflict", f"cannot create {ref} beside {rival} of this push; choose another name")

    def _refuse_swallowed_lines(self) -> None:
        """Refuse the push where a chained hook has read standard input and not passed it on: those refs would move without a swap.

        Git itself names no ref where it has rejected all of them before it took a lock.
        """
        try:
            record = self._current(inflight.Record.load)
        except FileNotFoundError:
            return
        from hooks import git_locks

        # A deletion of what is not here ("0 0") is never swapped, so never settled.
        announced = [record.announced[ref] for ref in record.waiting]
        locked = git_locks.holds_any(self.git_dir, [one.ref for one in announced if (one.old + one.new).strip("0")])
        if locked:
            raise Refused(
                "no-access",
                f"git is about to move {locked} without asking: a hook chained before piehole's `reference-transaction` must pass "
                "standard input on (docs/guides/hooks.md)",
            )

    def _check_gate(self) -> None:
        """Refuse the push where ``reference-transaction`` is missing: git would move the ref without a swap."""
        sound = b"piehole" in self._gate()  # ours, or one that chains to it
        if not (sound and os.access(self._gate_path, os.X_OK)):
            raise Refused(
                "no-access",
                f"{self._gate_path} is missing, not executable or not piehole's; run `piehole install` at this site",
            )

    def is_last(self) -> bool:
        """Whether ``reference-transaction`` is piehole's own hook, with no other in its place or before it."""
        return self._gate().partition(b"\n")[2].startswith(b"# piehole hook;")

    def _gate(self) -> bytes:
        """The content of ``reference-transaction``; nothing where it cannot be read."""
        try:
            with open(self._gate_path, "rb") as file:
                return file.read(1 << 16)
        except OSError:
            return b""

    def _current(self, read: Callable[[inflight.Record], inflight.Record]) -> inflight.Record:
        """The record of the receive-pack that runs this hook, as it is now; ``read`` is for the first time."""
        if self.record is not None:
            return self.record.refresh()
        git, command = self._git_process
        name = processes.identity(git) if git and command == "receive-pack" else None
        if name is None:
            raise Refused("no-access", "no living git receive-pack runs this hook, so this is no push")
        self.record = read(inflight.Record(self.git_dir, inflight.file_name(name)))
        return self.record

    def _announced(self, record: inflight.Record, old: str, new: str, ref: str) -> inflight.Announcement | None:
        """The announcement that a line of this transaction must match; None where the line is not swapped."""
        one = record.announced.get(ref)
        if one is not None and (not old.strip("0") and not new.strip("0")) and not one.new.strip("0"):
            # `0 0 REF` is the packed half of a deletion; the line with the old value follows and is swapped under its lock.
            return None
        if one is None or one.old != old or one.new != new:
            raise Refused(
                "no-access",
                f"git is about to move {ref} from {old} to {new}, which hooks/update has not let pass; a hook chained here must run "
                "piehole's `update` for every ref",
            )
        return one if one.managed else None

    def _check_reflog(self, ref: str) -> None:
        """Refuse a ref whose reflog git could not write: git writes it after the swap, so the push would fail and the group have moved."""
        from piehole.fastpath.ref_files import reflog_obstacle

        obstacle = reflog_obstacle(self.git_dir, ref)
        if obstacle:
            raise Refused(
                "no-access",
                f"git could not write the reflog: {obstacle} is in the way, or this account cannot write it; run `piehole check` "
                "at this site",
            )

    def _propose(self, record: inflight.Record, wanted: list[inflight.Announcement]) -> None:
        wait = 0.01
        while True:
            commands = [(one.ref, one.old, one.new) for one in wanted]
            question = Question("propose", commands, [one.snapshot for one in wanted], self.pusher())
            question.signer = self.signer
            question.more = self._client.may_follow() or len(record.waiting) > len(wanted)
            answer = self._client.ask(record, question)
            if answer.kind != "again":
                break
            reached(Step.REBASING)
            for ref, snapshot in answer.bases.items():
                one = record.announced[ref]
                record.announce(inflight.Announcement(ref, one.old, one.new, snapshot, managed=True))
            wanted = [record.announced[one.ref] for one in wanted]
            # Another push of this group won; a random pause keeps two from losing against each other for long.
            pause = wait * (0.5 + os.urandom(1)[0] / 255)
            sleep(pause)
            record.add_wait(pause)
            wait = min(wait * 2, 0.2)
        if answer.kind != "accepted":
            raise self._refused(answer)
        if answer.sentence:
            self._say("copies", answer.sentence)
        self._say("accepted", f"{', '.join(one.ref for one in wanted[:5])}{' …' if len(wanted) > 5 else ''}")
        try:
            reached(Step.ANSWERED)
            record.settle([one.ref for one in wanted])
            reached(Step.SETTLED)
        except OSError:
            pass  # the note only informs; the group has taken the refs, so nothing may veto them now

    def pusher(self) -> str:
        """The name for the push record."""
        if not self._pusher:
            sources, environ = self._client.pusher_from, self._environ
            if not sources:
                self._pusher = environ.get("GL_USER") or environ.get("REMOTE_USER") or ""
            if not self._pusher:
                from hooks import pusher  # the helper has imported it while nobody waited

                self._pusher = pusher.name(environ, sources)
        return self._pusher

    def _refused(self, answer: Answer) -> Refused:
        if answer.kind == "refuse":
            return Refused(answer.value, answer.sentence)
        return Refused("unknown", f"the answer {answer.pack()[0]!r} makes no sense; look before pushing again")
