"""One grep follows a push through the world: its id is in the terminal, in the log of each site, and in `piehole log`."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from piehole.group import ref_log
from piehole.repository.git_settings import GitConfig
from tests.support import git
from tests.support.assertions import accepted, refused
from tests.support.git import MAIN
from tests.support.groups import Group, MakeGroup
from tests.support.httpd import HttpServer
from tests.support.sites import Site
from tests.support.wait import PATIENCE, until

VERBOSE = "--push-option=piehole.verbose"


def short_id(stderr: str) -> str:
    """The id that the terminal shows."""
    (found,) = set(re.findall(r"push ([0-9a-f]{12})\b", stderr))
    return str(found)


def in_log(site: Site, push: str) -> list[str]:
    """The events of the controller's log in whose line the id is."""
    return [line["event"] for line in site.events() if push in str(line)]


def arrived(site: Site, push: str, count: int) -> list[dict[str, Any]]:
    """The lines by which so many refs of the push have arrived; nothing where they have not all."""
    lines = [line for line in site.events("push.arrived") if line["push"].startswith(push)]
    return lines if sum(line["count"] for line in lines) == count else []


def test_the_id_that_the_terminal_shows_is_in_the_logs_of_three_sites_and_in_piehole_log_at_each(
    make_group: MakeGroup,
) -> None:
    group = make_group(3)
    work, _ = group.begun()
    tip = git.commit(work, "one")
    pushed = accepted(git.push(work, "origin", VERBOSE, "HEAD:main", "HEAD:topic"))
    push = short_id(pushed.stderr)
    group.arrives(MAIN, tip)
    until(lambda: "push.accepted" in in_log(group[0], push), PATIENCE, "the site that was pushed to logs it")
    for site in (group[1], group[2]):
        # git moves the two refs in one transaction or in two, as its version does.
        lines = until(lambda site=site: arrived(site, push, 2), PATIENCE, f"{site.name} logs the arrival")  # type: ignore[misc]
        assert {line["peer"] for line in lines} == {group[0].name}
        assert all(0 < line["ms"] < 20_000 for line in lines)
    for site in group:
        told = site.piehole("log").out.splitlines()
        assert sum(push in line for line in told) == 2


def test_a_user_who_does_not_ask_sees_no_id(make_group: MakeGroup) -> None:
    group = make_group(1)
    work, _ = group.begun()
    git.commit(work, "one")
    pushed = accepted(git.push(work, "origin", "--verbose", "HEAD:main"))
    assert "piehole: push" not in pushed.stderr


def test_each_refusal_names_the_id_and_the_log_has_it(make_group: MakeGroup) -> None:
    group = make_group(1)
    work, _ = group.begun()
    group.put(MAIN, "frozen until Monday")
    git.commit(work, "one")
    pushed = git.push(work, "origin", "HEAD:main", env={"GL_USER": "grete"})
    refused(pushed, "locked")
    line = until(lambda: next(iter(group[0].events("push.refused")), None), PATIENCE, "the refusal is logged")
    assert line["push"].startswith(short_id(pushed.stderr))
    assert (line["token"], line["refs"], line["count"], line["pusher"]) == ("locked", [MAIN], 1, "grete")


def test_a_push_of_many_refs_that_are_refused_writes_few_lines(make_group: MakeGroup) -> None:
    group = make_group(1)
    work, _ = group.begun()
    names = [f"refs/heads/b{number}" for number in range(12)]
    for name in names:
        group.put(name, "frozen")
    pushed = git.push(work, "origin", *(f"HEAD:{name}" for name in names))
    push = short_id(pushed.stderr)
    until(lambda: "push.refused" in in_log(group[0], push), PATIENCE, "it is logged")
    assert len(in_log(group[0], push)) <= 5


def test_the_id_is_shown_over_http(make_group: MakeGroup, httpd: HttpServer) -> None:
    group = make_group(1)
    work, _ = group.begun()
    tip = git.commit(work, "one")
    pushed = accepted(git.push(work, httpd.url_for(group[0].repository), VERBOSE, "HEAD:main"))
    assert group.value() == tip
    push = short_id(pushed.stderr)
    until(lambda: "push.accepted" in in_log(group[0], push), PATIENCE, "it is logged")


def test_a_push_while_a_site_was_down_is_in_its_log_when_it_is_back(make_group: MakeGroup) -> None:
    group = make_group(2)
    work, _ = group.begun()
    accepted(git.push(work, "origin", "HEAD:main"))
    until(lambda: ref_log.read(group[1].repository), PATIENCE, "it knows from its log up to where it has come")
    group[1].stop()
    ids = []
    for branch in ("main", "topic"):  # of several pushes to one ref etcd's history alone knows all
        git.commit(work, branch)
        ids.append(short_id(accepted(git.push(work, "origin", VERBOSE, f"HEAD:{branch}")).stderr))
    group[1].start()
    for push in ids:
        until(lambda push=push: "push.arrived" in in_log(group[1], push), PATIENCE, f"the arrival of {push} is logged")  # type: ignore[misc]


@pytest.mark.parametrize("own", ["", "false"])
def test_install_offers_push_options_only_where_nobody_has_decided(own: str, world: Group, tmp_path: Path) -> None:
    site = world.add("x").make()
    if own:
        git.git(site.repository, "config", "receive.advertisePushOptions", own)
    site.install()
    assert GitConfig(site.repository).one("receive.advertisepushoptions") == (own or "true")
