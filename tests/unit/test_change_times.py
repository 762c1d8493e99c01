"""controller/change_times.py: since when a site at a revision lacks something."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from controller.change_times import ChangeTimes


def test_the_first_change_after_a_revision_counts() -> None:
    times = ChangeTimes(10)
    times.note(12, 1.0)
    times.note(15, 2.0)
    times.note(20, 3.0)
    assert [times.after(revision) for revision in (10, 11, 12, 14, 15, 19)] == [1.0, 1.0, 2.0, 2.0, 3.0, 3.0]
    assert times.after(20) is None, "there is none"
    assert times.after(9) is None, "what was before is not known"
    times.forget(15)
    assert times.after(16) == 3.0


@given(st.lists(st.integers(1, 3), min_size=1, max_size=2000), st.data())
def test_many_changes_take_little_room_and_no_answer_is_too_late(steps: list[int], data: st.DataObject) -> None:
    times = ChangeTimes(0)
    changes = []
    revision = 0
    for at, step in enumerate(steps):
        revision += step
        changes.append((revision, float(at)))
        times.note(revision, float(at))
    assert len(times._known) <= 64
    asked = data.draw(st.integers(0, revision - 1))
    exact = next(at for one, at in changes if one > asked)
    found = times.after(asked)
    assert found is not None
    assert found <= exact
    assert times.after(revision) is None
