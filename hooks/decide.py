"""The decision about a push: the answer of the site's controller or, where none answers, of the same code in this process."""

from __future__ import annotations

from time import monotonic

from piehole.fastpath import controller_socket, inflight

TYPE_CHECKING = False  # importing typing costs a hook 4 ms; type checkers take this name as true
if TYPE_CHECKING:
    from collections.abc import Callable

    from hooks.direct import Direct

# An answer that comes within this time (seconds) costs a push nothing of its patience, however many refs it has.
_PROMPT = 0.1


def charge(record: inflight.Record, started: float) -> None:
    """Note what the push has waited since then (monotonic seconds), where that was more than a moment."""
    took = monotonic() - started
    if took > _PROMPT:
        spend(record, took)


def spend(record: inflight.Record, seconds: float) -> None:
    """Note what the push has waited. On a full disk its next hook has more patience; a veto after the swap would be worse."""
    try:
        record.add_wait(seconds)
    except OSError:
        pass


def note_silence(record: inflight.Record) -> None:
    """The controller took a question of this push and fell silent."""
    try:
        record.note_silence()
    except OSError:
        pass  # then the next hook finds out for itself


class Decider:
    """:param controller: asks the site's controller; ``receive_pack`` is the push's pid, ``libraries`` where the packages are"""

    def __init__(
        self,
        git_dir: str,
        libraries: str,
        receive_pack: int,
        controller: Callable[[list[str]], list[str]] | None = None,
    ) -> None:
        self._git_dir = git_dir
        self._libraries = libraries
        self._receive_pack = receive_pack
        self._controller = controller or (lambda question: controller_socket.ask(git_dir, question))
        self._direct: Direct | None = None
        # The process that waits for the answer, where it is not this one.
        self.hook = ""

    def answer(self, record: inflight.Record, question: list[str]) -> list[str]:
        """The lines of the answer; a refusal in words where no decision could be reached."""
        started = monotonic()
        question = self.whole(record, question)
        try:
            try:
                return self._ask(record, question)
            except controller_socket.NobodyHome as nobody:
                if self._direct is None:
                    from hooks.direct import Direct

                    self._direct = Direct(self._libraries, self._receive_pack)
                question[3] = f"waited {record.waited + monotonic() - started:.3f}"
                return self._direct.answer([*question, "earlier"] if nobody.asked else question)
        finally:
            charge(record, started)

    def whole(self, record: inflight.Record, question: list[str]) -> list[str]:
        """The question with the lines that tell whose it is."""
        about = [f"repository {self._git_dir}", f"push {record.name} {record.push_id}"]
        about += [f"waited {record.waited:.3f}", *([f"hook {self.hook}"] if self.hook else [])]
        return [question[0], *about, *question[1:]]

    def _ask(self, record: inflight.Record, question: list[str]) -> list[str]:
        """The controller's answer. Finding out that it hangs takes a second, which a push of many refs must not pay for each.

        :raises controller_socket.NobodyHome: none answered
        """
        if record.silent:
            raise controller_socket.NobodyHome("it did not answer an earlier question of this push")
        try:
            return self._controller(question)
        except controller_socket.NobodyHome as nobody:
            if nobody.asked:
                note_silence(record)
            raise
