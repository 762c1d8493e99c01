"""The site in a real browser, opened from files: there is neither a server nor a network."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote

import pytest

from tests.page.chromium import Tab
from tools.reference.diagrams import IMAGES

pytestmark = pytest.mark.slow  # the build of the site

PHONE = (375, 812)


@pytest.mark.parametrize(
    ("words", "page"),
    [
        ("no-quorum", "no-quorum"),
        ("halted", "halted"),
        ("kept drop", "piehole kept"),
        ("piehole.hookTimeout", "Configuration"),
    ],
)
def test_the_search_finds(site: Path, tab: Tab, words: str, page: str) -> None:
    tab.open(f"{site.as_uri()}/search.html?q={quote(words)}")
    tab.until("/found|did not match/.test(document.querySelector('#search-results p')?.innerText ?? '')")
    found = tab.run("[...document.querySelectorAll('#search-results li a')].map((one) => one.innerText)")
    assert any(page in title for title in found), found
    assert [url for url in tab.requested if not url.startswith(("file:", "data:"))] == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_that_hinders_people(
    site: Path, tab: Tab, faults: Callable[[], list[str]], scheme: str
) -> None:
    tab.media(prefers_color_scheme=scheme)
    for page in ("index", "reference/commands", "reference/json", "guides/daily", "development/architecture"):
        tab.open(f"{site.as_uri()}/{page}.html")
        assert faults() == [], page


def test_commands_are_copied_without_their_prompts(site: Path, tab: Tab) -> None:
    tab.open(f"{site.as_uri()}/guides/daily.html")
    copied = tab.run(
        "getSelection().selectAllChildren(document.querySelector('.highlight-console pre')), String(getSelection())"
    )
    assert "piehole status" in copied
    assert "git@oslo$" in tab.text(".highlight-console pre")
    assert "git@oslo$" not in copied


def test_no_page_is_wider_than_a_phone(site: Path, tab: Tab) -> None:
    tab.size(*PHONE)
    wide = []
    for page in site.rglob("*.html"):
        tab.open(page.as_uri())
        if tab.run("document.documentElement.scrollWidth") > PHONE[0]:
            wide.append(str(page.relative_to(site)))
    assert wide == []


@pytest.mark.parametrize("drawing", sorted(IMAGES.glob("*.dot")), ids=lambda drawing: drawing.stem)
def test_the_texts_of_a_diagram_fit_into_their_boxes(tab: Tab, drawing: Path) -> None:
    tab.open(drawing.with_suffix(".svg").as_uri())
    outside = """[...document.querySelectorAll('.node')].filter((node) => {
        const box = node.querySelector('path, polygon').getBBox();
        return [...node.querySelectorAll('text')].some((text) => text.getBBox().width > box.width);
    }).map((node) => node.textContent)"""
    assert tab.run(outside) == []
