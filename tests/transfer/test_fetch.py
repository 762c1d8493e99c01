"""Objects come over every protocol, completely, and are protected until the refs have moved."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from pathlib import Path

import pytest

from piehole.errors import TransferError, UsageError
from piehole.transfer.connectivity import check_closures
from piehole.transfer.fetch import fetch
from piehole.transfer.keep_files import Hold
from piehole.transfer.watchdog import Limits
from tests.support.fetch_bed import QUICK, FetchBed, complete, leftovers, packs
from tests.support.git import commit, git, has_object, make_bare, push, rev_parse
from tests.support.gitdaemon import GitDaemon
from tests.support.httpd import HttpServer, HttpUser
from tests.support.sshd import SshServer
from tests.transfer.liar import lying_peer
from tests.transfer.tls import tls_in_front_of

PROTOCOLS = ("file", "plain", "git", "ssh", "http")


@pytest.fixture
def url(request: pytest.FixtureRequest, world: FetchBed, monkeypatch: pytest.MonkeyPatch) -> str:
    """The peer's URL over the protocol that the test is run for."""
    protocol: str = request.param
    if protocol == "file":
        return f"file://{world.peer}"
    if protocol == "plain":
        return str(world.peer)
    if protocol == "git":
        daemon: GitDaemon = request.getfixturevalue("git_daemon")
        return daemon.url_for(world.peer)
    if protocol == "ssh":
        sshd: SshServer = request.getfixturevalue("sshd")
        git(world.local, "config", "core.sshCommand", sshd.git_ssh_command)
        return sshd.url_for(world.peer)
    httpd: HttpServer = request.getfixturevalue("httpd")
    return httpd.url_for(world.peer)


@pytest.mark.parametrize("url", PROTOCOLS, indirect=True)
def test_one_commit_arrives(world: FetchBed, url: str) -> None:
    old = world.follow()
    new = world.advance("two")
    with Hold() as hold:
        fetched = world.bring(url, [new], [old], hold=hold)
        assert fetched.via == "dulwich"
        assert fetched.objects == 3
        assert complete(world.local, new)
        assert all(pack.with_suffix(".keep").exists() for pack in fetched.packs)
        git(world.local, "update-ref", "refs/heads/main", new, old)
    assert leftovers(world.local) == []
    git(world.local, "fsck", "--strict", "--no-dangling")


@pytest.mark.parametrize("url", PROTOCOLS, indirect=True)
def test_an_empty_repository_is_filled(world: FetchBed, url: str) -> None:
    for number in range(5):
        tip = world.advance(f"commit {number}")
    fetched = world.bring(url, [tip])
    assert fetched.bytes > 0
    assert complete(world.local, tip)
    assert leftovers(world.local) == []


def test_a_sha256_repository_is_served_by_the_same_way(tmp_path: Path) -> None:
    world = FetchBed(tmp_path, "sha256")
    old = world.follow()
    new = world.advance("two")
    assert world.bring(str(world.peer), [new], [old]).via == "dulwich"
    assert complete(world.local, new)


def test_a_thin_pack_is_completed(world: FetchBed) -> None:
    text = "".join(f"line {n} of a text that is worth a delta\n" for n in range(2000))
    world.advance("large", content=text)
    old = world.follow()
    new = world.advance("a little more", content=text + "one more line\n")
    fetched = world.bring(str(world.peer), [new], [old])
    assert fetched.bytes < len(text) / 10
    git(world.local, "update-ref", "refs/heads/main", new)
    git(world.local, "fsck", "--strict", "--no-dangling")


def test_many_wants_come_in_one_fetch(world: FetchBed) -> None:
    old = world.follow()
    tips = []
    for number in range(200):
        git(world.work, "checkout", "-q", "--detach", old)
        tips.append(commit(world.work, f"branch {number}"))
    git(world.work, "push", "-q", str(world.peer), *(f"{tip}:refs/heads/b{n}" for n, tip in enumerate(tips)))
    fetched = world.bring(str(world.peer), tips, [old])
    assert len(fetched.packs) == 1
    assert complete(world.local, *tips)


def test_an_object_that_no_ref_of_the_peer_names_is_served(world: FetchBed) -> None:
    old = world.follow()
    hidden = world.advance("two")
    git(world.peer, "update-ref", "refs/heads/main", old)
    world.bring(str(world.peer), [hidden], [old])
    assert complete(world.local, hidden)


