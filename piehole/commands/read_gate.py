"""The read gate where no controller answers: this process asks etcd itself, as far as its account can."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from piehole.deadline import Deadline
from piehole.errors import PieholeError
from piehole.etcd.client import Etcd
from piehole.fastpath.read_messages import FRESH, OFF, ReadAnswer, behind
from piehole.group import config
from piehole.group.replica import Replica
from piehole.replicate.freshness import Goal, as_compared, await_goal
from piehole.repository.git_settings import GitConfig
from piehole.repository.settings import default

_LEAST: Final = 1.0  # seconds for the reads of etcd


def gate_alone(git_dir: Path, why: str) -> ReadAnswer:
    """The gate's answer without a controller.

    :param why: no controller answered
    """
    refuses = True  # where the mode cannot be read, or is none
    try:
        found = GitConfig(git_dir)
        mode = found.one("piehole.readgate", default("readGate")).lower()
        if mode == "off":
            return ReadAnswer(OFF)
        refuses = mode != "wait"
        if not found.local("piehole.group"):
            sentence = f"{git_dir} belongs to no group, so nothing can be waited for: run `piehole install` there, or unset piehole.readGate"
            return behind(sentence, refuses=False)
        settings = config.parse(git_dir, found)
        replica = Replica.of(settings, Etcd(settings.etcd, settings.credentials))
        deadline = Deadline(max(_LEAST, settings.read_wait))
        late = await_goal(replica, Goal(), as_compared(replica), deadline).why
        if not late:
            return ReadAnswer(FRESH)
    except (PieholeError, OSError) as error:
        late = str(error)
    sentence = f"it is not known whether {git_dir} has the newest state of its group: no controller answers ({why}), and {late}"
    return behind(sentence, refuses=refuses)
