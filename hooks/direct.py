"""The decision in the hook's own process, for when no controller answers. Imports what the fast path never may."""

from __future__ import annotations

import fcntl
import site
import subprocess
import sys
from pathlib import Path


def answer(libraries: str, question: list[str]) -> list[str]:
    """Answer the question as the controller would.

    :param libraries: the folder of the packages, as ``install`` found it
    """
    site.main()  # the hook was started without it, since that costs every push some milliseconds
    if libraries not in sys.path:
        sys.path.append(libraries)
    from piehole import answers, proc
    from piehole.admission import Admission
    from piehole.errors import EtcdError, PieholeError
    from piehole.local import Local
    from piehole.sources import Linearizable

    try:
        asked = answers.Question.parse(question)
        local = Local.open(Path(asked.repository))
        source = Linearizable(local, lambda: _start_reconcile(local.git_dir))
        admission = Admission(local.config, local.repository, local.swapper, source)
        # Git holds the locks only while its receive-pack lives.
        deadline = asked.deadline(local.config.hook_timeout)
        answered = answers.answer(asked, admission, deadline, lambda: proc.lives(asked.push_name) is True)
    except (PieholeError, OSError) as error:
        why = f"{error}" if isinstance(error, EtcdError) else f"{error} Run `piehole check` at this site."
        return [_refusal(question, why)]
    return answered or [_refusal(question, "The receive-pack of this push has ended.")]


def _refusal(question: list[str], why: str) -> str:
    """What the pusher is told where no decision was reached; a controller that fell silent may still act on a proposal."""
    words = " ".join(why.split())
    if question[0] == "propose" and "earlier" in question:
        return f"refuse unknown the group may still take this push; look before pushing again. {words}"
    return f"refuse no-access {words} Nothing moves."


def _start_reconcile(git_dir: Path) -> None:
    """Have this site catch up in a process of its own, which outlives the hook: a hook replicates nothing itself.

    One at a time is enough, however many refs are behind: the process holds a lock as long as it lives.
    """
    from piehole import git

    with (git_dir / "piehole" / "catching-up.lock").open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
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
