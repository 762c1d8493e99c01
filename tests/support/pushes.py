"""The processes of a push at the server."""

from __future__ import annotations

from pathlib import Path

from piehole.fastpath import inflight, processes
from tests.support.process import descendants


def deciding(repository: Path, receive_pack: int) -> list[int]:
    """All processes of the hooks of this push: what runs below it, and its helper, which does not."""
    try:
        lines = (repository / inflight.FOLDER / str(processes.identity(receive_pack))).read_text().splitlines()
    except FileNotFoundError:
        lines = []
    helpers = [int(line.split(" ")[1]) for line in lines if line.startswith("helper ")]
    return [*descendants(receive_pack), *(pid for pid in helpers if processes.start_time(pid) is not None)]
