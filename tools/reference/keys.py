"""docs/reference/keys.md: the keys in etcd. Their names are made by piehole's own functions, so none is named that is not used so."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from piehole.group.keys import FENCE, PUSH, Keyspace
from piehole.refs import HEAD, decode

_KEYS: Final = Keyspace()
_GROUP, _SITE, _ID = "<group>", "<site>", "<push id>"

VALUES: Final[Mapping[bytes, str]] = {
    _KEYS.ref(_GROUP, "refs/heads/main"): (
        "A full lower-case oid, or the zero oid (tombstone). A trailing newline is allowed, so `etcdctl put` with the output of a command"
        " works"
    ),
    _KEYS.ref(_GROUP, HEAD): ("`ref: refs/heads/main`"),
    _KEYS.ref(_GROUP, PUSH): (
        "The push record: `id` (random, one per push), `site`, `pusher`, `time`, and `kind` if the change was no push "
        "(`clobber`, `adopted`, …). It is written in the transaction that moves the refs. So"
        " a push moved a ref if and only if both keys have the same mod_revision. It names the site that has the objects. `piehole log` "
        "reads its history"
    ),
    _KEYS.ref(_GROUP, FENCE): (
        "Only its mod_revision matters; its fields are those of the push record (`id`, `site`, `pusher`, `time`, `kind`). "
        "It is written by every reaping and every fence. It is also written when a site is registered or "
        "leaves, because all controllers watch it"
    ),
    _KEYS.copies(_GROUP, _ID): (
        "A site asks the others to hold what a push brings, before the swap: `site`, `oids` (the new tips), `bases` (commits that these "
        "are likely built upon), `time`, `lease`. Bound to that lease"
    ),
    _KEYS.copy(_GROUP, _ID, _SITE): (
        "The site holds them: `id` of the site, `time`. Bound to the lease of the request"
    ),
    _KEYS.drop(_GROUP, "<oid>"): (
        "Every site is asked to remove this object for good: `site` and `pusher` (who asked), `time`. It stays, so that a site that joins"
        " later does it, too"
    ),
    _KEYS.drop_answer(_GROUP, "<oid>", _SITE): (
        "What has become of it there: `id` of the site, `time`, `result` (`dropped`; `waiting`: the site goes on by itself; `blocked`: "
        "somebody has to do something first), `why`. It counts for the request that it is newer than"
    ),
    _KEYS.group(_GROUP): (
        "`id` (a UUID made once), `object_format`. Also `renamed` and `renamed_id` once the group has become another group, and `copying`"
        " while it is being copied from another group, and the promise of copies: `copies` (a number, `majority` or `all`; absent: 1) and"
        " `copiesElse` (`refuse`, the default, or `warn`); `raising` (the former `copies` and `copiesElse`) until enough sites have the "
        "commits from before. Its `format` is 2 where it promises copies, so versions that know no promise refuse pushes"
    ),
    _KEYS.site(_GROUP, _SITE): (
        "`id` (a UUID, also in the repository's configuration), `url`. Also `limits`: what names its disk can hold (`part` and `name`: "
        "bytes, `folds_case`, `composes`), `left: true` once the site has left, and `replaced` (`id`, `url`, `time` of the machine whose "
        "name this one took over)"
    ),
    _KEYS.progress(_GROUP, _SITE): (
        "`revision`, `id`, `time`: every managed ref of the site has the value that it had at this revision *or a later one*. Locked refs"
        " count as done. A stuck ref holds the revision back. Also `verified`: when the site's objects were last examined (`time`), with "
        "what result (`sound`, `sound as far as the time allowed`, `corrupt`), `why`, and when all of them were last proven (`proven`). "
        "Also `digest`, the SHA-256 over the sorted lines `OID SP REF LF` of all managed refs that the site's repository held at exactly "
        "this revision, except those whose value in etcd was no oid; absent while refs move or are stuck. And `exclude`: the globs of "
        "`piehole.exclude` there, which the digest leaves out"
    ),
    _KEYS.alive(_SITE, "<controller>"): (
        "A controller's sign of life, for all groups of this site's name: `lease` (hexadecimal, as etcdctl shows it), `serves` (the first"
        " eight characters of the id of each site that it serves, one after the other), `time`. Bound to that lease, which ends in a year"
        " and is kept alive every 10 s. That writes nothing; the key is written only when `serves` changes"
    ),
}


def page() -> Iterator[str]:
    yield """\
# Keys in etcd
The table uses the default prefix. This layout and the fields named here are a contract with scripts outside the project. Records are
JSON. Other fields may appear, and piehole keeps them. Each record has a `format`, which is 1 where the table says nothing else. piehole
refuses a record whose `format` is newer than it knows, and says so.

| key | value |
| --- | --- |"""
    yield from (f"| `{decode(key)}` | {value} |" for key, value in VALUES.items())
    yield """\

A group's name may contain `/`. None of its parts may be `refs` or `HEAD` or begin with `@` or `.`, so the key of a ref can be split in
only one way. A site's name has no `/`. Code that reads sites and progress accepts only keys with exactly one part after the group, so
nested groups do not mix.

**An absent key means "no opinion", never "delete"** ([decision 0005](../development/decisions/0005-an-absent-key-is-no-opinion.md)).
An empty etcd, a wrong etcd or a wrong prefix therefore deletes nothing anywhere. A tombstone is *reaped* (its key is removed) only when
every site that has not left has passed it. One transaction compares the tombstone and the range of site records, deletes the key, and
writes `@fence`."""
