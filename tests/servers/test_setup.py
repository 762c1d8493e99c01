"""`piehole setup` on whole servers: from nothing, again, killed, beside what is there already."""

from __future__ import annotations

import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.guide.runner import Place, Terminal
from tests.servers.bed.hosts import Done, Host
from tests.servers.bed.three import REPOSITORY, ThreeServers
from tests.support.wait import until

pytestmark = [pytest.mark.servers, pytest.mark.slow]

_SERVICES = ("etcd", "piehole-controller", "piehole-http", "nginx", "ssh")
_NGINX = "/etc/nginx/conf.d/piehole.conf"
# What setup writes, but for what git has in motion.
_PLACES = "/etc /home /srv /usr/local/lib/piehole /usr/local/bin /var/lib/piehole-setup.json"
_TREE = (
    f"find {_PLACES} ! -path '*.git/*' -printf '%p %u %m %l\\n' 2>/dev/null | sort; "
    f"find {_PLACES} -type f ! -path '*.git/*' -exec sha256sum {{}} + 2>/dev/null | sort"
)


def _tree(host: Host) -> str:
    return host.sh(_TREE).stdout


def _setup(host: Host, *words: str, user: str = "root", check: bool = True) -> Done:
    return host.run("piehole", "setup", *words, user=user, check=check, timeout=90)


def test_run_again_it_changes_nothing_and_restarts_nothing_and_check_finds_nothing(bed: ThreeServers) -> None:
    oslo = bed.servers[0]
    before, running = _tree(oslo.host), [oslo.service(name) for name in _SERVICES]
    again = bed.run_setup(oslo)
    assert [line for line in again.stdout.splitlines() if line.startswith("[") and ": done already" not in line] == []
    for user in ("root", "git"):
        assert _setup(oslo.host, "--check", user=user).stdout.endswith("nothing is missing\n")
    assert _tree(oslo.host) == before
    assert [oslo.service(name) for name in _SERVICES] == running


def test_every_server_finds_itself_sound(bed: ThreeServers) -> None:
    for server in bed:
        server.piehole("check", REPOSITORY)
        server.piehole("status", "-C", REPOSITORY)


def test_the_passwords_of_all_do_not_stay_on_a_server(bed: ThreeServers) -> None:
    for server in bed:
        assert server.host.sh("find / -xdev -path '*/kit/*/auth*' 2>/dev/null || true").stdout == ""


def test_only_root_sets_a_server_up(bed: ThreeServers) -> None:
    done = _setup(bed.servers[0].host, "--yes", user="git", check=False)
    assert (done.returncode, "only root can set up a server" in done.stderr) == (1, True), done


def test_what_an_administrator_changed_is_shown_and_kept(bed: ThreeServers) -> None:
    host = bed.servers[0].host
    before = host.path(_NGINX).read_text()
    host.write(_NGINX, before + "# mine\n")
    try:
        shown = bed.run_setup(bed.servers[0]).stdout
        assert "    -# mine\n" in shown, shown
        assert host.path(_NGINX).read_text() == before + "# mine\n"
        noted = _setup(host, "--check").stdout
        assert f"note: https: {_NGINX} was changed by an administrator, and stays so" in noted
    finally:
        host.write(_NGINX, before)


def test_a_web_server_that_has_this_name_already_is_left_as_it_runs(bed: ThreeServers) -> None:
    oslo = bed.servers[0]
    theirs = "/etc/nginx/conf.d/a.conf"
    before, runs = oslo.host.path(_NGINX).read_text(), oslo.service("nginx")
    oslo.host.write(theirs, "".join(line for line in before.splitlines(keepends=True) if not line.startswith("map")))
    oslo.host.sh(f"sed -i 's/piehole_realm/remote_user/; s/piehole_user/remote_user/' {theirs}; rm {_NGINX}")
    try:
        done = _setup(oslo.host, "--yes", check=False)
        assert done.returncode == 1, done
        assert "nginx was left as it runs" in done.stdout
        assert "conflicting server name" in done.stdout
        assert oslo.service("nginx") == runs
    finally:
        oslo.host.sh(f"rm {theirs}")
    assert _setup(oslo.host, "--yes").returncode == 0
    assert oslo.host.path(_NGINX).read_text() == before


