"""The decision about a push: the answer of the site's controller or, where none answers, of the same code in this process."""

from __future__ import annotations

from time import monotonic

from piehole.fastpath import controller_socket
from piehole.fastpath.controller_socket import NoController
from piehole.fastpath.hook_messages import Answer, Question

TYPE_CHECKING = False  # importing typing costs a hook 4 ms; type checkers take this name as true
if TYPE_CHECKING:
    from hooks.direct import InProcessDecider
    from piehole.fastpath.inflight import Record


# Refs of one transaction of git. What deploy/ sets as etcd's --max-txn-ops; each ref costs a push some 30 ms before etcd can say no.
_MOST = 8192


class DecisionClient:
    """Has the questions of one push's hooks answered."""

    def __init__(self, git_dir: str, libraries: str, receive_pack: int) -> None:
        """
        :param libraries: the folder of the packages that only :mod:`hooks.direct` needs
        :param receive_pack: the pid of the push's git
        """
        self._git_dir = git_dir
        self._libraries = libraries
        self._receive_pack = receive_pack
        self._in_process: InProcessDecider | None = None
        self._loaded = 0.0  # seconds that loading it took: the push's patience is for etcd, and not for this machine
        # The process that waits for the answer, where it is not this one.
        self.hook = ""
        # What the controller says of piehole.pusherFrom; empty: the default, or not known.
        self.pusher_from: list[str] = []
        # How many refs one swap can move.
        self.most = _MOST

    def ask(self, record: Record, question: Question) -> Answer:
        """The answer; a refusal in words where no decision could be reached."""
        started = monotonic()
        self._loaded = 0.0
        waited = True
        try:
            answer = self._decision(record, question, started)
            # Judging thousands of refs takes its time: a forecast with all its answers has not waited for etcd. Waiting for other sites to
            # hold what the push brings has its own time.
            waited = answer.kind not in ("foreseen", "held") or any(one and one.kind == "refuse" for one in answer.each)
        finally:
            if waited:
                record.add_wait_since(started + self._loaded)
        return answer

    def hold(self, record: Record, command: tuple[str, str, str]) -> Answer:
        """Have the other sites hold what this command brings: ``held``, or a refusal."""
        return self.ask(record, Question("copies", [command]))

    def may_follow(self) -> bool:
        """Whether commands of this push are known that no hook has asked about yet."""
        return False

    def end(self, record: Record) -> None:
        """The push has ended: remove what this process has asked other sites for, if it has not been used."""
        if self._in_process is not None:
            self._in_process.end(record.push_id)

    def _decision(self, record: Record, question: Question, started: float) -> Answer:
        self.address(record, question)
        # Finding out that the controller hangs takes a second, which a push of many refs must not pay for each.
        if not record.silent:
            try:
                return self.ask_controller(question)
            except NoController as error:
                if error.asked:
                    record.note_silence()
                    question.earlier = True
        if self._in_process is None:
            loading = monotonic()
            from hooks.direct import InProcessDecider

            self._in_process = InProcessDecider(self._libraries, self._receive_pack)
            self._loaded = monotonic() - loading
        question.waited = record.waited + monotonic() - started - self._loaded
        return self._in_process.answer(question)

    def address(self, record: Record, question: Question) -> None:
        """Say in the question whose it is."""
        question.repository = self._git_dir
        question.push_name, question.push_id = record.process, record.push_id
        question.waited = record.waited
        question.hook = self.hook

    def ask_controller(self, question: Question) -> Answer:
        """
        :raises NoController: none answered
        """
        connection = controller_socket.Connection(self._git_dir)
        try:
            return Answer.parse(connection.ask(question.pack()))
        finally:
            self.pusher_from = connection.pusher_from
            connection.close()
