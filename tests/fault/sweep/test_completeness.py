"""The sweep leaves nothing out: every step has its point, every durable effect its step, and the story reaches them all."""

from __future__ import annotations

from collections import Counter

import pytest

from piehole.fastpath.failpoints import Step
from tests.fault.sweep.bed import Bed
from tests.fault.sweep.effects import functions, steps_called
from tests.fault.sweep.story import all_steps, faults
from tests.fault.sweep.test_sweep import run
from tests.support.wait import until

# Functions that do something durable, and the steps that stand right before or after their call.
BESIDE = {
    "piehole.fastpath.inflight:Record._append": (
        "ADMITTING",
        "ANNOUNCED",
        "PREPARED_BEGUN",
        "REBASING",
        "ANSWERED",
        "SETTLED",
    ),
    "piehole.fastpath.inflight:_write": ("RECORD_CREATED", "ADMITTING", "ANNOUNCED"),
    "piehole.fastpath.inflight:note_moves": ("TIPS_KEPT", "REFS_MOVED"),
    "piehole.group.ref_log:_opened": ("LOGGING",),
    "piehole.files:replace_file": ("STATE_WRITTEN",),
    "piehole.repository.stale_locks:_remove": ("RECONCILING", "UNLOCKED"),
    "piehole.repository.kept_tips:keep": ("KEEPING", "PROPOSING", "TIPS_KEPT"),
    "piehole.repository.packed_refs:PackedRefs._make": ("TIPS_KEPT", "REFS_MOVED"),
    "piehole.repository.packed_refs:PackedRefs.publish": ("TIPS_KEPT", "REFS_MOVED"),
    "piehole.repository.ref_moves:RefMover._noting": ("TIPS_KEPT", "REFS_MOVED"),
    "piehole.repository.kept_tips:_update": ("TIPS_KEPT", "REFS_MOVED"),
    "piehole.repository.repository:Repository.set_head": ("REFS_MOVED", "HEAD_SET"),
    "piehole.push.swap:Swapper._puts": ("PROPOSING", "SWAPPED"),
    "piehole.push.copies:CopyCollector._put": ("COPIES_ASKING", "COPIES_ASKED"),
    "piehole.push.request_keys:RequestKeys.removal": ("PROPOSING", "SWAPPED"),
    "piehole.repository.ref_transaction:RefTransaction.__init__": ("TIPS_KEPT", "REFS_MOVED"),
    "piehole.transfer.connectivity:secure": ("PACK_KEPT", "PACK_MOVED", "PUBLISHED"),
    "piehole.transfer.git_fetch:git_fetch": ("QUARANTINED", "RECEIVED"),
    "piehole.transfer.keep_files:Hold.keep": ("CONNECTED", "PACK_KEPT"),
    "piehole.transfer.index_pack:IndexPack._start": ("QUARANTINED", "RECEIVED"),
    "piehole.transfer.quarantine:Quarantine._make": ("QUARANTINED",),
    "piehole.transfer.small_pack:SmallPackIntake._create": ("QUARANTINED", "RECEIVED"),
    "piehole.transfer.small_pack:SmallPackIntake._write": ("QUARANTINED", "RECEIVED"),
    "piehole.transfer.quarantine:Quarantine.clear": ("QUARANTINED", "RECEIVED"),
    "piehole.transfer.quarantine:Quarantine._remove": ("PUBLISHED", "TIPS_KEPT"),
}
# What is no durable effect of a push, and why.
NONE_OF_A_PUSH = {
    "controller.cache:Cache.apply": "a collection in memory",
    "controller.informer:Informer._list": "a collection in memory",
    "piehole.replicate.peers:HedgedFetch.run": "a collection in memory",
    "piehole.repository.controller_pointer:ControllerPointer.set": "the controller's start: a hint for hooks, which do without",
    "piehole.repository.controller_pointer:ControllerPointer.clear": "the controller's end",
    "piehole.repository.controller_pointer:ControllerPointer.note_refusal": "a note for people, which counts while its process lives",
    "piehole.repository.controller_pointer:ControllerPointer.forget_refusal": "the end of that note",
    "controller.hook_server:HookServer._listen": "the controller's start: its socket",
    "controller.hook_server:HookServer.stop": "the controller's end",
    "controller.socket_directory:take_lock": "the controller's start: a file that says something only while it is locked",
    "controller.socket_directory:socket_directory": "the controller's start: its socket's folder",
    "controller.web.server:_HttpHandler._write": "an answer over HTTP",
    "controller.web.server:_HttpHandler._stream": "an answer over HTTP",
    "controller.web.server:_HttpListener.__init__": "the controller's start: the socket of its web server",
    "controller.web.server:_HttpListener.close": "the controller's end",
    "controller.web.server:_remove_stale": "the controller's start: the socket of a web server that was killed",
    "hooks.direct:_start_reconcile": "a file that says something only while it is locked",
    "piehole.group.drops:ask": "an administrator's request, made once",
    "piehole.group.drops:answer": "an administrator's request: what this site says to it",
    "piehole.group.drops:forget": "an administrator's request",
    "piehole.transfer.damaged_files:delete_those_with": "an administrator's request to drop an object; tests/transfer/test_removal.py",
    "piehole.transfer.maintenance:_write_commit_graph": "a scratch file",
    "piehole.transfer.removal:excluded": "a file that says something only while it is locked",
    "piehole.transfer.removal:Removal.begin": "an administrator's request to drop an object; tests/transfer/test_removal.py",
    "piehole.transfer.removal:Removal.set_aside": "the same; an interruption anywhere is tried there",
    "piehole.transfer.removal:Removal.put_back": "a scratch file",
    "piehole.transfer.removal:Removal.finish": "the end of an administrator's request to drop an object",
    "piehole.transfer.removal:Removal._divide": "a scratch file",
    "piehole.transfer.removal:Removal._copy": "written to a quarantine, whose publication has its steps",
    "piehole.files:locked": "a file that says something only while it is locked",
    "hooks.entry:run": "words to the pusher",
    "hooks.push_hooks:say": "words to the pusher",
    "hooks.helper:Helper._answer": "words to a hook",
    "hooks.helper:_give_back": "bytes to a hook",
    "piehole.transfer.byte_channels:ProcessChannel.write": "bytes to a process",
    "piehole.transfer.index_pack:IndexPack._feed": "bytes to a process; what it makes of them is between QUARANTINED and RECEIVED",
    "piehole.transfer.process:call": "bytes to a process",
    "controller.verifier:Verifier._say": "a word to a process",
    "piehole.transfer.process:streamed": "bytes to a process that only reads",
    "piehole.repository.ref_transaction:RefTransaction._write": "bytes to a process, which moves nothing before it has all of them",
    "piehole.repository.repository:Repository.head": "reads",
    "piehole.repository.repository:Repository.symref_target": "reads",
    "piehole.group.alive:Presence.give": "a sign of life: no push waits for it, and the next one follows in ten seconds",
    "piehole.push.request_keys:RequestKeys.removals": "what a refused push has asked for; else it ends with its lease",
    "piehole.group.alive:Presence._replaced": "what other controllers have left, removed with a sign of life",
    "piehole.group.progress:_register": "a site whose record vanished comes back: one transaction, and no push waits for it",
    "piehole.transfer.keep_files:_remove_if_unlocked": "a sweep of what others left; each file goes by itself, and the next sweep goes on",
    "piehole.group.progress:_publish_limits": "the site's own record, once after an upgrade: one transaction, repeated at the next start",
    "piehole.repository.verification:_record": "the mark of a corrupt repository, one rename; the next examination writes it again",
    "piehole.repository.verification:_update": "a note of the last examination, one rename",
    "piehole.transfer.damaged_files:set_aside": "a repair, which goes on with the next turn; good copies are there before it begins",
    "piehole.transfer.damaged_files:put_aside": "a repair: one rename, and the file is there under its new name",
    "piehole.transfer.rebuild:_index": "a repair: a derived file is replaced by one rename; git works without it",
    "piehole.transfer.damaged_files:_salvage": "a repair: its pack is published like one that was fetched",
    "piehole.transfer.damaged_files:_without": "a folder for the time of a repair",
    "piehole.transfer.damaged_files:remove_views": "a sweep of what others left",
    "piehole.repository.held_refs:release": "what was held for a push that is over: one transaction, repeated later",
    "piehole.transfer.maintenance:_roll_up": "git's own repack, which survives its end at any point",
}


