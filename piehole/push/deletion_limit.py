"""How many refs one push may delete (``piehole.maxDeletes``): all deletions of a push that asks for more are refused, before any moves.

`update` is asked about one ref after the other, so the number is taken from the push's in-flight record, which has all commands from
`pre-receive` on. Where piehole's `pre-receive` does not run, it has only those that `update` has let pass so far.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from piehole.errors import TOO_MANY
from piehole.fastpath import inflight
from piehole.group.config import Config
from piehole.push.rules import Refuse
from piehole.refs import Command, is_managed, is_zero

_REMEMBERED: Final = 32  # pushes
_IN_PARTS: Final = 1000  # commands: a push of more may have more of them than one question holds


class DeletionLimit:
    """``piehole.maxDeletes`` of one repository. With 0 nothing is looked at."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._known: dict[str, int] = {}  # how many refs a push deletes, by the push's id

    def refusal(self, command: Command, push_name: str, push_id: str) -> Refuse | None:
        """
        :param push_name: of the receive-pack (:func:`piehole.fastpath.processes.identity`)
        """
        most = self._config.max_deletes
        if not most or not command.deletes or not is_managed(command.ref, self._config.exclude):
            return None
        number = self._known.get(push_id)
        if number is not None:
            return _asks_for(number, most) if number > most else None
        coming, let_pass = self._deletions(push_name, push_id)
        if coming is None:
            return _has_deleted(most) if len(let_pass | {command.ref}) > most else None
        while len(self._known) >= _REMEMBERED:
            self._known.pop(next(iter(self._known)), None)
        self._known[push_id] = number = len(coming | let_pass | {command.ref})
        return _asks_for(number, most) if number > most else None

    def undecided(self, commands: Sequence[Command], push_name: str, push_id: str) -> set[Command]:
        """Those of these commands of one push whose :meth:`refusal` `update` has to ask for."""
        most = self._config.max_deletes
        deletions = (
            {one for one in commands if one.deletes and is_managed(one.ref, self._config.exclude)} if most else set()
        )
        if not deletions:
            return set()
        coming, let_pass = self._deletions(push_name, push_id)
        known = len({one.ref for one in deletions} | (coming or set()) | let_pass)
        return deletions if known > most or len(commands) >= _IN_PARTS else set()

    def _deletions(self, push_name: str, push_id: str) -> tuple[set[str] | None, set[str]]:
        """The managed refs that this push is to delete, None where not all its commands are known; and those that `update` let pass."""
        for record in inflight.records(str(self._config.git_dir)):
            if record.process == push_name and record.push_id == push_id:
                let_pass = {one.ref for one in record.announced.values() if one.managed and is_zero(one.new)}
                coming = {ref for ref, new in record.coming.items() if is_zero(new)}
                managed = {ref for ref in coming if is_managed(ref, self._config.exclude)}
                return managed if record.coming else None, let_pass
        return None, set()


def _asks_for(number: int, most: int) -> Refuse:
    return Refuse(
        TOO_MANY,
        f"cannot delete {number} refs: this site lets one push delete at most {most} (piehole.maxDeletes). {_on_purpose(most)}",
    )


def _has_deleted(most: int) -> Refuse:
    return Refuse(
        TOO_MANY,
        f"cannot delete more than {most} refs: no push to this site may (piehole.maxDeletes), so this one stays. {_on_purpose(most)}",
    )


def _on_purpose(most: int) -> str:
    return (
        f"If it is meant (no mirror push from an old clone), delete at most {most} with each push, or have the administrator run "
        "`git config piehole.maxDeletes 0` in the repository for as long as it takes"
    )
