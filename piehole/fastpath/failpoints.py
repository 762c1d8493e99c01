"""The steps of a push, from "received" to "progress published": where a process can be stopped between two durable effects.

Each step has one call of :func:`reached`, which does nothing. The fault suite (``tests/fault/sweep``) runs a copy of the program in
which it kills, fails or delays instead; in an installed piehole nothing can turn that on. A step stands right after the durable effect
that it names, or right before the one that ``…ING`` names.

Imports nothing: it is on the hooks' path.
"""

from __future__ import annotations


class Step:
    """The names. Plain strings: importing ``enum`` costs a hook some milliseconds."""

    # the hook `update`
    UPDATE_BEGUN = "update-begun"  # nothing is written yet
    RECORD_CREATED = "record-created"  # the in-flight record has no first line yet
    ADMITTING = "admitting"  # decided, and not announced
    ANNOUNCED = "announced"
    # the hook `reference-transaction`, under git's locks
    PREPARED_BEGUN = "prepared-begun"
    REBASING = "rebasing"  # the swap lost, and the bases of the next proposal are not in the record yet
    ANSWERED = "answered"  # the group has taken the refs, and the hook knows
    SETTLED = "settled"  # the in-flight record says so, too; git moves the refs next
    NOTING = "noting"  # without a controller: the note of the push is not on disk yet
    # the decision, in the controller or in the hook
    COPIES_ASKING = "copies-asking"  # the other sites are about to be asked to hold what the push brings
    COPIES_ASKED = "copies-asked"
    COPIES_HELD = "copies-held"  # enough of them have said so
    KEEPING = "keeping"
    PROPOSING = "proposing"  # replaced tips are kept, the swap is not sent
    SWAPPED = "swapped"  # etcd has answered the swap
    FENCING = "fencing"  # the swap's answer is lost, and the fence is not put
    FENCED = "fenced"
    # a copy for a push to another site
    COPYING = "copying"  # nothing is fetched yet
    COPIED = "copied"  # proven, published and protected by .keep, and no ref holds it
    HELD = "held"  # the held refs are on the disk
    COPY_TELLING = "copy-telling"
    COPY_TOLD = "copy-told"
    # a reconcile
    RECONCILING = "reconciling"
    UNLOCKED = "unlocked"  # the locks of dead pushes are gone, their records are not
    QUARANTINED = "quarantined"  # the quarantine is there, and empty
    RECEIVED = "received"  # the pack lies in quarantine, unchecked
    CONNECTED = "connected"
    PACK_KEPT = "pack-kept"  # the .keep lies there, its pack does not
    PACK_MOVED = "pack-moved"  # the pack is in the store, its index is not
    PUBLISHED = "published"
    TIPS_KEPT = "tips-kept"
    REFS_MOVED = "refs-moved"
    RELEASING = "releasing"  # the refs have moved, the .keep is still there
    HEAD_SET = "head-set"
    # progress and what follows from it
    LOGGING = "logging"
    STATE_WRITTEN = "state-written"  # the new state is a file of its own, not yet in its place
    PROGRESS_ANNOUNCED = "progress-announced"  # on disk
    PROGRESS_SENT = "progress-sent"
    PROGRESS_CONFIRMED = "progress-confirmed"  # on disk
    REAPING = "reaping"
    REAPED = "reaped"


def reached(step: str) -> None:
    """Say that a step is reached. Nothing happens: the fault suite puts something else in the place of this function."""
