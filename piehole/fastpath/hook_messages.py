"""What hooks ask and are answered, line by line: both sides pack and parse it with these functions.

A hook asks the site's controller over a socket (:mod:`piehole.fastpath.controller_socket`). A message is lines; the first word of a
line names it, and lines that a version does not know are ignored. No value holds a line feed: git forbids them in ref names, and
``install`` refuses a repository whose path has one. The questions, and below each its answers::

    admit                           foresee                         propose
    repository PATH                 repository PATH                 repository PATH
    push IN-FLIGHT-NAME PUSH-ID     push IN-FLIGHT-NAME PUSH-ID     push IN-FLIGHT-NAME PUSH-ID
    waited SECONDS                  waited SECONDS                  waited SECONDS
    hook PROCESS                    hook PROCESS                    hook PROCESS    (where another process asks for it)
    pusher NAME                     command REF OLD NEW  (each)     pusher NAME
    command REF OLD NEW                                             want REF OLD NEW SNAPSHOT   (each)
                                                                    earlier     (it may have been sent before)
                                                                    more        (other refs of this push may follow)

    free                            foreseen [MOST]                 accepted REVISION [WARNING]
    take SNAPSHOT [copies]          free | take SNAPSHOT [copies]   again
    refuse TOKEN SENTENCE             | later  (each, in order)     basis REF SNAPSHOT  (each, after again)
                                                                    refuse TOKEN SENTENCE   (also: unknown)

``copies`` after a snapshot: the group promises copies, so before this command passes the hook asks ``copies``, a question like ``foresee``,
with this command and, so that the push waits once, others that need it. It is answered when the other sites hold what they bring:
``held`` or ``held copies WARNING``, else ``refuse TOKEN SENTENCE``.

``foresee`` is ``admit`` for many commands, before git has moved the push's objects into the repository; ``later`` means that only
``admit`` can tell, and ``refuse TOKEN SENTENCE`` comes where etcd could not be used. MOST is how many of the refs one transaction
of etcd takes, where it does not take all. ``announce``, a question without commands, is asked when git has moved the refs, over the
connection that has brought them into the group, and answered with ``sites - SENTENCE`` for the user (piehole.announce). ``status`` and
``repository PATH`` ask for what `piehole status` shows of a repository, ``WORD REST`` each line; ``not-served`` is the answer where this
controller does not serve it.
Before its answer to anything the controller says ``here VERSION SECONDS``: it lives, and may take that long. To a hook it also says
``pusher-from SOURCE``, a line for each value of piehole.pusherFrom.

The shell hooks (hooks/shim.sh) ask the push's helper (:mod:`hooks.helper`) through two pipes, one line each::

    PID HOOK ARGUMENTS...           the hook PID waits; the helper reads the lines on its standard input from there
    PID passed ARGUMENTS...         the hook `update` has let this command pass, and waits for nothing
    PID STATUS WORDS...             the answer: the exit status of the hook, and what it says to the pusher
    PID yourself                    the answer: the hook has to decide without the helper

Imports nothing: it is on the hooks' path.
"""

from __future__ import annotations

TYPE_CHECKING = False  # importing typing costs a hook 4 ms; type checkers take this name as true
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_VERSION = "1"
SHOWN = 12  # characters of a push's id that its user sees: enough to find it in every log
# The tokens that an administrator has to do something about; pushers have no `piehole` at hand.
ADMINISTRATORS = ("no-quorum", "wrong-group", "went-back", "locked", "unadopted", "no-access", "copies", "corrupt")


def explained(token: str) -> str:
    """What a refusal ends with where an administrator has to do something."""
    return f" (piehole explain {token})" if token in ADMINISTRATORS else ""


class Question:
    """A hook's question: ``kind`` is ``admit``, ``foresee``, ``copies``, ``propose`` or ``announce``, ``commands`` are REF OLD NEW of each.

    ``snapshots`` has one word for each command of a proposal. ``hook`` names the process that waits for the answer, where another one
    asks; ``earlier``: a controller that fell silent may have been sent this very proposal; ``more``: other proposals of its push may follow.
    """

    def __init__(
        self, kind: str, commands: Sequence[tuple[str, str, str]] = (), snapshots: Sequence[str] = (), pusher: str = ""
    ) -> None:
        self.kind = kind
        self.commands = commands
        self.snapshots = snapshots
        self.pusher = " ".join(pusher.split())
        self.signer = ""
        self.repository = self.push_name = self.push_id = self.hook = ""
        self.waited = 0.0
        self.earlier = self.more = False

    def pack(self) -> list[str]:
        lines = [self.kind, f"repository {self.repository}", f"push {self.push_name} {self.push_id}"]
        lines.append(f"waited {self.waited:.3f}")
        if self.hook:
            lines.append(f"hook {self.hook}")
        if self.kind == "propose" or self.pusher:
            lines.append(f"pusher {' '.join(f'{self.pusher}{self.signer}'.split())}")
        if self.kind == "propose":
            wants = zip(self.commands, self.snapshots, strict=True)
            lines += [f"want {ref} {old} {new} {snapshot}" for (ref, old, new), snapshot in wants]
        else:
            lines += [f"command {ref} {old} {new}" for ref, old, new in self.commands]
        return lines + ["earlier"] * self.earlier + ["more"] * self.more

    @classmethod
    def parse(cls, lines: Sequence[str]) -> Question:
        """
        :raises ValueError, LookupError: it has another form
        """
        words = [line.partition(" ") for line in lines]
        single = {word: rest for word, _, rest in words}
        commands = [rest.split(" ") for word, _, rest in words if word in ("command", "want")]
        kind = words[0][0]
        snapshots = [one[3] for one in commands] if kind == "propose" else []
        question = cls(kind, [(ref, old, new) for ref, old, new, *_ in commands], snapshots, single.get("pusher", ""))
        question.repository = single["repository"]
        question.push_name, _, question.push_id = single["push"].partition(" ")
        question.waited = float(single["waited"])
        question.hook = single.get("hook", "")
        question.earlier, question.more = "earlier" in single, "more" in single
        return question


