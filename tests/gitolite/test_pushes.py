"""gitolite's access rules come first; what they let pass, the group agrees on."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.gitolite.bed import Bed, GitoliteSite
from tests.support.git import ZERO_SHA1, commit, git

pytestmark = pytest.mark.slow


def test_a_push_that_gitolite_allows_is_agreed_and_logged_under_gitolites_name(
    bed: Bed, oslo: GitoliteSite, work: Path, branch: str
) -> None:
    ref = f"refs/heads/{branch}"
    tip = commit(work)
    done = oslo.push("alice", work, "tools", f"HEAD:{ref}")
    assert done.returncode == 0, done.stderr
    assert "piehole: accepted: " in done.stderr
    assert bed.value("tools", ref) == tip
    bed.arrives("tools", tip, ref)
    logged = json.loads(oslo.piehole("log", "-C", str(oslo.repository("tools")), ref, "--json").stdout)
    assert [(one["new"], one["pusher"], one["site"]) for one in logged["changes"]] == [(tip, "alice", "oslo")]


def test_the_other_site_takes_the_next_push_and_a_forced_one_and_a_deletion(
    bed: Bed, oslo: GitoliteSite, lima: GitoliteSite, work: Path, branch: str
) -> None:
    ref = f"refs/heads/{branch}"
    first = commit(work, "first")
    assert oslo.push("alice", work, "tools", f"HEAD:{ref}").returncode == 0
    bed.arrives("tools", first, ref)
    second = commit(work, "second")
    assert lima.push("alice", work, "tools", f"HEAD:{ref}").returncode == 0
    bed.arrives("tools", second, ref)
    git(work, "reset", "--quiet", "--hard", first)
    other = commit(work, "other")
    assert oslo.push("alice", work, "tools", "--force", f"HEAD:{ref}").returncode == 0
    bed.arrives("tools", other, ref)
    assert lima.push("alice", work, "tools", f":{ref}").returncode == 0
    bed.arrives("tools", "", ref)
    # The tombstone goes once both sites have passed it.
    assert bed.etcd.history(bed.ref_key("tools", ref))[3].value == ZERO_SHA1


def test_a_stale_push_is_refused_in_piehole_s_words(
    bed: Bed, oslo: GitoliteSite, lima: GitoliteSite, work: Path, branch: str
) -> None:
    ref = f"refs/heads/{branch}"
    base = commit(work, "base")
    assert oslo.push("alice", work, "tools", f"HEAD:{ref}").returncode == 0
    bed.arrives("tools", base, ref)
    commit(work, "theirs")
    theirs = git(work, "rev-parse", "HEAD").stdout.strip()
    assert bed.etcd.put(bed.ref_key("tools", ref), theirs)
    git(work, "reset", "--quiet", "--hard", base)
    commit(work, "mine")
    done = lima.push("alice", work, "tools", f"HEAD:{ref}")
    assert done.returncode != 0
    assert "piehole: stale: " in done.stderr
    assert "disconnect" not in done.stderr  # `update` says it, not the gate
    assert bed.value("tools", ref) == theirs
    bed.etcd.put(bed.ref_key("tools", ref), base)


@pytest.mark.parametrize(
    ("who", "name", "why"),
    [
        ("bob", "tools", "who may only read"),
        ("alice", "rules", "a refex that is denied"),
        ("bob", "rules", "a refex that is not granted"),
        ("alice", "rules", "a rewind without +"),
        ("alice", "rules", "a deletion without +"),
        ("alice", "rules", "a VREF: too large a file"),
        ("piehole-lima", "tools", "a peer's key"),
    ],
)
def test_a_push_that_gitolite_refuses_never_reaches_the_consensus(
    bed: Bed, oslo: GitoliteSite, work: Path, branch: str, who: str, name: str, why: str
) -> None:
    refspec, force = f"HEAD:refs/heads/{branch}", False
    if "denied" in why:
        refspec = f"HEAD:refs/heads/release/{branch}"
    elif "without" in why:
        commit(work)
        assert oslo.push("alice", work, name, refspec).returncode == 0
        refspec, force = (f"HEAD~1:refs/heads/{branch}", True) if "rewind" in why else (f":refs/heads/{branch}", False)
    elif "VREF" in why:
        (work / "large").write_bytes(bytes(range(256)) * 10)
        commit(work)
        git(work, "add", "large")
        commit(work, "large")
    before, local = bed.pushes(name), oslo.refs(name)
    done = oslo.push(who, work, name, refspec, *(["--force"] if force else []))
    assert done.returncode != 0
    assert "DENIED" in done.stderr
    assert "piehole: accepted" not in done.stderr
    assert bed.pushes(name) == before
    assert oslo.refs(name) == local
    assert bed.value(name, f"refs/heads/release/{branch}") is None


def test_a_name_that_gitolite_refuses_comes_from_elsewhere_and_is_moved_elsewhere(
    bed: Bed, oslo: GitoliteSite, work: Path, branch: str
) -> None:
    """gitolite takes no name with a quote; a plain server does, and the group has the ref all the same."""
    plain = f"refs/heads/{branch}"
    odd = f"refs/heads/it's-\N{LATIN SMALL LETTER H WITH CIRCUMFLEX}-{branch}"
    first = commit(work, "first")
    assert oslo.push("alice", work, "tools", f"HEAD:{plain}").returncode == 0
    bed.etcd.put(bed.ref_key("tools", odd), first)  # as a push at a plain site leaves it
    bed.arrives("tools", first, odd)
    commit(work, "second")
    done = oslo.push("alice", work, "tools", f"HEAD:{odd}")
    assert done.returncode != 0
    assert "invalid characters" in done.stderr
    assert bed.value("tools", odd) == first


def test_an_atomic_push_of_which_gitolite_refuses_a_part_moves_nothing(
    bed: Bed, oslo: GitoliteSite, work: Path, branch: str
) -> None:
    before, local = bed.pushes("rules"), oslo.refs("rules")
    done = oslo.push("alice", work, "rules", "--atomic", f"HEAD:{branch}", f"HEAD:release/{branch}")
    assert done.returncode != 0
    assert (bed.pushes("rules"), oslo.refs("rules")) == (before, local)


def test_a_push_of_which_gitolite_refuses_a_part_moves_the_rest(
    bed: Bed, oslo: GitoliteSite, work: Path, branch: str
) -> None:
    tip = commit(work)
    done = oslo.push("alice", work, "rules", f"HEAD:refs/heads/{branch}", f"HEAD:refs/heads/release/{branch}")
    assert done.returncode != 0
    assert bed.value("rules", f"refs/heads/{branch}") == tip == oslo.at("rules", f"refs/heads/{branch}")
    assert bed.value("rules", f"refs/heads/release/{branch}") is None


def test_gitolite_admin_is_in_no_group_and_its_pushes_compile(bed: Bed, oslo: GitoliteSite, work: Path) -> None:
    name = f"late-{work.name}"

    def change(admin: Path) -> None:
        conf = admin / "conf" / "gitolite.conf"
        conf.write_text(f"{conf.read_text()}\nrepo {name}\n    RW+ = alice\n")

    done = oslo.publish(change)
    assert done.returncode == 0, done.stderr
    said = done.stderr
    done = oslo.push("alice", work, name, "HEAD:main")
    assert done.returncode == 0, said + done.stderr
    assert "gitolite-admin" not in bed.groups()
    assert not (oslo.repository("gitolite-admin") / "hooks" / "update.piehole").exists()


def test_a_repository_that_is_left_out_is_an_ordinary_one(bed: Bed, oslo: GitoliteSite, work: Path) -> None:
    done = oslo.push("alice", work, "apart", "HEAD:main")
    assert done.returncode == 0, done.stderr
    assert "piehole" not in done.stderr
    assert "apart" not in bed.groups()
    git(oslo.repository("apart"), "gc", "--quiet")


def test_peers_fetch_with_keys_that_gitolite_lets_read(bed: Bed, oslo: GitoliteSite, lima: GitoliteSite) -> None:
    for site, peer in ((oslo, "piehole-lima"), (lima, "piehole-oslo")):
        assert bed.as_user(peer, "ls-remote", site.url("tools")).returncode == 0
        assert bed.as_user(peer, "ls-remote", site.url("gitolite-admin")).returncode == 0