def _killed_at(host: Host, step: int) -> str:
    """Run setup until it shows this step, and kill it; what it said, all of it where it was quicker."""
    script = "echo $$ >/tmp/setup.pid; exec piehole setup --from /root/site --yes --wait 30"
    process = subprocess.Popen(host.command("sh", "-c", script), stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    said = ""
    for line in process.stdout:
        said += line
        if line.startswith(f"[{step}/"):
            host.sh("kill -9 $(cat /tmp/setup.pid)", check=False)
            break
    process.communicate(timeout=60)
    return said


@pytest.mark.timeout(240)
def test_one_server_alone_asked_at_a_terminal_and_killed_at_every_step(bed: ThreeServers) -> None:
    with bed.more("rome") as (rome,):
        bare = _tree(rome)
        terminal = Terminal(Place(rome.command("sh", "-c", 'mkdir /etc/site; cd /etc/site; exec "$@"', "sh")))
        try:
            terminal.type("piehole setup")
            for answer in ("trial", "rome", "", "", "rome.example.org", "", "", ""):
                terminal.answer(answer)
            assert terminal.wait(20, ["…", "Do this (accounts)? [y/N]"]) is None, terminal.printed()
            terminal.send("\x03")
            assert terminal.wait(20) == 130
        finally:
            terminal.end()
        text = rome.path("/etc/site/setup.toml").read_text()
        assert '[sites.rome]\nhost = "rome.example.org"\naddress = "10.77.0.31"\n' in text
        rome.sh("mv /etc/site /tmp/")
        assert _tree(rome) == bare, "answering changes nothing but the file of settings"
        rome.sh("mv /tmp/site /root/")

        bare = _tree(rome)
        missing = _setup(rome, "--from", "/root/site", "--check", check=False)
        assert (missing.returncode, "missing: etcd: etcd does not run" in missing.stdout) == (1, True), missing
        assert "does not exist -> write it" in _setup(rome, "--from", "/root/site", "--dry-run").stdout
        assert _tree(rome) == bare

        said = ""
        for step in range(1, 20):
            said = _killed_at(rome, step)
            if f"[{step}/" not in said:
                break
        assert said.endswith("rome is a site of the group trial: ssh://git@rome.example.org/srv/git/trial.git\n"), said
        whole = _tree(rome)
        for user in ("root", "git"):
            assert _setup(rome, "--check", user=user).stdout.endswith("nothing is missing\n")
        _setup(rome, "--yes")
        assert _tree(rome) == whole

        work = "git clone -q /srv/git/trial.git w; cd w; git -c user.name=a -c user.email=a@b commit -q --allow-empty -m 1; git push"
        assert "piehole: accepted: refs/heads/main" in rome.sh(f"cd /tmp; {work} 2>&1", user="git").stdout


_TWO = """https = false
group = "pair"
[sites.bergen]
host = "bergen.example.org"
address = "10.77.0.31"
[sites.turku]
host = "turku.example.org"
address = "10.77.0.32"
"""


@pytest.mark.timeout(240)
def test_two_servers_over_ssh_alone_fetch_from_each_other_with_keys_that_only_fetch(
    bed: ThreeServers, tmp_path: Path
) -> None:
    (tmp_path / "setup.toml").write_text(_TWO)
    bed.make_keys(tmp_path / "keys", source=tmp_path / "setup.toml")
    with bed.more("bergen", "turku") as hosts:
        bergen, turku = hosts
        for host, site in zip(hosts, ("bergen", "turku"), strict=True):
            bed.copy(tmp_path / "keys" / site, host, "/root/site")
        with ThreadPoolExecutor(2) as pool:
            for done in [pool.submit(_setup, host, "--from", "/root/site", "--yes", "--wait", "60") for host in hosts]:
                assert "a site of the group pair" in done.result().stdout
        work = "git clone -q /srv/git/pair.git w; cd w; git -c user.name=a -c user.email=a@b commit -q --allow-empty -m 1; git push"
        bergen.sh(f"cd /tmp; {work}", user="git")
        until(turku.path("/srv/git/pair.git/refs/heads/main").exists, 20, "turku has the commit")
        to = "git@turku.example.org"
        refused = bergen.run(
            "ssh", "-o", "BatchMode=yes", to, "git-receive-pack '/srv/git/pair.git'", user="git", check=False
        )
        assert "this key may only fetch" in refused.stderr, refused
        assert turku.run("systemctl", "is-active", "nginx", check=False).returncode != 0


_EXISTING = """group = "crafts"
account = "forge"
repository = "/data/git/crafts.git"
ssh = false
[sites.porto]
host = "porto.example.org"
address = "10.77.0.31"
[etcd]
endpoints = ["https://oslo.example.org:2379", "https://lima.example.org:2379"]
ca = "/data/ca.pem"
cert = "/data/client.pem"
key = "/data/client-key.pem"
user = "oslo"
password-file = "/data/etcd-password"
"""


@pytest.mark.timeout(240)
def test_an_etcd_an_account_and_a_repository_that_are_there_are_used(bed: ThreeServers) -> None:
    with bed.more("porto") as (porto,):
        porto.sh("useradd --system --create-home --user-group forge; install -d -o forge /data /data/git")
        commit = "git init -q --bare -b main crafts.git; git clone -q crafts.git /tmp/w 2>/dev/null; cd /tmp/w"
        made = f"cd /data/git; {commit}; git -c user.name=a -c user.email=a@b commit -q --allow-empty -m 1; git push -q origin HEAD:main"
        porto.sh(made, user="forge")
        tip = porto.run("git", "--git-dir=/data/git/crafts.git", "rev-parse", "main", user="forge").stdout.strip()
        kit = bed.folder / "pki" / "oslo"
        for name in ("ca.pem", "client.pem", "client-key.pem", "etcd-password"):
            porto.write(f"/data/{name}", (kit / name).read_text(), mode=0o400)
        porto.sh("chown forge /data/*")
        porto.write("/root/setup.toml", _EXISTING)
        home = porto.sh("find /home/forge /data/git/crafts.git/refs -printf '%p %u %m\\n'").stdout
        _setup(porto, "--from", "/root/setup.toml", "--yes", "--wait", "30")
        assert tip in bed.servers[0].etcdctl("get", "/piehole/ref/crafts/refs/heads/main").stdout
        assert porto.sh("find /home/forge /data/git/crafts.git/refs -printf '%p %u %m\\n'").stdout == home
        assert not porto.path("/etc/default/etcd").exists()
        assert porto.run("id", "git", check=False).returncode != 0, "no account is made that nobody asked for"
        porto.run("systemctl", "is-active", "piehole-controller")
        assert _setup(porto, "--check").stdout.endswith("nothing is missing\n")
