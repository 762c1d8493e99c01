"""How the site is made from docs/: pages are plain Markdown, as a forge shows them. What differs on a site is done here.

* A contents page (``index.md`` of a folder, or ``README.md``) is a list of links. Its links are the navigation.
* A link to a file outside docs/ leads to the project's source, or to the page that has its text.
"""

from __future__ import annotations

import posixpath
import re
import tomllib
from pathlib import Path
from typing import Final

from sphinx.application import Sphinx

ROOT: Final = Path(__file__).parents[1]
_PROJECT: Final = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
SOURCE: Final = f"{_PROJECT['urls']['Source']}/blob/main"
# Files of the root whose text is a page of the site. On a forge that page is a link to the file.
INCLUDED: Final = {
    "CHANGELOG.md": "docs/development/changelog.md",
    "CONTRIBUTING.md": "docs/development/contributing.md",
    "SECURITY.md": "docs/development/reporting.md",
}

project = "piehole"
version = release = _PROJECT["version"]
extensions = ["myst_parser"]
nitpicky = True
myst_heading_anchors = 6  # as forges make them
html_theme = "furo"
html_title = f"piehole {version}"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_js_files = ["site.js"]
html_show_sphinx = html_show_copyright = False
html_copy_source = False
html_use_index = False
highlight_language = "text"
pygments_style = "a11y-high-contrast-light"
pygments_dark_style = "a11y-high-contrast-dark"
linkcheck_timeout = 10  # seconds
linkcheck_ignore = [
    re.escape(_PROJECT["urls"]["Source"]),
    r"https?://([\w.-]+\.)?example\.(org|com)",
    r"https?://(127\.|localhost)",
]

_LINK: Final = re.compile(r"(\]\()([^)\s:]+?)((?:#[^)\s]*)?\))")


def _moved(text: str, file: str, page: str) -> str:
    """The text of ``file``, with links that are right in ``page``. Both are paths below the root."""

    def link(match: re.Match[str]) -> str:
        before, target, after = match.groups()
        there = posixpath.normpath(posixpath.join(posixpath.dirname(file), target))
        there = INCLUDED.get(there, there)
        if not target or target.startswith("#") or not (ROOT / there).exists():
            return match[0]
        if not there.startswith("docs/") or (ROOT / there).is_dir():
            return f"{before}{SOURCE}/{there}{after}"
        return f"{before}{posixpath.relpath(there, posixpath.dirname(page))}{after}"

    return _LINK.sub(link, text)


def _contents(text: str, page: str) -> str:
    """The navigation below a contents page: the pages of its folder that it links to, or the folders' contents pages."""
    ours = r"\]\(([\w-]+/index)\.md\)" if page == "index" else r"\]\(((?!\.\.)[\w./-]+)\.md\)"
    names = dict.fromkeys(re.findall(ours, text))
    return "\n".join(["", "```{toctree}", ":hidden:", *names, "```", ""])


def _read(app: Sphinx, page: str, source: list[str]) -> None:
    file = f"docs/{page}.md"
    for included, there in INCLUDED.items():
        if there == file:
            app.env.note_dependency(ROOT / included)
            source[0], file = (ROOT / included).read_text(), included
    source[0] = _moved(source[0], file, f"docs/{page}.md")
    if posixpath.basename(page) in ("index", "README"):
        source[0] += _contents(source[0], page)


def setup(app: Sphinx) -> None:
    app.connect("source-read", _read)
