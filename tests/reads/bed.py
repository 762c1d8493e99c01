"""Readers: the two programs that stand before git upload-pack, and a site that lags behind on purpose."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support import git
from tests.support.assertions import Pushed
from tests.support.git import MAIN
from tests.support.groups import Group
from tests.support.sites import Site

DEPLOY = Path(__file__).parents[2] / "deploy"
FRONTS = ("piehole", "read-gate.pl")


class Front:
    """A folder with ``upload-pack``, ``http-backend``, ``ssh-git.sh`` and ``piehole``, as a server has them.

    :param kind: one of ``FRONTS``; with ``read-gate.pl`` that asks first, and piehole where it cannot
    """

    def __init__(self, folder: Path, kind: str) -> None:
        if kind.endswith(".pl") and shutil.which("perl") is None:
            pytest.skip("no perl on this machine")
        folder.mkdir(parents=True)
        self.upload_pack = folder / "upload-pack"
        self.http_backend = folder / "http-backend"
        self.ssh_git = folder / "ssh-git.sh"
        self._write(folder / "piehole", f'exec {sys.executable} -m piehole.cli "$@"')
        for path in (self.upload_pack, self.http_backend):
            if kind == "piehole":
                self._write(path, f'exec {folder}/piehole {path.name} "$@"')
            else:
                shutil.copy(DEPLOY / kind, path)
        shutil.copy(DEPLOY / "ssh-git.sh", self.ssh_git)

    @staticmethod
    def _write(path: Path, line: str) -> None:
        path.write_text(f"#!/bin/sh\n{line}\n")
        path.chmod(0o755)

    def listed(self, site: Site, ref: str = MAIN) -> Pushed:
        """What a user gets who asks for a ref of this site now."""
        command = f"--upload-pack={self.upload_pack}"
        return git.git(site.group.folder, "ls-remote", command, str(site.repository), ref, check=False)


def oid_of(listed: Pushed) -> str:
    """The oid of a listing of one ref; ``""`` where it was refused, or the ref is not there."""
    return listed.stdout.partition("\t")[0]


class Lag:
    """A site whose controller cannot fetch until :meth:`end`."""

    def __init__(self, gate: Path) -> None:
        self._gate = gate

    def end(self) -> None:
        self._gate.touch()


@contextmanager
def lagging(group: Group, *names: str) -> Iterator[Lag]:
    """Start the controllers of these sites so that their fetches hang; those of the others as they are."""
    folder = group.fresh("lag")
    gate = folder.with_name(f"{folder.name}-ended")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with group.git_that(folder, "upload-pack", f'until [ -e {gate} ]; do sleep 0.02; done; exec "$git" "$@"'):
        for name in names:
            if group[name].running:
                group[name].stop()
            group[name].start()
    try:
        yield Lag(gate)
    finally:
        gate.touch()
