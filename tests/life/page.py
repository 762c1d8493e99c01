"""The commands of docs/guides/sites.md, as a person would copy them from there."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from tests.guide.markdown import blocks
from tests.guide.runner import Place
from tests.support.groups import Group
from tests.support.process import ManagedProcess
from tests.support.sites import Site

PAGE = Path(__file__).parents[2] / "docs" / "guides" / "sites.md"
_DEPLOY = PAGE.parents[2] / "deploy"


def commands(heading: str, number: int = 0) -> str:
    """What is typed in the ``number``-th block of commands below a heading."""
    found = [block for block in blocks(PAGE) if block.section == heading]
    assert len(found) > number, f"{heading!r} has {len(found)} blocks of commands"
    return "".join(f"{command.text}\n" for command in found[number].commands)


class Administrator:
    """Runs blocks of the page on the sites of a test: the page's hosts are folders here, its prefix is the test's."""

    def __init__(self, group: Group, folder: Path) -> None:
        self._group = group
        self._folder = folder
        self._bin = folder / "bin"
        self._bin.mkdir(parents=True)
        ours = f'[ "$1" != install ] || set -- "$@" --prefix {group.prefix}'
        self._tool("piehole", f'{ours}\nexec {sys.executable} -m piehole.cli "$@"')

    def run(
        self, site: Site, text: str, replaced: Mapping[str, str] | None = None, *, check: bool = True
    ) -> subprocess.CompletedProcess[str]:
        """One block, at one site. ``replaced``: words of the page that are others in this test."""
        for word, other in (replaced or {}).items():
            text = text.replace(word, other)
        text = self._translated(site, text)
        done = subprocess.run(
            ["sh", "-eu", "-c", text],
            cwd=_DEPLOY.parent,
            env=self.environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=90,
            check=False,
        )
        assert not check or done.returncode == 0, f"{text}\ngave {done.returncode}:\n{done.stdout}{done.stderr}"
        return done

    def reload_by_systemctl(self, controller: ManagedProcess) -> None:
        """`systemctl reload piehole-controller` is SIGHUP, as the unit says."""
        self._tool("systemctl", f'[ "$*" = "reload piehole-controller" ] && kill -HUP {controller.pid}')

    def use_etcdctl(self, etcdctl: Path, endpoint: str) -> None:
        self._tool("etcdctl", f'ETCDCTL_API=3 ETCDCTL_ENDPOINTS={endpoint} exec {etcdctl} "$@"')

    def place(self, site: Site, replaced: Mapping[str, str] | None = None) -> Place:
        """Where this site's administrators type, for a page that is compared with what is printed."""
        folder = self._group.folder
        hosts = ("oslo", "lima", "kyoto", "quito", "new")
        words = {
            "/tmp/": f"{self._folder}/",  # noqa: S108 -- a path in the page
            **{f'ssh {host}.example.org "cd /srv/git/': f'sh -c "cd {folder}/{host}/' for host in hosts},
            **{f"https://{host}.example.org/": f"{folder}/{host}/" for host in hosts},
            "/srv/git/": f"{site.root}/",
            "/srv/staging/": f"{folder}/staging/",
            " /piehole/": f" {self._group.prefix}/",
            "config --system": "config --global",
        }
        return Place(env=self.environment(), cwd=self._folder, replaced={**(replaced or {}), **words})

    def _tool(self, name: str, script: str) -> None:
        path = self._bin / name
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)

    def environment(self) -> Mapping[str, str]:
        inherited = self._group.environment
        return {**inherited, "PATH": f"{self._bin}:{inherited['PATH']}"}

    def _translated(self, site: Site, text: str) -> str:
        folder = self._group.folder
        text = text.replace("/tmp/", f"{self._folder}/")  # noqa: S108 -- as the page has it
        text = re.sub(r"https://(\w+)\.example\.org/", rf"{folder}/\1/", text)
        text = re.sub(r'ssh (\w+)\.example\.org "cd /srv/git/', rf'sh -c "cd {folder}/\1/', text)
        text = text.replace("/srv/git/", f"{site.root}/").replace("/srv/staging/", f"{folder}/staging/")
        text = re.sub(r"(?<=\s)/piehole/", f"{self._group.prefix}/", text)
        return text.replace("config --system", "config --global")
