"""A name that one site takes and another cannot hold is refused where that is known, and reported, without holding up others, where it is not."""

from __future__ import annotations

import json
import unicodedata
from pathlib import Path

import pytest

from tests.support.assertions import accepted, refused
from tests.support.command_line import piehole_in_process as piehole
from tests.support.git import MAIN, commit, git, push
from tests.support.groups import Group, MakeGroup

# Every part fits a file's name; all of it does not fit below a long root.
LONG = "refs/heads/" + "/".join(letter * 240 for letter in "abcde")


def far(group: Group, tmp_path: Path) -> Path:
    """A root whose path leaves about 900 bytes for a ref's name."""
    root = tmp_path / "b"
    while len(str(root)) < 3_100:
        root /= "x" * min(200, 3_150 - len(str(root)))
    return root


@pytest.fixture
def uneven(make_group: MakeGroup, tmp_path: Path) -> Group:
    """Two sites without controllers, of which b has a very long path."""
    group = make_group(1, started=False)
    group.add("b", root=far(group, tmp_path)).build()
    group.begun()
    assert group.reconcile("a", "b").status == 0
    return group


def test_a_name_too_long_for_a_site_is_refused_at_the_others(uneven: Group) -> None:
    a = uneven["a"].repository
    work = uneven.clone(a)
    with uneven.unchanged(a):
        assert "the site b cannot hold it" in refused(push(work, a, f"HEAD:{LONG}"), "conflict")
    # 250 bytes are the most that git itself can lock, and these pass.
    accepted(push(work, a, f"HEAD:refs/heads/{'n' * 250}"))
    assert uneven.reconcile("b").status == 0
    pushed = push(work, a, f"HEAD:refs/heads/{'n' * 251}")
    assert pushed.returncode != 0
    assert f"refs/heads/{'n' * 251}" not in uneven.refs()


def test_where_the_limit_is_not_known_the_ref_alone_is_stuck_and_its_deletion_ends_that(uneven: Group) -> None:
    a, b = uneven["a"].repository, uneven["b"]
    key = f"{uneven.prefix}/site/g/b"
    record = json.loads(uneven.etcd.get(key) or "")
    assert record.pop("limits")["name"] < len(LONG)
    uneven.etcd.put(key, json.dumps(record))  # as an older piehole has written it
    work = uneven.clone(a)
    accepted(push(work, a, f"HEAD:{LONG}"))
    tip = commit(work)
    accepted(push(work, a, "HEAD:main"))
    once = uneven.reconcile("b")
    assert once.status == 1
    assert once.err.count("stuck: ") == 1
    assert f"stuck: {LONG}: " in once.err
    assert b.at(MAIN) == tip
    assert (
        f"stuck: {LONG}: " in piehole("status", "-C", b.repository).out
        or f"pending: {LONG}" in piehole("status", "-C", b.repository).out
    )
    accepted(push(work, a, f":{LONG}"))
    assert uneven.reconcile("a", "b").status == 0


def test_names_that_differ_in_case_or_in_accents_alone_are_refused_where_a_site_cannot_tell_them_apart(
    make_group: MakeGroup,
) -> None:
    group = make_group(1, started=False)
    accent = "refs/heads/h\N{LATIN SMALL LETTER E WITH ACUTE}"
    apart = unicodedata.normalize("NFD", accent)
    a = group["a"].repository
    work, _ = group.begun()
    accepted(push(work, a, f"HEAD:{accent}"))
    group.add("b").build(settings={"core.ignoreCase": "true", "core.precomposeUnicode": "true"})
    for ref, twin in (("refs/heads/Main", MAIN), (apart, accent)):
        with group.unchanged(a):
            assert f"cannot tell it from {twin}" in refused(push(work, a, f"HEAD:{ref}"), "conflict")
    accepted(push(work, a, "HEAD:refs/heads/Another"))


@pytest.mark.parametrize(
    "name",
    [
        "it's-\N{LATIN SMALL LETTER H WITH CIRCUMFLEX}",
        "@",
        "HEAD",
        "-x",
        "a.lock.b",
        "h\N{COMBINING ACUTE ACCENT}",
        "refs/notes/a/b/c/d",
        'with"quotes"',
        "a\N{NO-BREAK SPACE}b",
        "$(x)",
    ],
)
def test_odd_names_reach_every_site_and_move_at_each(two: Group, name: str) -> None:
    ref = name if name.startswith("refs/") else f"refs/heads/{name}"
    work = two.clone(two["a"].repository)
    accepted(push(work, two["a"].repository, f"HEAD:{ref}"))
    assert two.reconcile("a", "b").status == 0
    tip = commit(work)
    accepted(push(work, two["b"].repository, f"HEAD:{ref}"))
    assert two.reconcile("a", "b").status == 0
    assert two["a"].at(ref) == two["b"].at(ref) == tip == two.value(ref)
    accepted(push(work, two["a"].repository, f":{ref}"))
    assert two.reconcile("a", "b").status == 0
    assert ref not in two["b"].refs()


@pytest.fixture
def two(make_group: MakeGroup) -> Group:
    group = make_group(2, started=False)
    group.begun()
    assert group.reconcile("a", "b").status == 0
    git(group["a"].repository, "config", "core.quotePath", "false")
    return group
