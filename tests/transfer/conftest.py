from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from piehole.transfer import index_pack, process
from tests.support.fetch_bed import FetchBed


@pytest.fixture
def world(tmp_path: Path) -> FetchBed:
    return FetchBed(tmp_path)


GITS = ("index-pack", "rev-list")


@pytest.fixture
def spawned(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The git commands among GITS that were started for a transfer."""
    seen: list[str] = []
    real = process.spawn

    def spawn(watchdog: object, command: list[str], **options: object) -> subprocess.Popen[bytes]:
        seen.extend(word for word in command if word in GITS)
        return real(watchdog, command, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(process, "spawn", spawn)
    monkeypatch.setattr(index_pack, "spawn", spawn)
    return seen
