"""Our own parsers, each as a function of bytes that raises only what its parser promises, and holds it to what it says.

What is fed to them comes from git, hooks, other accounts' processes, other sites or administrators. Anything else than the
promised error is a bug. ``test_parsers.py`` feeds them, by hypothesis and by atheris.
"""

from __future__ import annotations

import socket
import tempfile
from collections.abc import Callable
from pathlib import Path
from time import monotonic
from typing import Final

from piehole.errors import PieholeError, UsageError
from piehole.etcd.model import KeyValue
from piehole.fastpath import controller_socket, inflight
from piehole.fastpath.hook_messages import parse_ref_updates
from piehole.group import keys, ref_log, rollback_guard
from piehole.group.records import GroupRecord, Progress, PushRecord, RecordError, SiteRecord
from piehole.push import hook_protocol
from piehole.push.swap import Basis
from piehole.refs import HEAD, decode, encode, is_managed, is_ref_name, parents
from piehole.replicate.plan import desired_state
from piehole.transfer.urls import parse_url

_ZERO, _ONE = "0" * 40, "1" * 40
_PROTOCOLS: Final = ("ssh", "https", "http", "git", "file")


def key_names(data: bytes) -> None:
    space = keys.Keyspace("/p")
    found = space.split_ref(space.refs + data)
    if found is not None:
        assert space.ref(*found) == space.refs + data
    site = space.split_site(space.sites("g"), space.sites("g") + data)
    if site is not None:
        assert keys.check_site(site).encode() == data
    text = decode(data)
    assert encode(text) == data
    for name in (text, f"refs/{text}"):
        if is_ref_name(name):
            assert not {" ", "\n", "\0", "\x7f"} & set(name)
            assert all(name.startswith(f"{parent}/") for parent in parents(name))
            is_managed(name, ["refs/heads/ci/*"])
    try:
        keys.check_group(text)
    except UsageError:
        return
    assert space.split_ref(space.ref(text, "refs/heads/x")) == (text, "refs/heads/x")


def question(data: bytes) -> None:
    try:
        asked = hook_protocol.parse(data.decode("utf-8", "surrogateescape").split("\n"))
    except hook_protocol.Malformed:
        return
    assert asked.commands
    assert all(is_ref_name(ref) for ref, _, _ in asked.commands)
    for (ref, _, _), snapshot in zip(asked.commands, asked.snapshots, strict=False):
        basis(f"{ref}\n{snapshot}".encode("utf-8", "surrogateescape"))


def basis(data: bytes) -> None:
    ref, _, text = data.decode("utf-8", "surrogateescape").partition("\n")
    try:
        found = Basis.parse(ref, text)
    except ValueError:
        return
    assert Basis.parse(ref, found.dump()) == found


def socket_messages(data: bytes) -> None:
    one, other = socket.socketpair(socket.AF_UNIX)
    with one, other:
        one.sendall(data[: 1 << 15])
        one.shutdown(socket.SHUT_WR)
        reader = controller_socket.Reader(other, largest=1 << 14)
        lines: list[str] = []
        try:
            while True:
                lines += [*reader.message(monotonic() + 5), ""]
        except OSError:
            pass
        assert data.startswith("\n".join(lines).encode("utf-8", "surrogateescape"))


def hook_lines(data: bytes) -> None:
    lines = data.decode("utf-8", "surrogateescape").split("\n")[:-1]
    try:
        found = parse_ref_updates(lines)
    except ValueError:
        return
    assert [f"{old} {new} {ref}" for old, new, ref in found] == lines


def in_flight_record(data: bytes) -> None:
    name = "b-1.1.1"
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / inflight.FOLDER / name
        path.parent.mkdir(parents=True)
        path.write_bytes(data)
        try:
            record = inflight.Record(folder, name).load()
        except OSError:
            return
        assert record.push_id
        assert record.waited >= 0
        assert [one.push_id for one in inflight.records(folder)] == [record.push_id]


def records(data: bytes) -> None:
    for parse in (GroupRecord.parse, SiteRecord.parse, Progress.parse, PushRecord.parse):
        try:
            found = parse(data)
        except RecordError as refused:
            assert len(str(refused)) < 400
            continue
        again = parse(found.dump())
        assert again.id == found.id
        encode(f"{found}"[:1000])


