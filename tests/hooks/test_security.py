"""Hooks in an environment that whoever pushes has made: the group decides, or the push is refused (docs/explanation/security.md)."""

from __future__ import annotations

import os
import shlex
import shutil
import stat
from collections.abc import Mapping
from pathlib import Path

import pytest

from piehole.repository import hook_files
from piehole.repository.fitness import git_version
from tests.support.assertions import Pushed, accepted, refused
from tests.support.git import MAIN, commit, git, has_object, make_bare, push, refs
from tests.support.groups import Group, MakeGroup

_MODULES = ("json", "socket", "os", "pwd", "re", "ssl", "sitecustomize", "usercustomize", "piehole", "hooks", "etcd3gw")
_PROGRAMS = ("git", "python", "python3", "sh", "env", "ssh", "cat")
_CONFIG = '[piehole]\n\texclude = refs/*\n\tgroup = other\n[include]\n\tpath = /nowhere\n[core]\n\tsshCommand = "touch {mark}"\n'


class Evil:
    """A folder of the pusher's. Whatever of it is run or imported leaves a mark."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.mark = folder / "mark"
        self.python = folder / "python"
        self.programs = folder / "programs"
        self.home = folder / "home"
        self.repository = make_bare(folder / "repository.git")
        shutil.rmtree(self.repository / "hooks")
        (self.home / "git").mkdir(parents=True)
        self.programs.mkdir()
        trap = f"open({str(self.mark)!r}, 'w').close()\nraise SystemExit(0)\n"
        for name in _MODULES:
            (self.python / name).mkdir(parents=True)
            (self.python / name / "__init__.py").write_text(trap)
        (self.python / "hooks" / "main.py").write_text(trap)
        for name in _PROGRAMS:
            (self.programs / name).write_text(f"#!/bin/sh\n: >{shlex.quote(str(self.mark))}\nexit 0\n")
            (self.programs / name).chmod(0o755)
        self.config = self.home / ".gitconfig"
        self.config.write_text(_CONFIG.format(mark=self.mark))
        shutil.copy(self.config, self.home / "git" / "config")
        self.script = folder / "script.sh"
        self.script.write_text(f": >{shlex.quote(str(self.mark))}\nexit 0\n")


@pytest.fixture
def evil(tmp_path: Path) -> Evil:
    return Evil(tmp_path / "evil")


# What a pusher may set, by name; {folder}, {site} and so on are filled in. Each value is tried in a push that the group refuses,
# and then in one that it takes.
_ACCEPTED: dict[str, dict[str, str]] = {
    "PYTHONPATH": {"PYTHONPATH": "{python}"},
    "PYTHONSTARTUP": {"PYTHONSTARTUP": "{python}/os/__init__.py", "PYTHONINSPECT": "1"},
    "PYTHONHOME": {"PYTHONHOME": "{python}"},
    "PYTHONUSERBASE": {"PYTHONUSERBASE": "{python}", "PYTHONPLATLIBDIR": "{python}"},
    "PYTHONWARNINGS": {"PYTHONWARNINGS": "error", "PYTHONOPTIMIZE": "2", "PYTHONUTF8": "0", "PYTHONBREAKPOINT": "os.x"},
    "GIT_DIR": {"GIT_DIR": "{repository}", "GIT_WORK_TREE": "{folder}", "GIT_INDEX_FILE": "{folder}/index"},
    "GIT_CONFIG_COUNT, piehole.*": {
        "GIT_CONFIG_COUNT": "3",
        "GIT_CONFIG_KEY_0": "piehole.exclude",
        "GIT_CONFIG_VALUE_0": "refs/*",
        "GIT_CONFIG_KEY_1": "piehole.group",
        "GIT_CONFIG_VALUE_1": "other",
        "GIT_CONFIG_KEY_2": "piehole.etcd",
        "GIT_CONFIG_VALUE_2": "http://127.0.0.1:1",
    },
    "GIT_CONFIG_PARAMETERS, piehole.*": {
        "GIT_CONFIG_PARAMETERS": "'piehole.exclude'='refs/*' 'piehole.prefix'='/other'"
    },
    "GIT_CONFIG_COUNT, core.*": {
        "GIT_CONFIG_COUNT": "3",
        "GIT_CONFIG_KEY_0": "core.logAllRefUpdates",
        "GIT_CONFIG_VALUE_0": "false",
        "GIT_CONFIG_KEY_1": "core.sshCommand",
        "GIT_CONFIG_VALUE_1": "touch {mark}",
        "GIT_CONFIG_KEY_2": "core.fsync",
        "GIT_CONFIG_VALUE_2": "none",
    },
    "GIT_CONFIG_GLOBAL": {"GIT_CONFIG_GLOBAL": "{config}"},
    "GIT_CONFIG_SYSTEM": {"GIT_CONFIG_SYSTEM": "{config}", "GIT_CONFIG_NOSYSTEM": "0", "GIT_CONFIG": "{config}"},
    "HOME": {"HOME": "{home}"},
    "XDG_CONFIG_HOME": {"XDG_CONFIG_HOME": "{home}", "HOME": "/nonexistent"},
    "PATH": {"PATH": "{programs}:{path}"},
    "BASH_ENV": {"BASH_ENV": "{script}", "ENV": "{script}", "SHELLOPTS": "noexec", "BASHOPTS": "extglob"},
    "a shell's functions": {"BASH_FUNC_read%%": "() { parent=gitpack-refs; }", "BASH_FUNC_exec%%": "() { exit 0; }"},
    "IFS": {"IFS": "/rpe", "PS4": "$(touch {mark})", "CDPATH": "{folder}"},
    "proxies": dict.fromkeys(
        ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"), "http://127.0.0.1:1"
    ),
    "SSL_CERT_FILE": dict.fromkeys(
        ("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"), "{config}"
    ),
    "OPENSSL_CONF": {"OPENSSL_CONF": "{config}", "OPENSSL_MODULES": "{folder}", "SSLKEYLOGFILE": "{mark}"},
    "TZ": {"TZ": ":/etc/passwd", "LC_ALL": "tr_TR.UTF-8", "LANG": "xx", "LANGUAGE": "xx"},
    "TMPDIR": {"TMPDIR": "/nonexistent"},
    "GIT_PUSH_OPTION": {"GIT_PUSH_OPTION_COUNT": "1", "GIT_PUSH_OPTION_0": "piehole.exclude=refs/*"},
    "GL_USER": {"GL_USER": "a\nearlier\nwant refs/heads/x", "REMOTE_USER": "\n\n"},
    "names of piehole's own": {"PIEHOLE_EXCLUDE": "refs/*", "PIEHOLE_ETCD": "http://127.0.0.1:1", "PIEHOLE_GROUP": "x"},
    "GIT_REPLACE_REF_BASE": {"GIT_REPLACE_REF_BASE": "refs/heads/", "GIT_GRAFT_FILE": "{config}"},
    "GIT_TRACE": {"GIT_TRACE": "1", "GIT_TRACE2": "1", "GIT_SSH_COMMAND": "touch {mark}", "GIT_ASKPASS": "{script}"},
}
_REFUSED: dict[str, dict[str, str]] = {
    "GIT_NAMESPACE": {"GIT_NAMESPACE": "elsewhere"},
    "GIT_QUARANTINE_PATH": {"GIT_QUARANTINE_PATH": "{folder}"},
    "GIT_OBJECT_DIRECTORY": {
        "GIT_OBJECT_DIRECTORY": "{repository}/objects",
        "GIT_ALTERNATE_OBJECT_DIRECTORIES": "{site}/objects",
    },
    "GIT_EXEC_PATH": {"GIT_EXEC_PATH": "{programs}"},
}
# With an ordinary shell one can have git run no hook at all. That is no push any more, but an update-ref.
_PAST_THE_HOOKS = {
    "GIT_CONFIG_COUNT": "env GIT_CONFIG_COUNT=1 GIT_CONFIG_KEY_0=core.hooksPath GIT_CONFIG_VALUE_0=/nowhere git-receive-pack",
    "GIT_CONFIG_PARAMETERS": "env \"GIT_CONFIG_PARAMETERS='core.hooksPath'='/nowhere'\" git-receive-pack",
    "an option of git": "git -c core.hooksPath=/nowhere receive-pack",
}


def _filled(variables: Mapping[str, str], evil: Evil, site: Path) -> str:
    """The command for ``--receive-pack``: what a client at an ordinary shell account may ask for."""
    known = {**vars(evil), "site": site, "path": os.environ["PATH"]}
    words = ["/usr/bin/env"]
    for name, value in variables.items():
        for place, filling in known.items():
            value = value.replace(f"{{{place}}}", str(filling))
        words.append(f"{name}={value}")
    return shlex.join([*words, str(shutil.which("git-receive-pack"))])


def _push(work: Path, site: Path, receive_pack: str) -> Pushed:
    return push(work, site, f"--receive-pack={receive_pack}", "HEAD:main")


def _frozen(world: Group, evil: Evil, variables: Mapping[str, str]) -> tuple[Path, Path, str, str]:
    """A push under these variables, of a ref that the group has locked: nothing moves."""
    site, work, first = world.founded()
    world.etcd.put(world.key(MAIN), "frozen")
    second = commit(work)
    assert _push(work, site, _filled(variables, evil, site)).returncode != 0
    assert (refs(site)[MAIN], world.value()) == (first, "frozen")
    world.etcd.put(world.key(MAIN), first)
    return site, work, first, second


@pytest.mark.parametrize("name", _ACCEPTED)
def test_a_variable_of_the_pushers_changes_nothing_of_what_the_group_decides(
    world: Group, evil: Evil, name: str
) -> None:
    """Without a controller: the hook decides itself, with all that it inherits."""
    site, work, _, second = _frozen(world, evil, _ACCEPTED[name])
    accepted(_push(work, site, _filled(_ACCEPTED[name], evil, site)))
    assert refs(site)[MAIN] == world.value() == second
    assert has_object(site, second)
    assert not evil.mark.exists(), f"something of the pusher's was run: {name}"


@pytest.mark.parametrize("name", _REFUSED)
def test_a_variable_that_leads_git_astray_has_the_push_refused(world: Group, evil: Evil, name: str) -> None:
    site, work, first, second = _frozen(world, evil, _REFUSED[name])
    done = _push(work, site, _filled(_REFUSED[name], evil, site))
    if name == "GIT_QUARANTINE_PATH" and git_version() >= (2, 51) and done.returncode == 0:
        # Such a git (seen with 2.55) forbids moves in a quarantine until it has moved the objects of this push, whatever was set before.
        assert refs(site)[MAIN] == world.value() == second
        assert has_object(site, second)
        return
    assert done.returncode != 0
    assert refs(site)[MAIN] == world.value() == first


def test_with_a_controller_and_with_all_of_it_at_once_the_group_still_decides(
    make_group: MakeGroup, evil: Evil
) -> None:
    group = make_group(1)
    site = group[0].repository
    work = group[0].clone()
    commit(work)
    accepted(push(work, site, "HEAD:main"))
    everything = {name: value for variables in _ACCEPTED.values() for name, value in variables.items()}
    second = commit(work)
    accepted(_push(work, site, _filled(everything, evil, site)))
    assert group[0].at() == group.value() == second
    group.put(MAIN, "frozen")
    commit(work)
    assert _push(work, site, _filled(everything, evil, site)).returncode != 0
    assert (group[0].at(), group.value()) == (second, "frozen")
    assert not evil.mark.exists()


@pytest.mark.parametrize("way", _PAST_THE_HOOKS)
def test_who_gets_git_to_run_no_hook_has_pushed_nothing_to_the_group(make_group: MakeGroup, way: str) -> None:
    group = make_group(1)
    site = group[0]
    work = site.clone()
    first = commit(work)
    accepted(push(work, site.repository, "HEAD:main"))
    stray = commit(work)
    accepted(_push(work, site.repository, _PAST_THE_HOOKS[way]))
    assert group.history() == [first]
    site.stop()
    site.start()
    group.arrives(MAIN, first)
    assert site.kept() == {stray}
    assert group.history() == [first]


def test_a_receive_pack_that_calls_itself_something_else_is_refused(world: Group) -> None:
    """The gate lets `git pack-refs` pass; `update` has refused before."""
    site, work, first = world.founded()
    commit(work)
    refused(_push(work, site, "bash -c 'exec -a gitpack-refs git receive-pack \"$0\"'"), "no-access")
    assert refs(site)[MAIN] == world.value() == first


def test_push_options_are_no_business_of_the_hooks(world: Group) -> None:
    site, work, first = world.founded()
    git(site, "config", "receive.advertisePushOptions", "true")
    world.etcd.put(world.key(MAIN), "frozen")
    second = commit(work)
    options = ["--push-option=piehole.exclude=refs/*", "--push-option=--force", "--push-option=admin"]
    refused(push(work, site, *options, "HEAD:main"), "locked")
    world.etcd.put(world.key(MAIN), first)
    accepted(push(work, site, *options, "HEAD:main"))
    assert world.history() == [first, "frozen", first, second]


@pytest.mark.parametrize("name", ["BASH_ENV", "a shell's functions", "IFS"])
@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash on this machine")
def test_where_sh_is_bash_nothing_in_its_environment_opens_the_gate(
    world: Group, evil: Evil, tmp_path: Path, name: str
) -> None:
    shell = tmp_path / "sh"
    shell.symlink_to(str(shutil.which("bash")))
    site, work, first = world.founded()
    for hook in hook_files.HOOKS:
        file = site / "hooks" / hook
        file.write_text(hook_files.first_line(shell) + "\n" + file.read_text().partition("\n")[2])
    receive_pack = _filled(_ACCEPTED[name], evil, site)
    world.etcd.put(world.key(MAIN), "frozen")
    second = commit(work)
    assert _push(work, site, receive_pack).returncode != 0
    assert (refs(site)[MAIN], world.value()) == (first, "frozen")
    world.etcd.put(world.key(MAIN), first)
    accepted(_push(work, site, receive_pack))
    assert refs(site)[MAIN] == world.value() == second


# ---- files


def _modes(site: Path) -> dict[str, int]:
    """Everything that pushes and the controller write, by its path."""
    tops = ("objects", "refs", "logs", "packed-refs", "piehole/inflight")
    found = {}
    for top in tops:
        for path in (site / top, *(site / top).rglob("*")):
            # A quarantine and a .keep are of one process and go with it; the log of a kept tip is piehole's own to write.
            if path.exists():
                found[str(path.relative_to(site))] = stat.S_IMODE(path.stat().st_mode)
    return found


@pytest.mark.parametrize(
    ("shared", "files", "folders"),
    [("group", 0o060, 0o070), ("all", 0o064, 0o075), ("0660", 0o060, 0o070), ("0644", 0o044, 0o055)],
)
def test_whatever_the_umask_all_files_have_the_mode_that_the_repository_asks_for(
    make_group: MakeGroup, shared: str, files: int, folders: int
) -> None:
    group = make_group(0)
    before = os.umask(0o077)
    try:
        for name in ("a", "b"):
            site = group.add(name)
            git(group.folder, "init", "--quiet", "--bare", "-b", "main", f"--shared={shared}", str(site.repository))
            git(site.repository, "config", "receive.denyNonFastForwards", "false")
            site.build()
        group.start()
        work = group[0].clone()
        for number, site in enumerate([*group, *group]):
            commit(work, f"{number} at {site.name}")
            names = ("main", f"topic/{number}", f"refs/tags/v{number}")
            accepted(push(work, site.repository, *(f"HEAD:{name}" for name in names)))
            group.in_step()
        git(work, "commit", "--quiet", "--amend", "--allow-empty", "-m", "a tip is left behind")
        accepted(push(work, group[0].repository, "--force", "HEAD:main", ":topic/0"))
        group.in_step()
    finally:
        os.umask(before)
    for site in group:
        assert site.kept()
        wrong = {}
        for path, mode in _modes(site.repository).items():
            full = site.repository / path
            wanted = folders if full.is_dir() else files
            # Objects are never written twice, so nobody has the right to.
            if path.startswith("objects/") and full.is_file():
                wanted &= 0o044
            if mode & wanted != wanted:
                wrong[path] = oct(mode)
        assert wrong == {}, site.name
