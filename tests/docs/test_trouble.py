"""Every word that piehole prints for a trouble has a page, and every page is about such a word."""

from __future__ import annotations

import inspect
import re

import pytest

from controller import overview
from controller.metrics import KINDS
from piehole import errors, installed_files
from piehole.cli import status_text
from piehole.commands import status
from piehole.fastpath.hook_messages import ADMINISTRATORS
from tests.docs.test_docs import ROOT
from tests.guide.markdown import fences
from tests.support.command_line import piehole_in_process as piehole

PAGES = {page.name: page for page in installed_files.trouble_pages()}
TOKENS = {value for name, value in vars(errors).items() if name.isupper() and isinstance(value, str)}
WELL = {status.IN_STEP}
# What the status of a repository shows beside its state (piehole.cli.status, piehole.cli.status_table).
SHOWN = {"pending", "locks", "silent", "no controller", "second controller", "verified", "too few copies", "not known"}
STATES = {status.BEHIND, status.NEVER_SEEN, status.LEFT, status.CORRUPT, *overview.STATES, *KINDS, *SHOWN} - WELL


def test_tokens_states_and_pages_are_the_same() -> None:
    explained = {word: page for page in PAGES.values() for word in page.words}
    assert explained.keys() >= TOKENS | STATES
    assert [name for name, page in PAGES.items() if not {*page.words} & (TOKENS | STATES)] == []
    assert {token: explained[token].name for token in TOKENS} == {token: token for token in TOKENS}


def test_what_leads_to_a_page_names_one_that_there_is() -> None:
    known = {word for page in PAGES.values() for word in (page.name, *page.words)}
    sources = [path.read_text() for path in (ROOT / "piehole").rglob("*.py")]
    named = {word for text in sources for word in re.findall(r'\bword="([^"]+)"', text)}
    assert len(named) > 8
    assert named <= known
    assert set(ADMINISTRATORS) <= TOKENS
    body = inspect.getsource(status_text.explained)
    assert set(re.findall(r'^ +"([\w -]+)":', body, re.MULTILINE)) <= known


@pytest.mark.parametrize("name", PAGES)
def test_a_page_has_the_four_sections_and_the_index_leads_to_it(name: str) -> None:
    titles = re.findall(r"^## (.*)$", PAGES[name].path.read_text(), re.MULTILINE)
    assert titles == ["What it means", "See more", "What to type", "What not to do"]
    typed = {fence.section for fence in fences(PAGES[name].path) if fence.language == "console"}
    assert typed >= {"See more", "What to type"}
    assert f"({name}.md) |" in installed_files.trouble_index().read_text()


def test_explain_prints_a_page_for_every_word(capsys: pytest.CaptureFixture[str]) -> None:
    for page in PAGES.values():
        for word in (page.name, *page.words):
            answer = piehole("explain", *f"{word}:".split())
            assert (answer.status, "WHAT NOT TO DO" in answer.out) == (0, True)
            assert not re.search(r"\]\(|```|<!--|\*\*|^\||^  \*  .*\S  ", answer.out, re.MULTILINE), answer.out


def test_explain_lists_the_pages_and_suggests_the_nearest() -> None:
    listed = piehole("explain").out
    rows = re.findall(r"^  (\S.*?)  ", listed, re.MULTILINE)
    assert {piehole("explain", row).status for row in rows} == {0}
    assert len(rows) >= len(PAGES)
    wrong = piehole("explain", "no-quorun")
    assert (wrong.status, wrong.out) == (2, "")
    assert "(did you mean 'no quorum'?). See `piehole explain`." in wrong.err
    assert (ROOT / "docs" / "trouble").samefile(installed_files.trouble_index().parent)
