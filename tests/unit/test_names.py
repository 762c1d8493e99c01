"""Names of keys, groups, sites, refs and oids, held against git's own judgement."""

from __future__ import annotations

import subprocess

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from hooks import push_hooks
from piehole import refs
from piehole.errors import UsageError
from piehole.group import keys
from piehole.group.keys import Keyspace
from piehole.refs import decode, encode, is_managed, is_ref_name, parents

_COMPONENTS = st.text("ab.@{}~^:?*[\\/-_ \x7f\x01é~lock", min_size=1, max_size=8)
REFS = st.lists(st.text("abcé-_", min_size=1, max_size=4), min_size=1, max_size=4).map(lambda c: "refs/" + "/".join(c))
GROUPS = st.lists(st.text("abé-_", min_size=1, max_size=4), min_size=1, max_size=3).map("/".join)


def git_takes(name: str) -> bool:
    done = subprocess.run(["git", "check-ref-format", name], capture_output=True, check=False)
    return done.returncode == 0


@given(_COMPONENTS)
@example("a.lock")
@example("a.lock/b")
@example("a./b")
@example("a.")
@example("@")
@example("a@{b")
@example(".a")
@example("a//b")
@example("a/")
def test_what_git_takes_as_a_refs_name_is_one(tail: str) -> None:
    name = f"refs/heads/{tail}"
    assert is_ref_name(name) == git_takes(name)


@pytest.mark.parametrize("name", ["HEAD", "heads/main", "refs", "refs/", "", "@push"])
def test_what_is_not_below_refs_is_no_ref(name: str) -> None:
    assert not is_ref_name(name)


@given(GROUPS, REFS)
def test_a_refs_key_tells_its_group_and_name(group: str, ref: str) -> None:
    space = Keyspace("/some/prefix")
    for name in (ref, "HEAD", "@push", "@fence"):
        assert space.split_ref(space.ref(group, name)) == (group, name)
        assert space.ref(group, name).startswith(space.group_refs(group))


@given(
    GROUPS,
    GROUPS,
    st.sampled_from(["", "refs/heads/x", "refs/@x/HEAD", "refs", "HEAD", "HEAD/x", "@push", "@", "heads", "x/refs/y"]),
)
def test_a_group_finds_exactly_its_own_keys(mine: str, other: str, rest: str) -> None:
    space = Keyspace("/some/prefix")
    for group in (mine, other, f"{mine}/{other}", f"{mine}{other}"):
        key = space.refs + f"{group}/{rest}".encode()
        split = space.split_ref(key)
        wanted = split[1] if split is not None and split[0] == mine else None
        assert keys.name_below(space.group_refs(mine), key) == wanted


def test_a_nested_groups_keys_are_not_the_outer_groups() -> None:
    space = Keyspace()
    assert space.split_ref(space.ref("a/b", "refs/heads/main")) == ("a/b", "refs/heads/main")
    prefix = space.sites("a")
    assert space.split_site(prefix, space.site("a", "oslo")) == "oslo"
    assert space.split_site(prefix, space.site("a/b", "oslo")) is None


@pytest.mark.parametrize("name", ["", "a//b", "refs", "a/refs", "a/HEAD", "@a", "a/.b", "a b", "a\nb", "/a", "a/"])
def test_a_groups_name_can_be_taken_for_nothing_else(name: str) -> None:
    with pytest.raises(UsageError):
        keys.check_group(name)


@pytest.mark.parametrize("name", ["", "a/b", "ö", "a b", "a\n", "@a"])
def test_a_sites_name_is_plain(name: str) -> None:
    with pytest.raises(UsageError):
        keys.check_site(name)


@pytest.mark.parametrize("prefix", ["", "x", "/x/", "/", "/a b"])
def test_a_prefix_that_cannot_be_one(prefix: str) -> None:
    with pytest.raises(UsageError):
        Keyspace(prefix)


def test_parents_are_the_names_that_must_not_be_refs() -> None:
    assert parents("refs/heads/a/b/c") == ["refs/heads/a/b", "refs/heads/a", "refs/heads"]
    assert parents("refs/heads/a") == ["refs/heads"]


@given(st.binary(min_size=1, max_size=20))
def test_names_keep_their_bytes(raw: bytes) -> None:
    assert encode(decode(raw)) == raw


def test_managed_is_what_is_neither_reserved_nor_excluded() -> None:
    exclude = ["refs/heads/ci/*", "refs/pull/*"]
    assert is_managed("refs/heads/main", exclude)
    assert is_managed("refs/notes/x", exclude)
    assert not is_managed("refs/heads/ci/1/2", exclude)
    assert not is_managed("refs/piehole/kept/x", exclude)
    assert not is_managed("HEAD", exclude)


@pytest.mark.parametrize(
    ("text", "object_format", "verdict"),
    [
        ("0" * 40, "sha1", True), ("ab" * 20, "sha1", True), ("AB" * 20, "sha1", False), ("ab" * 19, "sha1", False),
        ("ab" * 32, "sha1", False), ("ab" * 32, "sha256", True), ("ab" * 20, "sha256", False), ("xy" * 20, "sha1", False),
        ("ab" * 20 + "\n", "sha1", False), ("", "sha1", False),
    ],
)  # fmt: skip
def test_only_a_full_lower_case_oid_is_an_oid(text: str, object_format: str, verdict: bool) -> None:
    assert refs.is_oid(text, object_format) is verdict


def test_the_zero_oid_is_zero() -> None:
    for object_format in refs.LENGTHS:
        assert refs.is_zero(refs.zero(object_format))
        assert refs.is_oid(refs.zero(object_format), object_format)
    assert not refs.is_zero("0" * 39 + "1")


def test_the_hooks_have_the_same_reserved_names_without_importing_them() -> None:
    assert push_hooks._RESERVED == refs.PIEHOLE_REFS
