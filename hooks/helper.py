"""One process per push that answers its other hooks: the first of them starts it, and it ends with its receive-pack.

Starting Python costs 10 to 15 ms, and a push of a thousand refs has two thousand hooks that have something to decide. So
``update`` and ``reference-transaction`` are shell (hooks/shim.sh), and ask this process through two pipes. No file of the repository
stands for these: whoever may open ``/proc/PID/fd/N`` of this process is its own account (proc(5)), and where it has died there is
nothing to open. Its pid is in the push's in-flight record, and it has the receive-pack's folder below /proc open: by that a hook knows
the helper of its own push. While a third descriptor is open, all commands of the push that are still to come may
pass, so ``update`` waits for no answer. :mod:`piehole.fastpath.hook_messages` has the lines that go through the pipes.

Everything it does for a hook is what the hook would do (:mod:`hooks.push_hooks`). Where it cannot be started, each hook does it itself.

``pre-receive`` comes first and knows all commands. Where it is somebody's own and does not call piehole's, the first ``update`` decides
about its ref and leaves the helper behind, which then decides about one ref after the other.
"""

from __future__ import annotations

import os
from stat import S_ISFIFO
from time import monotonic

from hooks.forecast import ForecastClient, HookMustDecide
from hooks.push_hooks import PushHooks, say
from piehole.fastpath import inflight, processes
from piehole.fastpath.hook_messages import SHOWN, pack_shim_answer, parse_ref_updates, parse_shim_request

# The ends of the pipes that the hooks open. No other process has so high ones by chance, whatever has become of a pid.
REQUESTS = 230
ANSWERS = 231
PASSED = ANSWERS + 1
RECEIVE_PACK = ANSWERS + 2
# Seconds without a word, after which a push of many refs says that it goes on: over http and git:// nothing else is sent meanwhile, and
# a proxy ends a connection that is silent for long (nginx after 60 s).
_SILENT = 10.0
VERBOSE = "piehole.verbose"  # the push option with which the user asks for the id of the push
_OPTIONS = 100  # of a push that are read
_PIPE = 1 << 16  # bytes that a pipe holds (pipe(7)), if nobody enlarges it
_LOOK_EVERY = 500  # milliseconds between two checks for the receive-pack, where the kernel does not report its end


def begin(libraries: str, lines: list[str]) -> None:
    """Start the helper of this push. ``lines`` are those of ``pre-receive``, ``OLD NEW REF`` (githooks(5)).

    :raises OSError: it cannot be started; then each hook decides by itself
    """
    git, command = processes.nearest_git(os.getpid())
    name = processes.identity(git) if command == "receive-pack" else None
    if name is None or os.environ.get("GIT_NAMESPACE"):
        return
    git_dir = os.path.realpath(os.environ.get("GIT_DIR", "."))
    commands = [(ref, old, new) for old, new, ref in parse_ref_updates(lines)]
    client = ForecastClient(git_dir, libraries, git, commands)
    record = inflight.Record(git_dir, inflight.file_name(name)).open(commands)
    if _asked_for_words():
        say(f"piehole: push {record.push_id[:SHOWN]}")
    # Before anything is decided here, since it reads from the environment who pushes.
    hooks = PushHooks(git_dir, libraries, (git, command), client)
    hooks.signer = _signer()
    try:
        client.begin(record)
    except HookMustDecide:
        record.note_coming(commands)
        return
    try:
        _fork(hooks, git, client, record)
    finally:
        record.note_coming(commands)


def _asked_for_words() -> bool:
    """Whether the user pushes with ``-o piehole.verbose``. That somebody runs `git push -v`, git tells no server."""
    count = os.environ.get("GIT_PUSH_OPTION_COUNT", "")
    number = int(count) if count.isdecimal() else 0
    return any(os.environ.get(f"GIT_PUSH_OPTION_{one}") == VERBOSE for one in range(min(number, _OPTIONS)))


def _signer() -> str:
    """Words that say who has signed this push (`git push --signed`); git tells `pre-receive`, and no other hook of piehole's."""
    names = ("GIT_PUSH_CERT_STATUS", "GIT_PUSH_CERT_NONCE_STATUS", "GIT_PUSH_CERT_SIGNER")
    status, nonce, signer = (os.environ.get(name, "") for name in names)
    return f", signed by {signer}" if (status, nonce) == ("G", "OK") and signer else ""


def update(libraries: str, arguments: list[str]) -> int:
    """Run the hook ``update`` in this process, and leave a helper behind where the push has none. Returns the exit status."""
    process = processes.nearest_git(os.getpid())
    git_dir = os.path.realpath(os.environ.get("GIT_DIR", "."))
    client = ForecastClient(git_dir, libraries, process[0], ())
    hooks = PushHooks(git_dir, libraries, process, client)
    try:
        status = hooks.run(arguments, [])
    except HookMustDecide:  # the controller has just gone
        return PushHooks(git_dir, libraries, process).run(arguments, [])
    record = hooks.record
    if record is not None and not record.has_helper:
        try:
            _fork(hooks, process[0], client, record)
        except OSError:
            pass  # it is there for speed alone
    return status


