"""What readers ask the site's controller, and its answers: both sides pack and parse them with these functions.

They go over the socket of the hooks (:mod:`piehole.fastpath.controller_socket`), in messages of the same form. Whoever can read a
repository may ask. The questions::

    gate                            wait
    repository PATH                 repository PATH
                                    for SECONDS         (how long the controller may keep the question)
                                    revision N          (what an earlier answer said is to be reached)
                                    ref NAME
                                    oid OID
                                    sites WORD...

    STATE REVISION STATUS SENTENCE

``gate`` asks whether this repository has reached what is the newest in the group now. The controller waits as long as
``piehole.readWait`` says, and answers ``off`` (``piehole.readGate`` is), ``fresh``, ``warn`` or ``refuse``. ``wait`` asks what `piehole
wait` waits for, and is answered ``reached``, ``waiting`` or ``failed`` with an exit status. REVISION is the revision of etcd that is to
be reached, 0 where it is not known yet. ``not-served``: this controller does not serve the repository.

Imports nothing: a fetch through the gate waits for it.
"""

from __future__ import annotations

TYPE_CHECKING = False  # importing typing costs 4 ms; type checkers take this name as true
if TYPE_CHECKING:
    from collections.abc import Sequence

OFF = "off"
FRESH = "fresh"
WARN = "warn"
REFUSE = "refuse"
REACHED = "reached"
WAITING = "waiting"
FAILED = "failed"
NOT_SERVED = "not-served"


class ReadAnswer:
    """The answer to a reader. ``status``: the exit status of what ``failed``."""

    __slots__ = ("revision", "sentence", "state", "status")

    def __init__(self, state: str, revision: int = 0, sentence: str = "", *, status: int = 0) -> None:
        self.state = state
        self.revision = revision
        self.sentence = " ".join(sentence.split())
        self.status = status

    def pack(self) -> list[str]:
        return [f"{self.state} {self.revision} {self.status} {self.sentence}"]

    @classmethod
    def parse(cls, lines: Sequence[str]) -> ReadAnswer:
        """
        :raises ValueError: it has another form
        """
        state, revision, status, sentence, *_ = (*lines[0].split(" ", 3), "")
        return cls(state, int(revision), sentence, status=int(status))


def behind(sentence: str, *, refuses: bool, revision: int = 0) -> ReadAnswer:
    """The gate's answer to a fetch that may miss something: words for the user, who reads them after ``piehole: behind:``."""
    text = "".join(char if char.isprintable() or "\udc80" <= char <= "\udcff" else "?" for char in sentence)
    end = "Try again, or fetch from another site." if refuses else "What you get may be out of date."
    return ReadAnswer(REFUSE if refuses else WARN, revision, f"{text.rstrip('.')}. {end}")


class WaitQuestion:
    """What `piehole wait` asks. ``seconds``: how long the controller may keep the question; ``revision`` 0: not known yet."""

    __slots__ = ("oid", "ref", "repository", "revision", "seconds", "sites")

    def __init__(
        self,
        repository: str,
        seconds: float,
        *,
        ref: str = "",
        oid: str = "",
        sites: Sequence[str] = (),
        revision: int = 0,
    ) -> None:
        self.repository = repository
        self.seconds = seconds
        self.ref = ref
        self.oid = oid
        self.sites = tuple(sites)
        self.revision = revision

    def pack(self) -> list[str]:
        lines = ["wait", f"repository {self.repository}", f"for {self.seconds:.3f}", f"revision {self.revision}"]
        lines += [f"ref {self.ref}"] if self.ref else []
        lines += [f"oid {self.oid}"] if self.oid else []
        return lines + ([f"sites {' '.join(self.sites)}"] if self.sites else [])

    @classmethod
    def parse(cls, lines: Sequence[str]) -> WaitQuestion:
        """
        :raises ValueError: it has another form
        """
        found = {word: rest for word, _, rest in (line.partition(" ") for line in lines)}
        return cls(
            found.get("repository", ""),
            float(found.get("for", "0")),
            ref=found.get("ref", ""),
            oid=found.get("oid", ""),
            sites=found.get("sites", "").split(),
            revision=int(found.get("revision", "0")),
        )


def pack_gate_question(git_dir: str) -> list[str]:
    return ["gate", f"repository {git_dir}"]


def reader_asks_about(lines: Sequence[str]) -> str | None:
    """The repository that a reader asks about; None: it is a question of a hook."""
    if lines[0] not in ("gate", "wait"):
        return None
    return lines[1].partition(" ")[2] if len(lines) > 1 else ""
