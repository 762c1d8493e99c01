"""The plan is made of settings and facts alone: nothing of this machine is asked or changed."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from piehole.commands.setup import etcd_parts
from piehole.commands.setup.access_steps import PasswordsAre
from piehole.commands.setup.facts import Facts
from piehole.commands.setup.file_parts import BlockIs, FileIs, FileThere
from piehole.commands.setup.machine import Machine
from piehole.commands.setup.parts import CommandDone, GitSettingIs, ProgramsAreThere, ServiceRuns, SetupStep, WaitUntil
from piehole.commands.setup.plan import plan
from piehole.commands.setup.settings import SetupSettings
from piehole.errors import EtcdRefused, EtcdUnreachable, UsageError
from tests.setup.settings import ONE, THREE, facts, settings

ETCD = THREE + '[etcd]\nendpoints = ["https://etcd.example.org:2379"]\nca = "/etc/ssl/etcd.pem"\n'


def _steps(wanted: SetupSettings, found: Facts | None = None) -> dict[str, SetupStep]:
    return {step.name: step for step in plan(wanted, found or facts(), 600)}


def _files(steps: dict[str, SetupStep]) -> dict[str, str]:
    return {
        str(part.path): part.content.decode()
        for step in steps.values()
        for part in step.parts
        if isinstance(part, FileIs)
    }


def _units(steps: dict[str, SetupStep]) -> list[str]:
    return [part.unit for step in steps.values() for part in step.parts if isinstance(part, ServiceRuns)]


def _programs(steps: dict[str, SetupStep]) -> set[str]:
    (part,) = steps["programs"].parts
    assert isinstance(part, ProgramsAreThere)
    return {program for program, _ in part.packages}


def _git(steps: dict[str, SetupStep]) -> Iterator[tuple[str, str]]:
    for part in steps["settings"].parts:
        assert isinstance(part, GitSettingIs)
        yield part.name, part.value


def test_what_waits_for_other_servers_comes_after_all_that_does_not() -> None:
    steps = list(_steps(settings()).values())
    waiting = [bool([part for part in step.parts if isinstance(part, WaitUntil)]) for step in steps]
    assert [step.name for step in steps[: waiting.index(True)]] == [
        *("programs", "accounts", "keys", "etcd", "https", "ssh", "settings")
    ]


def test_a_member_of_etcd_has_its_own_name_and_addresses_and_what_piehole_needs() -> None:
    text = _files(_steps(settings(THREE + "[etcd.settings]\nETCD_HEARTBEAT_INTERVAL = 300\n", "kyoto")))[
        "/etc/default/etcd"
    ]
    found = dict(re.findall(r"^(ETCD_[A-Z_]+)=(.*)$", text, re.MULTILINE))  # the last word counts
    assert found["ETCD_NAME"] == "kyoto"
    assert found["ETCD_LISTEN_CLIENT_URLS"] == "https://[2001:db8::13]:2379,https://127.0.0.1:2379"
    assert found["ETCD_INITIAL_CLUSTER"].split(",")[1] == "lima=https://lima.example.org:2380"
    assert (found["ETCD_CLIENT_CERT_AUTH"], found["ETCD_PEER_CLIENT_CERT_AUTH"]) == ("true", "true")
    assert (found["ETCD_MAX_TXN_OPS"], found["ETCD_HEARTBEAT_INTERVAL"]) == ("8192", "300")


def test_one_server_alone_gets_an_etcd_on_loopback_and_no_certificates() -> None:
    steps = _steps(settings(ONE), facts(made={}, users=None))
    files = _files(steps)
    assert "https://" not in re.sub(r"#.*", "", files["/etc/default/etcd"])
    assert "ETCD_INITIAL_CLUSTER=oslo=http://127.0.0.1:2380" in files["/etc/default/etcd"]
    assert {"https", "etcd users"} & steps.keys() == set()
    assert _units(steps) == ["etcd", "ssh", "piehole-controller"]
    assert [name for name, _ in _git(steps)] == ["piehole.site", "piehole.root", "piehole.etcd", "safe.directory"]


def test_an_etcd_that_is_there_gets_no_member_and_no_users() -> None:
    steps = _steps(settings(ETCD))
    assert {"etcd", "etcd users"} & steps.keys() == set()
    assert {"etcd", "etcdctl"} & _programs(steps) == set()
    assert dict(_git(steps))["piehole.etcd"] == "https://etcd.example.org:2379"
    assert dict(_git(steps))["piehole.etcdCA"] == "/etc/ssl/etcd.pem"


def test_over_ssh_alone_the_sites_get_keys_that_can_only_fetch_and_no_web_server() -> None:
    peers = b"ssh-ed25519 AAO piehole@oslo.example.org\nssh-ed25519 AAL piehole@lima.example.org\n"
    made = {**facts().made, "ssh-key": b"key", "peers.pub": peers}
    steps = _steps(settings("https = false\n" + THREE), facts(made=made))
    assert "https" not in steps
    assert {"nginx", "fcgiwrap"} & _programs(steps) == set()
    (keys,) = [
        part for part in steps["peers"].parts if isinstance(part, BlockIs) and part.path.name == "authorized_keys"
    ]
    command = "sh /usr/local/lib/piehole/ssh-upload-pack.sh /srv/git/project.git"
    assert keys.lines == (f'restrict,command="{command}" ssh-ed25519 AAL piehole@lima.example.org',)
    assert _files(steps)["/home/git/.ssh/piehole"] == "key"


def test_keys_that_were_not_copied_are_asked_for_and_not_taken_as_done() -> None:
    steps = _steps(settings(), facts(made={}))
    there = {part.path.name for part in steps["keys"].parts if isinstance(part, FileThere)}
    assert there >= {"ca.pem", "server-key.pem", "peer.pem", "client.pem", "etcd-password"}


def test_without_a_folder_of_users_nobody_loses_a_key_or_a_password() -> None:
    steps = _steps(settings(), facts(users=None))
    assert [part for part in steps["ssh"].parts if isinstance(part, BlockIs)] == []
    assert [part for part in steps["https"].parts if isinstance(part, PasswordsAre)] == []


def test_an_account_and_a_repository_that_are_there_are_used_as_they_are() -> None:
    text = 'account = "gitolite3"\nrepository = "/data/repositories/tools.git"\n' + THREE
    steps = _steps(settings(text), facts(home=Path("/var/lib/gitolite3")))
    files = _files(steps)
    unit = files["/etc/systemd/system/piehole-controller.service"]
    assert (
        "User=gitolite3" in unit,
        "--root /data/repositories " in unit,
        "ReadWritePaths=/data/repositories" in unit,
    ) == (*(True, True, True),)
    assert "fastcgi_param GIT_PROJECT_ROOT /data/repositories;" in files["/etc/nginx/conf.d/piehole.conf"]
    assert "fastcgi_param HOME /var/lib/gitolite3;" in files["/etc/nginx/conf.d/piehole.conf"]
    assert "Match User gitolite3" in files["/etc/ssh/sshd_config.d/piehole.conf"]
    accounts, folders = files["/etc/sysusers.d/piehole.conf"], files["/etc/tmpfiles.d/piehole.conf"]
    assert re.findall(r"^u (\S+)", accounts, re.MULTILINE) == ["etcd"]
    assert re.findall(r"^d (\S+)", folders, re.MULTILINE) == ["/etc/piehole", "/data/repositories"]
    others = "".join(
        text for name, text in files.items() if name not in ("/etc/default/etcd", "/etc/sysusers.d/piehole.conf")
    )
    assert not re.search(r"/srv/git|/home/git|User=git$|Group=git$|User git$", re.sub(r"#.*", "", others), re.MULTILINE)


def test_an_account_that_is_not_there_is_said_with_the_command_that_makes_it() -> None:
    with pytest.raises(UsageError, match="useradd"):
        plan(settings('account = "forge"\n' + ONE), facts(), 600)


def test_the_read_gate_stands_before_every_fetch_of_a_user() -> None:
    steps = _steps(settings('read-gate = "wait"\n' + THREE))
    files = _files(steps)
    assert "SCRIPT_FILENAME /usr/local/lib/piehole/http-backend;" in files["/etc/nginx/conf.d/piehole.conf"]
    (users,) = [part for part in steps["ssh"].parts if isinstance(part, BlockIs)]
    assert users.lines == (
        'restrict,command="GL_USER=alice sh /usr/local/lib/piehole/ssh-git.sh" ssh-ed25519 AAAA alice',
    )
    assert dict(_git(steps))["piehole.readGate"] == "wait"


def test_a_unit_that_a_package_brought_is_used_where_it_fits() -> None:
    packaged = facts(packaged={"piehole-controller.service"}, program="/usr/bin/piehole")
    name = "/etc/systemd/system/piehole-controller.service"
    assert name not in _files(_steps(settings(), packaged))
    elsewhere = _files(_steps(settings('repository = "/data/git/project.git"\n' + THREE), packaged))[name]
    assert "ExecStart=/usr/bin/piehole controller --root /data/git " in elsewhere


def test_each_step_says_why_and_each_part_what_it_does() -> None:
    for text in (THREE, ONE, ETCD, "https = false\n" + THREE):
        for step in plan(settings(text), facts(), 600):
            assert len(step.why) > 20
            assert all(part.shown() for part in step.parts)


def test_a_member_of_this_server_that_refuses_its_own_tokens_is_restarted(monkeypatch: pytest.MonkeyPatch) -> None:
    """What etcd answers is replayed; only this server's own member is asked."""
    asked: list[object] = []
    answers = [EtcdRefused("etcd refused: invalid auth token"), EtcdUnreachable("nobody answered"), None]

    def ask(*_: object, endpoints: object) -> None:
        asked.append(endpoints)
        if (answer := answers.pop(0)) is not None:
            raise answer

    monkeypatch.setattr(etcd_parts, "ask", ask)
    (part,) = (one for one in _steps(settings())["etcd users"].parts if isinstance(one, CommandDone))
    assert part.argv == ("systemctl", "restart", "etcd")
    machine = Machine(print)
    assert [bool(part.lacking(machine)) for _ in range(3)] == [True, False, False]
    assert asked == [("https://oslo.example.org:2379",)] * 3
    assert not [
        one for step in _steps(settings(ETCD)).values() for one in step.parts if getattr(one, "argv", ()) == part.argv
    ]
