"""A tombstone goes once every registered site has passed it, and only then."""

from __future__ import annotations

from piehole.deadline import Deadline
from piehole.etcd.model import Compare, prefix_end
from piehole.group import tombstones
from piehole.group.replica import Replica
from tests.support.git import MAIN, ZERO_SHA1
from tests.support.groups import Group

SIDE = "refs/heads/side"


def with_tombstone(bed: Group, *sites: str) -> Replica:
    bed.install(*sites)
    bed.commit()
    bed.push("a", "HEAD:main", "HEAD:side")
    bed.reconcile(*sites)
    bed.push("a", ":side")
    return bed["a"].replica()


def test_reaped_when_every_site_has_passed(bed: Group) -> None:
    with_tombstone(bed, "a", "b", "c")
    assert bed.reconcile("a", "b").status == 0
    assert bed.value(SIDE) == ZERO_SHA1, "c has not seen it"
    fence = bed.etcd.look(bed.key("@fence"))
    assert bed.reconcile("c").status == 0
    assert bed.value(SIDE) is None
    assert bed.value(MAIN) not in (None, ZERO_SHA1)
    after = bed.etcd.look(bed.key("@fence"))
    assert after is not None
    assert after != fence, "the fence is written with every reaping"


def test_a_site_that_left_is_not_waited_for(bed: Group) -> None:
    with_tombstone(bed, "a", "b")
    record = bed.etcd.get(f"{bed.prefix}/site/g/b")
    assert record is not None
    bed.etcd.put(f"{bed.prefix}/site/g/b", record[:-1] + ',"left":true}')
    assert bed.reconcile("a").status == 0
    assert bed.value(SIDE) is None


def test_a_site_that_never_said_how_far_it_is_holds_it_back(bed: Group) -> None:
    with_tombstone(bed, "a", "b")
    bed.reconcile("b")
    bed.etcd.delete(f"{bed.prefix}/progress/g/b")
    bed.reconcile("a")
    assert bed.value(SIDE) == ZERO_SHA1


def test_a_record_that_cannot_be_read_holds_it_back(bed: Group) -> None:
    with_tombstone(bed, "a", "b")
    bed.reconcile("b")
    bed.etcd.put(f"{bed.prefix}/site/g/x", "nonsense")
    bed.reconcile("a")
    assert bed.value(SIDE) == ZERO_SHA1


def test_a_site_that_joins_meanwhile_undoes_the_decision(bed: Group) -> None:
    replica = with_tombstone(bed, "a")
    sites = replica.etcd.list_prefix(replica.keyspace.sites("g"), deadline=Deadline(5))
    bed.reconcile("a")
    assert bed.value(SIDE) is None
    # The same again, but the site records change after they were read.
    bed.push("a", "HEAD:side")
    bed.push("a", ":side")
    entry = bed.etcd.look(bed.key(SIDE))
    assert entry is not None
    bed.install("b")
    unchanged = Compare(replica.keyspace.sites("g"), prefix_end(replica.keyspace.sites("g")), "<", sites.revision + 1)
    assert not tombstones._reap(replica, [(SIDE, entry.mod_revision)], unchanged, Deadline(5))
    assert bed.value(SIDE) == ZERO_SHA1


def test_a_ref_that_was_created_again_is_not_reaped_by_an_old_view(bed: Group) -> None:
    replica = with_tombstone(bed, "a")
    bed.etcd.put(f"{bed.prefix}/site/g/zz", '{"format":1,"id":"x","url":"/x","left":true}')
    old = replica.reader.list_group(Deadline(5)).entries
    bed.push("a", "HEAD:side")
    progress = bed.etcd.get(f"{bed.prefix}/progress/g/a")
    assert progress is not None
    assert bed.etcd.look(bed.key(SIDE)) is not None
    bed.etcd.put(f"{bed.prefix}/progress/g/a", progress.replace('"revision":', '"revision":9'))
    assert tombstones.reap(replica, Deadline(5), old) == 0
    assert bed.value(SIDE) not in (None, ZERO_SHA1)


def test_many_tombstones_go_also_where_etcd_takes_few_operations(bed: Group) -> None:
    bed.install("a")
    for n in range(300):
        bed.put(f"refs/heads/n{n}", ZERO_SHA1)
    assert bed.reconcile("a").status == 0
    assert bed.etcd.get_prefix(bed.key("refs/heads/n")) == {}
