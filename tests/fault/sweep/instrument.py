"""What a copy's ``piehole/fastpath/failpoints.py`` gets at its end: a ``reached`` that obeys orders. Never imported from here.

Below the copy's folder: ``seen`` gets the name of each step that was reached, one a line. ``orders/`` holds orders, files named
``NUMBER,STEP,KIND``; an order is carried out once, by whoever comes first, and then lies in ``done/``. A ``hold`` ends when its order
is removed from there.

Standard library only, and little of it: it runs in the hooks.
"""

import os
import time

_HERE = __file__.rpartition("/piehole/fastpath/")[0]
_DELAY = 1.5  # seconds
_HOLD = 30.0  # seconds after which a held process goes on all the same


def reached(step: str) -> None:
    handle = os.open(f"{_HERE}/seen", os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        os.write(handle, f"{step}\n".encode())
    finally:
        os.close(handle)
    for name in sorted(os.listdir(f"{_HERE}/orders")):
        _, wanted, kind = name.split(",")
        if wanted == step and _claimed(name):
            _obey(step, kind, name)


def _claimed(name: str) -> bool:
    try:
        os.rename(f"{_HERE}/orders/{name}", f"{_HERE}/done/{name}")
    except FileNotFoundError:
        return False
    return True


def _obey(step: str, kind: str, name: str) -> None:
    if kind == "delay":
        time.sleep(_DELAY)
    elif kind == "error":
        raise _error(step)
    elif kind == "hold":
        end = time.monotonic() + _HOLD
        while os.path.exists(f"{_HERE}/done/{name}") and time.monotonic() < end:
            time.sleep(0.01)
    else:
        if kind == "killpush":
            git = _receive_pack()
            if git:
                os.kill(git, 9)
        os.kill(os.getpid(), 9)


def _receive_pack() -> int:
    """Whose hook this process is, or whose helper; 0: nobody's."""
    from piehole.fastpath import inflight, processes

    git, command = processes.nearest_git(os.getpid())
    if command == "receive-pack":
        return git
    helps = f"helper {os.getpid()} "
    for name in os.listdir(inflight.FOLDER) if os.path.isdir(inflight.FOLDER) else ():
        with open(f"{inflight.FOLDER}/{name}") as record:
            if any(line.startswith(helps) for line in record):
                return int(name.split(".")[2])
    return 0


def _error(step: str) -> Exception:
    """What the durable effect beside this step fails with, where it fails."""
    in_etcd = ("proposing", "swapped", "fencing", "fenced", "progress-sent", "reaping", "reaped")
    of_copies = ("copies-asking", "copies-asked", "copies-held", "copy-telling", "copy-told")
    if step in (*in_etcd, *of_copies):
        from piehole.errors import EtcdUnreachable

        unsent = ("proposing", "reaping", "copies-asking", "copy-telling")
        return EtcdUnreachable(f"the test made {step} fail", maybe_sent=step not in unsent)
    if step in ("quarantined", "received", "connected", "copying", "copied"):
        from piehole.errors import TransferError

        return TransferError(f"failed by order of the test at {step}")
    if step in ("keeping", "tips-kept", "refs-moved", "head-set", "held"):
        from piehole.errors import GitError

        return GitError(f"the test made {step} fail")
    return OSError(28, f"No space left on device (the test, at {step})")
