"""Files of settings for tests."""

from __future__ import annotations

import tomllib
from pathlib import Path

from piehole.commands.setup.facts import Facts
from piehole.commands.setup.settings import SettingsReader, SetupSettings
from piehole.installed_files import deploy_folder

THREE = """group = "project"

[sites.oslo]
host = "oslo.example.org"
address = "192.0.2.11"

[sites.lima]
host = "lima.example.org"
address = "192.0.2.12"

[sites.kyoto]
host = "kyoto.example.org"
address = "2001:db8::13"
"""
ONE = 'group = "trial"\n[sites.oslo]\nhost = "oslo.example.org"\naddress = "192.0.2.11"\n'


def settings(text: str = THREE, site: str = "oslo") -> SetupSettings:
    return SettingsReader("setup.toml", text, tomllib.loads(text)).settings(Path("/root/kit"), site)


def facts(**changed: object) -> Facts:
    """Of a bare server to which everything has been copied."""
    folder = deploy_folder()
    names = (
        "ca.pem",
        "server.pem",
        "server-key.pem",
        "peer.pem",
        "peer-key.pem",
        "client.pem",
        "client-key.pem",
        "etcd-password",
    )
    found: dict[str, object] = {
        "deploy": {path.name: path.read_text() for path in folder.iterdir() if path.is_file()},
        "deploy_folder": folder,
        "settings": "settings",
        "made": {name: name.encode() for name in names},
        "users": {"alice.pub": "ssh-ed25519 AAAA alice\n", "alice.password": "secret\n"},
        "home": None,
        "packaged": (),
        "program": "/usr/local/bin/piehole",
    }
    return Facts(**{**found, **changed})  # type: ignore[arg-type]
