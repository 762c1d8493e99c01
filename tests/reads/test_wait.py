"""`piehole wait`: until this site, or others, have what was the newest when it was started."""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.cli.terminal import Terminal
from tests.conftest import OwnEtcd
from tests.reads.bed import lagging
from tests.support import git
from tests.support.assertions import accepted
from tests.support.command_line import Answer
from tests.support.git import MAIN
from tests.support.groups import Group, MakeGroup
from tests.support.wait import until

NOBODY = "1" * 40


def pushed(group: Group, ref: str = "main", site: int = 0) -> str:
    oid = group.commit()
    accepted(git.push(group.work, group[site].repository, f"HEAD:{ref}"))
    return oid


def wait(group: Group, site: int, *words: str, timeout: str = "20") -> Answer:
    return group[site].piehole("wait", *words, "--timeout", timeout, check=False)


def late(answer: Answer) -> str:
    """Why it was not there in time."""
    assert (answer.status, answer.out) == (1, ""), answer
    return answer.err.partition("not in time (")[2]


def test_it_ends_when_this_site_has_what_was_the_newest(make_group: MakeGroup) -> None:
    group = make_group(2)
    for number in range(4):
        oid = pushed(group, site=number % 2)
        assert wait(group, 1 - number % 2) == Answer(0, "", "")
        assert group[1 - number % 2].at() == oid
    with lagging(group, "b") as lag, ThreadPoolExecutor() as pool:
        new = pushed(group)
        assert late(wait(group, 1, timeout="0.3"))
        assert wait(group, 0, timeout="5").status == 0, "the other site has it"
        waiting = [
            pool.submit(wait, group, 1, *words)
            for words in ([], ["main"], ["heads/main", new], ["refs/heads/main", new])
        ]
        lag.end()
        assert [one.result() for one in waiting] == [Answer(0, "", "")] * len(waiting)
        assert group[1].at() == new


def test_a_ref_is_waited_for_alone_and_a_commit_until_the_ref_contains_it(make_group: MakeGroup) -> None:
    group = make_group(2)
    group.arrives(MAIN, first := pushed(group))
    with lagging(group, "b"):
        pushed(group, "other")
        assert wait(group, 1, "main", timeout="5").status == 0
        assert late(wait(group, 1, "other", timeout="0.3"))
        assert wait(group, 1, "main", first, timeout="5").status == 0
    coming = git.commit(group.work, "not pushed yet")
    assert "is not known here to contain" in late(wait(group, 1, "main", coming, timeout="0.3"))
    git.commit(group.work, "on top of it")
    with ThreadPoolExecutor() as pool:
        waiting = pool.submit(wait, group, 1, "main", coming)
        time.sleep(0.5)  # it must still wait: nothing is there yet
        assert not waiting.done()
        accepted(git.push(group.work, group[0].repository, "HEAD:main"))
        assert waiting.result() == Answer(0, "", "")
    accepted(git.push(group.work, group[0].repository, ":other"))
    assert wait(group, 1, "other").status == 0, "a deletion is a newest value, too"
    assert group[1].at("refs/heads/other") == ""


@pytest.mark.parametrize("asked", [["all"], ["3"], ["c"], ["a", "b", "c"], ["a,c"]])
def test_other_sites_are_waited_for(make_group: MakeGroup, asked: Sequence[str]) -> None:
    group = make_group(3)
    group.arrives(MAIN, pushed(group))
    assert wait(group, 0, "--sites", *asked) == Answer(0, "", "")
    group[2].pause()
    oid = pushed(group)
    why = late(wait(group, 0, "--sites", *asked, timeout="1"))
    assert "site c: it is at revision " in why
    assert wait(group, 0, "--sites", "2").status == 0
    group[2].resume()
    assert wait(group, 0, "--sites", *asked).status == 0
    assert group[2].at() == oid


