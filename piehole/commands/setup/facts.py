"""What setup finds on the machine before it plans."""

from __future__ import annotations

import shutil
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from piehole.commands.setup.machine import Machine
from piehole.commands.setup.settings import PLACE, SetupSettings
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
    "ssh-key",
    "peers.pub",
)
_UNITS_OF_PACKAGES: Final = Path("/usr/lib/systemd/system")
# Folders that every account can read; a user's own folder is none.
_FOR_ALL: Final = "/usr/local/bin:/usr/bin:/bin"


@dataclass(frozen=True, slots=True)
class Facts:
    """What setup found before it began.

    :ivar deploy: the text of each file for servers, by name
    :ivar deploy_folder: where these are
    :ivar settings: the file of settings, as it goes to /etc/piehole
    :ivar made: what was made for this server elsewhere: certificates, keys, its password; by file name
    :ivar users: NAME.pub and NAME.password of users, by file name; None where nobody says who the users are
    :ivar home: of the account; None where there is none yet
    :ivar packaged: the units that a package has brought
    :ivar program: where piehole is
    """

    deploy: Mapping[str, str]
    deploy_folder: Path
    settings: str
    made: Mapping[str, bytes]
    users: Mapping[str, str] | None
    home: Path | None
    packaged: Collection[str]
    program: str


def gather(settings: SetupSettings, machine: Machine) -> Facts:
    """
    :raises PieholeError: piehole is installed where no other account can run it
    """
    folder = deploy_folder()
    found = machine.account(settings.account)
    # What lies where it belongs was copied there before.
    names = () if settings.folder == PLACE else _MADE
    made = {name: content for name in names if (content := machine.read(settings.folder / name)) is not None}
    return Facts(
        deploy={path.name: path.read_text() for path in folder.iterdir() if path.is_file()},
        deploy_folder=folder,
        settings=settings.text,
        made=made,
        users=_users(settings.folder / "users"),
        home=Path(found.pw_dir) if found else None,
        packaged={path.name for path in _UNITS_OF_PACKAGES.glob("piehole-*")},
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
