"""What a running group occupies: of its controllers, and on its disks."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from tests.support.sites import Site


@dataclass(frozen=True, slots=True)
class Sample:
    """All sites together, at one moment. ``seconds`` since the beginning; ``rss`` in MB of all controllers."""

    seconds: float
    pushes: int
    rss: float
    descriptors: int
    threads: int
    packs: int
    temporary: int
    in_flight: int


MEASURED = tuple(one.name for one in fields(Sample) if one.name not in ("seconds", "pushes"))


def sample(sites: Sequence[Site], seconds: float, pushes: int) -> Sample:
    pids = [site.controller.pid for site in sites if site.controller is not None]
    status = [Path(f"/proc/{pid}/status").read_text() for pid in pids]
    repositories = [site.repository for site in sites]
    return Sample(
        round(seconds, 1),
        pushes,
        round(sum(_number(text, "VmRSS") for text in status) / 1024, 1),
        sum(sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir()) for pid in pids),
        sum(_number(text, "Threads") for text in status),
        sum(sum(1 for _ in one.glob("objects/pack/*.pack")) for one in repositories),
        sum(_temporary(one) for one in repositories),
        sum(sum(1 for _ in one.glob("piehole/inflight/*")) for one in repositories),
    )


def _number(text: str, name: str) -> int:
    found = re.search(rf"^{name}:\s+(\d+)", text, re.MULTILINE)
    return int(found[1]) if found else 0


def _temporary(repository: Path) -> int:
    patterns = (
        "objects/piehole-quarantine-*",
        "objects/pack/tmp_*",
        "objects/pack/*.keep",
        "piehole/*.tmp",
        "objects/tmp_*",
    )
    return sum(sum(1 for _ in repository.glob(pattern)) for pattern in patterns)


def table(samples: Sequence[Sample]) -> str:
    names = [one.name for one in fields(Sample)]
    rows = [[str(value) for value in asdict(one).values()] for one in samples]
    return "\n".join(["\t".join(names), *("\t".join(row) for row in rows)]) + "\n"


def plot(samples: Sequence[Sample]) -> str:
    """One small curve for each measure, as SVG; all begin at zero, so that what grows is seen to grow."""
    width, height, gap = 640, 90, 40
    end = max(one.seconds for one in samples) or 1.0
    parts = []
    for number, name in enumerate(MEASURED):
        values = [float(getattr(one, name)) for one in samples]
        top = max(values) or 1.0
        at = number * (height + gap) + gap
        points = " ".join(
            f"{60 + one.seconds / end * width:.1f},{at + height - value / top * height:.1f}"
            for one, value in zip(samples, values, strict=True)
        )
        parts.append(f'<text x="60" y="{at - 8}">{name} (most: {top:g})</text>')
        parts.append(f'<rect x="60" y="{at}" width="{width}" height="{height}" fill="none" stroke="#ccc"/>')
        parts.append(f'<polyline points="{points}" fill="none" stroke="#06c"/>')
    total = len(MEASURED) * (height + gap) + gap
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width + 80}" height="{total}" font-family="sans-serif" font-size="13">'
        f'<rect width="100%" height="100%" fill="#fff"/>{"".join(parts)}'
        f'<text x="60" y="{total - 12}">{end:.0f} seconds, {samples[-1].pushes} pushes</text></svg>\n'
    )