class Answer:
    """The answer to a question: ``kind`` is ``free``, ``take``, ``refuse``, ``held``, ``accepted``, ``again``, ``foreseen`` or ``sites``.

    ``value`` is the snapshot of ``take``, the revision of ``accepted``, the token of ``refuse`` and of a warning, MOST of ``foreseen``.
    ``bases`` are the snapshots of ``again`` by their refs, ``each`` the answers of ``foreseen``; None stands for ``later``.
    """

    __slots__ = ("bases", "each", "kind", "sentence", "value")

    def __init__(
        self,
        kind: str,
        value: str = "",
        sentence: str = "",
        *,
        bases: Mapping[str, str] | None = None,
        each: Sequence[Answer | None] = (),
    ) -> None:
        self.kind = kind
        self.value = value
        self.sentence = " ".join(sentence.split())
        self.bases = bases or {}
        self.each = each

    def pack(self) -> list[str]:
        lines = [" ".join(word for word in (self.kind, self.value, self.sentence) if word)]
        lines += [f"basis {ref} {snapshot}" for ref, snapshot in self.bases.items()]
        return lines + ["later" if one is None else one.pack()[0] for one in self.each]

    @classmethod
    def parse(cls, lines: Sequence[str]) -> Answer:
        """
        :raises ValueError: it has another form
        """
        kind, value, sentence, *_ = (*lines[0].split(" ", 2), "", "")
        if kind == "foreseen":
            return cls(kind, value, each=[None if line == "later" else cls.parse([line]) for line in lines[1:]])
        bases = [line.split(" ") for line in lines[1:]] if kind == "again" else []
        return cls(kind, value, sentence, bases={ref: snapshot for _, ref, snapshot in bases})


def pack_here(seconds: float, pusher_from: Sequence[str] = ()) -> list[str]:
    """:param pusher_from: the values of piehole.pusherFrom, for a hook"""
    return [f"here {_VERSION} {seconds:.3f}", *(f"pusher-from {source}" for source in pusher_from)]


def parse_pusher_from(lines: Sequence[str]) -> list[str]:
    return [line.partition(" ")[2] for line in lines[1:] if line.startswith("pusher-from ")]


def parse_here(lines: Sequence[str]) -> float:
    """The seconds that the controller may take.

    :raises ValueError, LookupError: it speaks another version
    """
    word, version, seconds = lines[0].split(" ")[:3]
    if (word, version) != ("here", _VERSION):
        raise ValueError("the controller speaks another version")
    return float(seconds)


def pack_status_question(git_dir: str) -> list[str]:
    return ["status", f"repository {git_dir}"]


def parse_status_question(lines: Sequence[str]) -> str | None:
    """The repository whose status is asked for; None: it is another question."""
    if lines[0] != "status":
        return None
    return lines[1].partition(" ")[2] if len(lines) > 1 else ""


_NOT_SERVED = "not-served"  # the answer for a repository that this controller does not serve


def pack_not_served() -> list[str]:
    return ["status", _NOT_SERVED]


def is_served(lines: Sequence[str]) -> bool:
    """Whether the controller that answered the question for the status serves the repository."""
    return lines[1:] != [_NOT_SERVED]


def pack_status(described: Sequence[str]) -> list[str]:
    return ["status", *described]


def parse_status(lines: list[str]) -> list[str]:
    return lines[1:]


def parse_ref_updates(lines: list[str]) -> list[tuple[str, str, str]]:
    """Old value, new value and name of each ref, from what git writes to ``reference-transaction`` (githooks(5)).

    :raises ValueError: a line has another form
    """
    found = []
    for line in lines:
        fields = line.split(" ", 2)
        if len(fields) != 3:
            raise ValueError(f"git's line {line[:200]!r} for this transaction makes no sense")
        found.append((fields[0], fields[1], fields[2]))
    return found


def parse_shim_request(line: bytes) -> tuple[str, str, list[str]]:
    """The pid of a shell hook, its name or ``passed``, and its arguments."""
    pid, hook, *arguments = line.decode("utf-8", "surrogateescape").split(" ")
    return pid, hook, arguments


def pack_shim_answer(pid: str, status: str, words: str) -> bytes:
    return f"{pid} {status} {words}\n".encode("utf-8", "surrogateescape")
