"""Each repository that gitolite creates becomes a site of the group of its name, or takes no push."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from uuid import uuid4

import pytest

from tests.gitolite.bed import MAIN, Bed, GitoliteSite
from tests.support.git import commit, git
from tests.support.ports import free_ports
from tests.support.wait import until

pytestmark = pytest.mark.slow


@pytest.fixture
def fresh() -> str:
    """A repository's name that is used nowhere."""
    return f"new-{uuid4().hex[:8]}"


def in_conf(site: GitoliteSite, name: str, *rules: str) -> str:
    """Put a repository into the site's gitolite.conf; what the administrator was told."""

    def change(admin: Path) -> None:
        conf = admin / "conf" / "gitolite.conf"
        conf.write_text("\n    ".join([f"{conf.read_text()}\nrepo {name}", *(rules or ("RW+ = alice",))]) + "\n")

    done = site.publish(change, name)
    assert done.returncode == 0, done.stderr
    return done.stderr


def test_a_repository_from_gitolite_conf_founds_its_group_and_the_other_site_s_joins(
    bed: Bed, oslo: GitoliteSite, lima: GitoliteSite, work: Path, fresh: str
) -> None:
    in_conf(oslo, fresh)
    assert fresh in bed.groups()
    tip = commit(work)
    done = oslo.push("alice", work, fresh, f"HEAD:{MAIN}")
    assert done.returncode == 0, done.stderr
    in_conf(lima, fresh)
    bed.arrives(fresh, tip)
    second = commit(work)
    assert lima.push("alice", work, fresh, f"HEAD:{MAIN}").returncode == 0
    bed.arrives(fresh, second)
    assert set(bed.etcd.get_prefix(f"{bed.prefix}/site/{fresh}/")) == {
        f"{bed.prefix}/site/{fresh}/{name}" for name in ("oslo", "lima")
    }


def test_a_repository_in_a_folder_is_a_group_of_that_whole_name(bed: Bed) -> None:
    assert "deep/er/tools" in bed.groups()


def test_a_repository_that_was_there_before_piehole_is_a_site(bed: Bed, oslo: GitoliteSite) -> None:
    assert "testing" in bed.groups()
    hooks = oslo.repository("testing") / "hooks"
    assert (hooks / "reference-transaction").is_symlink()
    assert (hooks / "reference-transaction.piehole").exists()


def test_a_wild_repository_founds_its_group_and_its_owner_s_first_clone_elsewhere_has_everything(
    bed: Bed, oslo: GitoliteSite, lima: GitoliteSite, work: Path, fresh: str
) -> None:
    name = f"own/alice/{fresh}"
    done = oslo.push("alice", work, name, f"HEAD:{MAIN}")
    assert done.returncode == 0, done.stderr
    tip = git(work, "rev-parse", "HEAD").stdout.strip()
    assert bed.value(name) == tip
    assert git(lima.clone("alice", name), "rev-parse", MAIN.replace("heads", "remotes/origin")).stdout.strip() == tip
    second = commit(work)
    assert lima.push("alice", work, name, f"HEAD:{MAIN}").returncode == 0
    bed.arrives(name, second)


def test_nobody_becomes_the_owner_elsewhere_of_what_somebody_has_made_here(
    bed: Bed, oslo: GitoliteSite, lima: GitoliteSite, work: Path, fresh: str
) -> None:
    """A wild pattern without CREATOR: whoever touches the name first at a site owns it there."""
    name = f"any/{fresh}"
    done = oslo.push("alice", work, name, f"HEAD:{MAIN}")
    assert done.returncode != 0
    assert "Wild repositories" in done.stderr
    assert name not in bed.groups()
    # Also where an administrator has made it a group at one site.
    oslo.piehole("install", str(oslo.repository(name)), "--group", name, "--url", oslo.url(name))
    assert oslo.push("alice", work, name, f"HEAD:{MAIN}").returncode == 0
    stolen = lima.clone("bob", name)
    assert git(stolen, "for-each-ref").stdout == ""
    assert lima.push("bob", work, name, "HEAD:bobs").returncode != 0
    lima.run("gitolite", "trigger", "POST_COMPILE")
    assert not (lima.repository(name) / "hooks" / "update.piehole").exists()
    assert bed.value(name, "refs/heads/bobs") is None


@pytest.mark.slow
def test_without_etcd_a_new_repository_takes_no_push_until_it_could_be_installed(
    bed: Bed, oslo: GitoliteSite, work: Path, fresh: str
) -> None:
    (port,) = free_ports(1)
    oslo.use_etcd(f"http://127.0.0.1:{port}")
    try:
        said = in_conf(oslo, fresh)
    finally:
        oslo.use_etcd(bed.endpoint)
    assert f"{fresh} could not be installed" in said
    done = oslo.push("alice", work, fresh, f"HEAD:{MAIN}")
    assert done.returncode != 0
    assert "gitolite trigger POST_COMPILE" in done.stderr
    assert oslo.refs(fresh) == {}
    git(oslo.repository(fresh), "config", "piehole.etcd", bed.endpoint)
    oslo.run("gitolite", "trigger", "POST_COMPILE")
    assert oslo.push("alice", work, fresh, f"HEAD:{MAIN}").returncode == 0
    assert bed.value(fresh) == oslo.at(fresh)


def test_without_the_trigger_a_new_repository_takes_no_push(oslo: GitoliteSite, work: Path, fresh: str) -> None:
    """The gate is in hooks/common: also a repository that piehole never heard of has it."""
    rc = oslo.rc.read_text()
    oslo.rc.write_text(rc.replace("push @{ $RC{ENABLE} }, 'piehole", "push @{ $RC{NOTHING} }, 'piehole"))
    try:
        in_conf(oslo, fresh)
        done = oslo.push("alice", work, fresh, f"HEAD:{MAIN}")
    finally:
        oslo.rc.write_text(rc)
    assert done.returncode != 0
    assert oslo.refs(fresh) == {}


def test_two_sites_that_create_a_repository_at_once_are_one_group(
    bed: Bed, oslo: GitoliteSite, lima: GitoliteSite, work: Path, fresh: str
) -> None:
    with ThreadPoolExecutor(2) as pool:
        for said in pool.map(lambda site: in_conf(site, fresh), (oslo, lima)):
            assert f"{fresh} could not be installed" not in said
    tip = git(work, "rev-parse", "HEAD").stdout.strip()
    assert lima.push("alice", work, fresh, f"HEAD:{MAIN}").returncode == 0
    bed.arrives(fresh, tip)


def test_an_ordinary_repository_of_gitolite_is_adopted_when_it_is_no_longer_left_out(
    bed: Bed, oslo: GitoliteSite, work: Path, fresh: str
) -> None:
    in_conf(oslo, fresh, "RW+ = alice", "option ENV.piehole = no")
    assert oslo.push("alice", work, fresh, f"HEAD:{MAIN}").returncode == 0
    assert fresh not in bed.groups()
    in_conf(oslo, fresh, "option ENV.piehole = yes")
    assert bed.value(fresh) == oslo.at(fresh)
    until(lambda: oslo.push("alice", work, fresh, "HEAD:second").returncode == 0, what="pushes are agreed")
    assert bed.value(fresh, "refs/heads/second") == oslo.at(fresh)
