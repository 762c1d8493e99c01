"""Who is answered on the hooks' socket, and who is not."""

from __future__ import annotations

import os
import shutil
import socket
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from piehole.fastpath import controller_socket
from tests.support import git
from tests.support.assertions import accepted
from tests.support.git import MAIN, ZERO_SHA1
from tests.support.groups import MakeGroup
from tests.support.sites import Site
from tests.support.wait import until

# Another account may not be able to reach the interpreter of these tests.
SYSTEM_PYTHON = shutil.which("python3", path="/usr/bin:/bin")
needs_root = pytest.mark.skipif(os.geteuid() != 0 or SYSTEM_PYTHON is None, reason="no way to act as another account")
NOBODY = 65534

# Asks one question and prints what comes back, as a child of a process that calls itself git-receive-pack.
_CLIENT = """
import os, socket, sys
sys.path[:0] = [{tree!r}]
from piehole.fastpath import controller_socket, processes
pack = {pack} or os.getppid()
lines = ["admit", "repository {repository}", f"push {{processes.identity(pack)}} 00", "waited 0", "command {ref} {old} {new}"]
s = socket.socket(socket.AF_UNIX); s.settimeout(10); s.connect({path!r}); s.sendall(controller_socket.pack(lines))
answer = b""
while answer.count(b"\\n\\n") < 2 and (chunk := s.recv(65536)): answer += chunk
print(answer.decode())
"""

# Asks, and goes without waiting for the answer.
_GONE = """
import os, socket, sys
sys.path[:0] = [{tree!r}]
from piehole.fastpath import controller_socket, processes
lines = [line.replace("PACK", processes.identity(os.getppid())) for line in {lines!r}]
s = socket.socket(socket.AF_UNIX); s.connect({path!r}); s.sendall(controller_socket.pack(lines)); s.close()
open({gone!r}, "w").close()
import time; time.sleep(60)
"""


def client(site: Site, *, below_receive_pack: bool = True, uid: int | None = None, pack: str = "0") -> str:
    """What a process gets as an answer that asks whether main may move."""
    tree = str(Path(controller_socket.__file__).parents[2])
    oid = git.rev_parse(site.repository, MAIN)
    script = _CLIENT.format(
        tree=tree, repository=site.repository, path=path_of(site), ref=MAIN, old=oid, new=ZERO_SHA1, pack=pack
    )
    name = "git-receive-pack" if below_receive_pack else "somebody"
    # bash stays as the parent, since something follows the command.
    python = sys.executable if uid is None else str(SYSTEM_PYTHON)
    command = ["bash", "-c", f'exec -a {name} bash -c \'"$0" -I -c "$1"; true\' "$0" "$1"', python, script]
    if uid is not None:
        command = ["setpriv", f"--reuid={uid}", "--clear-groups", "--", *command]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert not done.stderr, done.stderr
    return done.stdout.strip()


def path_of(site: Site) -> str:
    return (site.repository / "piehole" / "controller").read_text().strip()


@pytest.fixture
def site(make_group: MakeGroup) -> Site:
    group = make_group(1)
    work = group[0].clone()
    git.commit(work, "one")
    accepted(git.push(work, "origin", "HEAD:main"))
    return group[0]


def test_a_hook_is_answered(site: Site) -> None:
    assert client(site).startswith("here 1 ")
    assert "take" in client(site)


def test_a_client_that_is_no_hook_gets_no_word(site: Site) -> None:
    assert client(site, below_receive_pack=False) == ""


def test_a_client_that_names_another_process_gets_no_word(site: Site) -> None:
    assert client(site, pack="1") == ""


@needs_root
def test_an_account_that_cannot_write_the_repository_gets_no_word(site: Site) -> None:
    with open_to_everybody(site):
        assert client(site, uid=NOBODY) == ""


@needs_root
def test_another_account_that_can_write_the_repository_is_answered(site: Site) -> None:
    with open_to_everybody(site):
        site.repository.chmod(0o777)
        assert client(site, uid=NOBODY).startswith("here 1 ")


@needs_root
def test_a_hook_asks_nobody_but_the_owner_of_its_repository(site: Site) -> None:
    assert controller_socket.ask(str(site.repository), ["status", f"repository {site.repository}"])[0] == "status"
    os.chown(site.repository, NOBODY, -1)
    with pytest.raises(controller_socket.NoController, match="another account") as nobody:
        controller_socket.ask(str(site.repository), ["status"])
    assert not nobody.value.asked


