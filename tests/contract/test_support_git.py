"""The git helpers and the servers over git do what the tests that stand on them believe."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.support.git import clone, commit, git, has_object, make_bare, push, refs, rev_parse
from tests.support.gitdaemon import GitDaemon
from tests.support.httpd import HttpServer, HttpUser
from tests.support.servers import Unavailable
from tests.support.sshd import SshServer


@pytest.fixture
def bare(tmp_path: Path) -> Path:
    """A bare repository with one commit on main."""
    repository = make_bare(tmp_path / "site" / "repo.git")
    work = clone(repository, tmp_path / "seed")
    commit(work, "the first")
    assert push(work, "origin", "main").returncode == 0
    return repository


def test_a_push_is_seen_in_the_refs(bare: Path, tmp_path: Path) -> None:
    work = clone(bare, tmp_path / "work")
    oid = commit(work, "the second")
    done = push(work, "origin", "HEAD:refs/heads/topic", "--atomic")

    assert done.returncode == 0, done.stderr
    assert refs(bare)["refs/heads/topic"] == oid == rev_parse(bare, "topic")
    assert has_object(bare, oid)
    assert not has_object(bare, "1" * 40)


def test_a_repository_can_have_sha256_oids(tmp_path: Path) -> None:
    bare = make_bare(tmp_path / "repo.git", "sha256")
    git(tmp_path, "init", "--quiet", "--object-format=sha256", "work")
    oid = commit(tmp_path / "work")
    assert push(tmp_path / "work", bare, "main").returncode == 0
    assert refs(bare) == {"refs/heads/main": oid}
    assert len(oid) == 64


def test_nothing_of_the_surroundings_reaches_git(git_env: dict[str, str], tmp_path: Path) -> None:
    assert os.environ["HOME"] == git_env["HOME"]
    assert {name for name in os.environ if name.startswith("GIT_")} == {"GIT_CONFIG_NOSYSTEM", "GIT_TERMINAL_PROMPT"}
    origins = git(tmp_path, "config", "--list", "--show-origin", "--name-only").stdout.splitlines()
    assert {line.split("\t")[0] for line in origins} == {f"file:{git_env['HOME']}/.gitconfig"}


def test_clone_and_push_over_ssh(bare: Path, sshd: SshServer, tmp_path: Path) -> None:
    env = {"GIT_SSH_COMMAND": sshd.git_ssh_command}
    work = clone(sshd.url_for(bare), tmp_path / "work", env=env)
    oid = commit(work, "over ssh")
    done = push(work, "origin", "main", env=env)

    assert done.returncode == 0, done.stderr
    assert refs(bare)["refs/heads/main"] == oid


def test_ssh_serves_protocol_version_2(bare: Path, sshd: SshServer, tmp_path: Path) -> None:
    env = {"GIT_SSH_COMMAND": sshd.git_ssh_command, "GIT_TRACE_PACKET": "1"}
    traced = git(tmp_path, "-c", "protocol.version=2", "ls-remote", sshd.url_for(bare), env=env)
    assert "version 2" in traced.stderr


def test_ssh_lets_nobody_in_without_the_key(bare: Path, sshd: SshServer, tmp_path: Path) -> None:
    keyless = tmp_path / "ssh_config"
    keyless.write_text(sshd.ssh_config.read_text().replace(f"{sshd.folder}/user_key", "/dev/null"))
    env = {"GIT_SSH_COMMAND": f"ssh -F {keyless}"}
    done = git(tmp_path, "ls-remote", sshd.url_for(bare), env=env, check=False)
    assert done.returncode != 0
    assert "Permission denied" in done.stderr


def test_hooks_behind_ssh_live_in_the_same_hermetic_environment(bare: Path, sshd: SshServer, tmp_path: Path) -> None:
    hook = bare / "hooks" / "post-receive"
    hook.write_text(f"#!/bin/sh\nenv > {tmp_path}/environment\n")
    hook.chmod(0o755)
    env = {"GIT_SSH_COMMAND": sshd.git_ssh_command}
    work = clone(sshd.url_for(bare), tmp_path / "work", env=env)
    commit(work)
    assert push(work, "origin", "main", env=env).returncode == 0

    seen = (tmp_path / "environment").read_text().splitlines()
    assert "GIT_CONFIG_NOSYSTEM=1" in seen
    assert f"HOME={sshd.folder}/home" in seen


def test_clone_and_push_over_http(bare: Path, httpd: HttpServer, tmp_path: Path) -> None:
    hook = bare / "hooks" / "pre-receive"
    hook.write_text(f"#!/bin/sh\necho $REMOTE_USER > {tmp_path}/pusher\n")
    hook.chmod(0o755)
    work = clone(httpd.url_for(bare), tmp_path / "work")
    oid = commit(work, "over http", content="x" * 3_000_000)
    done = push(work, "origin", "main")

    assert done.returncode == 0, done.stderr + httpd.log
    assert refs(bare)["refs/heads/main"] == oid
    assert (tmp_path / "pusher").read_text() == "pusher\n"


def test_http_serves_protocol_version_2(bare: Path, httpd: HttpServer, tmp_path: Path) -> None:
    env = {"GIT_TRACE_PACKET": "1"}
    traced = git(tmp_path, "-c", "protocol.version=2", "ls-remote", httpd.url_for(bare), env=env)
    assert "version 2" in traced.stderr


def test_http_asks_for_the_password_where_it_is_told_to(bare: Path, tmp_path: Path) -> None:
    try:
        server = HttpServer(tmp_path / "closed", tmp_path, basic=HttpUser("alice", "secret"))
    except Unavailable as missing:
        pytest.skip(f"http: {missing}")
    try:
        with_login = server.url_for(bare)
        assert git(tmp_path, "ls-remote", with_login).returncode == 0
        stranger = with_login.replace("alice:secret@", "")
        assert git(tmp_path, "ls-remote", stranger, check=False).returncode != 0
        work = clone(with_login, tmp_path / "work")
        commit(work)
        assert push(work, "origin", "main").returncode == 0
    finally:
        server.end()


def test_http_without_a_name_takes_no_push(bare: Path, tmp_path: Path) -> None:
    try:
        server = HttpServer(tmp_path / "anonymous", tmp_path, remote_user="")
    except Unavailable as missing:
        pytest.skip(f"http: {missing}")
    try:
        work = clone(server.url_for(bare), tmp_path / "work")
        commit(work)
        assert push(work, "origin", "main").returncode != 0
        git(bare, "config", "http.receivepack", "true")
        assert push(work, "origin", "main").returncode == 0
    finally:
        server.end()


def test_clone_and_push_over_git(bare: Path, git_daemon: GitDaemon, tmp_path: Path) -> None:
    work = clone(git_daemon.url_for(bare), tmp_path / "work")
    oid = commit(work, "over git")
    done = push(work, "origin", "main")

    assert done.returncode == 0, done.stderr
    assert refs(bare)["refs/heads/main"] == oid


def test_a_git_daemon_takes_pushes_only_when_told_to(bare: Path, tmp_path: Path) -> None:
    server = GitDaemon(tmp_path / "read-only", tmp_path)
    try:
        work = clone(server.url_for(bare), tmp_path / "work")
        commit(work)
        assert push(work, "origin", "main").returncode != 0
    finally:
        server.end()
