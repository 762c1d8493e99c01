"""What `make docs` builds holds together and needs nothing from elsewhere."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from tests.site.conftest import ROOT

pytestmark = pytest.mark.slow  # the build of the site

_LOADED = {"script": "src", "img": "src", "iframe": "src", "source": "src", "link": "href", "object": "data"}


class _Page(HTMLParser):
    def __init__(self, file: Path) -> None:
        super().__init__()
        self.ids: set[str] = set()
        self.links: set[str] = set()
        self.loaded: set[str] = set()
        self.navigation: set[str] = set()
        self.feed(file.read_text())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = {name: value or "" for name, value in attrs}
        if "id" in found:
            self.ids.add(found["id"])
        if tag == "a" and "href" in found:
            self.links.add(found["href"])
            if "reference internal" in found.get("class", "") and "#" not in found["href"]:
                self.navigation.add(found["href"])
        if found.get(_LOADED.get(tag, "")) and found.get("rel") not in ("next", "prev", "index", "search"):
            self.loaded.add(found[_LOADED[tag]])


@pytest.fixture(scope="module")
def pages(site: Path) -> dict[Path, _Page]:
    return {file: _Page(file) for file in site.rglob("*.html")}


def test_every_page_is_on_the_site_and_in_its_navigation(site: Path, pages: dict[Path, _Page]) -> None:
    written = {file.relative_to(ROOT / "docs").with_suffix(".html") for file in (ROOT / "docs").rglob("*.md")}
    assert {page.relative_to(site) for page in pages} == written | {Path("search.html")}
    assert written - {Path("index.html")} <= {Path(link) for link in pages[site / "index.html"].navigation}


def test_every_link_and_every_anchor_leads_somewhere(pages: dict[Path, _Page]) -> None:
    dead = []
    for file, page in pages.items():
        for link in page.links | page.loaded:
            target = urlsplit(link)
            if target.scheme:
                continue
            there = (file.parent / unquote(target.path)).resolve() if target.path else file
            anchor = unquote(target.fragment)
            if not there.exists() or (anchor and there in pages and anchor not in pages[there].ids):
                dead.append(f"{file.name}: {link}")
    assert dead == []


def test_nothing_is_loaded_from_elsewhere(site: Path, pages: dict[Path, _Page]) -> None:
    assert [link for page in pages.values() for link in page.loaded if urlsplit(link).scheme or link[:2] == "//"] == []
    styles = "".join(file.read_text() for file in site.rglob("*.css"))
    assert re.findall(r"""(?:url\(|@import )["']?((?:https?:)?//[^)"']*)""", styles) == []


def test_a_file_outside_of_the_documents_is_linked_at_the_source(site: Path, pages: dict[Path, _Page]) -> None:
    links = {link for page in pages.values() for link in page.links}
    outside = [link for link in links if "/blob/" in link]
    assert outside, "deploy/ is linked"
    assert [link for link in outside if not (ROOT / urlsplit(link).path.partition("/blob/main/")[2]).exists()] == []


def test_the_change_log_is_a_page_whose_links_stay_on_the_site(pages: dict[Path, _Page], site: Path) -> None:
    assert "../explanation/durability.html" in pages[site / "development" / "changelog.html"].links
