"""What setup finds on the machine before it plans."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from piehole.commands.setup.machine import Machine
from piehole.commands.setup.plan import Facts
from piehole.commands.setup.settings import SetupSettings
from piehole.errors import PieholeError, UsageError
from piehole.installed_files import deploy_folder

_MADE: Final = (
    "ca.pem",
    "server.pem",
    "server-key.pem",
    "peer.pem",
    "peer-key.pem",
    "client.pem",
    "client-key.pem",
    "etcd-password",
)
# Folders that every account can read; a user's own folder is none.
_FOR_ALL: Final = "/usr/local/bin:/usr/bin:/bin"


def gather(settings: SetupSettings, machine: Machine) -> Facts:
    """
    :raises PieholeError: piehole is installed where no other account can run it
    """
    folder = deploy_folder()
    found = machine.account(settings.account)
    made = {name: content for name in _MADE if (content := machine.read(settings.folder / name)) is not None}
    return Facts(
        deploy={path.name: path.read_text() for path in folder.iterdir() if path.is_file()},
        deploy_folder=folder,
        made=made,
        users=_users(settings.folder / "users"),
        home=Path(found.pw_dir) if found else None,
        program=_program(),
    )


def _program() -> str:
    found = shutil.which("piehole", path=_FOR_ALL)
    if found is None or str(Path(found).resolve()).startswith(("/root/", "/home/")):
        raise PieholeError(
            "piehole must be where every account can run it, and this one is not. Install it once more: `python3 -m venv /opt/piehole`, "
            "`/opt/piehole/bin/pip install` with piehole's wheel, `ln -sf /opt/piehole/bin/piehole /usr/local/bin/`."
        )
    return found


def _users(folder: Path) -> Mapping[str, str] | None:
    """
    :raises UsageError: a file has a name or a content that cannot be a user's
    """
    if not folder.is_dir():
        return None
    found: dict[str, str] = {}
    for path in sorted(folder.iterdir()):
        if path.suffix not in (".pub", ".password"):
            continue
        text = path.read_text()
        if not path.stem.replace("-", "").replace(".", "").replace("_", "").isalnum():
            raise UsageError(f"{path}: a user's name is of letters, digits, and -_.")
        if not text.strip():
            raise UsageError(f"{path} is empty")
        found[path.name] = text
    return found
