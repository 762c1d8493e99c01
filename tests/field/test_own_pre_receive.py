"""A server whose `pre-receive` is somebody's own and does not call piehole's: the first `update` starts the helper then."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from hooks import direct
from hooks.decide import DecisionClient
from piehole.deadline import Deadline
from piehole.fastpath import hook_messages, inflight, processes
from piehole.fastpath.hook_messages import Answer, Question
from piehole.push.admission import Admission
from piehole.push.consensus_source import LinearizableSource
from piehole.refs import Command
from tests.support import git
from tests.support.assertions import accepted, refused
from tests.support.git import MAIN
from tests.support.groups import MakeGroup
from tests.support.hook_socket import Line, stub
from tests.support.pushes import records, write_hook
from tests.support.sites import Site
from tests.support.wait import until

REFS = 30


def own(site: Site) -> None:
    write_hook(site.repository, "pre-receive", "#!/bin/sh\ncat >/dev/null\n")


def only_the_first_update_has_a_python(site: Site) -> None:
    """A second one would say that piehole has moved away."""
    for hook in ("update", "reference-transaction"):
        path = site.repository / "hooks" / hook
        once = f"python=/nowhere\nmkdir {site.root}/started-$PPID 2>/dev/null && python="
        write_hook(site.repository, hook, path.read_text().replace("\npython=", f"\n{once}", 1))


@pytest.mark.parametrize("controller", [True, False], ids=["controller", "no controller"])
@pytest.mark.parametrize("options", [[], ["--atomic"]], ids=["each", "atomic"])
def test_one_python_answers_all_hooks_of_a_push(make_group: MakeGroup, controller: bool, options: list[str]) -> None:
    group = make_group(1, started=controller)
    site = group[0]
    work, first = group.begun()
    own(site)
    only_the_first_update_has_a_python(site)
    names = [f"refs/heads/b{number}" for number in range(REFS)]
    accepted(git.push(work, site.repository, *options, *(f"HEAD:{name}" for name in names)))
    assert site.refs() == dict.fromkeys([MAIN, *names], first)
    group.put("refs/heads/b3", "frozen until Monday")
    tip = git.commit(work)
    done = git.push(work, site.repository, *options, *(f"HEAD:{name}" for name in names[:6]))
    assert "locked" in refused(done, "locked")
    moved = [name for name in names if site.at(name) == tip]
    assert moved == ([] if options else [name for name in names[:6] if name != "refs/heads/b3"])
    assert [name for name, value in group.refs().items() if value == tip] == moved


def test_a_first_ref_that_is_refused_leaves_the_helper_to_the_next_ones(make_group: MakeGroup) -> None:
    group = make_group(1)
    site = group[0]
    work, _ = group.begun()
    own(site)
    only_the_first_update_has_a_python(site)
    group.put("refs/heads/a", "frozen until Monday")
    refused(git.push(work, site.repository, "HEAD:a", "HEAD:b", "HEAD:c"), "locked")
    assert set(site.refs()) == {MAIN, "refs/heads/b", "refs/heads/c"}


def test_the_helper_of_update_ends_with_its_receive_pack(make_group: MakeGroup) -> None:
    group = make_group(1, started=False)
    site = group[0]
    work, _ = group.begun()
    own(site)
    for record in records(site.repository):
        record.unlink()
    accepted(git.push(work, site.repository, "HEAD:a"))
    (record,) = records(site.repository)
    (helper,) = (line.split(" ")[1] for line in record.read_text().splitlines() if line.startswith("helper "))
    until(lambda: processes.start_time(int(helper)) is None, what="the helper has ended")


def test_a_slow_etcd_that_answers_uses_up_nobody_s_patience(make_group: MakeGroup) -> None:
    """Of a push of many refs, each is a round trip between members that may be far apart; all of them together take long."""
    group = make_group(1, started=False)
    site = group[0]
    work, _ = group.begun()

    def slow(line: Line) -> None:
        time.sleep(0.3)
        line.say(*hook_messages.pack_here(8))
        line.say("take [1,1,1,0,1,[],1]" if line.question[0] == "admit" else "accepted 7")

    with stub(site.repository, slow) as controller:
        accepted(git.push(work, site.repository, "HEAD:a", "HEAD:b"))
    assert {line.question[3] for line in controller.lines} == {"waited 0.000"}


def test_a_forecast_that_takes_long_uses_up_nobody_s_patience(make_group: MakeGroup) -> None:
    """Of a push of thousands of refs, it is made every two seconds, and this machine may be busy."""
    group = make_group(1, started=False)
    site = group[0]
    work, _ = group.begun()

    def slow(line: Line) -> None:
        line.say(*hook_messages.pack_here(8))
        if line.question[0] == "foresee":
            time.sleep(1)
            line.say("foreseen", "later", "later")
        else:
            line.say("take [1,1,1,0,1,[],1]" if line.question[0] == "admit" else "accepted 7")

    with stub(site.repository, slow, foresees=False) as controller:
        accepted(git.push(work, site.repository, "HEAD:a", "HEAD:b"))
    assert {line.question[3] for line in controller.lines} == {"waited 0.000"}


def test_a_forecast_refuses_no_push_whose_patience_is_used_up(make_group: MakeGroup) -> None:
    group = make_group(1, started=False)
    group.begun()
    replica = group[0].replica()
    admission = Admission(replica, LinearizableSource(replica, lambda: None))
    command = Command(MAIN, git.rev_parse(group[0].repository, MAIN), "1" * 40)
    assert admission.foresee([command], Deadline(0.0)).each == [None]


def test_what_this_machine_needs_to_load_packages_is_no_wait_for_etcd(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a push of many refs without a controller ends in the middle, with etcd in the best of health."""
    monkeypatch.setattr(direct, "InProcessDecider", SlowToLoad)
    (tmp_path / inflight.FOLDER).mkdir(parents=True)
    record = inflight.Record(str(tmp_path), "a.b.1.2").open()
    DecisionClient(str(tmp_path), "", 0).ask(record, Question("admit", [(MAIN, "0" * 40, "1" * 40)]))
    assert record.waited == 0


class SlowToLoad:
    def __init__(self, *_: object) -> None:
        time.sleep(1)

    def answer(self, _: Question) -> Answer:
        return Answer("free")
