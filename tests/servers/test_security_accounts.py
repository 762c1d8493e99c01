"""Accounts on a server: what a pusher's may do, what a stranger's may not (docs/explanation/security.md)."""

from __future__ import annotations

import json
import shlex
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from controller.hook_permissions import AT_ONCE
from tests.servers.accounts import Account, account, admit, propose, socket_of, status
from tests.servers.bed.hosts import CHECKOUT
from tests.servers.bed.three import REPOSITORY, Server, ThreeServers
from tests.support.assertions import accepted, refused
from tests.support.git import MAIN, ZERO_SHA1
from tests.support.wait import until

pytestmark = [pytest.mark.servers, pytest.mark.slow]

_SECRETS = ("etcd-password", "client-key.pem", "server-key.pem", "peer-key.pem")
_PRIVATE = "/srv/git/private.git"
_NOBODYS = "1" * 40
_UNIT = "/etc/systemd/system/piehole-controller.service"


@pytest.fixture
def oslo(bed: ThreeServers, clone: str) -> Server:
    """A server whose repository has a commit."""
    if not bed.servers[0].at():
        accepted(bed.laptop.push(clone, bed.servers[0].ssh, f"{bed.laptop.commit(clone, 'the first')}:{MAIN}"))
        bed.in_step()
    return bed.servers[0]


@pytest.fixture
def pusher(bed: ThreeServers, oslo: Server) -> Account:
    """Of the repository's group, with a shell."""
    return account(bed, oslo, "bob", "git")


@pytest.fixture
def stranger(bed: ThreeServers, oslo: Server) -> Account:
    return account(bed, oslo, "mallory")


@pytest.fixture
def private(oslo: Server) -> Iterator[str]:
    """Another group's repository on the same server, which only its owner may write and everybody may read; its ``main`` has a commit."""
    oslo.host.run("git", "clone", "--quiet", "--bare", REPOSITORY, _PRIVATE, user="git")
    oslo.piehole(
        "install", _PRIVATE, "--group", "private", "--site", "oslo", "--url", f"https://{oslo.host.name}/private.git"
    )
    until(oslo.host.path(f"{_PRIVATE}/piehole/controller").exists, 20, "the controller serves the private repository")
    yield _PRIVATE
    oslo.host.run("rm", "-r", _PRIVATE)
    oslo.etcdctl("del", "--prefix", "/piehole/ref/private/")
    for kind in ("group", "site", "progress"):
        oslo.etcdctl("del", "--prefix", f"/piehole/{kind}/private")


def _restart(server: Server) -> None:
    """Its unit and all configuration are read anew."""
    server.host.systemctl("daemon-reload")
    server.host.systemctl("restart", "piehole-controller")
    server.wait_ready()


def _history(server: Server) -> str:
    """Every key of etcd's with its value and revision, but for the sites' reports of their progress."""
    found = json.loads(server.etcdctl("get", "--prefix", "/piehole/ref/", "-w", "json").stdout)
    return json.dumps(found.get("kvs", []))


def _basis(server: Server, ref: str = MAIN, group: str = "project") -> str:
    """The bases of a swap of this ref that is good at this moment, as only who may read etcd can know them."""

    def mod(key: str) -> int:
        found = json.loads(server.etcdctl("get", key, "-w", "json").stdout)
        return int(found["kvs"][0]["mod_revision"]) if found.get("kvs") else 0

    of = f"/piehole/ref/{group}"
    numbers = [mod(f"{of}/{ref}"), mod(f"/piehole/group/{group}"), mod(f"/piehole/site/{group}/{server.site}")]
    newest = json.loads(server.etcdctl("get", "/piehole/", "-w", "json").stdout)["header"]["revision"]
    return json.dumps([newest, *numbers, mod(f"{of}/@fence"), [], 1], separators=(",", ":"))


# ---- pushers


def test_a_pusher_cannot_read_any_secret_of_the_service(pusher: Account) -> None:
    for file in _SECRETS:
        read = pusher.run("cat", f"/etc/piehole/{file}")
        assert (read.returncode, read.stdout) == (1, ""), file
    settings = pusher.run("git", f"--git-dir={REPOSITORY}", "config", "--list").stdout
    assert "piehole.etcdpasswordfile=/etc/piehole/etcd-password" in settings, "it may know where it is"
    assert pusher.host.path("/etc/piehole/etcd-password").read_text().strip() not in settings


