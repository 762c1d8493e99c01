"""What somebody may have put into etcd, and what our commands say of it."""

from __future__ import annotations

from base64 import b64encode
from typing import Final

from tests.support.command_line import Answer
from tests.support.groups import Group
from tests.support.sites import Site

ONE: Final = "1" * 40
VALUES: Final = (
    b"",
    b"{",
    b"[]",
    b"null",
    b"[" * 100_000,
    b'{"a":' * 100_000,
    b'{"id":1,"url":2,"revision":"x"}',
    b'{"id":"x","url":"/x","object_format":"sha1","revision":1e999}',
    b'{"id":"x","url":"/x","object_format":"sha1","revision":' + b"9" * 5000 + b"}",
    b'{"format":99,"id":"x","url":"/x","object_format":"sha1","revision":1}',
    b'{"id":"\\ud800","url":"\\ud800","object_format":"\\ud800","revision":1,"time":"\\ud800","pusher":"\\ud800"}',
    b'{"id":"\\u001b[31m","url":"/x\\u001b[2J","object_format":"sha1","revision":1,"time":"\\u001b]0;x\\u0007","pusher":"\\u001b[31m",'
    b'"site":"\\n\\r","replaced":{"time":"\\u001b[31m"}}',
    b"\0\xff\xfe" * 1000,
    b"\x1b]0;title\x07\x1b[2J",
    b"x" * 1_200_000,
    b"\xe2\x80\xae" + ONE.encode(),
)
# Below PREFIX/ref/GROUP/. What git would take as a ref is at most locked by a value; all others are no refs.
NAMES: Final = (
    b"",
    b"refs",
    b"refs/",
    b"refs/heads",
    b"refs/heads/",
    b"refs/heads/a..b",
    b"refs/heads/.a",
    b"refs/heads/a.lock",
    b"refs/heads/a.lock/b",
    b"refs/heads/a@{1}",
    b"refs/heads/a b",
    b"refs/heads/a\nb",
    b"refs/heads/a\0b",
    b"refs/heads/\x1b[31mred",
    b"refs/heads//a",
    b"refs/heads/../../config",
    b"/etc/passwd",
    b"../other/refs/heads/x",
    b"refs/piehole/kept/" + ONE.encode(),
    b"FETCH_HEAD",
    b"@other",
    b"@push/x",
    b"HEAD/x",
    b"\xff\xfe",
    b"x" * 10_000,
)
COMMANDS: Final = (
    ("status",),
    ("status", "--json"),
    ("check",),
    ("sites",),
    ("sites", "--json"),
    ("log",),
    ("log", "--json"),
    ("clobber", "--newest"),
    ("accept",),
)


def put(group: Group, key: str | bytes, value: bytes) -> None:
    """Below the group's prefix, whatever it is."""
    name = key.encode() if isinstance(key, str) else key
    whole = group.prefix.encode() + b"/" + name
    group.etcd.call("/kv/put", {"key": b64encode(whole).decode(), "value": b64encode(value).decode()})


def says(site: Site, *command: str) -> Answer:
    """Run one command, which must end in words: no traceback, nothing that a terminal obeys, and no flood."""
    done = site.piehole(*command, check=False)
    said = done.out + done.err
    assert done.status in (0, 1, 2, 3), (command, said[-2000:])
    assert "Traceback" not in said, (command, said[-3000:])
    obeyed = {c for c in said if ord(c) < 32 or 0x7F <= ord(c) < 0xA0} - {"\n"}
    assert not obeyed, (command, obeyed, [line for line in said.splitlines() if obeyed & set(line)][:3])
    assert len(said) < 300_000, (command, len(said))
    return done


def crashes(site: Site) -> list[str]:
    """What its controller has logged with a traceback."""
    return [line[:2000] for line in site.log_text().splitlines() if "Traceback" in line or "crashed" in line]
