"""Founding a group with a repository that has thousands of refs, on an etcd as it comes: 128 operations in a transaction."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import OwnEtcd
from tests.install.bed import InstallBed
from tests.support.etcd import EtcdOptions
from tests.support.git import git


@pytest.fixture
def small(own_etcd: OwnEtcd, tmp_path: Path, prefix: str) -> InstallBed:
    """A bed whose etcd has the default --max-txn-ops."""
    return InstallBed(tmp_path, [own_etcd(options=EtcdOptions(max_txn_ops=128)).endpoint], prefix)


def with_refs(bed: InstallBed, site: str, count: int) -> dict[str, str]:
    """A repository with so many refs, to three commits; returns them."""
    tips = [bed.commit(str(number)) for number in range(3)]
    bed[site].make()
    git(bed[site].repository, "fetch", "-q", str(bed.work), "HEAD")
    names = {f"refs/heads/{number % 20}/{number}": tips[number % 3] for number in range(count)}
    lines = "".join(f"{oid} {name}\n" for name, oid in sorted(names.items()))
    (bed[site].repository / "packed-refs").write_text(f"# pack-refs with: peeled fully-peeled sorted \n{lines}")
    return names


def of_the_group(bed: InstallBed) -> dict[str, str]:
    found = bed.etcd.get_prefix(bed.key("refs/"))
    return {key.removeprefix(bed.key("")): value for key, value in found.items()}


def record_of_the_group(bed: InstallBed) -> dict[str, str]:
    record: dict[str, str] = json.loads(bed.etcd.get(f"{bed.prefix}/group/g") or "")
    return record


def test_thousands_of_refs_are_adopted_and_reach_the_next_site(small: InstallBed) -> None:
    wanted = with_refs(small, "a", 2000)
    answer = small.run("a")
    assert answer.status == 0, answer
    assert "adopted 2000 refs of this repository" in answer.out
    assert of_the_group(small) == wanted
    small["b"].make()
    assert "not adopted" not in small.run("b").out
    assert small.reconcile("b").status == 0
    assert small["b"].refs() == wanted


def test_a_founding_that_is_killed_in_the_middle_is_gone_on_with(small: InstallBed) -> None:
    wanted = with_refs(small, "a", 4000)
    options = {
        "group": "g",
        "site": "a",
        "url": str(small["a"].repository),
        "etcd": small.etcd.endpoint,
        "prefix": small.prefix,
    }
    words = [word for name, value in options.items() for word in (f"--{name}", value)]
    first = small.key(min(wanted))
    with subprocess.Popen(
        [sys.executable, "-m", "piehole.cli", "install", str(small["a"].repository), *words], stdout=subprocess.DEVNULL
    ) as install:
        while install.poll() is None and small.etcd.get(first) is None:
            pass  # a sleep might miss the middle
        install.kill()
    adopted = of_the_group(small)
    assert 0 < len(adopted) < len(wanted)
    assert record_of_the_group(small)["adopting"] == "a"
    small["b"].make()
    assert small.run("b").status == 0, "others may join meanwhile"
    assert small.reconcile("b").status == 0
    assert small["b"].refs().items() >= adopted.items()
    answer = small.run("a")
    assert answer.status == 0, answer
    told = re.search(r"adopted (\d+) refs of this repository", answer.out)
    # What the killed one had sent last may have arrived after it was looked.
    assert told and 0 < int(told[1]) <= len(wanted) - len(adopted)
    assert of_the_group(small) == wanted
    assert "adopting" not in record_of_the_group(small)
    assert small.reconcile("a").status == 0