def test_a_pusher_needs_no_credential_and_pushes_through_the_controller(
    bed: ThreeServers, pusher: Account, clone: str
) -> None:
    oid = bed.laptop.commit(clone, "by an account of its own")
    accepted(bed.laptop.push(clone, pusher.url))
    bed.arrives(MAIN, oid)


def test_without_a_controller_such_a_push_is_refused_in_words(
    bed: ThreeServers, oslo: Server, pusher: Account, clone: str
) -> None:
    before = oslo.at()
    oslo.host.systemctl("stop", "piehole-controller")
    bed.laptop.commit(clone, "nobody at home")
    sentence = refused(bed.laptop.push(clone, pusher.url), "no-access")
    assert "cannot read the etcd credential /etc/piehole/" in sentence
    assert oslo.at() == before
    oslo.host.systemctl("start", "piehole-controller")
    oslo.wait_ready()
    accepted(bed.laptop.push(clone, pusher.url))


def test_without_a_controller_the_git_account_itself_still_pushes(bed: ThreeServers, oslo: Server, clone: str) -> None:
    oslo.host.systemctl("stop", "piehole-controller")
    oid = bed.laptop.commit(clone, "the hook decides itself")
    accepted(bed.laptop.push(clone, oslo.ssh))
    bed.arrives(MAIN, oid)


def test_a_pusher_moves_no_ref_of_a_repository_that_it_may_only_read(
    bed: ThreeServers, oslo: Server, pusher: Account, clone: str, private: str
) -> None:
    assert bed.laptop.git(clone, "ls-remote", pusher.url.replace(REPOSITORY, private), check=False).returncode in (
        0,
        128,
    )
    before = _history(oslo)
    bed.laptop.commit(clone, "not for this repository")
    pushed = bed.laptop.push(clone, pusher.url.replace(REPOSITORY, private))
    assert pushed.returncode != 0
    assert "accepted" not in pushed.stderr
    assert _history(oslo) == before


def test_a_users_key_brings_no_variable_and_no_other_receive_pack_along(
    bed: ThreeServers, oslo: Server, clone: str
) -> None:
    """Behind git-shell there is no way past the hooks."""
    laptop = bed.laptop
    oid = laptop.commit(clone, "with variables that nobody takes")
    evil = "GIT_CONFIG_COUNT=1 GIT_CONFIG_KEY_0=core.hooksPath GIT_CONFIG_VALUE_0=/nowhere GL_USER=mallory HOME=/tmp"
    ssh = f"ssh -o StrictHostKeyChecking=accept-new -o BatchMode=yes -o SetEnv={shlex.quote(evil)}"
    for other in (
        "GL_USER=mallory git-receive-pack",
        "git -c core.hooksPath=/nowhere receive-pack",
        "env git-receive-pack",
    ):
        pushed = laptop.git(clone, "push", f"--receive-pack={other}", oslo.ssh, f"HEAD:{MAIN}", check=False)
        assert pushed.returncode != 0, other
        assert oslo.at() != oid
    accepted(laptop.git(clone, "-c", f"core.sshCommand={ssh}", "push", oslo.ssh, f"HEAD:{MAIN}", check=False))
    bed.arrives(MAIN, oid)
    told = next(line for line in oslo.piehole("log", "-C", REPOSITORY).stdout.splitlines() if oid[:8] in line)
    assert "alice" in told and "mallory" not in told


# ---- the socket


def test_the_socket_answers_what_a_pushers_hook_asks(oslo: Server, pusher: Account) -> None:
    """So that the silence below is no accident of the test's."""
    old = oslo.at()
    answers = pusher.say(admit(REPOSITORY, old, old), propose(REPOSITORY, old, old, _basis(oslo)), status(REPOSITORY))
    assert [answer.partition(" ")[0] for answer in answers] == ["here"] * 3, answers
    assert "free" in answers[0] or "take" in answers[0]


