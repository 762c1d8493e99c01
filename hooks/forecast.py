"""What will become of all commands of a push, asked of the controller at once: the client of the push's helper (:mod:`hooks.helper`)."""

from __future__ import annotations

from time import monotonic

from hooks.decide import DecisionClient
from piehole.fastpath.controller_socket import Connection, NoController
from piehole.fastpath.hook_messages import Answer, Question

TYPE_CHECKING = False  # importing typing costs a hook 4 ms; type checkers take this name as true
if TYPE_CHECKING:
    from collections.abc import Iterable

    from piehole.fastpath import inflight

# Seconds for which a forecast holds. It is not read again before the swap, which compares it; but the earlier a ref is
# refused, the better: a veto in `reference-transaction` ends the push of all refs that are still to come.
_FRESH = 2.0
# Commands of one question: with longer ones, other accounts' questions would be too long for the controller.
_AT_ONCE = 4000


class HookMustDecide(Exception):
    """The hook has to find a controller itself: this process is no longer below the receive-pack, so none would answer it."""


class ForecastClient(DecisionClient):
    """Asks the controller about all commands of the push at once, over one connection, and answers ``admit`` from that forecast."""

    def __init__(
        self, git_dir: str, libraries: str, receive_pack: int, commands: Iterable[tuple[str, str, str]]
    ) -> None:
        super().__init__(git_dir, libraries, receive_pack)
        self._connection: Connection | None = None
        try:
            self._connection = Connection(git_dir)
        except NoController:
            pass
        self._pending = dict.fromkeys(commands)  # no hook has asked about them yet
        self._in_one = len(self._pending) <= _AT_ONCE
        self._forecast: dict[tuple[str, str, str], Answer] = {}
        self._held: dict[tuple[str, str, str], Answer] = {}  # what was said of the copies of each command
        self._sent = False  # whether a question is on its way, and its answer not taken yet
        self.until = 0.0  # when the forecast is too old

    def begin(self, record: inflight.Record) -> None:
        """Have the controller take the question of :meth:`forecast`. It answers what is below the receive-pack, and checks that now.

        :raises HookMustDecide: it did not take it
        """
        if self._connection is None:
            return
        started = monotonic()
        question = self._question()
        self.address(record, question)
        try:
            self._connection.send(question.pack())
            self.pusher_from = self._connection.pusher_from
            self._sent = True
        except NoController as error:
            if not error.asked:
                raise HookMustDecide from error
            record.note_silence()
        finally:
            record.add_wait_since(started)

    def take_forecast(self, record: inflight.Record) -> None:
        """Take the answer to what :meth:`begin` asked, where there was a controller to ask, and something to ask about."""
        if self._connection is not None and self._pending:
            self._ask_forecast(record)

    def ask(self, record: inflight.Record, question: Question) -> Answer:
        if question.kind == "admit":
            (command,) = question.commands
            if monotonic() > self.until and len(self._pending) > 2:
                self._ask_forecast(record)
            self._pending.pop(command, None)
            known = self._forecast.pop(command, None) if monotonic() <= self.until else None
            if known is not None:
                return known
        return super().ask(record, question)

    def hold(self, record: inflight.Record, command: tuple[str, str, str]) -> Answer:
        """Once for all commands of the push that are known to need it: the other sites fetch all of it at once."""
        if command not in self._held:
            wanted = [
                one for one, known in self._forecast.items() if known.sentence == "copies" and one not in self._held
            ]
            commands = list(dict.fromkeys([command, *wanted]))
            answer = self.ask(record, Question("copies", commands))
            self._held |= dict.fromkeys(commands, answer if answer.kind != "held" else Answer("held"))
            return answer
        return self._held[command]

    @property
    def held(self) -> int:
        """Of how many commands it is known whether the other sites hold what they bring."""
        return len(self._held)

    def announcement(self, record: inflight.Record) -> str:
        """How many sites have the push that has just moved its refs: words for its user, ``""`` where there is nothing to say."""
        question = Question("announce")
        self.address(record, question)
        try:
            return self.ask_controller(question).sentence
        except (NoController, HookMustDecide):
            return ""

    def may_follow(self) -> bool:
        return bool(self._pending)

    def left(self) -> int:
        """How many commands are still to come, as far as that is known."""
        return len(self._pending)

    def all_may_pass(self) -> bool:
        """Whether the forecast lets all commands pass that are still to come. Never where they are too many for one question, or for
        one swap: then `update` has to say so.
        """
        known = [self._forecast.get(command) for command in self._pending]
        if not (self._in_one and known and all(one is not None and one.kind != "refuse" for one in known)):
            return False
        # Where copies are needed, the first `update` waits for them.
        held = [
            self._held.get(command) for command, one in zip(self._pending, known, strict=True) if one and one.sentence
        ]
        return all(one is not None and one.kind == "held" for one in held)

    def ask_controller(self, question: Question) -> Answer:
        """
        :raises NoController: there was no controller when the push began, or it fell silent
        :raises HookMustDecide: it has gone, and took no question
        """
        if self._connection is None:
            raise NoController("there was none when this push began")
        try:
            if not self._sent:
                self._connection.send(question.pack())
                self.pusher_from = self._connection.pusher_from
            self._sent = False
            return Answer.parse(self._connection.answer())
        except NoController as error:
            if error.asked:
                raise
            raise HookMustDecide from error

    def _question(self) -> Question:
        return Question("foresee", list(self._pending)[:_AT_ONCE])

    def _ask_forecast(self, record: inflight.Record) -> None:
        question = self._question()
        answer = super().ask(record, question)
        each = answer.each
        if answer.kind == "foreseen" and answer.value.isdigit():
            self.most = min(self.most, int(answer.value))
            self._in_one = False
        known = zip(question.commands, each, strict=True) if len(each) == len(question.commands) else ()
        from piehole.fastpath.ref_files import NewNames  # nobody waits for this: the helper has left the hook by now

        new_names = NewNames()
        self._forecast = {
            command: answer
            for command, answer in known
            # A new ref that cannot stand beside another one of this push is refused by `update`.
            if answer is not None and (command[1].strip("0") or not new_names.add(command[0]))
        }
        self.until = monotonic() + _FRESH
