"""A peer's URL is read in one way only, and can never become an option, a command, or a leak."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from piehole.errors import UsageError
from piehole.transfer.git_remote_config import ssh_argv
from piehole.transfer.urls import PeerUrl, parse_url
from piehole.transfer.watchdog import Limits

ALL = ("ssh", "http", "https", "git", "file")

READ = [
    ("/srv/git/a.git", PeerUrl("file", "/srv/git/a.git")),
    ("/srv/a:b.git", PeerUrl("file", "/srv/a:b.git")),
    ("file:///srv/git/a.git", PeerUrl("file", "/srv/git/a.git")),
    ("file:///srv/a%20b.git", PeerUrl("file", "/srv/a b.git")),
    ("ssh://git@example.org:2222/srv/a.git", PeerUrl("ssh", "/srv/a.git", "example.org", 2222, "git")),
    ("ssh://example.org/~ann/a.git", PeerUrl("ssh", "~ann/a.git", "example.org")),
    ("ssh://[::1]:22/a?b#c", PeerUrl("ssh", "/a?b#c", "::1", 22)),
    ("git@example.org:a/b.git", PeerUrl("ssh", "a/b.git", "example.org", None, "git")),
    ("example.org:/srv/a.git", PeerUrl("ssh", "/srv/a.git", "example.org")),
    ("[::1]:/srv/a.git", PeerUrl("ssh", "/srv/a.git", "::1")),
    ("git://example.org/a.git", PeerUrl("git", "/a.git", "example.org")),
    ("HTTPS://Example.org/a%20b.git", PeerUrl("https", "/a%20b.git", "example.org")),
    ("http://ann:s%40e@example.org:8080/a.git", PeerUrl("http", "/a.git", "example.org", 8080, "ann", "s@e")),
]

REFUSED = [
    "",
    "-",
    "--upload-pack=touch /tmp/x",
    "ext::sh -c 'touch x'",
    "fd::17",
    "EXT::x",
    "persistent-https::x",
    "ext::ssh://example.org/a",
    "ftp://example.org/a",
    "rsync://example.org/a",
    "git+ssh://example.org/a",
    "ssh://-oProxyCommand=x/a",
    "ssh://-oProxyCommand=x@example.org/a",
    "ssh://%2DoProxyCommand=x@example.org/a",
    "-oProxyCommand=x@example.org:a",
    "-oProxyCommand=x:a",
    "example.org:-a",
    "example.org:",
    "ssh://example.org",
    "ssh://ann:secret@example.org/a",
    "ssh://example.org:0/a",
    "ssh://example.org:99999/a",
    "ssh://example.org:x/a",
    "ssh://exa mple.org/a",
    "ssh:///a",
    "git://ann@example.org/a",
    "git://example.org:1;x/a",
    "git://example.org/a%00b",
    "git://example.org/a%0ahost=x",
    "file://example.org/a",
    "file://a",
    "relative/path",
    "./relative:path",
    "a.git",
    "http://example.org/a?b",
    "http://example.org/a#b",
    "http://example.org\\@evil.example/a",
    "http://example.org/a b",
    "http://example.org/%ff",
    "http:///a",
    "http://example.org",
    "/srv/a\nb",
    "/srv/a\0b",
    "ssh://example.org/a\r",
    "/srv/\x1b[2J",
    "/srv/\udc80",
]


@pytest.mark.parametrize(("url", "expected"), READ)
def test_the_forms_of_git_are_read(url: str, expected: PeerUrl) -> None:
    assert parse_url(url, ALL) == expected


@pytest.mark.parametrize("url", REFUSED)
def test_everything_else_is_refused(url: str) -> None:
    with pytest.raises(UsageError, match="cannot be used"):
        parse_url(url, ALL)


@pytest.mark.parametrize(("url", "expected"), READ)
def test_only_allowed_protocols_are_used(url: str, expected: PeerUrl) -> None:
    allowed = [protocol for protocol in ALL if protocol != expected.protocol]
    with pytest.raises(UsageError, match=r"piehole\.allowProtocol") as refused:
        parse_url(url, allowed)
    assert expected.protocol in str(refused.value)
    assert expected.display in str(refused.value)


@pytest.mark.parametrize(("url", "expected"), READ)
def test_what_is_shown_means_the_same_place(url: str, expected: PeerUrl) -> None:
    again = parse_url(expected.for_git, ALL)
    assert (again.protocol, again.host, again.port) == (expected.protocol, expected.host, expected.port)
    assert again.path.removeprefix("~/") == expected.path


def test_credentials_of_http_are_never_shown() -> None:
    peer = parse_url("https://ann:secret@example.org/a.git", ALL)
    assert peer.display == "https://example.org/a.git"
    assert "secret" not in repr(peer)
    for broken in ("https://ann:secret@exa mple.org/a", "https://ann:secret@example.org/a?b", "x://ann:secret@h/a"):
        with pytest.raises(UsageError) as refused:
            parse_url(broken, ALL)
        assert "secret" not in str(refused.value)


_PIECES = st.sampled_from(
    [
        "ssh://",
        "http://",
        "git://",
        "file://",
        "ext::",
        "-",
        "--",
        "@",
        ":",
        "/",
        "//",
        "~",
        "%2d",
        "%00",
        "%0a",
        "[",
        "]",
        "::1",
        "host",
        "user",
        "a.git",
        "'",
        "$(x)",
        ";",
        "\\",
        "?",
        "#",
        "é",
        "22",
        " ",
        "\n",
    ]
)


@given(st.one_of(st.text(), st.lists(_PIECES, max_size=8).map("".join)))
def test_no_url_becomes_an_option(url: str) -> None:
    try:
        peer = parse_url(url, ALL)
    except UsageError as refused:
        assert str(refused).isprintable()
        return
    for part in (peer.path, peer.host, peer.user or "", peer.display, peer.for_git):
        assert not part.startswith("-")
        assert not any(ord(c) < 32 or ord(c) == 127 for c in part)
    if peer.protocol in ("file", "git"):
        assert peer.path.startswith(("/", "~"))
    if peer.protocol == "ssh":
        argv = ssh_argv("ssh", peer, Limits(), "git-upload-pack 'x'")
        assert argv[argv.index("--") + 1 :] == [f"{peer.user}@{peer.host}" if peer.user else peer.host, argv[-1]]
    again = parse_url(peer.for_git, ALL)
    assert (again.protocol, again.host) == (peer.protocol, peer.host)
