from __future__ import annotations

import pytest

from piehole.cli.tables import Cell, clipped, literal, table, width, wrapped


def aligned(lines: list[str], *words: str) -> bool:
    """Whether each of these words begins in the same column of its line."""
    return len({width(line.partition(word)[0]) for line, word in zip(lines, words, strict=True)}) == 1


@pytest.mark.parametrize(
    ("text", "columns"),
    [
        ("main", 4),
        ("café", 4),
        ("cafe\u0301", 4),  # the accent is a character of its own
        ("日本語", 6),
        ("한글", 4),
        ("\u1112\u1161\u11ab", 2),  # one syllable of Hangul, as three characters
        ("שלום", 4),
        ("🎉", 2),
    ],
)
def test_text_takes_as_many_columns_as_a_terminal_gives_it(text: str, columns: int) -> None:
    assert width(literal(text)) == columns


@pytest.mark.parametrize(
    ("hostile", "shown"),
    [
        ("a\x1b[2Jb", "a\\x1b[2Jb"),
        ("a\rb\nc\td\x7f", "a\\rb\\nc\\td\\x7f"),
        ("\x9b31m", "\\x9b31m"),
        ("a\u202eb", "a\\u202eb"),  # what comes after it would be written from right to left
        ("a\u2066b\u200fc", "a\\u2066b\\u200fc"),
        ("a\u200bb\ufeff", "a\\u200bb\\ufeff"),  # invisible
        ("a\u2028b", "a\\u2028b"),
        ("caf\udce9", "caf\\xe9"),  # a byte that is no UTF-8
        ("\u0301a", "\\u0301a"),  # it would change the character of another column
        ("a" + "\u0301" * 5, "a" + "\u0301" * 3 + "\\u0301" * 2),
        ("\ue000\U000e0001", "\\ue000\\U000e0001"),
    ],
)
def test_what_could_control_a_terminal_is_escaped(hostile: str, shown: str) -> None:
    assert literal(hostile) == shown


def test_columns_are_aligned_whatever_is_in_them() -> None:
    names = ("main", "日本語", "cafe\u0301", "שלום", "\x1b]0;title\x07")
    lines = table(("REF", "STATE"), [(name, "in step") for name in names], most=80, paint=False)
    assert aligned(lines, "STATE", *["in step"] * len(names))
    assert not any("\x1b" in line for line in lines)


def test_letters_that_are_written_from_right_to_left_do_not_draw_their_neighbours_along() -> None:
    line = table(("REF", "N"), [("שלום", "12")], most=80, paint=False)[1]
    assert "שלום\u200e  12" in line


def test_numbers_end_where_their_column_ends_and_empty_columns_are_left_out() -> None:
    rows = [(Cell("7 s", right=True), "", "x"), (Cell("1234 s", right=True), "", "y")]
    assert table(("LAG", "NOTES", "NAME"), rows, most=80, paint=False) == ["   LAG  NAME", "   7 s  x", "1234 s  y"]


@pytest.mark.parametrize("most", [20, 33, 50, 79])
def test_a_table_never_is_wider_than_the_window(most: int) -> None:
    rows = [("a" * 30, "日本語" * 20, "in step"), ("b", "c", "behind by 3 refs")]
    lines = table(("REPOSITORY", "GROUP", "STATE"), rows, most=most, paint=False)
    assert max(map(width, lines)) <= most
    assert "…" in lines[1]
    assert most <= 50 or lines[2].endswith("behind by 3 refs")  # the widest columns give way first


def test_colours_surround_the_text_alone() -> None:
    line = table(("A", "B"), [(Cell("x", "31"), "y")], most=80, paint=True)[1]
    assert line == "\x1b[31mx\x1b[0m  y"


def test_long_text_is_broken_between_words_and_a_long_word_inside() -> None:
    assert wrapped("run `piehole clobber main` there", 16, "  ") == ["run `piehole", "  clobber main`", "  there"]
    lines = wrapped("x" * 45, 20, "  ")
    assert max(map(width, lines)) <= 20
    assert "".join(line.strip() for line in lines) == "x" * 45
    assert "".join(wrapped("日本" * 20, 21)) == "日本" * 20


def test_a_text_that_is_cut_says_so() -> None:
    assert clipped("日本語", 5) == "日本…"
    assert clipped("日本語", 6) == "日本語"