@pytest.mark.slow
def test_the_socket_has_no_word_for_a_repository_that_the_pusher_may_not_write(
    bed: ThreeServers, oslo: Server, pusher: Account, private: str
) -> None:
    pusher.run("ln", "-sfn", private, "/home/bob/link.git")
    pusher.run("ln", "-sfn", REPOSITORY, "/home/bob/own.git")
    old, before = oslo.at(), _history(oslo)
    for path in (
        *(private, f"{REPOSITORY}/../private.git", f"{private}/", f"{private}/.", f"//{private}", "/home/bob/link.git"),
        *(f"/home/bob/own.git/../../../{private}", f"{REPOSITORY}\0{private}", "/srv/git", "/", "private.git", ""),
    ):
        asked = [
            admit(path, old, ZERO_SHA1),
            propose(path, old, ZERO_SHA1, _basis(oslo, group="private")),
            status(path),
        ]
        assert pusher.say(*asked) == [""] * 3, path
    assert _history(oslo) == before


def test_the_socket_has_no_word_for_who_is_no_hook(oslo: Server, pusher: Account) -> None:
    old, before = oslo.at(), _history(oslo)
    basis = _basis(oslo)
    asked = [admit(REPOSITORY, old, ZERO_SHA1), propose(REPOSITORY, old, ZERO_SHA1, basis)]
    # Nor for one that names another process: a receive-pack of somebody else's, say.
    others = [[line.replace("PACK", "1.2.3.4") for line in question] for question in asked]
    assert pusher.say(*asked, as_hook=False) == ["", ""]
    assert pusher.say(*others) == ["", ""]
    assert _history(oslo) == before


def test_the_socket_takes_no_other_verb(oslo: Server, pusher: Account) -> None:
    before = _history(oslo)
    about = [f"repository {REPOSITORY}", "push PACK 00", "waited 0", f"command {MAIN} {oslo.at()} {ZERO_SHA1}"]
    verbs = (
        "clobber",
        "accept",
        "install",
        "reconcile",
        "put",
        "delete",
        "shutdown",
        "reload",
        "",
        "PROPOSE",
        "status2",
    )
    assert pusher.say(*([verb, *about] for verb in verbs)) == [""] * len(verbs)
    assert _history(oslo) == before


def test_a_proposal_moves_nothing_but_refs_of_the_group_to_objects_that_are_here(oslo: Server, pusher: Account) -> None:
    """By somebody who has all that a hook has, and a basis that is good."""
    old, before = oslo.at(), _history(oslo)
    oslo.host.run("git", "config", "--system", "piehole.exclude", "refs/pull/*")
    _restart(oslo)
    try:
        assert "free" in pusher.say(admit(REPOSITORY, ZERO_SHA1, old, "refs/pull/1"))[0]
        for ref, was, new in (
            (MAIN, old, _NOBODYS),
            ("refs/heads/fresh", ZERO_SHA1, _NOBODYS),
            ("refs/piehole/kept/x", ZERO_SHA1, old),
            ("refs/pull/1", ZERO_SHA1, old),
        ):
            (answer,) = pusher.say(propose(REPOSITORY, was, new, _basis(oslo, ref), ref))
            assert "\nrefuse " in answer.replace("\n\n", "\n"), (ref, answer)
        for ref in ("refs/../HEAD", "refs/heads/../../@fence", "HEAD", "@push", "refs/heads/a b", "refs//x", "../x"):
            assert pusher.say(propose(REPOSITORY, ZERO_SHA1, old, _basis(oslo, ref), ref)) == [""], ref
        assert _history(oslo) == before
    finally:
        oslo.host.run("git", "config", "--system", "--unset", "piehole.exclude")
        _restart(oslo)


def test_a_folder_that_the_account_cannot_enter_closes_what_is_below_it(oslo: Server, pusher: Account) -> None:
    old = oslo.at()
    assert pusher.say(admit(REPOSITORY, old, old))[0] != ""
    oslo.host.run("chmod", "0700", "/srv/git")
    try:
        assert pusher.say(admit(REPOSITORY, old, old), status(REPOSITORY)) == ["", ""]
    finally:
        oslo.host.run("chmod", "0755", "/srv/git")


