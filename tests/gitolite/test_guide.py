"""docs/guides/gitolite.md, as it is typed at a server that has gitolite already."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.gitolite.bed import CONF, Bed, GitoliteSite
from tests.guide.runner import Page, Place

pytestmark = pytest.mark.slow


@pytest.fixture
def server(bed: Bed) -> Iterator[GitoliteSite]:
    site = bed.one_more("new")
    yield site
    site.end()


def _project_may_be_made(work: Path) -> None:
    (work / "conf" / "gitolite.conf").write_text(f"{CONF}\nrepo project/..*\n    C = alice\n    RW+ = CREATOR\n")


@pytest.mark.page("docs/guides/gitolite.md")
def test_piehole_is_added_to_gitolite(page: Page, bed: Bed, server: GitoliteSite, tmp_path: Path) -> None:
    # What install.md has set up, in the settings of the account: there is one system for all tests.
    template = server.home / "template"
    (template / "hooks").mkdir(parents=True)
    settings = {"piehole.site": "oslo", "piehole.prefix": f"{bed.prefix}-guide", "piehole.etcd": bed.endpoint}
    for name, value in settings.items():
        server.run("git", "config", "--global", name, value)
        server.run("git", "config", "--file", str(template / "config"), name, value)
    server.run("git", "config", "--global", "init.templateDir", str(template))
    replaced = {
        "git config --system": "git config --global",
        "s/oslo.example.org/$(hostname -f)/": f"s|ssh://git@oslo.example.org/|{server.base}|",
        "/home/git/": f"{server.home}/",
        "/srv/git/": f"{tmp_path}/srv/",
        "/etc/piehole/": f"{tmp_path}/etc/",
    }
    place = Place(env=server.environment, cwd=server.home, replaced=replaced)
    places = {"root@oslo#": place, "git@oslo$": place}

    def start_the_controller() -> None:
        server.start()
        server.serves("tools")

    page.run(places, sections=["Setting it up"], before={"piehole check": start_the_controller})
    assert server.publish(_project_may_be_made).returncode == 0
    server.clone("alice", "project/secret")
    page.run(places, sections=["Wild repositories", "Servers without gitolite"])
