"""Accounts of people on a server, and what a process of theirs can say to the controller's socket."""

from __future__ import annotations

import json
from dataclasses import dataclass

from tests.servers.bed.hosts import Done, Host
from tests.servers.bed.three import REPOSITORY, Server, ThreeServers
from tests.support.git import MAIN

# Says the lines to the socket and prints what comes back. PACK is replaced by the name of the process above, so that with a
# parent that calls itself git-receive-pack this is all that a hook of piehole could say.
_SAY = """
import json, os, pathlib, socket, sys

def identity(pid):
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    boot = pathlib.Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return f"{boot}.{os.readlink('/proc/self/ns/pid').strip('pid:[]')}.{pid}.{fields[19]}"

for lines in json.load(sys.stdin):
    with socket.socket(socket.AF_UNIX) as one:
        one.settimeout(15)
        one.connect(sys.argv[1])
        said = "\\n".join(lines).replace("PACK", identity(os.getppid()))
        one.sendall(said.encode() + b"\\n\\n")
        answer = b""
        try:
            while answer.count(b"\\n\\n") < 2 and (chunk := one.recv(65536)):
                answer += chunk
        except ConnectionResetError:
            pass
    print(json.dumps(answer.decode()))
"""
# Something follows the command, so that bash stays as its parent.
_BELOW = '"$@"; exit $?'
_AS_RECEIVE_PACK = f"exec -a git-receive-pack bash -c '{_BELOW}' bash \"$@\""


@dataclass(frozen=True, slots=True)
class Account:
    """Somebody's account on one server."""

    server: Server
    name: str

    @property
    def host(self) -> Host:
        return self.server.host

    @property
    def url(self) -> str:
        """Where the laptop's user pushes through this account, who has a shell."""
        return f"ssh://{self.name}@{self.host.name}{REPOSITORY}"

    def run(self, *argv: str) -> Done:
        return self.host.run(*argv, user=self.name, check=False)

    def say(self, *questions: list[str], as_hook: bool = True) -> list[str]:
        """What the controller answers to each of these; "" where it says no word.

        :param as_hook: from below a process that calls itself git-receive-pack
        """
        script = _AS_RECEIVE_PACK if as_hook else _BELOW
        command = ["bash", "-c", script, "bash", "python3", "-c", _SAY, socket_of(self.server)]
        done = self.host.run(*command, user=self.name, stdin=json.dumps(questions))
        return [json.loads(line) for line in done.stdout.splitlines()]


def account(bed: ThreeServers, server: Server, name: str, *groups: str) -> Account:
    """An account of its own on the server, made where there is none, with a shell and opened by the laptop's key."""
    host = server.host
    if host.run("id", name, check=False).returncode:
        also = [f"--groups={group}" for group in groups]
        host.run("useradd", "--create-home", "--user-group", *also, "--shell", "/bin/sh", name)
        host.run("usermod", "--password", "*", name)
        host.sh(f"install -d -m 700 -o {name} -g {name} /home/{name}/.ssh")
        host.write(f"/home/{name}/.ssh/authorized_keys", bed.laptop.key)
        host.run("chown", f"{name}:{name}", f"/home/{name}/.ssh/authorized_keys")
    return Account(server, name)


def socket_of(server: Server) -> str:
    return server.host.path(f"{REPOSITORY}/piehole/controller").read_text().strip()


def admit(repository: str, old: str, new: str, ref: str = MAIN) -> list[str]:
    """What `update` asks."""
    return ["admit", f"repository {repository}", "push PACK 00", "waited 0", f"command {ref} {old} {new}"]


def propose(repository: str, old: str, new: str, snapshot: str, ref: str = MAIN) -> list[str]:
    """What `reference-transaction` asks."""
    about = ["propose", f"repository {repository}", "push PACK 00", "waited 0", "pusher somebody"]
    return [*about, f"want {ref} {old} {new} {snapshot}"]


def status(repository: str) -> list[str]:
    """What `piehole status` asks."""
    return ["status", f"repository {repository}"]
