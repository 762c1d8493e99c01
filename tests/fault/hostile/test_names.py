"""Ref names with every oddity: each arrives everywhere exactly, or is refused or reported in words; other refs go on."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fault.hostile.bombs import pack
from tests.fault.hostile.rubbish import put, says
from tests.fault.hostile.test_rubbish import goes_on, sound
from tests.support import git
from tests.support.groups import Group, MakeGroup
from tests.support.sites import Site
from tests.support.wait import PATIENCE, until

DEEP = b"refs/heads/" + b"/".join([b"d"] * 4_000)
FITS = b"refs/heads/" + b"/".join([b"f"] * 1_500)
# Beyond what a file system takes: 255 bytes a component, 4,096 a path.
TOO_LONG = (
    b"refs/heads/" + b"n" * 300,
    b"refs/heads/" + b"/".join([b"m" * 200] * 30),
)
FINE = (
    b"refs/heads/-d",
    b"refs/heads/--upload-pack=touch PWNED".replace(b" ", b"${IFS}"),
    b"refs/heads/$(touch${IFS}PWNED)",
    b"refs/heads/`touch`;PWNED",
    b"refs/heads/a'b\"c",
    b"refs/heads/%2e%2e",
    b"refs/heads/@",
    b"refs/heads/HEAD",
    b"refs/heads/refs/heads/main",
    b"refs/heads/Case",
    b"refs/heads/case",
    "refs/heads/é".encode(),  # one letter
    "refs/heads/e\u0301".encode(),  # the same with a combining accent
    "refs/heads/\u2028line\u202eright".encode(),
    b"refs/heads/\xff\xfe\x80",
    b"refs/heads/\x85\xa0",
    b"refs/heads/x.lock.y",
    b"refs/heads/" + b"n" * 200,
    b"refs/heads/" + b"/".join([b"m" * 100] * 20),
    b"refs/tags/{}",
    b"refs/tags/#!",
    b"refs/notes/=,",
)
# Git has them, and receive-pack takes none of them.
SHORT = (b"refs/HEAD", b"refs/-x", b"refs/a")
BAD = (
    b"refs/heads/a..b",
    b"refs/heads/.a",
    b"refs/heads/a.lock",
    b"refs/heads/a@{b",
    b"refs/heads/a b",
    b"refs/heads/a\x1bb",
    b"refs/heads/a\x7fb",
    b"refs/heads/a~1",
    b"refs/heads/a^",
    b"refs/heads/a:b",
    b"refs/heads/a?",
    b"refs/heads/a*",
    b"refs/heads/a[",
    b"refs/heads/a\\b",
    b"refs/heads/a/",
    b"refs/heads/a.",
    b"refs/heads/",
)


@pytest.fixture(autouse=True)
def nothing_deep_is_left(tmp_path: Path) -> Iterator[None]:
    """Git leaves the folders of a name that was too long, and Python's own rmtree recurses: it cannot remove them."""
    yield
    subprocess.run(["rm", "-rf", *tmp_path.glob("group*")], check=False)


def refs_of(site: Site) -> dict[bytes, bytes]:
    out = subprocess.run(
        ["git", "for-each-ref", "--format=%(refname) %(objectname)"],
        cwd=site.repository,
        capture_output=True,
        check=True,
    ).stdout
    return dict(line.split(b" ", 1) for line in out.split(b"\n")[:-1])


def pushed(work: Path, site: Site, *names: bytes) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        ["git", "push", os.fsencode(site.repository), *(b"HEAD:" + name for name in names)],
        cwd=work,
        capture_output=True,
        check=False,
    )


def everywhere(group: Group, names: tuple[bytes, ...], oid: bytes) -> None:
    for site in group:
        until(
            lambda site=site: all(refs_of(site).get(name) == oid for name in names),  # type: ignore[misc]
            3 * PATIENCE,
            f"{site.name} has all of them",
        )


def test_every_name_that_git_allows_arrives_as_it_is(make_group: MakeGroup) -> None:
    group = make_group(2)
    work, first = group.begun()
    done = pushed(work, group[0], *FINE)
    assert done.returncode == 0, done.stderr.decode(errors="replace")
    everywhere(group, FINE, first.encode())
    for command in ("status", "log", "check"):
        says(group[0], command)
    gone = subprocess.run(
        ["git", "push", os.fsencode(group[1].repository), *(b":" + name for name in FINE)],
        cwd=work,
        capture_output=True,
        check=False,
    )
    assert gone.returncode == 0, gone.stderr.decode(errors="replace")
    for site in group:
        until(lambda site=site: not set(FINE) & set(refs_of(site)), PATIENCE, f"{site.name} has none of them")  # type: ignore[misc]
    assert not list(group.folder.rglob("PWNED"))
    sound(group)


@pytest.mark.slow
def test_names_that_no_disk_takes_are_refused_in_words_and_harm_no_other_ref(make_group: MakeGroup) -> None:
    group = make_group(2)
    work, _ = group.begun()
    for name in (*TOO_LONG, DEEP, FITS):  # (the last has more folders than etcd compares at once)
        done = pushed(work, group[0], name)
        assert done.returncode != 0
        assert b"Traceback" not in done.stderr, done.stderr
        assert group.etcd.get(group.key(name.decode())) is None
    goes_on(group, work, "after long names")
    sound(group)


def test_keys_of_odd_names_are_followed_or_told_and_harm_no_other_ref(make_group: MakeGroup) -> None:
    """Put into etcd by hand, where nothing checks a name."""
    odd_keys(make_group, TOO_LONG)


@pytest.mark.faults
@pytest.mark.timeout(600)
def test_a_key_of_four_thousand_components_is_told_and_harms_no_other_ref(make_group: MakeGroup) -> None:
    """Git needs a second for each try, and leaves two thousand empty folders: that repository is slow, and goes on."""
    odd_keys(make_group, (*TOO_LONG, DEEP), (*FINE, FITS))


def odd_keys(make_group: MakeGroup, too_long: tuple[bytes, ...], fine: tuple[bytes, ...] = FINE) -> None:
    group = make_group(2)
    work, first = group.begun()
    for name in (*fine, *SHORT, *too_long, *BAD):
        put(group, b"ref/g/" + name, first.encode())
    everywhere(group, (*fine, *SHORT), first.encode())
    goes_on(group, work, "beside odd names")
    for site in group:
        assert set(refs_of(site)) == {*fine, *SHORT, b"refs/heads/main"}
    told = says(group[0], "status").out
    for name in (b"refs/heads/a..b", *too_long):
        assert name.decode() in told
    sound(group)


def test_names_that_git_forbids_never_reach_the_group(make_group: MakeGroup) -> None:
    """A client of its own making sends them, since git's would not."""
    group = make_group(1, started=False)
    site = group[0]
    work = git.clone(site.repository, group.fresh("work"))
    tip = git.commit(work, "one")
    assert git.push(work, site.repository, "HEAD:main").returncode == 0
    before = group.etcd.get_prefix(group.key(""))
    for name in (*BAD, *SHORT):
        line = b"%s %s %s\0 report-status\n" % (b"0" * 40, tip.encode(), name)
        sent = b"%04x" % (len(line) + 4) + line + b"0000" + pack([])
        done = subprocess.run(
            ["git", "receive-pack", str(site.repository)], input=sent, capture_output=True, check=False
        )
        assert b"unpack ok" in done.stdout, done
        assert b"ng " in done.stdout, (name, done)
        assert b"Traceback" not in done.stdout + done.stderr
    assert group.etcd.get_prefix(group.key("")) == before
    assert set(refs_of(site)) == {b"refs/heads/main"}
