"""A real sshd on loopback, run by the current account, with keys of its own."""

from __future__ import annotations

import os
import pwd
import shlex
import subprocess
from pathlib import Path

from tests.support.git import git_environment, make_home
from tests.support.ports import LOOPBACK
from tests.support.process import ManagedProcess
from tests.support.servers import Unavailable, find_program, start_on_free_port

_SSHD_CONFIG = """\
ListenAddress {address}
HostKey {folder}/host_key
AuthorizedKeysFile {folder}/user_key.pub
PidFile none
StrictModes no
UsePAM {pam}
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin prohibit-password
AllowUsers {user}
AcceptEnv GIT_PROTOCOL
MaxStartups 100
MaxSessions 100
PrintMotd no
SetEnv {environment}
"""
_SSH_CONFIG = """\
Host *
    User {user}
    IdentityFile {folder}/user_key
    IdentitiesOnly yes
    IdentityAgent none
    UserKnownHostsFile {folder}/known_hosts
    GlobalKnownHostsFile /dev/null
    StrictHostKeyChecking yes
    BatchMode yes
    ConnectTimeout 10
    ControlMaster no
    SendEnv GIT_PROTOCOL
    LogLevel ERROR
"""


class SshServer:
    """``ssh://user@127.0.0.1:port/path`` for every absolute path of this machine.

    :param force: the command that every login runs, whatever it asks for
    :param settings: further lines of its configuration
    :raises Unavailable: there is no sshd, or the account cannot log in through one
    """

    def __init__(self, folder: Path, force: str = "", settings: str = "") -> None:
        self._force = force
        self._settings = settings
        self._program = find_program("sshd")
        account = pwd.getpwuid(os.getuid())
        if Path(account.pw_shell).name in {"nologin", "false"}:
            raise Unavailable(f"the account {account.pw_name} has no login shell, so sshd cannot serve it")
        self.user = account.pw_name
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self._write_keys()
        self._write_configs()
        if os.getuid() == 0:
            Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # sshd's privilege separation directory
        self.port, self._process = start_on_free_port(self._start)
        known = f"[{LOOPBACK}]:{self.port} {(folder / 'host_key.pub').read_text()}"
        (folder / "known_hosts").write_text(known)

    @property
    def ssh_config(self) -> Path:
        """A client configuration that logs in without a question."""
        return self.folder / "ssh_config"

    @property
    def git_ssh_command(self) -> str:
        """The value of ``GIT_SSH_COMMAND`` (or ``core.sshCommand``)."""
        return f"ssh -F {shlex.quote(str(self.ssh_config))}"

    def url_for(self, path: Path) -> str:
        return f"ssh://{self.user}@{LOOPBACK}:{self.port}{path}"

    @property
    def log(self) -> str:
        return self._process.tail(200)

    def end(self) -> None:
        self._process.end()

    def _start(self, port: int) -> ManagedProcess:
        config = self.folder / "sshd_config"
        return ManagedProcess(
            [str(self._program), "-D", "-e", "-f", str(config), "-p", str(port)], self.folder / "sshd.log"
        )

    def _write_keys(self) -> None:
        for name in ("host_key", "user_key"):
            subprocess.run(
                ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "test", "-f", str(self.folder / name)],
                check=True,
                stdin=subprocess.DEVNULL,
                timeout=30,
            )

    def _write_configs(self) -> None:
        environment = git_environment(make_home(self.folder / "home"))
        for name in ("USER", "LOGNAME", "SHELL"):
            environment.pop(name, None)  # sshd sets these from the account
        config = _SSHD_CONFIG.format(
            address=LOOPBACK,
            folder=self.folder,
            user=self.user,
            pam="yes" if _locked_password(self.user) else "no",
            environment=" ".join(f'"{name}={value}"' for name, value in environment.items()),
        )
        force = f"ForceCommand {self._force}\n" if self._force else ""
        (self.folder / "sshd_config").write_text(config + self._settings + force)
        self.ssh_config.write_text(_SSH_CONFIG.format(folder=self.folder, user=self.user))


def _locked_password(user: str) -> bool:
    """Without PAM, sshd as root refuses every login to an account whose password field begins with ``!``."""
    try:
        lines = Path("/etc/shadow").read_text().splitlines()
    except OSError:
        return False  # an unprivileged sshd cannot look either
    return any(line.startswith(f"{user}:!") for line in lines)