def test_everybody_may_connect_and_only_the_controllers_account_may_put_something_there(site: Site) -> None:
    path = Path(path_of(site))
    assert len(str(path)) <= 107
    assert stat.S_IMODE(path.stat().st_mode) == 0o666
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o755


def test_a_directory_that_others_can_write_is_not_used(make_group: MakeGroup, monkeypatch: pytest.MonkeyPatch) -> None:
    group = make_group(1, started=False)
    (group.runtime / "piehole").mkdir()
    (group.runtime / "piehole").chmod(0o777)
    group.environment["TMPDIR"] = str(group.runtime / "tmp")
    (group.runtime / "tmp" / f"piehole-{os.geteuid()}").mkdir(parents=True)
    (group.runtime / "tmp" / f"piehole-{os.geteuid()}").chmod(0o777)
    refused = group.piehole("controller", "--root", str(group[0].root), check=False)
    assert refused.status == 1
    assert "is not a directory that only this account can write" in refused.err


def test_nonsense_and_silence_on_the_socket_disturb_nobody(site: Site) -> None:
    silent = [socket.socket(socket.AF_UNIX) for _ in range(50)]
    for one in silent:
        one.connect(path_of(site))
    for nonsense in (
        b"\n\n",
        b"\0" * 1000 + b"\n\n",
        b"propose\n\n",
        b"admit\nrepository /\npush x y\nwaited nan\n\n",
        b"",
    ):
        with socket.socket(socket.AF_UNIX) as one:
            one.settimeout(10)
            one.connect(path_of(site))
            one.sendall(nonsense)
            one.shutdown(socket.SHUT_WR)
            assert one.recv(100) == b""
    work = site.clone()
    git.commit(work, "two")
    accepted(git.push(work, "origin", "HEAD:main"))
    for one in silent:
        one.close()
    assert not site.events("answer.crashed")
    assert "Traceback" not in site.log_text()


def test_a_proposal_of_a_hook_that_has_gone_is_dropped(site: Site, tmp_path: Path) -> None:
    """Its receive-pack lives and its bases are good, but it has hung up: it has decided without us meanwhile."""
    found = site.group.etcd.look(site.group.key(MAIN))
    record = site.group.etcd.look(f"{site.group.prefix}/group/{site.group.name}")
    own = site.group.etcd.look(f"{site.group.prefix}/site/{site.group.name}/{site}")
    assert found is not None and record is not None and own is not None
    basis = f"[{found.mod_revision},{found.mod_revision},{record.mod_revision},{own.mod_revision},0,[],1]"
    lines = ["propose", f"repository {site.repository}", "push PACK 00", "waited 0", "pusher x"]
    script = _GONE.format(
        tree=str(Path(controller_socket.__file__).parents[2]),
        lines=[*lines, f"want {MAIN} {found.value} {ZERO_SHA1} {basis}"],
        path=path_of(site),
        gone=str(tmp_path / "gone"),
    )
    site.stop()
    site.start("--log-level", "debug").pause()
    command = 'exec -a git-receive-pack bash -c \'"$0" -I -c "$1"; true\' "$0" "$1"'
    push = subprocess.Popen(["bash", "-c", command, sys.executable, script], start_new_session=True)
    try:
        until((tmp_path / "gone").exists, 20, "the hook has asked and gone")
        site.resume()
        until(lambda: site.events("hook.gone") or site.events("proposal.dropped"), 15, "the proposal is dropped")
        assert site.group.history() == [found.value]
    finally:
        os.killpg(push.pid, 9)
        push.wait()


class open_to_everybody:  # noqa: N801 -- used like a function
    """The folders above the repository, so that another account gets as far as the repository itself."""

    def __init__(self, site: Site) -> None:
        self._folders = [path for path in site.repository.parents if path.stat().st_uid == os.geteuid()]
        self._modes: list[tuple[Path, int]] = []

    def __enter__(self) -> None:
        for path in self._folders:
            mode = stat.S_IMODE(path.stat().st_mode)
            if not mode & 0o001:
                self._modes.append((path, mode))
                path.chmod(mode | 0o055)

    def __exit__(self, *_: object) -> None:
        for path, mode in self._modes:
            path.chmod(mode)
