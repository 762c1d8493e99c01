"""What is asked at a terminal becomes a file of settings that setup can read."""

from __future__ import annotations

import socket
import tomllib
from pathlib import Path

import pytest

from piehole.cli.setup_questions import Questions
from piehole.commands.setup.settings import SettingsReader, SetupSettings


def _answered(monkeypatch: pytest.MonkeyPatch, *answers: str) -> tuple[SetupSettings, list[str]]:
    monkeypatch.setattr(socket, "gethostname", lambda: "oslo")
    monkeypatch.setattr(socket, "getfqdn", lambda _: "oslo.example.org")
    found = {"oslo.example.org": "192.0.2.11", "lima.example.org": "192.0.2.12"}
    monkeypatch.setattr(socket, "getaddrinfo", lambda host, *_, **__: [(0, 0, 0, "", (found[host], 0))])
    asked: list[str] = []
    left = list(answers)

    def read(question: str) -> str:
        asked.append(question)
        return left.pop(0)

    text = Questions(read).text()
    assert left == []
    settings = SettingsReader("setup.toml", text, tomllib.loads(text)).settings(Path("/"), "oslo")
    return settings, asked


def test_one_server_needs_no_answer_but_return(monkeypatch: pytest.MonkeyPatch) -> None:
    settings, asked = _answered(monkeypatch, *[""] * 8)
    assert (settings.site.host, settings.site.address) == ("oslo.example.org", "192.0.2.11")
    assert (settings.group, settings.https, settings.endpoints) == ("project", False, ())
    assert asked[0] == "Name of the group [project]: "


def test_several_servers_and_an_etcd_that_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    etcd = ("https://a.example.org:2379, https://b.example.org:2379", "/etc/ca.pem", "", "", "oslo", "/etc/password")
    settings, asked = _answered(monkeypatch, "tools", "", "git", "", "", "", "lima", "", "", "", "no", *etcd)
    assert [site.name for site in settings.sites] == ["oslo", "lima"]
    assert settings.sites[1].address == "192.0.2.12"
    assert "Host name of lima, as users and other servers write it [lima.example.org]: " in asked
    assert settings.endpoints == ("https://a.example.org:2379", "https://b.example.org:2379")
    assert (settings.credentials.ca, settings.credentials.user, settings.https) == ("/etc/ca.pem", "oslo", False)