def test_a_missing_want_is_named(world: FetchBed) -> None:
    old = world.follow()
    new = world.advance("two")
    absent = "12" * 20
    for url in (str(world.peer), f"file://{world.peer}"):
        with pytest.raises(TransferError, match=f"does not have {absent}"):
            world.bring(url, [new, absent], [old])
    assert not has_object(world.local, new)
    assert leftovers(world.local) == []


def test_a_missing_want_is_named_while_many_are_still_being_asked_for(world: FetchBed) -> None:
    """The peer hangs up at the first want that it lacks."""
    wants = [f"{number:040x}" for number in range(1, 5000)]
    with pytest.raises(TransferError, match=f"does not have {wants[0]}$"):
        world.bring(str(world.peer), wants)


def test_a_missing_want_is_named_when_git_fetches(world: FetchBed, httpd: HttpServer) -> None:
    git(world.local, "config", "http.cookieFile", str(world.folder / "cookies"))
    with pytest.raises(TransferError, match="does not have " + "12" * 20):
        world.bring(httpd.url_for(world.peer), ["12" * 20])


def test_a_missing_want_is_named_over_http(world: FetchBed, httpd: HttpServer) -> None:
    with pytest.raises(TransferError, match="does not have " + "12" * 20):
        world.bring(httpd.url_for(world.peer), ["12" * 20])


def test_haves_that_are_not_here_are_not_offered(world: FetchBed) -> None:
    world.follow()
    absent = world.advance("two")
    new = world.advance("three")
    world.bring(str(world.peer), [new], [absent])
    assert complete(world.local, new)


def test_the_same_fetch_twice_makes_packs_of_different_names(world: FetchBed) -> None:
    """A .keep beside a pack that exists could lose its objects to a repack that runs."""
    old = world.follow()
    new = world.advance("two")
    first = world.bring(str(world.peer), [new], [old])
    second = world.bring(str(world.peer), [new], [old])
    assert set(first.packs).isdisjoint(second.packs)
    git(world.local, "update-ref", "refs/heads/main", new)
    git(world.local, "fsck", "--strict", "--no-dangling")


def without_v2(sshd: SshServer) -> str:
    """An sshd without AcceptEnv GIT_PROTOCOL makes every peer behind it one of v0. The first SetEnv counts."""
    return f"{sshd.git_ssh_command} -o 'SetEnv X=y'"


def test_a_peer_of_protocol_v0_is_served_too(world: FetchBed, sshd: SshServer) -> None:
    old = world.follow()
    new = world.advance("two")
    git(world.local, "config", "core.sshCommand", without_v2(sshd))
    assert world.bring(sshd.url_for(world.peer), [new], [old]).via == "dulwich"
    assert complete(world.local, new)


def test_a_peer_of_protocol_v0_serves_only_what_it_allows(world: FetchBed, sshd: SshServer) -> None:
    old = world.follow()
    hidden = world.advance("two")
    git(world.peer, "update-ref", "refs/heads/main", old)
    git(world.local, "config", "core.sshCommand", without_v2(sshd))
    with pytest.raises(TransferError, match=f"does not have {hidden}"):
        world.bring(sshd.url_for(world.peer), [hidden], [old])
    git(world.peer, "config", "uploadpack.allowAnySHA1InWant", "true")
    world.bring(sshd.url_for(world.peer), [hidden], [old])
    assert complete(world.local, hidden)


def test_sha256_with_a_peer_of_protocol_v0_is_left_to_git(tmp_path: Path, sshd: SshServer) -> None:
    world = FetchBed(tmp_path, "sha256")
    old = world.follow()
    new = world.advance("two")
    git(world.local, "config", "core.sshCommand", without_v2(sshd))
    assert world.bring(sshd.url_for(world.peer), [new], [old]).via == "git"
    assert complete(world.local, new)


def test_what_dulwich_cannot_do_git_does(world: FetchBed, httpd: HttpServer) -> None:
    old = world.follow()
    new = world.advance("two")
    git(world.local, "config", "http.cookieFile", str(world.folder / "cookies"))
    with Hold() as hold:
        fetched = world.bring(httpd.url_for(world.peer), [new], [old], hold=hold)
        assert fetched.via == "git"
        assert complete(world.local, new)
        assert all(pack.with_suffix(".keep").exists() for pack in fetched.packs)
    assert leftovers(world.local) == []
    assert "refs/wanted/0" not in git(world.local, "for-each-ref").stdout


