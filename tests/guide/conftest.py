"""The page that a test runs, as its mark says.

    @pytest.mark.page("docs/guides/backup.md")            # or some of its sections: page("docs/…", "Restore", "Check")
    def test_a_backup_and_its_restore(page: Page, bed: ThreeServers) -> None:
        page.run(bed.places)

A test that passes has run everything that its mark names; ``test_every_page.py`` reads the marks.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.guide.runner import Page


@pytest.fixture
def page(request: pytest.FixtureRequest) -> Iterator[Page]:
    mark = request.node.get_closest_marker("page")
    page = Page(*mark.args)
    yield page
    assert page.failed or not page.left, f"nothing has run the commands of lines {[block.line for block in page.left]}"
