"""The guides, typed as they stand, on the three servers. Each finds the group ``tools`` as the first one makes it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.guide.runner import Page, Terminals
from tests.servers.bed.three import REPOSITORY, Server, ThreeServers
from tests.servers.guides import TOOLS, Guide, at_rest, found_tools, places, remove_tools
from tests.support.wait import until

pytestmark = [pytest.mark.servers, pytest.mark.slow]


@pytest.fixture(scope="module")
def guided_servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ThreeServers]:
    """Servers for the guides alone: they restore etcd, and leave more behind than the other tests want to know of."""
    servers = ThreeServers(tmp_path_factory.mktemp("guided"))
    try:
        yield servers.begin()
    finally:
        servers.end()


@pytest.fixture
def bed(guided_servers: ThreeServers) -> Iterator[ThreeServers]:
    yield guided_servers
    guided_servers.mend()


@pytest.fixture
def guide(bed: ThreeServers, page: Page) -> Iterator[Guide]:
    if not bed.servers[0].host.path(TOOLS).exists():
        found_tools(bed, Page("docs/guides/install.md"))
    at_rest(bed)
    with Terminals(places(bed)) as terminals:
        yield Guide(bed, page, terminals)


@pytest.mark.page("docs/guides/install.md")
def test_piehole_is_added_to_existing_servers(bed: ThreeServers, page: Page) -> None:
    found_tools(bed, page)


@pytest.mark.page("docs/guides/daily.md")
def test_day_to_day(guide: Guide) -> None:
    guide.type()


@pytest.mark.page("docs/guides/page.md")
def test_the_status_page_is_reached(guide: Guide) -> None:
    guide.type()


@pytest.mark.page("docs/guides/alerts.md")
def test_prometheus_finds_what_alerts_need(guide: Guide) -> None:
    guide.type()


@pytest.mark.page("docs/guides/deleted-refs.md")
def test_what_was_deleted_is_brought_back(guide: Guide) -> None:
    guide.type()


@pytest.mark.page("docs/guides/leaked-secret.md")
def test_a_leaked_secret_is_removed(guide: Guide) -> None:
    guide.type()


@pytest.mark.page("docs/guides/hooks.md")
def test_a_hook_is_chained(guide: Guide) -> None:
    guide.type()
    guide.bed.servers[0].host.sh(f"rm {TOOLS}/hooks/update && piehole install {TOOLS}", user="git")


@pytest.mark.page("docs/guides/copies.md")
def test_copies_are_promised(guide: Guide) -> None:
    oslo = guide.bed.servers[0]
    oslo.piehole("config", "-C", TOOLS, "copiesTimeout", "2s")
    oslo.host.systemctl("reload", "piehole-controller")
    guide.type()
    oslo.piehole("config", "-C", TOOLS, "--unset", "copiesTimeout")


@pytest.mark.page("docs/guides/fresh-reads.md")
def test_reads_are_fresh(guide: Guide) -> None:
    lima = guide.bed.servers[1]
    keys = lima.host.path("/home/git/.ssh/authorized_keys")
    before = keys.read_text()
    try:
        guide.type()
    finally:
        keys.write_text(before)
        lima.piehole("config", "-C", TOOLS, "--unset", "readGate", check=False)


@pytest.mark.page("docs/guides/corrupt-copies.md")
def test_a_corrupt_copy_is_repaired(guide: Guide) -> None:
    kyoto = guide.bed.servers[2]
    guide.type("Look")
    kyoto.host.systemctl("stop", "piehole-controller")
    tip = kyoto.host.run("git", f"--git-dir={TOOLS}", "rev-parse", "main", user="git").stdout
    kyoto.host.sh(f"rm -rf {TOOLS}/objects/{tip[:2]} {TOOLS}/objects/pack/pack-*")
    guide.type("Repair")


@pytest.mark.page("docs/guides/outside-changes.md")
def test_a_change_that_is_no_push_is_put_back_or_added(guide: Guide) -> None:
    outside = "/home/git/outside.git"
    guide.bed.servers[1].host.sh(
        f"git clone --quiet --bare --single-branch --branch main {TOOLS} {outside};"
        f"git config --global url.{outside}.insteadOf https://git.example.org/upstream.git",
        user="git",
    )
    guide.type()


@pytest.mark.page("docs/guides/tracing-a-push.md")
def test_one_push_is_followed(guide: Guide) -> None:
    guide.type()
    oslo = guide.bed.servers[0]
    oslo.piehole("config", "-C", TOOLS, "--unset", "announce")
    oslo.piehole("install", TOOLS)


@pytest.mark.page("docs/guides/pushers.md")
def test_the_log_names_who_pushed(guide: Guide) -> None:
    guide.type()
    guide.bed.servers[0].host.run("git", "config", "--system", "--unset-all", "piehole.pusherFrom")


@pytest.mark.page("docs/guides/upgrade.md")
def test_piehole_is_upgraded(guide: Guide) -> None:
    guide.type()


@pytest.mark.page("docs/guides/default-branch.md")
def test_the_default_branch_is_changed(guide: Guide) -> None:
    guide.type()
    laptop, clone, oslo = guide.bed.laptop, "/home/alice/tools", guide.bed.servers[0]
    laptop.git(clone, "push", "--quiet", "origin", "origin/trunk:refs/heads/main")
    oslo.piehole("group", "set", "-C", TOOLS, "head", "refs/heads/main")
    oslo.piehole("status", "--wait", "30", TOOLS)
    laptop.git(clone, "push", "--quiet", "origin", ":trunk")


@pytest.mark.timeout(240)
@pytest.mark.page("docs/guides/etcd.md")
def test_etcd_is_looked_after(guide: Guide) -> None:
    bed = guide.bed
    oslo = bed.servers[0]
    guide.type("etcd: back up, restore, space, access, upgrades", "Back up")
    guide.type("Space", "Access", "A ref by hand")  # written after the backup, so it must come back by itself
    for change in ("user", "role"):
        oslo.etcdctl(change, "delete", "quito" if change == "user" else "sites", root=True)
    _restored(guide)
    guide.type("Take the newest of all sites")
    for server in bed:  # the other group on these servers
        server.piehole("accept", "--yes", "-C", REPOSITORY, check=False)
        server.piehole("accept", "--yes", "-C", TOOLS, check=False)
    oslo.host.run("git", f"--git-dir={TOOLS}", "rev-parse", "--verify", "refs/heads/release", user="git")
    bed.mend()


def _restored(guide: Guide) -> None:
    """The snapshot is at each server; the page's command is typed at oslo, and at the others at the same time."""
    oslo, *others = guide.bed.servers
    snapshot = oslo.host.path("/var/backups/etcd.db").read_bytes()
    for server in others:
        server.host.path("/var/backups/etcd.db").write_bytes(snapshot)
        server.host.run("piehole", "files", "/root/deploy")
        server.host.run("sh", "/root/deploy/etcd-restore.sh", "/var/backups/etcd.db")
    guide.type("Restore")
    for server in guide.bed:
        server.wait_ready()
        until(lambda server=server: "went-back" in _status(server), 40, f"{server.site} halts")  # type: ignore[misc]


def _status(server: Server) -> str:
    return server.piehole("status", TOOLS, check=False).stdout


@pytest.mark.page("docs/guides/uninstall.md")
def test_a_repository_is_taken_out(guide: Guide) -> None:
    guide.type()
    remove_tools(guide.bed)