def notes(data: bytes) -> None:
    """The files that this site writes for itself, after somebody has damaged them."""
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder) / "piehole"
        home.mkdir()
        (home / "log").write_bytes(data)
        (home / "state.json").write_bytes(data)
        ref_log.read(Path(folder))
        try:
            rollback_guard.load(Path(folder))
        except PieholeError:
            pass


def urls(data: bytes) -> None:
    try:
        peer = parse_url(data.decode("utf-8", "surrogateescape"), _PROTOCOLS)
    except UsageError as refused:
        assert str(refused).isprintable()
        return
    assert not peer.host.startswith("-")
    assert not peer.path.startswith("-")
    assert not (peer.user or "").startswith("-") or peer.protocol in ("http", "https")
    assert parse_url(peer.display, _PROTOCOLS).protocol == peer.protocol


def group_keys(data: bytes) -> None:
    """Whatever stands at a name: it is a ref's value, a lock, or HEAD, and never anything else."""
    name, _, value = data.partition(b"\0")
    for ref in (decode(name), f"refs/heads/{decode(name)}", HEAD):
        found = desired_state({ref: KeyValue(b"", value, 2, 1, 1)}, "sha1", ())
        for good in found.refs:
            assert is_ref_name(good)
        assert not found.head or is_ref_name(found.head)


PARSERS: Final[dict[str, Callable[[bytes], None]]] = {
    "keys": key_names,
    "question": question,
    "basis": basis,
    "socket": socket_messages,
    "hook-lines": hook_lines,
    "in-flight": in_flight_record,
    "records": records,
    "notes": notes,
    "urls": urls,
    "group-keys": group_keys,
}

_WANT = f"refs/heads/main {_ZERO} {_ONE}"
SEEDS: Final[dict[str, tuple[bytes, ...]]] = {
    "keys": (b"g/refs/heads/main", b"a/b/HEAD", b"g/@push", b"refs/heads/x.lock", b"heads/\xff@{"),
    "question": (
        f"admit\nrepository /r\npush n i\nwaited 0.5\ncommand {_WANT}".encode(),
        f"propose\nrepository /r\npush n i\nwaited 1\npusher x\nwant {_WANT} [1,0,2,3,4,[0],1]\nearlier".encode(),
        f"propose\nrepository /r\npush n i\nwaited 1\nwant {_WANT} {'[' * 20_000}".encode(),
    ),
    "basis": (b"refs/heads/a\n[1,2,3,4,5,[6],1]", b"refs/heads/a\n" + b"[" * 100_000, b"refs/heads/a\n[1,2,3,4,5,[NaN],1]"),
    "socket": (b"admit\nx y\n\nstatus\n\n", b"\n\n\n\n\n", b"x" * 20_000),
    "hook-lines": (f"{_ZERO} {_ONE} refs/heads/main\n".encode(), b"\n", b"a b\n", b"ref:refs/heads/x 0 HEAD\n"),
    "in-flight": (
        f"piehole 1 id\nwant {_WANT} [1]\nwaited 12\nsettled refs/heads/main\nsilent\n".encode(),
        "piehole 1 id\nwaited ²\n".encode(),
        b"piehole 1 id\nwaited " + b"9" * 5000 + b"\n",
        b"piehole 1 \xff\n",
    ),
    "records": (
        b'{"format":1,"id":"x","url":"/x","object_format":"sha1","revision":1,"left":true}',
        b'{"id":"\\ud800","url":"\\udcff","object_format":"","revision":1e999}',
        b'{"id":"x","object_format":"sha1","renamed":[],"revision":' + b"9" * 5000 + b"}",
        b'{"id":' + b"[" * 60_000,
    ),
    "notes": (
        b'{"revision":1,"ref":"r","old":"","new":"","site":"","pusher":"","time":""}\n',
        b'{"published":{"revision":1,"id":"x"},"pending":[],"pushed":null}',
        b"[" * 100_000,
        b'{"published":{"revision":"x"},"pending":7}',
    ),
    "urls": (b"ssh://git@host:22/~x/y", b"-oProxyCommand=x", b"ext::sh -c x", b"ssh://-oX@h/p", b"host:pa\nth", b"[::1]:p"),
    "group-keys": (b"main\0" + _ONE.encode(), b"a..b\0" + _ONE.encode(), b"x\0ref: refs/heads/main", b"x\0\xff\xfe"),
}  # fmt: skip