def test_a_login_comes_from_gits_credential_helpers(world: FetchBed, tmp_path: Path) -> None:
    server = HttpServer(tmp_path / "basic", tmp_path, basic=HttpUser("ann", "se cret"))
    try:
        new = world.advance("two")
        url = f"http://127.0.0.1:{server.port}/{world.peer.name}"
        with pytest.raises(TransferError, match="asks for a login"):
            world.bring(url, [new])
        store = tmp_path / "store"
        store.write_text(f"http://ann:se%20cret@127.0.0.1:{server.port}\n")
        git(world.local, "config", "credential.helper", f"store --file={store}")
        world.bring(url, [new])
        assert complete(world.local, new)
    finally:
        server.end()


def test_credentials_in_a_url_work_and_are_never_shown(world: FetchBed, tmp_path: Path) -> None:
    server = HttpServer(tmp_path / "basic", tmp_path, basic=HttpUser("ann", "secret"))
    try:
        new = world.advance("two")
        with pytest.raises(TransferError) as failed:
            world.bring(f"http://ann:secret@127.0.0.1:{server.port}/nothing.git", [new])
        assert "secret" not in str(failed.value)
        world.bring(f"http://ann:secret@127.0.0.1:{server.port}/{world.peer.name}", [new])
        assert complete(world.local, new)
    finally:
        server.end()


def test_alternates_of_the_repository_keep_working(world: FetchBed) -> None:
    old = world.follow()
    borrowing = make_bare(world.folder / "borrowing.git")
    (borrowing / "objects" / "info" / "alternates").write_text(f"{world.local}/objects\n")
    git(borrowing, "update-ref", "refs/heads/main", old)
    world.local = borrowing
    new = world.advance("two")
    fetched = world.bring(str(world.peer), [new], [old])
    assert fetched.objects == 3
    assert complete(borrowing, new)


@pytest.mark.parametrize("what", ["", "^{tree}", ":file.txt"])
def test_a_fetch_without_haves_mends_damaged_objects(world: FetchBed, what: str) -> None:
    """A power failure leaves empty files of objects that were never synced."""
    old = world.follow()
    new = world.advance("two")
    damaged = rev_parse(world.work, f"{new}{what}")
    file = world.local / "objects" / damaged[:2] / damaged[2:]
    file.parent.mkdir(exist_ok=True)
    file.touch()
    assert check_closures(world.local, [new], bases=[old]).missing == {new}
    world.bring(str(world.peer), [new])
    assert complete(world.local, new)
    assert check_closures(world.local, [new], bases=[old]).missing == set()


def test_odd_paths_are_no_trouble(tmp_path: Path) -> None:
    folder = tmp_path / "a:b \"c\" 'd' é"
    world = FetchBed(folder)
    old = world.follow()
    new = world.advance("two")
    world.bring(str(world.peer), [new], [old])
    assert complete(world.local, new)


def test_a_path_with_quotes_survives_the_remote_shell(tmp_path: Path, sshd: SshServer) -> None:
    world = FetchBed(tmp_path / "it's $(touch pwned); !x")
    new = world.advance("two")
    git(world.local, "config", "core.sshCommand", sshd.git_ssh_command)
    world.bring(f"{sshd.user}@127.0.0.1:{world.peer}" if sshd.port == 22 else _ssh(sshd, world.peer), [new])
    assert complete(world.local, new)
    assert not list(tmp_path.rglob("pwned"))


def _ssh(sshd: SshServer, path: Path) -> str:
    return f"ssh://{sshd.user}@127.0.0.1:{sshd.port}{str(path).replace(' ', '%20')}"


def test_published_packs_have_the_modes_of_a_shared_repository(world: FetchBed) -> None:
    git(world.local, "config", "core.sharedRepository", "0640")
    new = world.advance("two")
    for pack in world.bring(str(world.peer), [new]).packs:
        assert pack.stat().st_mode & 0o777 == 0o440
        assert pack.with_suffix(".idx").stat().st_mode & 0o777 == 0o440


def test_a_protocol_that_is_not_allowed_is_not_used(world: FetchBed) -> None:
    with Hold() as hold, pytest.raises(UsageError, match=r"piehole\.allowProtocol"):
        fetch(
            world.local,
            str(world.peer),
            ["12" * 20],
            [],
            allowed=("https",),
            limits=QUICK,
            object_format="sha1",
            hold=hold,
        )