def test_a_repository_of_the_pushers_own_gets_nothing_from_the_controller(
    bed: ThreeServers, oslo: Server, pusher: Account
) -> None:
    """It claims to be this site of this group, and names an etcd of its own, to which a controller would send its password."""
    folder = "/srv/git/bobs"
    own = f"{folder}/project.git"
    oslo.host.run("install", "-d", "-o", "bob", folder)
    listener = "import socket; s = socket.create_server(('127.0.0.1', 7777)); c, _ = s.accept(); print(c.recv(100))"
    host = oslo.host
    host.sh(f'setsid python3 -c "{listener}" >/home/bob/heard 2>&1 & echo $! >/home/bob/pid', user="bob")
    try:
        until(
            lambda: host.run("sh", "-c", "grep -q :1E61 /proc/net/tcp", check=False).returncode == 0, 20, "it listens"
        )
        pusher.run("git", "clone", "--quiet", "--bare", REPOSITORY, own)
        for name, value in (
            *(("group", "project"), ("site", "oslo"), ("etcd", "http://127.0.0.1:7777"), ("url", own)),
            *(("groupId", "x"), ("siteId", "y")),
        ):
            pusher.run("git", f"--git-dir={own}", "config", f"piehole.{name}", value)
        pusher.run("git", f"--git-dir={own}", "config", "core.sshCommand", "touch /home/bob/ran")
        until(lambda: f'"{own}"' in host.log_of("piehole-controller"), 20, "the controller has looked at it")
        refusals = [json.loads(line) for line in host.log_of("piehole-controller").splitlines() if f'"{own}"' in line]
        assert {one["event"] for one in refusals} == {"repository.refused"}
        assert "uid" in refusals[0]["reason"]
        old, before = oslo.at(), _history(oslo)
        assert (
            pusher.say(admit(own, old, ZERO_SHA1), propose(own, old, ZERO_SHA1, _basis(oslo)), status(own)) == [""] * 3
        )
        assert _history(oslo) == before
        assert host.path("/home/bob/heard").read_text() == ""
        assert not host.path("/home/bob/ran").exists()
        assert not host.path(f"{own}/piehole/controller").exists()
    finally:
        host.sh("kill $(cat /home/bob/pid)", user="bob", check=False)
        host.run("rm", "-r", folder)


def test_a_pipe_in_the_place_of_a_configuration_holds_up_nobody(
    bed: ThreeServers, oslo: Server, pusher: Account, clone: str
) -> None:
    folder = "/srv/git/bobs"
    oslo.host.run("install", "-d", "-o", "bob", folder)
    try:
        oslo.host.sh(f"mkdir {folder}/x.git; cd {folder}/x.git; mkdir objects refs; : >HEAD; mkfifo config", user="bob")
        started = oslo.host.log_of("piehole-controller").count("controller.started")
        oslo.host.systemctl("restart", "piehole-controller")
        until(
            lambda: oslo.host.log_of("piehole-controller").count("controller.started") > started,
            20,
            "it has looked at all",
        )
        oid = bed.laptop.commit(clone, "past the pipe")
        accepted(bed.laptop.push(clone, pusher.url))
        bed.arrives(MAIN, oid)
    finally:
        oslo.host.run("rm", "-r", folder)


# ---- strangers


def test_a_stranger_gets_no_word_whatever_it_says(oslo: Server, stranger: Account) -> None:
    for file in _SECRETS:
        assert stranger.run("cat", f"/etc/piehole/{file}").returncode == 1, file
    old, before = oslo.at(), _history(oslo)
    questions = [
        *(admit(REPOSITORY, old, ZERO_SHA1), propose(REPOSITORY, old, ZERO_SHA1, _basis(oslo))),
        *(status(REPOSITORY), status(""), status("/"), ["status"], ["list"], [""]),
    ]
    for as_hook in (True, False):
        assert stranger.say(*questions, as_hook=as_hook) == [""] * len(questions)
    assert _history(oslo) == before


def test_a_stranger_cannot_push(bed: ThreeServers, oslo: Server, stranger: Account, clone: str) -> None:
    before = _history(oslo)
    bed.laptop.commit(clone, "by a stranger")
    pushed = bed.laptop.push(clone, stranger.url)
    assert pushed.returncode != 0
    assert "accepted" not in pushed.stderr
    assert _history(oslo) == before


def test_a_stranger_cannot_put_a_socket_of_its_own_in_the_controllers_place(
    oslo: Server, stranger: Account, pusher: Account
) -> None:
    path = socket_of(oslo)
    for somebody in (stranger, pusher):
        for command in (["rm", path], ["mv", path, "/tmp/x"], ["touch", f"{path}.new"]):  # noqa: S108 -- which must fail
            assert somebody.run(*command).returncode != 0, (somebody.name, command)
        assert somebody.run("sh", "-c", f"echo /tmp/mine >{REPOSITORY}/piehole/controller").returncode != 0
    assert socket_of(oslo) == path


