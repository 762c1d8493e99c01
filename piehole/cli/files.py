"""List the files for servers that come with piehole, or copy them to a folder.

They are units for systemd, settings for etcd, nginx, sshd, Prometheus and Grafana, and scripts. Without DIR, each is listed with the
place where it usually goes. With DIR, all are copied there; a file there that has another content is never overwritten: nothing is
copied then, and the exit status is 1.
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

from piehole.cli.printing import tell
from piehole.errors import PieholeError

EXAMPLES = (
    ("piehole files", "list the files, and say where they are installed"),
    ("piehole files deploy", "copy them to the folder deploy, to be adapted there"),
)


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("target", metavar="DIR", nargs="?", help="copy the files there; it is made where it is missing")


def run(args: argparse.Namespace) -> int:
    if args.target is None:
        _list()
    else:
        _copy(Path(args.target))
    return 0


def _list() -> None:
    from piehole.cli.help_text import columns, listing
    from piehole.installed_files import deploy_folder, described

    print(f"{deploy_folder()}:")
    for one in described():
        print(f"  {one.names}")
        print(listing([("", f"{one.meaning}; goes to: {one.place}")], 6, columns()))
    print("\n`piehole files DIR` copies them to DIR.")


def _copy(target: Path) -> None:
    from piehole.installed_files import deploy_folder, described

    folder = deploy_folder()
    if target.exists() and not target.is_dir():
        raise PieholeError(f"{target} is a file, and the files are copied to a folder. Name another one.")
    named = [folder / name for one in described() for name in one.names.split(", ")]
    found = (path for one in (folder / "README.md", *named) for path in (one, *one.rglob("*")) if path.is_file())
    wanted = {path: target / path.relative_to(folder) for path in found}
    for path, copy in wanted.items():
        if copy.exists() and not (copy.is_file() and copy.read_bytes() == path.read_bytes()):
            raise PieholeError(
                f"{copy} is there and has another content, so nothing was copied. Name a new folder, or move that file away."
            )
    for path, copy in wanted.items():
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, copy)
    tell(f"{len(wanted)} files copied to {target}; {target / 'README.md'} says what each is for")
