"""One process per push that answers its other hooks: ``pre-receive`` starts it, and it ends with its receive-pack.

Starting Python costs 10 to 15 ms, and a push of a thousand refs has two thousand hooks that have something to decide. So
``update`` and ``reference-transaction`` are shell (hooks/shim.sh), and ask this process through two pipes. No file of the repository
stands for these: whoever may open ``/proc/PID/fd/N`` of this process is its own account (proc(5)), and where it has died there is
nothing to open. It tells its pid in the push's in-flight record. While a third descriptor is open, all commands of the push that
are still to come may pass, so ``update`` waits for no answer. ::

    PID HOOK ARGUMENTS...           a line of the hook PID, which waits; the lines on its standard input are read from there
    PID passed ARGUMENTS...         a line of the hook `update`, which has let this command pass
    PID STATUS WORDS...             the answer: the exit status of the hook, and what it says to the pusher
    PID yourself                    the hook has to decide without this process

Everything it does for a hook is what the hook would do (:mod:`hooks.push_hooks`). Where it cannot be started, each hook does it itself.
"""

from __future__ import annotations

import os
from time import monotonic

from hooks.decide import Decider, charge, note_silence
from hooks.push_hooks import PushHooks, transaction
from piehole.fastpath import controller_socket, inflight, processes

# The ends of the pipes that the hooks open. No other process has so high ones by chance, whatever has become of a pid.
REQUESTS = 230
ANSWERS = 231
PASSED = ANSWERS + 1
# Seconds for which what was foreseen holds. It is not read again before the swap, which compares it; but the earlier a ref is
# refused, the better: a veto in `reference-transaction` ends the push of all refs that are still to come.
_FRESH = 2.0
# Commands of one question: with longer ones, other accounts' questions would be too long for the controller.
_AT_ONCE = 4000
_LOOK_EVERY = 500  # milliseconds between two looks for the receive-pack, where the kernel does not tell its end


class Yourself(Exception):
    """The hook has to find a controller itself: this process is no longer below the receive-pack, so none would listen to it."""


class Foreseeing:
    """The controller, asked about all commands of the push at once, and through one connection."""

    def __init__(self, connection: controller_socket.Connection | None, commands: list[str]) -> None:
        self._connection = connection
        self._pending = dict.fromkeys(commands)
        self._in_one = len(commands) <= _AT_ONCE
        self._foreseen: dict[str, str] = {}
        self._sent = False  # whether a question is on its way, and its answer not taken yet
        self.until = 0.0  # when what was foreseen is too old

    def begin(self, decide: Decider, record: inflight.Record) -> None:
        """Have the controller take the question of :meth:`foresee`. It listens to what is below the receive-pack, and looks now.

        :raises Yourself: it did not take it
        """
        if self._connection is None:
            return
        started = monotonic()
        try:
            self._connection.send(decide.whole(record, self._question()))
            self._sent = True
        except controller_socket.NobodyHome as nobody:
            if not nobody.asked:
                raise Yourself from nobody
            note_silence(record)
        finally:
            charge(record, started)

    def _question(self) -> list[str]:
        return ["foresee", *(f"command {one}" for one in list(self._pending)[:_AT_ONCE])]

    def foresee(self, decide: Decider, record: inflight.Record) -> None:
        """Ask about those commands that no hook has asked about yet."""
        question = self._question()
        answer = decide.answer(record, question)
        known = answer[1:] if answer[0] == "foreseen" and len(answer) == len(question) else []
        self._foreseen = {one: word for one, word in zip(self._pending, known, strict=False) if word != "later"}
        self.until = monotonic() + _FRESH

    def admission(self, decide: Decider, record: inflight.Record, command: str) -> list[str] | None:
        """What was foreseen for this command; None where it has to be asked about alone."""
        if monotonic() > self.until and len(self._pending) > 2:
            self.foresee(decide, record)
        self._pending.pop(command, None)
        known = self._foreseen.pop(command, None) if monotonic() <= self.until else None
        return None if known is None else [known]

    def all_may_pass(self) -> bool:
        """Whether all commands that are still to come were foreseen to. Of too many for one question this is never said: where they are
        too many for the group as well, `update` has to say so.
        """
        return self._in_one and bool(self._pending) and self._pending.keys() <= self._foreseen.keys()

    def ask(self, question: list[str]) -> list[str]:
        """
        :raises controller_socket.NobodyHome: there was no controller when the push began, or it fell silent
        :raises Yourself: it has gone, and took no question
        """
        if self._connection is None:
            raise controller_socket.NobodyHome("there was none when this push began")
        try:
            if not self._sent:
                self._connection.send(question)
            self._sent = False
            return self._connection.answer()
        except controller_socket.NobodyHome as nobody:
            if nobody.asked:
                raise
            raise Yourself from nobody


class _Decider(Decider):
    """Answers by what was foreseen, where it was."""

    def __init__(self, git_dir: str, libraries: str, receive_pack: int, foreseeing: Foreseeing) -> None:
        super().__init__(git_dir, libraries, receive_pack, foreseeing.ask)
        self._foreseeing = foreseeing

    def answer(self, record: inflight.Record, question: list[str]) -> list[str]:
        if question[0] == "admit":
            known = self._foreseeing.admission(self, record, question[1].removeprefix("command "))
            if known is not None:
                return known
        return super().answer(record, question)


