"""`piehole.announce`: after a push its user reads how many sites have it; it never fails a push, and delays none by more than is set."""

from __future__ import annotations

import re
import time
from pathlib import Path

from piehole.repository import hook_files
from tests.support import git
from tests.support.assertions import accepted
from tests.support.git import MAIN
from tests.support.groups import Group, MakeGroup
from tests.support.httpd import HttpServer
from tests.support.sites import Site


def announcing(site: Site, setting: str) -> None:
    git.git(site.repository, "config", "piehole.announce", setting)
    site.piehole("install")
    if site.running:
        site.stop()
        site.start()


def said(stderr: str) -> list[str]:
    """What the user reads of the sites."""
    return re.findall(r"piehole: (\d of \d sites have it)", stderr)


def pushed(group: Group, work: Path, url: Path | str, *options: str) -> tuple[str, float]:
    tip = git.commit(work, "x")
    began = time.monotonic()
    done = accepted(git.push(work, url, *options, "HEAD:main"))
    assert group.value() == tip
    return done.stderr, time.monotonic() - began


def test_over_every_transport_it_says_how_many_sites_have_it(make_group: MakeGroup, httpd: HttpServer) -> None:
    group = make_group(3)
    work, _ = group.begun()
    announcing(group[0], "10s")
    for url in (group[0].repository, httpd.url_for(group[0].repository)):
        stderr, _ = pushed(group, work, url)
        assert said(stderr) == ["3 of 3 sites have it"]
        # They had it when that was said.
        assert [site.at(MAIN) for site in group] == [group.value()] * 3


def test_a_site_that_is_away_is_awaited_for_as_long_as_is_set(make_group: MakeGroup) -> None:
    group = make_group(2)
    work, _ = group.begun()
    announcing(group[0], "500ms")
    group[1].stop()
    stderr, took = pushed(group, work, group[0].repository)
    assert said(stderr) == ["1 of 2 sites have it"]
    assert took >= 0.5


def test_a_site_that_holds_the_promised_copy_has_it(make_group: MakeGroup) -> None:
    group = make_group(3)
    work, _ = group.begun()
    announcing(group[0], "1ms")
    group[0].piehole("group", "set", "copies", "2", "--yes")
    stderr, _ = pushed(group, work, group[0].repository)
    assert said(stderr) in (["2 of 3 sites have it"], ["3 of 3 sites have it"])


def test_without_the_setting_there_is_no_hook_and_nothing_is_said(make_group: MakeGroup) -> None:
    group = make_group(1)
    work, _ = group.begun()
    hook = group[0].repository / "hooks" / hook_files.ANNOUNCER
    assert not hook.exists()
    assert said(pushed(group, work, group[0].repository)[0]) == []
    announcing(group[0], "1s")
    assert hook.exists()
    announcing(group[0], "off")
    assert not hook.exists()
    git.git(group[0].repository, "config", "piehole.announce", "1s")
    assert f"{hook} is missing" in group[0].piehole("check", check=False).out


def test_without_a_controller_nothing_is_said_and_the_push_is_accepted(make_group: MakeGroup) -> None:
    group = make_group(1)
    work, _ = group.begun()
    announcing(group[0], "1s")
    group[0].stop()
    stderr, _ = pushed(group, work, group[0].repository)
    assert said(stderr) == []


def test_somebody_elses_hook_stays_and_check_says_how_to_chain_it(make_group: MakeGroup) -> None:
    group = make_group(1)
    work, _ = group.begun()
    hook = group[0].repository / "hooks" / hook_files.ANNOUNCER
    hook.write_text("#!/bin/sh\necho mine\n")
    hook.chmod(0o755)
    announcing(group[0], "1s")
    assert "echo mine" in hook.read_text()
    assert "piehole.announce says nothing" in group[0].piehole("check", check=False).out
    hook.write_text('#!/bin/sh\necho mine\nexec "$(dirname "$0")/post-receive.piehole" "$@"\n')
    group[0].piehole("install")
    assert "announce" not in group[0].piehole("check", check=False).out
    stderr, _ = pushed(group, work, group[0].repository)
    assert said(stderr) == ["1 of 1 sites have it"]
    assert "mine" in stderr