def test_every_durable_effect_has_its_step_beside_it() -> None:
    durable = {one.name: one for one in functions() if one.effects}
    without = {name: sorted(one.effects) for name, one in durable.items() if not one.reached}
    assert {name: found for name, found in without.items() if name not in BESIDE and name not in NONE_OF_A_PUSH} == {}
    assert [name for name in (*BESIDE, *NONE_OF_A_PUSH) if name not in without] == [], "listed, and not there any more"
    assert not [step for steps in BESIDE.values() for step in steps if not hasattr(Step, step)]


def test_every_step_stands_at_one_point_of_the_program() -> None:
    called = Counter(steps_called())
    assert {name for name in vars(Step) if name.isupper()} == set(called)
    assert [step for step, times in called.items() if times > 1] == []


def test_every_step_is_swept_with_every_kind_of_fault() -> None:
    swept = Counter((fault.step, fault.kind) for fault in faults())
    assert {(step, kind) for step in all_steps() for kind in ("kill", "error", "delay")} <= set(swept)
    assert len({fault.name for fault in faults()}) == len(faults())


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_the_story_breaks_nothing_and_reaches_every_step(bed: Bed) -> None:
    seen: set[str] = set()
    for direct in (True, False):
        run(bed, None, direct=direct)
        seen |= {step for site in bed.sites for step in site.seen()}

    def missing() -> set[str]:
        return set(all_steps()) - seen - {step for site in bed.sites for step in site.seen()}

    # A tombstone is reaped some seconds after it came.
    until(lambda: not missing(), 30, f"the story reaches every step; missing so far: {sorted(missing())}")