def test_a_flood_of_connections_of_one_account_leaves_the_others_theirs(
    bed: ThreeServers, oslo: Server, stranger: Account, pusher: Account, clone: str
) -> None:
    flood = f"""
import socket, sys, time
ended = time.monotonic() + 4
open_now, cut = [], 0
while time.monotonic() < ended:
    for _ in range(50):
        one = socket.socket(socket.AF_UNIX); one.settimeout(5); one.connect(sys.argv[1]); one.settimeout(0)
        open_now.append(one)
    time.sleep(0.2)
    for one in list(open_now):
        try:
            cut += one.recv(1) == b""; open_now.remove(one); one.close()
        except (BlockingIOError, ConnectionResetError):
            pass
    if len(open_now) > {2 * AT_ONCE}: break
print(len(open_now), cut)
"""
    with ThreadPoolExecutor(1) as pool:
        flooding = pool.submit(stranger.run, "python3", "-c", flood, socket_of(oslo))
        time.sleep(1)  # it is in full flood
        oid = bed.laptop.commit(clone, "in the middle of a flood")
        accepted(bed.laptop.push(clone, pusher.url))
        bed.arrives(MAIN, oid)
        done = flooding.result()
    held, cut = map(int, done.stdout.split())
    assert held <= AT_ONCE, done
    assert cut > AT_ONCE


# ---- files


def test_pushers_of_one_group_push_one_after_the_other_whatever_the_controllers_umask(
    bed: ThreeServers, oslo: Server, pusher: Account, clone: str
) -> None:
    """After each other, and after what the controller has fetched, rolled up and kept with a umask of 077."""
    carol = account(bed, oslo, "carol", "git")
    laptop, lima = bed.laptop, bed.servers[1]
    unit = oslo.host.path(_UNIT).read_text()
    oslo.host.write(_UNIT, unit.replace("[Service]\n", "[Service]\nUMask=0077\n"))
    _restart(oslo)
    try:
        for number in range(2):
            for url in (pusher.url, lima.ssh, carol.url, oslo.ssh):
                oid = laptop.commit(clone, f"round {number}, to {url}")
                accepted(laptop.push(clone, url, f"HEAD:{MAIN}", f"HEAD:refs/heads/of/{oid[:8]}"))
                bed.arrives(MAIN, oid)
        accepted(laptop.push(clone, lima.ssh, f":refs/heads/of/{oid[:8]}"))
        bed.arrives(f"refs/heads/of/{oid[:8]}", "")
        accepted(laptop.push(clone, carol.url, f"HEAD:refs/heads/of/{oid[:8]}"))
        oslo.host.run("git", f"--git-dir={REPOSITORY}", "gc", "--quiet", user="git")
        listed = laptop.git(clone, "ls-remote", oslo.ssh, "refs/heads/of/*").stdout.split()[1::2]
        accepted(laptop.push(clone, pusher.url, *(f":{ref}" for ref in listed)))
        bed.in_step()
    finally:
        oslo.host.write(_UNIT, unit)
        _restart(oslo)


def test_no_file_with_a_secret_can_be_read_by_another_account(bed: ThreeServers) -> None:
    for server in bed:
        password = server.host.path("/etc/piehole/etcd-password").read_text().strip()
        account(bed, server, "mallory")
        look = f"grep -rlsF -e {password} -e 'PRIVATE KEY' /etc /srv /home /run /var /tmp"
        found = server.host.run("sh", "-c", look, user="mallory", check=False).stdout.split()
        # The hosts see this machine's checkout and packages, wherever they lie.
        assert [path for path in found if not path.startswith(str(CHECKOUT))] == [], server.site


@pytest.mark.parametrize("file", ["etcd-password", "client-key.pem"])
def test_check_names_a_secret_that_others_can_read(oslo: Server, file: str) -> None:
    path = f"/etc/piehole/{file}"
    oslo.piehole("check", REPOSITORY)
    for mode, who in (("0444", "every account"), ("0440", "bob")):
        oslo.host.run("chmod", mode, path)
        try:
            said = oslo.piehole("check", REPOSITORY, check=False)
        finally:
            oslo.host.run("chmod", "0400", path)
        assert said.returncode == 1
        told = next(line for line in said.stdout.splitlines() if path in line)
        assert who in told, told
        assert f"chmod 600 {path}" in said.stdout
