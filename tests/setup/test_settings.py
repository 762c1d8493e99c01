"""The file of settings: what is wrong in it is said in a sentence."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from piehole.commands.setup.settings import PLACE, load
from piehole.errors import UsageError
from tests.setup.settings import ONE, THREE, settings
from tests.support.command_line import piehole

_EXISTING = '[etcd]\nendpoints = ["https://etcd.example.org:2379"]\n'
WRONG = {
    "not TOML": ("group = project", "is not TOML"),
    "no group": (ONE.replace("group", "groop"), "group is missing"),
    "a bad group": (ONE.replace('"trial"', '"a b"'), "group"),
    "an unknown setting": ("htps = true\n" + ONE, "there is no setting htps"),
    "no sites": ('group = "trial"', "no site is named"),
    "a site without an address": (ONE.replace("address", "adress"), "sites.oslo.address is missing"),
    "an unknown setting of a site": (ONE + 'port = "1"\n', "there is no setting sites.oslo.port"),
    "an address that is none": (ONE.replace("192.0.2.11", "oslo"), "must be an IP address"),
    "a host that is none": (ONE.replace("oslo.example.org", "https://oslo"), "must be a host name"),
    "a host twice": (THREE.replace("lima.example", "oslo.example"), "the sites oslo and lima have the same"),
    "a site that is none of them": (
        'site = "rome"\n' + THREE,
        "there is no site 'rome'; the sites are oslo, lima, kyoto",
    ),
    "a flag that is text": ('https = "yes"\n' + ONE, "must be true or false"),
    "root": ('account = "root"\n' + ONE, "an ordinary account"),
    "a relative repository": ('repository = "project.git"\n' + ONE, "must be a path"),
    "a line break": ('url = "a\\nb"\n' + ONE, "text of one line"),
    "a read gate that is none": ('read-gate = "on"\n' + ONE, "must be one of off, wait, strict"),
    "an endpoint that is none": (ONE + '[etcd]\nendpoints = ["etcd"]\n', "is not an etcd endpoint"),
    "credentials without endpoints": (ONE + '[etcd]\nca = "/ca.pem"\n', "no endpoints"),
    "half of the credentials": (ONE + _EXISTING + 'user = "oslo"\n', "belong together"),
    "a relative credential": (ONE + _EXISTING + 'ca = "ca.pem"\n', "begins with /"),
    "settings of a member that is not made": (ONE + _EXISTING + "settings = { ETCD_NAME = 1 }\n", "makes no member"),
    "a setting that is none of etcd": (ONE + "[etcd.settings]\nheartbeat = 1\n", "must be a variable of etcd"),
}


@pytest.mark.parametrize(("text", "said"), WRONG.values(), ids=WRONG)
def test_what_is_wrong_is_said_with_the_name_of_the_file(text: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "setup.toml").write_text(text)
    done = piehole("setup", "--check", "--from", tmp_path)
    assert done.status == 2, done
    assert said in done.err, done
    assert len(done.err.splitlines()) == 1, done


def test_a_file_that_is_not_there_is_said(tmp_path: Path) -> None:
    done = piehole("setup", "--from", tmp_path)
    assert (done.status, f"there is no file {tmp_path / 'setup.toml'}" in done.err) == (2, True), done


def test_the_site_is_the_one_that_the_file_names_or_the_option_or_the_host(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "setup.toml"
    file.write_text(THREE)
    assert load(file, "lima").site.name == "lima"
    assert load(file, "lima").text == f'site = "lima"\n{THREE}', "so that the copy in /etc/piehole needs no option"
    monkeypatch.setattr(socket, "gethostname", lambda: "kyoto.example.org")
    assert load(file).site.name == "kyoto"
    monkeypatch.setattr(socket, "gethostname", lambda: "elsewhere")
    monkeypatch.setattr(socket, "getfqdn", lambda _: "elsewhere")
    with pytest.raises(UsageError, match="Give --site, one of oslo, lima, kyoto"):
        load(file)
    file.write_text('site = "oslo"\n' + THREE)
    assert load(tmp_path).site.name == "oslo"


def test_what_is_not_said_follows_from_the_number_of_sites() -> None:
    three, one = settings(), settings(ONE)
    assert (three.has_tls, three.https, three.url) == (True, True, "https://oslo.example.org/project.git")
    assert (one.has_tls, one.https, one.url) == (False, False, "ssh://git@oslo.example.org/srv/git/trial.git")
    assert one.all_endpoints() == ("http://127.0.0.1:2379",), "without certificates, etcd stays on loopback"
    assert three.all_endpoints()[0] == "https://oslo.example.org:2379", "its own member first"
    assert three.all_credentials().password_file == str(PLACE / "etcd-password")
    existing = settings(THREE + _EXISTING)
    assert (existing.has_tls, existing.makes_etcd, existing.all_endpoints()) == (
        False,
        False,
        ("https://etcd.example.org:2379",),
    )
