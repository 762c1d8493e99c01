"""Refs that were changed in this repository without a push: found by comparing with what this site has published. Pure.

A forge's web page, `git update-ref`, a `git fetch` with a refspec, a server or a client that runs no hooks: none of them asks the group. A ref
of the group gets the group's value again; a ref that the group has no value for stays here alone. Both are told to an administrator, with the
command that makes the change the group's.
"""

from __future__ import annotations

from collections.abc import Mapping
from shlex import quote
from typing import Final

from piehole.refs import HEAD, Command, short
from piehole.replicate.plan import DesiredState, Plan
from piehole.repository.repository import ObservedState

UNADOPTED: Final = (
    "made here without a push (by a forge's page, git itself, or a client that runs no hooks) or never adopted, so it is at this site alone, "
    'and a push of the same value says "Everything up-to-date"'
)


def unadopted_fix(ref: str) -> str:
    return f"`piehole clobber {quote(ref)}` here makes it the group's, `git update-ref -d {quote(ref)}` here removes it"


def local_changes(planned: Plan, desired: DesiredState, observed: ObservedState, reached: int) -> dict[str, Command]:
    """The refs, and HEAD, that had the group's value here and have another one now.

    :param reached: the revision up to which this site had everything. What it lacks now although the group has not changed it since
        was changed here; a push, which git moves itself after the swap, is deferred by the plan until then.
    :return: for each ref the move that undoes the change; for HEAD its ``old`` and ``new`` are the branches
    """
    found = {
        move.ref: move
        for move in planned.moves
        if move.ref in desired.refs and desired.refs[move.ref].mod_revision <= reached
    }
    if planned.head and desired.head_revision <= reached:
        found[HEAD] = Command(HEAD, observed.head, planned.head)
    return found


def pending_words(move: Command) -> str:
    """What to tell of a local change that is still there."""
    if move.ref == HEAD:
        return "changed here without a push, and will be put back: `piehole clobber HEAD` makes it the group's"
    delete = "--delete " if move.creates else ""
    return f"changed here without a push, and will be put back: `piehole clobber {delete}{quote(move.ref)}` makes it the group's"


def put_back_words(git_dir: str, undone: Mapping[str, Command]) -> dict[str, str]:
    """What to tell of local changes that were undone, by ref: what it was, and how to make it the group's now."""
    return {ref: _put_back(quote(git_dir), move) for ref, move in undone.items()}


def _put_back(git_dir: str, move: Command) -> str:
    if move.ref == HEAD:
        again = (
            f"`piehole group set -C {git_dir} head {quote(move.old)}`"
            if move.old
            else "`piehole group set head BRANCH`"
        )
        return f"was pointed to {move.old or 'a commit'} here, and is at the group's {move.new} again: to change it for the group, {again}"
    ref = quote(move.ref)
    if move.creates:
        return (
            f"was deleted here without a push, and is back: to delete it in the group, `git -C {git_dir} push . :{ref}`"
        )
    what = "was made here again" if move.deletes else f"was moved to {short(move.old)} here"
    now = "deleted" if move.deletes else f"at {short(move.new)}"
    return f"{what} without a push, and is {now} again, as in the group: to change it there, `git -C {git_dir} push . +{move.old}:{ref}`"