def _fork(hooks: PushHooks, receive_pack: int, client: ForecastClient, record: inflight.Record) -> None:
    """Let a copy of this process go on as the push's helper.

    :raises OSError: there is none
    """
    requests, answers = os.pipe(), os.pipe()
    os.dup2(requests[0], REQUESTS, inheritable=False)
    os.dup2(answers[1], ANSWERS, inheritable=False)
    os.dup2(os.open(f"/proc/{receive_pack}", os.O_RDONLY | os.O_DIRECTORY), RECEIVE_PACK, inheritable=False)
    child = os.fork()
    if child:
        record.note_helper(child, REQUESTS, ANSWERS)
        return
    try:
        _let_go()
        client.take_forecast(record)
        # (This process keeps the other ends, too: so the pipes have no end while it lives.)
        inflight.attend(record.path)
        Helper(hooks, receive_pack, record, client, answers[0]).serve()
    finally:
        if record.lives is False:
            record.note_end()
            client.end(record)
        os._exit(0)


def _let_go() -> None:
    """Close standard input, output and error: git waits until no process has them."""
    null = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(null, stream)


class Helper:
    """Answers the hooks of one receive-pack. ``unread`` is the end of the pipe from which the hooks read their answers."""

    def __init__(
        self, hooks: PushHooks, receive_pack: int, record: inflight.Record, client: ForecastClient, unread: int
    ) -> None:
        self._hooks = hooks
        self._receive_pack = receive_pack
        self._record = record
        self._client = client
        self._unread = unread
        self._passing = False
        self._tried = (0.0, 0)
        self._spoke = monotonic()
        os.set_blocking(unread, False)

    def serve(self) -> None:
        """Answer hooks until the receive-pack ends."""
        # The push does not wait for this process's imports.
        import select

        import hooks.git_locks  # noqa: F401 -- for `prepared`, and so is the next
        import piehole.fastpath.held_locks  # noqa: F401

        self._hooks.pusher()

        ready = select.poll()
        ready.register(REQUESTS, select.POLLIN)
        try:
            ready.register(os.pidfd_open(self._receive_pack), select.POLLIN)
        except OSError:  # an old kernel, or it has ended already
            pass
        asked = b""
        self._pass()
        # Checked after its descriptor was opened, so that the descriptor is of this very process.
        lives = processes.lives(self._record.name)
        while lives:
            left = int(1000 * (self._client.until - monotonic())) + 1 if self._passing else _LOOK_EVERY
            found = [descriptor for descriptor, _ in ready.poll(max(0, min(left, _LOOK_EVERY)))]
            if REQUESTS in found:
                *lines, asked = (asked + os.read(REQUESTS, 1 << 16)).split(b"\n")
                for line in lines:
                    self._answer(line)
            if found != [REQUESTS]:
                lives = processes.lives(self._record.name)
            self._pass()

    def _pass(self) -> None:
        """Open the descriptor that lets all commands pass where the forecast says so, and close it when the forecast is too old.

        Also when it is time for a word to the pusher: an `update` that passes says none.
        """
        known = self._client.until, self._client.held
        may = monotonic() <= self._client.until and not self._is_silent()
        if self._passing and not may:
            os.close(PASSED)
            self._passing = False
            self._tried = (0.0, 0)
        elif may and known != self._tried:
            self._tried = known
            if self._client.all_may_pass() and self._hooks.is_last():
                os.dup2(self._unread, PASSED, inheritable=False)
                self._passing = True

    def _is_silent(self) -> bool:
        return monotonic() - self._spoke > _SILENT

    def _answer(self, line: bytes) -> None:
        pid, hook, arguments = parse_shim_request(line)
        if hook == "passed":
            # Where it is refused after all, there is no announcement, and `prepared` lets nothing move.
            try:
                self._hooks.awaited_by("", []).run(["update", *arguments], [])
            except HookMustDecide:
                pass
            return
        # None: it has ended, or it is of another receive-pack that has this pid elsewhere, and must not wait for this push.
        who = processes.child(int(pid), self._receive_pack)
        said: list[str] = []
        status = "yourself"
        read = b""
        try:
            if who is not None and hook == "post-receive":
                status, self._client.hook = "0", who
                said += [f"piehole: {words}"] if (words := self._client.announcement(self._record)) else []
            elif who is not None:
                read = _standard_input(pid) if hook == "reference-transaction" else b""
                lines = read.decode("utf-8", "surrogateescape").split("\n")[:-1]
                status = str(self._hooks.awaited_by(who, said).run([hook, *arguments], lines))
        except HookMustDecide:
            if read and not _give_back(pid, read):
                status = "1"
                said.append("piehole: no-access: the site's controller has just gone; push again")
        if hook == "update" and status == "0" and self._is_silent():
            said.append(f"piehole: at work, {self._client.left()} refs to go")
        if said:
            self._spoke = monotonic()
        try:
            while os.read(self._unread, 1 << 16):
                pass  # what nobody has read, since its hook was killed
        except BlockingIOError:
            pass
        os.write(ANSWERS, pack_shim_answer(pid, status, " ".join(said)))


def _standard_input(pid: str) -> bytes:
    with open(f"/proc/{pid}/fd/7", "rb") as file:  # as hooks/shim.sh has it
        return file.read()


def _give_back(pid: str, read: bytes) -> bool:
    """Put what was read from a hook's standard input back into that pipe, for the hook that has to decide itself; whether it is all there."""
    import fcntl

    path = f"/proc/{pid}/fd/7"
    try:
        if not S_ISFIFO(os.stat(path).st_mode):
            return True  # a file, which is read anew
        pipe = os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            if len(read) > _PIPE:
                fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, len(read))
            return os.write(pipe, read) == len(read)
        finally:
            os.close(pipe)
    except OSError:
        return False