def begin(libraries: str, lines: list[str]) -> None:
    """Start the helper of this push, which is about these lines of ``pre-receive`` (githooks(5)): ``OLD NEW REF``.

    :raises OSError: it cannot be started; then the hooks do without
    """
    git, command = processes.nearest_git(os.getpid())
    name = processes.identity(git) if command == "receive-pack" else None
    if name is None or os.environ.get("GIT_NAMESPACE"):
        return
    git_dir = os.path.realpath(os.environ.get("GIT_DIR", "."))
    commands = [f"{ref} {old} {new}" for old, new, ref in transaction(lines)]
    try:
        connection = controller_socket.Connection(git_dir)
    except controller_socket.NobodyHome:
        connection = None
    foreseeing = Foreseeing(connection, commands)
    decide = _Decider(git_dir, libraries, git, foreseeing)
    record = inflight.Record(git_dir, name).open()
    hook = PushHooks(git_dir, libraries, (git, command), decide)  # before anything is decided here: it knows who pushes
    try:
        foreseeing.begin(decide, record)
    except Yourself:
        return
    requests, answers = os.pipe(), os.pipe()
    os.dup2(requests[0], REQUESTS, inheritable=False)
    os.dup2(answers[1], ANSWERS, inheritable=False)
    child = os.fork()
    if child:
        record.note_helper(child, REQUESTS, ANSWERS)
        return
    try:
        _let_go()
        if connection is not None:
            foreseeing.foresee(decide, record)
        # (This process keeps the other ends, too: so the pipes have no end while it lives.)
        Helper(hook, git, name, foreseeing, answers[0]).serve()
    finally:
        os._exit(0)


def _let_go() -> None:
    """git waits until nobody has these any more."""
    null = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(null, stream)


class Helper:
    """Answers the hooks of one receive-pack. ``unread`` is the end of the pipe from which they read their answers."""

    def __init__(self, hook: PushHooks, receive_pack: int, name: str, foreseeing: Foreseeing, unread: int) -> None:
        self._hook = hook
        self._receive_pack = receive_pack
        self._name = name
        self._foreseeing = foreseeing
        self._unread = unread
        self._passing = False
        self._tried = 0.0
        os.set_blocking(unread, False)

    def serve(self) -> None:
        """Until the receive-pack ends."""
        import select  # the push does not wait for this process's imports

        ready = select.poll()
        ready.register(REQUESTS, select.POLLIN)
        try:
            ready.register(os.pidfd_open(self._receive_pack), select.POLLIN)
        except OSError:  # an old kernel, or it has ended already
            pass
        asked = b""
        self._pass()
        lives = processes.lives(
            self._name
        )  # looked at when its descriptor is open: so that one is of this very process
        while lives:
            left = int(1000 * (self._foreseeing.until - monotonic())) + 1 if self._passing else _LOOK_EVERY
            found = [descriptor for descriptor, _ in ready.poll(max(0, min(left, _LOOK_EVERY)))]
            if REQUESTS in found:
                *lines, asked = (asked + os.read(REQUESTS, 1 << 16)).split(b"\n")
                for line in lines:
                    self._answer(line.decode("utf-8", "surrogateescape"))
            if found != [REQUESTS]:
                lives = processes.lives(self._name)
            self._pass()

    def _pass(self) -> None:
        """Let pass what is still to come, where it is known; or no more, where what is known is too old."""
        until = self._foreseeing.until
        if self._passing and monotonic() > until:
            os.close(PASSED)
            self._passing = False
        elif until != self._tried:
            self._tried = until
            if self._foreseeing.all_may_pass() and self._hook.is_last():
                os.dup2(self._unread, PASSED, inheritable=False)
                self._passing = True

    def _answer(self, line: str) -> None:
        pid, hook, *arguments = line.split(" ", 2)
        if hook == "passed":
            # Where it is refused after all, there is no announcement, and `prepared` lets nothing move.
            try:
                self._hook.awaited_by("", []).run(["update", *" ".join(arguments).split(" ")], [])
            except Yourself:
                pass
            return
        who = processes.child(int(pid), self._receive_pack)
        if who is None:  # it has ended, or it is of another receive-pack that had this pid
            return
        said: list[str] = []
        try:
            lines = _standard_input(pid) if hook == "reference-transaction" else []
            words = " ".join(arguments).split(" ")
            status = str(self._hook.awaited_by(who, said).run([hook, *words], lines))
        except Yourself:
            status = "yourself"
        try:
            while os.read(self._unread, 1 << 16):
                pass  # what nobody has read, since its hook was killed
        except BlockingIOError:
            pass
        os.write(ANSWERS, f"{pid} {status} {' '.join(said)}\n".encode("utf-8", "surrogateescape"))


def _standard_input(pid: str) -> list[str]:
    with open(f"/proc/{pid}/fd/7", "rb") as file:  # as hooks/shim.sh has it
        return file.read().decode("utf-8", "surrogateescape").split("\n")[:-1]