def test_a_redirect_is_not_followed_but_named(world: FetchBed) -> None:
    def redirects(connection: socket.socket) -> None:
        connection.recv(65536)
        connection.sendall(b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/secret\r\nContent-Length: 0\r\n\r\n")

    with lying_peer(redirects) as url, pytest.raises(TransferError, match=r"redirects to http://127\.0\.0\.1:1/secret"):
        world.bring(url.replace("git://", "http://"), ["12" * 20])


def test_a_refusal_of_the_peer_is_told(world: FetchBed, git_daemon: GitDaemon) -> None:
    with pytest.raises(TransferError, match="refused: no such repository"):
        world.bring(git_daemon.url_for(world.folder / "nothing.git"), ["12" * 20])


@pytest.mark.skipif(shutil.which("openssl") is None, reason="no openssl on this machine")
def test_https_trusts_what_git_is_told_to_trust(world: FetchBed, httpd: HttpServer, tmp_path: Path) -> None:
    new = world.advance("two")
    with tls_in_front_of(httpd.port, tmp_path) as (port, certificate):
        url = f"https://127.0.0.1:{port}/{world.peer.name}"
        with pytest.raises(TransferError, match="certificate verify failed"):
            world.bring(url, [new])
        git(world.local, "config", f"http.https://127.0.0.1:{port}.sslCAInfo", str(certificate))
        assert world.bring(url, [new]).via == "dulwich"
    assert complete(world.local, new)


@pytest.mark.parametrize("where", ["/nowhere/at/all.git", "git://127.0.0.1:1/x.git", "http://127.0.0.1:1/x.git"])
def test_a_peer_that_is_not_there_is_a_transfer_error(world: FetchBed, where: str) -> None:
    with pytest.raises(TransferError, match="failed: it cannot be reached"):
        world.bring(where, ["12" * 20])
    assert leftovers(world.local) == []


def test_an_unreachable_ssh_peer_says_why(world: FetchBed) -> None:
    with pytest.raises(TransferError, match="refused"):
        world.bring("ssh://127.0.0.1:1/x.git", ["12" * 20])


def test_progress_tells_the_bytes_that_came(world: FetchBed) -> None:
    seen: list[int] = []
    new = world.advance("large", content=os.urandom(150_000).hex())
    with Hold() as hold:
        fetched = fetch(
            world.local,
            str(world.peer),
            [new],
            [],
            allowed=["file"],
            limits=Limits(),
            object_format="sha1",
            hold=hold,
            progress=seen.append,
        )
    assert seen == sorted(seen)
    assert seen[-1] == fetched.bytes


def test_nothing_wanted_costs_nothing(world: FetchBed) -> None:
    before = packs(world.local)
    assert world.bring("/nowhere", []).packs == ()
    assert packs(world.local) == before


def test_a_tag_and_a_lone_blob_can_be_wanted(world: FetchBed) -> None:
    git(world.work, "tag", "-a", "-m", "a tag", "v1")
    blob = git(world.work, "hash-object", "-w", "--stdin", stdin="lonely").stdout.strip()
    git(world.work, "update-ref", "refs/tags/blob", blob)
    assert push(world.work, world.peer, "refs/tags/v1", "refs/tags/blob").returncode == 0
    tag = rev_parse(world.work, "refs/tags/v1")
    world.bring(str(world.peer), [tag, blob])
    assert complete(world.local, tag, blob)


def test_an_odd_tree_that_was_admitted_elsewhere_fills_an_empty_repository(world: FetchBed) -> None:
    """git-clone refuses such a history, in which a tree is called a file; a site that refused it would never be in step."""
    blob = git(world.peer, "hash-object", "-w", "--stdin", stdin="x").stdout.strip()
    inner = git(world.peer, "mktree", stdin=f"100644 blob {blob}\tf\n").stdout.strip()
    raw = b"100644 odd\0" + bytes.fromhex(inner)
    hashed = ["git", "hash-object", "-t", "tree", "-w", "--literally", "--stdin"]
    outer = subprocess.run(hashed, cwd=world.peer, input=raw, capture_output=True, check=True).stdout.decode().strip()
    identity = ("-c", "user.name=A", "-c", "user.email=a@example.org")
    tip = git(world.peer, *identity, "commit-tree", "-m", "odd", outer).stdout.strip()
    git(world.peer, "update-ref", "refs/heads/odd", tip)
    assert world.bring(str(world.peer), [tip]).via == "dulwich"
    assert complete(world.local, tip)
