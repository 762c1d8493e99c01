"""Whatever stands in etcd, each command says what is wrong in words, controllers live, and everything else goes on."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

import pytest

from tests.fault.hostile.rubbish import COMMANDS, NAMES, ONE, VALUES, crashes, put, says
from tests.support import git
from tests.support.assertions import accepted, refused
from tests.support.git import MAIN
from tests.support.groups import Group, MakeGroup
from tests.support.sites import Site
from tests.support.wait import PATIENCE, until


def bystander(group: Group) -> tuple[Group, Path]:
    """Another group below the same prefix, whose repositories are served by the same controllers."""
    other = Group(group.folder / "other", group.endpoints, group.prefix, name="other")
    for site in group:
        other.add(site.name, root=site.root / "other").build()
    return other, git.clone(other[0].repository, other.fresh("work"))


def goes_on(group: Group, work: Path, message: str) -> None:
    """A push at the first site reaches the others."""
    tip = git.commit(work, message)
    accepted(git.push(work, group[0].repository, "HEAD:main"))
    group.arrives(MAIN, tip, timeout=PATIENCE)


def sound(sites: Iterable[Site]) -> None:
    """Their controllers live, and nothing has crashed in them."""
    for site in sites:
        assert site.running
        assert crashes(site) == []


@pytest.mark.timeout(400)
def test_rubbish_in_every_kind_of_record_is_told_and_hinders_nobody(make_group: MakeGroup) -> None:
    group = make_group(2, started=False)
    other, elsewhere = bystander(group)
    try:
        group.start()
        work, _ = group.begun()
        goes_on(other, elsewhere, "before")
        for number, value in enumerate(VALUES):
            put(group, f"site/g/evil-{number}", value)
            put(group, f"progress/g/evil-{number}", value)
            put(group, f"ref/g/refs/heads/locked-{number}", value)
            put(group, f"group/rubbish-{number}", value)
            for name in ("@push", "@fence", "HEAD"):
                put(group, f"ref/g/{name}", value)
        for odd in NAMES:
            put(group, b"ref/g/" + odd, ONE.encode())
        put(group, "site/g/a/b/c", b"{}")
        put(group, b"site/g/\xff", b"{}")
        put(group, b"progress/g/\xff\n", b"{}")
        goes_on(group, work, "beside rubbish")
        goes_on(other, elsewhere, "elsewhere")
        for command in COMMANDS:
            says(group[0], *command)
        assert "evil-0" in says(group[0], "sites").out
        told = says(group[0], "status").out
        for number, value in enumerate(VALUES):
            assert f"refs/heads/locked-{number}" in told, value[:60]
        assert "refs/heads/a..b" in told
        assert set(group[1].refs()) == {MAIN}
        sound(group)
    finally:
        other.end()


RECORDS = ("group/g", "site/g/a", "site/g/b", "progress/g/a")


@pytest.mark.faults
@pytest.mark.timeout(900)
@pytest.mark.parametrize("record", RECORDS)
def test_rubbish_in_the_records_that_a_site_stands_on_is_told_with_the_mend(make_group: MakeGroup, record: str) -> None:
    rubbish_in(make_group, record, VALUES)


def test_rubbish_in_the_group_s_own_record_is_told_and_refuses_pushes(make_group: MakeGroup) -> None:
    rubbish_in(make_group, "group/g", VALUES[4:5])


def rubbish_in(make_group: MakeGroup, record: str, values: tuple[bytes, ...]) -> None:
    """Pushes are accepted or refused in words while it stands there, and all goes on once the right record is back."""
    group = make_group(2)
    work, tip = group.begun()
    until(lambda: group.etcd.get(f"{group.prefix}/progress/g/a"), PATIENCE, "a has told how far it is")
    for number, value in enumerate(values):
        before = group.etcd.get(f"{group.prefix}/{record}")
        assert before is not None
        put(group, record, value)
        made = git.commit(work, f"change {number}")
        done = git.push(work, group[0].repository, "HEAD:main")
        assert "Traceback" not in done.stderr, done.stderr
        assert done.returncode == 0 or "piehole: " in done.stderr, done.stderr
        if record == "group/g":
            refused(done, "wrong-group")
            assert group.value() == tip
        tip = made if done.returncode == 0 else tip
        for command in COMMANDS[:: 2 if number % 2 else 1]:
            says(group[0], *command)
        sound(group)
        put(group, record, before.encode())
    if record == "progress/g/a":
        says(group[0], "accept", "--yes")
    tip = git.commit(work, "after")
    until(lambda: git.push(work, group[0].repository, "HEAD:main").returncode == 0, PATIENCE, "pushes are taken again")
    group.arrives(MAIN, tip, timeout=PATIENCE)
    assert not touched(group)


URLS = (
    "-oProxyCommand=touch ${IFS}PWNED",
    "--upload-pack=touch PWNED",
    "ext::sh -c touch% PWNED",
    "ext::touch PWNED",
    "fd::3",
    "file:///etc",
    "/etc",
    "/etc/passwd",
    "ssh://-oProxyCommand=touch%20PWNED@h/p",
    "ssh://-oProxyCommand=touch%20PWNED/p",
    "ssh://h/-oProxyCommand=touch%20PWNED",
    "-oProxyCommand=touch PWNED@h:p",
    "h:-oProxyCommand=touch PWNED",
    "ssh://h:-1/p",
    "ssh://127.0.0.1:1/p;touch PWNED",
    "ssh://127.0.0.1:1/$(touch PWNED)",
    "http://127.0.0.1:1/`touch PWNED`",
    "git://127.0.0.1:1/x\ntouch PWNED",
    "https://127.0.0.1:1/\r\nHost: x",
    "gopher://127.0.0.1/x",
    "file://otherhost/etc",
    "PWNED",
    "../x",
    "\u202e/x",
    "x" * 5000,
)


def touched(group: Group) -> list[Path]:
    return list(group.folder.rglob("*PWNED*"))


def test_urls_that_would_be_options_or_commands_are_never_run_and_are_told(make_group: MakeGroup) -> None:
    """Put into other sites' records by hand; an honest site has the objects, too, and is found past all of them."""
    group = make_group(2, started=False)
    a, b = group
    for number, url in enumerate(URLS):
        put(group, f"site/g/Evil-{number}", json.dumps({"id": f"x{number}", "url": url}).encode())
        put(group, f"progress/g/Evil-{number}", json.dumps({"id": "y", "revision": 1 << 40, "time": ""}).encode())
    work = git.clone(a.repository, group.fresh("work"))
    tip = git.commit(work, "one")
    accepted(git.push(work, a.repository, "HEAD:main"))
    # The push record is gone: nobody knows who pushed, and those that claim to be far ahead are asked first, in order of names.
    group.etcd.delete(group.key("@push"))
    group.put(MAIN, tip)
    b.start()
    group.arrives(MAIN, tip, [b], timeout=60)
    failed = {event["peer"]: event for event in b.events("peer.failed")}
    for number, url in enumerate(URLS):
        assert f"Evil-{number}" in failed, url
    told = says(a, "check").out + says(a, "sites").out
    assert "Evil-0" in told
    assert not touched(group)
    assert not Path("PWNED").exists()
    sound([b])