def test_without_a_controller_it_asks_etcd_itself(make_group: MakeGroup) -> None:
    group = make_group(2, started=False)
    pushed(group)
    assert "no controller of this site answers" in late(wait(group, 1, timeout="0.3"))
    group.reconcile("b")
    assert wait(group, 1).status == 0
    assert wait(group, 1, "--sites", "b").status == 0
    assert "site a: it is at revision 0 of " in late(wait(group, 1, "--sites", "all", timeout="0.3"))
    git.git(group[1].repository, "config", "piehole.etcdUser", "somebody")
    git.git(group[1].repository, "config", "piehole.etcdPasswordFile", "/nothing/here")
    refused = wait(group, 1)
    assert refused.status == 1
    assert "no controller answers for" in refused.err
    assert "/nothing/here" in refused.err


@pytest.mark.slow
def test_the_controller_and_etcd_may_go_and_come_back_meanwhile(make_group: MakeGroup, own_etcd: OwnEtcd) -> None:
    etcd = own_etcd()
    group = make_group(2, etcd=etcd)
    group.arrives(MAIN, pushed(group))
    with lagging(group, "b") as lag:
        oid = pushed(group)
        with Terminal("wait", "-C", group[1].repository, "main", "--timeout", "60") as terminal:
            terminal.sees("waiting: ")
            group[1].kill()
            etcd.pause()
            terminal.sees("No etcd endpoint answered")
            etcd.resume()
            lag.end()
            group[1].start()
            assert terminal.end() == 0
    assert group[1].at() == oid
    etcd.pause()
    away = wait(group, 1)
    assert away.status == 3
    assert "No etcd endpoint answered" in away.err


def test_a_ref_is_waited_for_whatever_else_is_stuck_here(make_group: MakeGroup) -> None:
    group = make_group(1)
    group.put("refs/heads/lost", NOBODY)
    group[0].stuck("refs/heads/lost")
    oid = pushed(group)
    for words in (["main"], ["main", oid], ["main", "--sites", "a"]):
        assert wait(group, 0, *words, timeout="10") == Answer(0, "", ""), words
    assert "refs/heads/lost is stuck here" in late(wait(group, 0, timeout="0.3"))
    assert "refs/heads/lost is stuck here" in late(wait(group, 0, "lost", timeout="0.3"))


def test_bad_input_gets_a_sentence(make_group: MakeGroup) -> None:
    group = make_group(1)
    pushed(group)
    for status, words, said in (
        (2, ["main", "abc"], "'abc' is no object id: give all 40 lower-case hexadecimal digits"),
        (2, ["main", "A" * 40], "is no object id"),
        (2, ["HEAD", NOBODY], "name the branch"),
        (2, ["a..b"], "cannot be the name of a ref"),
        (2, ["--sites", "0"], "at least one site"),
        (2, ["--sites", "all", "a"], "--sites takes a number, or 'all', or names of sites"),
        (2, ["--sites", ","], "give a number, 'all', or names"),
        (1, ["nothing"], "has no ref 'nothing'"),
        (1, ["--sites", "7"], "--sites 7 can never be reached: the sites of the group 'g' are a"),
        (1, ["--sites", "elsewhere"], "there is no site 'elsewhere': the sites of the group 'g' are a"),
    ):
        answer = wait(group, 0, *words)
        assert (answer.status, said in answer.err) == (status, True), (words, answer)
    assert wait(group, 0, timeout="-1").status == 2
    assert wait(group, 0, timeout="nan").status == 2
    group[0].stop()
    assert wait(group, 0, "main", "abc").status == 2
    assert wait(group, 0, "--sites", "7").status == 1
    alone = git.make_bare(group.folder / "alone.git")
    refused = group.piehole("wait", "-C", str(alone), check=False)
    assert refused.status == 2
    assert "piehole.group, piehole.site and piehole.etcd are not set" in refused.err


def test_a_terminal_shows_what_is_waited_for(make_group: MakeGroup) -> None:
    group = make_group(2)
    group.arrives(MAIN, pushed(group))
    group[1].pause()
    pushed(group)
    with Terminal("wait", "-C", group[0].repository, "--sites", "all") as terminal:
        terminal.sees("waiting: site b: it is at revision ")
        group[1].resume()
        assert terminal.end() == 0
    until(lambda: group[1].at() == group[0].at())
