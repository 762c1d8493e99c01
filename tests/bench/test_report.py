"""The shape in which measurements are told: arithmetic and words, without a clock."""

from __future__ import annotations

import pytest

from tests.bench.report import Report, Row, Target, number


def report(**samples: float) -> Report:
    """A bare push, one with hooks that is compared with it, and the raw transaction that is its limit."""
    return Report(
        about={"git": "2.39"},
        rows=[
            Row("bare", "ms", [samples.get("bare", 10.0)] * 3),
            Row("hooked", "ms", [samples.get("hooked", 30.0)] * 3, beside="bare", limit="swap"),
            Row("swap", "ms", [samples.get("swap", 2.0)] * 3),
        ],
        series={"lag": [(0.0, 1.5), (1.0, 2.5)]},
    )


def reached(target: Target, samples: list[float], peer: float = 10.0) -> bool | None:
    row = Row("mine", "ms", samples, beside="peer", target=target)
    return row.reached({"mine": row, "peer": Row("peer", "ms", [peer])})


def test_median_and_p95_are_those_of_the_samples() -> None:
    row = Row("r", "ms", [float(value) for value in range(101)])
    assert (row.median, row.p95) == (50, 95)


def test_one_sample_is_its_own_p95() -> None:
    assert Row("r", "s", [4.0]).p95 == 4.0


def test_a_row_without_samples_is_refused() -> None:
    with pytest.raises(ValueError, match="nothing was measured"):
        Row("r", "ms", [])


def test_a_row_is_told_beside_its_peer_and_its_limit() -> None:
    rows = report().by_name
    hooked = rows["hooked"]
    assert (hooked.ratio(rows), hooked.over(rows), hooked.limit_ratio(rows)) == (3, 20, 15)
    assert rows["bare"].ratio(rows) is None
    assert hooked.ratio({}) is None


@pytest.mark.parametrize(
    ("target", "samples", "wanted"),
    [
        (("over beside", 30.0), [40.0], True),
        (("over beside", 30.0), [40.1], False),
        (("times beside", 1.0), [10.0], True),
        (("times beside", 1.0), [10.1], False),
        (("times faster than beside", 5.0), [2.0], True),
        (("times faster than beside", 5.0), [2.1], False),
        (("at most", 7.0), [7.0, 7.0, 70.0], True),
        (("p95 at most", 7.0), [7.0, 7.0, 70.0], False),
    ],
)
def test_a_target_is_reached_at_its_bound_and_missed_past_it(
    target: Target, samples: list[float], wanted: bool
) -> None:
    assert reached(target, samples) is wanted


def test_a_target_whose_peer_was_not_measured_is_not_known() -> None:
    row = Row("mine", "ms", [1.0], beside="gone", target=("times beside", 1.0))
    assert row.reached({"mine": row}) is None
    assert row.verdict({"mine": row}).endswith("not known")


def test_json_brings_back_all_of_it() -> None:
    told = report()
    told.rows.append(Row("late", "s", [1.25], target=("p95 at most", 2.0), note="without fsync"))
    assert Report.from_json(told.to_json()) == told


def test_json_of_another_format_is_refused() -> None:
    with pytest.raises(ValueError, match="format 1"):
        Report.from_json('{"format": 1, "about": {}, "rows": {}}')


def test_the_table_has_a_line_for_each_row_and_each_word_about_the_machine() -> None:
    lines = report().table().splitlines()
    assert lines[0] == "git: 2.39"
    assert [line.split()[0] for line in lines[3:]] == ["bare", "hooked", "swap"]
    assert lines[4].split()[1:] == ["ms", "30.0", "30.0", "3", "+20.0", "3.00", "x", "bare", "15.0", "x", "swap"]


def test_another_machine_with_the_same_ratios_has_moved_nothing() -> None:
    assert report(bare=20, hooked=60, swap=4).compare(report()) == []


def test_a_ratio_within_the_noise_has_not_moved() -> None:
    assert report(hooked=35).compare(report()) == []


def test_what_has_become_slower_or_faster_is_said_with_both_ratios() -> None:
    assert report(hooked=45).compare(report()) == [
        "hooked: 4.50 times bare, was 3.00 (50% more).",
        "hooked: 22.5 times swap, was 15.0 (50% more).",
    ]
    assert report(hooked=15).compare(report())[0] == "hooked: 1.50 times bare, was 3.00 (50% less)."


def test_rows_that_came_and_went_are_said() -> None:
    less = report()
    less.rows = [row for row in less.rows if row.name != "swap"]
    assert report().compare(less) == ["swap: new."]
    assert less.compare(report()) == ["swap: no longer measured."]


def test_a_target_that_is_no_longer_reached_is_said() -> None:
    then, now = (Report(rows=[Row("r", "ms", [value], target=("at most", 5.0))]) for value in (4.9, 5.1))
    assert now.compare(then) == ["r: the target was reached and is missed."]


@pytest.mark.parametrize(("value", "text"), [(0.0, "0.00"), (1.234, "1.23"), (12.34, "12.3"), (12345.6, "12,346")])
def test_numbers_have_three_digits_that_tell_something(value: float, text: str) -> None:
    assert number(value) == text
