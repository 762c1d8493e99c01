"""A real smart HTTP server: nginx in front of ``git http-backend``, run by the current account on loopback."""

from __future__ import annotations

import getpass
import os
import socket
import subprocess
from dataclasses import dataclass
from pathlib import Path

from tests.support.git import git_environment, make_home
from tests.support.ports import LOOPBACK
from tests.support.process import ManagedProcess
from tests.support.servers import Unavailable, find_program, start_on_free_port

# One fcgiwrap serves one request at a time, and a push may wait for a fetch from the same server.
_BACKENDS = 4

# A single process: the worker of a master that was killed would stay.
_NGINX_CONFIG = """\
daemon off;
master_process off;
pid {folder}/nginx.pid;
error_log {folder}/error.log;
{user_line}
events {{ worker_connections 256; }}
http {{
    access_log {folder}/access.log;
    client_max_body_size 0;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    server {{
        listen {address}:{port};
        location / {{
{auth}
            fastcgi_pass {address}:{backend_port};
            fastcgi_read_timeout {silence};
            fastcgi_param SCRIPT_FILENAME {backend};
            fastcgi_param QUERY_STRING $query_string;
            fastcgi_param REQUEST_METHOD $request_method;
            fastcgi_param CONTENT_TYPE $content_type;
            fastcgi_param CONTENT_LENGTH $content_length;
            fastcgi_param PATH_INFO $uri;
            fastcgi_param REMOTE_ADDR $remote_addr;
            fastcgi_param REMOTE_USER {remote_user};
            fastcgi_param SERVER_PROTOCOL $server_protocol;
            fastcgi_param GIT_PROTOCOL $http_git_protocol if_not_empty;
            fastcgi_param GIT_PROJECT_ROOT {base};
            fastcgi_param GIT_HTTP_EXPORT_ALL 1;
{environment}
        }}
    }}
}}
"""


@dataclass(frozen=True)
class HttpUser:
    """Who may enter, with a password (Basic authentication); pushes carry the name as REMOTE_USER."""

    name: str
    password: str


class HttpServer:
    """Serves every repository below ``base``; git decides itself about pushes (``http.receivepack``).

    :param remote_user: the name that every request carries without being asked for one; git http-backend lets a
        request with a name push. Empty: only repositories with ``http.receivepack=true`` take pushes
    :param basic: ask for this name and password instead
    :param backend: the CGI program, if not git http-backend
    :param silence: after which nginx ends a request, as deploy/nginx.conf has it
    :raises Unavailable: nginx or fcgiwrap is missing
    """

    def __init__(
        self,
        folder: Path,
        base: Path,
        *,
        remote_user: str = "pusher",
        basic: HttpUser | None = None,
        silence: str = "300s",
        backend: Path | None = None,
    ) -> None:
        self._nginx = find_program("nginx")
        self._fcgiwrap = find_program("fcgiwrap")
        exec_path = subprocess.run(["git", "--exec-path"], capture_output=True, text=True, check=True).stdout.strip()
        self._backend = backend or Path(exec_path) / "git-http-backend"
        if not self._backend.exists():
            raise Unavailable("no git-http-backend on this machine")
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self._base = base
        self._remote_user = remote_user
        self._basic = basic
        self._silence = silence
        self._environment = git_environment(make_home(folder / "home"))
        self._gate = socket.create_server((LOOPBACK, 0), backlog=128)
        self._wrappers = [
            ManagedProcess(
                [str(self._fcgiwrap)], folder / "fcgiwrap.log", env=self._environment, stdin=self._gate.fileno()
            )
            for _ in range(_BACKENDS)
        ]
        try:
            self.port, self._process = start_on_free_port(self._start)
        except BaseException:
            self._end_backends()
            raise

    @property
    def url(self) -> str:
        """``http://127.0.0.1:port``, with name and password where they are asked for."""
        login = f"{self._basic.name}:{self._basic.password}@" if self._basic else ""
        return f"http://{login}{LOOPBACK}:{self.port}"

    def url_for(self, repository: Path) -> str:
        """The URL of a repository below the base."""
        return f"{self.url}/{repository.relative_to(self._base)}"

    @property
    def log(self) -> str:
        """What nginx complained about."""
        file = self.folder / "error.log"
        return file.read_text(errors="replace") if file.exists() else ""

    def end(self) -> None:
        self._process.end()
        self._end_backends()

    def _end_backends(self) -> None:
        for wrapper in self._wrappers:
            wrapper.end()
        self._gate.close()

    def _start(self, port: int) -> ManagedProcess:
        config = self.folder / "nginx.conf"
        config.write_text(self._config(port))
        arguments = [str(self._nginx), "-p", str(self.folder), "-e", f"{self.folder}/error.log", "-c", str(config)]
        return ManagedProcess(arguments, self.folder / "nginx.log")

    def _config(self, port: int) -> str:
        auth = ""
        remote_user = f'"{self._remote_user}"'
        if self._basic:
            passwords = self.folder / "htpasswd"
            passwords.write_text(f"{self._basic.name}:{{PLAIN}}{self._basic.password}\n")
            auth = f'auth_basic "git";\nauth_basic_user_file {passwords};'
            remote_user = "$remote_user"
        return _NGINX_CONFIG.format(
            folder=self.folder,
            user_line=f"user {getpass.getuser()};" if os.getuid() == 0 else "",
            address=LOOPBACK,
            port=port,
            auth=auth,
            backend_port=self._gate.getsockname()[1],
            backend=self._backend,
            remote_user=remote_user,
            silence=self._silence,
            base=self._base,
            environment="\n".join(f'fastcgi_param {name} "{value}";' for name, value in self._environment.items()),
        )
