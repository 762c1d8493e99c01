"""The group's records in etcd, and whether etcd or this disk was restored from a backup."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from piehole.commands import kept_drop
from piehole.deadline import Deadline
from piehole.errors import NO_ACCESS, EtcdError, EtcdRefused, UsageError
from piehole.group import alive
from piehole.group.outlook import outlook
from piehole.group.records import GroupRecord, SiteRecord
from piehole.group.replica import Replica
from piehole.group.sites import GroupSite, list_sites
from piehole.refs import HEAD, decode, is_managed, is_ref_name
from piehole.replicate.dry_run import DryRun, dry_run
from piehole.replicate.local_changes import UNADOPTED, pending_words, unadopted_fix
from piehole.repository.fitness import Fault
from piehole.transfer.urls import parse_url

_PATIENCE: Final = 10.0  # seconds
_SHOWN: Final = 10


def faults(replica: Replica) -> Iterator[Fault]:
    try:
        found = [*_records(replica), *_drops(replica)]
    except EtcdError as error:
        found = [unreadable("the group's records cannot be read", error)]
    except OSError as error:  # a folder of piehole that this account may not read
        found = [
            Fault(f"this repository cannot be compared with the group: {error}", "run this as the repository's owner")
        ]
    yield from found
    yield from _url(replica)


def _drops(replica: Replica) -> Iterator[Fault]:
    """Objects that every site was asked to drop, and that some have yet to."""
    left: dict[str, list[str]] = {}
    for one in kept_drop.standings(replica, ()):
        if not one.is_done:
            left.setdefault(one.oid, []).append(one.site)
    for oid, names in left.items():
        yield Fault(
            f"{oid} is to be dropped at every site, and {', '.join(names)} {'have' if names[1:] else 'has'} yet to do it",
            f"`piehole kept drop {oid}` says why",
        )


def unreadable(what: str, error: EtcdError) -> Fault:
    """The fault where etcd answered before, and not to this."""
    denied = isinstance(error, EtcdRefused)
    fix = 'see docs/guides/etcd.md, "Access", for what the etcd user must be allowed'
    return Fault(f"{what}: {error}", fix if denied else "see that a majority of etcd's members runs")


def _records(replica: Replica) -> Iterator[Fault]:
    config, deadline = replica.config, Deadline(_PATIENCE)
    seen = dry_run(replica, deadline)
    state, why_halted = seen.state, seen.halted
    if why_halted is not None and why_halted.token == NO_ACCESS:
        return  # this site's state file is damaged, which piehole.commands.check.disk reports
    if why_halted is not None:
        yield Fault(f"this site is halted ({why_halted.token})", str(why_halted), word=why_halted.token)
        return
    if state.group is not None and GroupRecord.parse(state.group.value).object_format != config.object_format:
        wanted = GroupRecord.parse(state.group.value).object_format
        yield Fault(
            f"the group has {wanted} objects, and this repository has {config.object_format}",
            f"make the repository anew (`git init --bare --object-format={wanted}`), and install it",
        )
    if state.site is None:
        yield Fault(
            f"the record of the site {config.site!r} is missing in etcd",
            "`piehole reconcile --once` here writes it again",
            warning=True,
        )
    elif SiteRecord.parse(state.site.value).url != config.url:
        yield Fault(
            f"peers fetch from {SiteRecord.parse(state.site.value).url}, but piehole.url is {config.url}",
            "run `piehole install` again, which updates the record",
        )
    everybody = list_sites(replica, deadline)
    if state.group is not None:
        yield from _copies(replica, GroupRecord.parse(state.group.value), everybody, deadline)
    for one in everybody:
        if one.fault:
            yield Fault(f"the records of the site {one.site!r} cannot be used", one.fault)
    for name, why in list(seen.planned.locked.items())[:_SHOWN]:
        yield Fault(f"{name} is locked", f"{why}; {_unlock(replica, name)}", warning=True, word="locked")
    yield from _without_push(seen)


def _copies(
    replica: Replica, record: GroupRecord, everybody: Sequence[GroupSite], deadline: Deadline
) -> Iterator[Fault]:
    """Whether there are enough living sites for the copies that the group promises, before a push finds out."""
    if not record.promises_copies:
        return
    if record.raising:
        yield Fault(
            "`piehole group set` was interrupted, so commits from before may be at fewer sites than the group promises",
            f"run `piehole group set copies {record.copies}` again",
            warning=True,
        )
    found = outlook(record, everybody, alive.heard(replica, everybody, deadline), receiving=replica.config.site)
    if found.kept:
        return
    pushes = "pushes are accepted with fewer copies" if record.warns else "every push is refused (copies:)"
    yield Fault(
        f"the group promises that {found.needed} sites hold what is pushed, and {pushes}: {found}",
        "see that a controller runs at these sites; to lower the promise until then: "
        f"`piehole group set copies {max(1, len(found.able))}`",
        word="copies",
    )


def _unlock(replica: Replica, name: str) -> str:
    key = decode(replica.keyspace.ref(replica.config.group, name))
    if name != HEAD and not (is_ref_name(name) and is_managed(name, replica.config.exclude)):
        return f"remove it: `etcdctl del {key}`"
    value = "`ref: ` and a branch" if name == HEAD else "an object id"
    return f"put {value} there (`etcdctl put {key} …`), or run `piehole clobber {name}`"


def _without_push(seen: DryRun) -> Iterator[Fault]:
    """What was changed here without a push: pushes to these refs do not do what their users expect."""
    for ref, move in list(seen.changed.items())[:_SHOWN]:
        yield Fault(f"{ref} is not as the group has it", pending_words(move), warning=True, word="pending")
    alone = seen.planned.unadopted
    if alone:
        named = f"{', '.join(alone[:_SHOWN])}{' …' if len(alone) > _SHOWN else ''}"
        yield Fault(
            f"the group has no value for {named}, which {'was' if len(alone) == 1 else 'were'} {UNADOPTED}",
            unadopted_fix(alone[0] if len(alone) == 1 else "REF"),
            warning=True,
            word="unadopted",
        )


def _url(replica: Replica) -> Iterator[Fault]:
    """Whether peers can use this site's URL, as far as can be checked here."""
    config = replica.config
    try:
        own = parse_url(config.url, ("ssh", "https", "http", "git", "file"))
    except UsageError as error:
        yield Fault(f"piehole.url: {error}", "correct it with `piehole install --url`")
        return
    if own.protocol not in config.allow_protocol:
        yield Fault(
            f"piehole.url uses {own.protocol}, which piehole.allowProtocol does not allow here",
            f"peers need it: git config --add piehole.allowProtocol {own.protocol} at every site",
            warning=True,
        )
