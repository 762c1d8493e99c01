"""When a reconcile that met something odd has the objects of its repository examined."""

from __future__ import annotations

from typing import Any, cast

import pytest

from piehole.group.replica import Replica
from piehole.replicate import repair
from piehole.replicate.fetch_objects import ObjectFetcher
from piehole.replicate.repair import Repairer


@pytest.mark.parametrize(
    ("takes", "symptoms", "examined"),
    [
        (0.1, [(0, "x"), (5, "x"), (599, "x"), (601, "x")], [0, 601]),
        (0.1, [(0, "x"), (5, "y"), (10.5, "y"), (20, "y"), (21, "z")], [0, 10.5, 21]),
        (30, [(0, "x"), (100, "y"), (301, "y")], [0, 301]),
        (300, [(0, "x"), (601, "y")], [0, 601]),
    ],
    ids=["the same", "another one", "a large repository", "never later than before"],
)
def test_a_new_symptom_is_looked_into_soon_and_an_old_one_seldom(
    monkeypatch: pytest.MonkeyPatch, takes: float, symptoms: list[tuple[float, str]], examined: list[float]
) -> None:
    now = [1000.0]
    seen: list[float] = []

    def examine(*_: Any) -> None:
        seen.append(now[0] - 1000)
        now[0] += takes

    monkeypatch.setattr(repair, "examine", examine)
    monkeypatch.setattr(repair.time, "monotonic", lambda: now[0])  # type: ignore[attr-defined]
    repairer = Repairer(cast(Replica, None), cast(ObjectFetcher, None))
    for at, symptom in symptoms:
        now[0] = 1000 + at
        repairer.suspect(symptom)
    assert seen == examined
