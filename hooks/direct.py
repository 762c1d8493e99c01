"""The decision in the hook's own process, where no controller answers. Imports what the fast path must not."""

from __future__ import annotations

import os
import pwd
import site
import subprocess
import sys
from pathlib import Path

from hooks import pusher
from piehole.fastpath.hook_messages import Answer, Question

TYPE_CHECKING = False  # importing typing costs a hook 4 ms; type checkers take this name as true
if TYPE_CHECKING:
    from piehole.group.replica import Replica
    from piehole.push.admission import Admission


class InProcessDecider:
    """Answers a hook's questions as the controller would; keeps its connections from one question to the next."""

    def __init__(self, libraries: str, receive_pack: int) -> None:
        """
        :param libraries: the folder of the packages, as ``install`` found it
        :param receive_pack: the pid of the push's git
        """
        self._environ = dict(os.environ)
        _forget_the_pusher(receive_pack)
        site.main()  # the hook was started without it, since that costs every push some milliseconds
        if libraries not in sys.path:
            sys.path.append(libraries)
        import piehole.push.hook_protocol  # noqa: F401 -- most of the packages, now: what answers is measured

        self._replica: Replica | None = None
        self._admission: Admission | None = None
        self._noted = True

    def answer(self, question: Question) -> Answer:
        """The answer, a refusal in words where no decision could be reached."""
        from piehole.errors import NO_ACCESS, UNKNOWN, EtcdError, PieholeError
        from piehole.push.rules import refusal

        try:
            answered = self._answer(question)
            if answered is not None:
                return answered
            token, sentence = NO_ACCESS, "the receive-pack of this push has ended"
        except EtcdError as error:
            refused = refusal(error)
            token, sentence = refused.token, refused.sentence
        except (PieholeError, OSError) as error:
            token, sentence = NO_ACCESS, f"{error} Nothing changed; run `piehole check` at this site"
        if question.kind == "propose" and question.earlier:  # a controller that fell silent may still act on it
            token = UNKNOWN
            sentence = f"the group may still take this push; look (`git fetch`) before pushing again. {sentence}"
        return Answer("refuse", token, sentence)

    def end(self, push_id: str) -> None:
        """This push has ended."""
        if self._admission is not None:
            self._admission.copies.end(push_id)

    def _answer(self, question: Question) -> Answer | None:
        from piehole.group import progress
        from piehole.group.replica import Replica
        from piehole.push import hook_protocol
        from piehole.push.admission import Admission
        from piehole.push.consensus_source import LinearizableSource

        replica = self._replica = self._replica or Replica.open(Path(question.repository))
        if question.kind == "propose" and replica.config.pusher_from:
            question.pusher = pusher.name(self._environ, replica.config.pusher_from)
        hook_protocol.check(question)
        deadline = hook_protocol.deadline_of(question, replica.config.hook_timeout, replica.config.copies_timeout)
        if question.kind == "propose":
            # A swap may go out only once. So find out first which endpoint is alive: this may be asked of one after the other.
            replica.etcd.head(replica.keyspace.group(replica.config.group), deadline=deadline)
        if self._admission is None:
            source = LinearizableSource(replica, lambda: _start_reconcile(replica.git_dir))
            self._admission = Admission(replica, source)
        answered = hook_protocol.answer(question, self._admission, deadline, lambda: hook_protocol.is_awaited(question))
        if answered is not None and answered.kind == "accepted":
            # Whoever holds the state for so long hangs, and a push of many refs must not wait for it with each.
            self._noted = progress.remember_push(replica, int(answered.value), question.push_id, wait=self._noted)
        return answered


_PATH = "/usr/local/bin:/usr/bin:/bin"


def _forget_the_pusher(git: int) -> None:
    """Replace the environment, which the pusher may have set: another HOME would bring another configuration, another PATH
    another git, and OpenSSL has variables of its own. Home and name are the account's; git is the one that runs the push.
    """
    try:
        known = {"PATH": f"{os.path.dirname(os.readlink(f'/proc/{git}/exe'))}:{_PATH}"}
    except OSError:  # it has ended, and nothing will move
        known = {"PATH": _PATH}
    try:
        account = pwd.getpwuid(os.getuid())
        known |= {"HOME": account.pw_dir, "USER": account.pw_name, "LOGNAME": account.pw_name}
    except KeyError:  # an account without a name has no home, and so no configuration of its own
        pass
    os.environ.clear()
    os.environ.update(known)


def _start_reconcile(git_dir: Path) -> None:
    """Start a reconcile in a process of its own, which outlives the hook: a hook replicates nothing itself.

    One at a time is enough, however many refs are behind: the process holds a lock as long as it lives.
    """
    from piehole import files, git

    with (git_dir / "piehole" / "catching-up.lock").open("a") as lock:
        if not files.try_lock(lock.fileno()):
            return
        subprocess.Popen(
            [sys.executable, "-I", "-m", "piehole.cli", "reconcile", "--once", str(git_dir)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            cwd="/",
            env=git.environment(),
            pass_fds=(lock.fileno(),),
        )
