"""What the guides take for granted, on the three servers: the group ``tools``, and how to get to where a prompt stands."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from tests.guide.runner import Page, Place, Terminals
from tests.servers.bed.three import SITES, Server, ThreeServers
from tests.support.wait import until

TOOLS = "/srv/git/tools.git"
_CLONE = "/home/alice/tools"


def places(bed: ThreeServers) -> dict[str, Place]:
    """Each account in its home, as it is after a login."""
    accounts = {f"{user}@{server.site}": (server.host, user) for server in bed for user in ("root", "git")}
    accounts["alice@laptop"] = (bed.laptop.host, "alice")
    return {
        f"{name}{'#' if user == 'root' else '$'}": Place(
            enter=host.command("sh", "-c", 'cd && exec "$@"', "sh", user=user)
        )
        for name, (host, user) in accounts.items()
    }


def found_tools(bed: ThreeServers, page: Page) -> None:
    """Make the group by the guide, after whatever an earlier test has left of it."""
    remove_tools(bed)
    page.run(places(bed))


def remove_tools(bed: ThreeServers) -> None:
    with ThreadPoolExecutor(len(SITES)) as pool:
        list(pool.map(_without_tools, bed))
    for kind in ("ref", "site", "progress", "group"):
        bed.servers[0].etcdctl("del", "--prefix", f"/piehole/{kind}/tools", root=True)
    bed.laptop.host.run("rm", "-rf", _CLONE)


def _without_tools(server: Server) -> None:
    server.host.sh(f"[ ! -d {TOOLS} ] || piehole uninstall --local {TOOLS}; rm -rf {TOOLS}", user="git")


class Guide:
    """A page and the shells in which it is typed; alice has a new clone of the group, which is at rest."""

    def __init__(self, bed: ThreeServers, page: Page, terminals: Terminals) -> None:
        self.bed = bed
        self._page = page
        self._terminals = terminals

    def type(self, *sections: str) -> None:
        """Type some sections, or all that have not been typed yet."""
        self._page.type(self._terminals, sections=sections or [block.section for block in self._page.left])


def at_rest(bed: ThreeServers) -> None:
    bed.servers[0].piehole("status", "--wait", "30", TOOLS)
    able = "able to hold copies: kyoto, lima, oslo"
    until(
        lambda: able in bed.servers[0].piehole("group", "show", "-C", TOOLS).stdout,
        30,
        "every controller gave a sign of life",
    )
    bed.laptop.host.run("rm", "-rf", _CLONE)
    bed.laptop.git("/home/alice", "clone", "--quiet", f"ssh://git@{bed.servers[0].host.name}{TOOLS}", _CLONE)
