"""The bed of the sweep: an etcd, three sites, each running a copy of the program of its own, and orders for their steps."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable, Mapping
from pathlib import Path

from tests.fault.tree import Tree, TreeSite
from tests.support import git
from tests.support.assertions import accepted
from tests.support.etcd import EtcdProcess
from tests.support.groups import Group
from tests.support.wait import until

Plant = Callable[[Tree], object]
_INSTRUMENT = Path(__file__).with_name("instrument.py")


class Faulty(TreeSite):
    """A site whose program obeys orders: its controller, its hooks and what is run by hand there."""

    def __init__(self, group: Group, name: str, plant: Plant) -> None:
        self.tree = Tree(group.folder / f"tree-{name}").append(
            "piehole/fastpath/failpoints.py", _INSTRUMENT.read_text()
        )
        plant(self.tree)
        super().__init__(group, name, self.tree.folder)
        for folder in ("orders", "done"):
            (self.tree.folder / folder).mkdir()
        self._ordered = 0

    # ---- orders

    def order(self, step: str, kind: str) -> Path:
        """Have this happen when the step is reached next; returns the order's file, which leaves when it is carried out."""
        self._ordered += 1
        path = self.tree.folder / "orders" / f"{self._ordered:04},{step},{kind}"
        path.touch()
        return path

    def obeyed(self, order: Path) -> bool:
        return not order.exists()

    def release(self, order: Path) -> None:
        """Let go on what a ``hold`` holds."""
        (self.tree.folder / "done" / order.name).unlink()

    def seen(self) -> list[str]:
        """The steps that were reached since the last :meth:`forget`, in order."""
        path = self.tree.folder / "seen"
        return path.read_text().splitlines() if path.exists() else []

    def forget(self) -> None:
        (self.tree.folder / "seen").unlink(missing_ok=True)
        for order in (self.tree.folder / "orders").iterdir():
            order.unlink()

    # ---- the program

    def reconcile(self) -> None:
        """``piehole reconcile --once``, by hand."""
        self.piehole("reconcile", "--once", check=False)


class Bed:
    """Three sites in step on a first commit of ``main``. Pushers push to the site that the test names."""

    def __init__(
        self,
        folder: Path,
        etcd: EtcdProcess,
        prefix: str,
        environment: Mapping[str, str],
        plant: Plant = lambda _: None,
    ) -> None:
        """
        :param plant: changes the program of every site
        """
        self.group = Group(
            folder, (etcd.endpoint,), prefix, settings={"piehole.catchUp": "2", "piehole.copiesTimeout": "5"}
        )
        self.group.environment |= environment
        self.sites: list[Faulty] = []
        for name in ("a", "b", "c"):
            site = Faulty(self.group, name, plant)
            self.group.sites.append(site)
            self.sites.append(site)
            site.build()
        self.group.start()
        self.work = git.clone(self.sites[0].repository, folder / "work")
        self.base = git.commit(self.work, "first")
        accepted(git.push(self.work, self.sites[0].repository, "HEAD:main"))
        self.group.arrives("refs/heads/main", self.base)
        self.spoilt = False
        self.runs = 0
        self._pushes = 0

    def end(self) -> None:
        self.group.end()

    def forget(self) -> None:
        for site in self.sites:
            site.forget()

    def mend(self, *, without: Faulty | None = None) -> None:
        """What an administrator's service manager does: a controller that has died is started again."""
        dead = [site for site in self.sites if not site.running and site is not without]
        for site in dead:
            site.launch()
        for site in dead:
            # One that is told to die at its first reconcile dies here, once more.
            until(lambda site=site: site.is_served or not site.running, 30, f"{site.name} serves or has died again")  # type: ignore[misc]
        if any(not site.running for site in dead):
            self.mend(without=without)

    def promise(self, copies: int) -> None:
        """Have the group promise so many copies of what is pushed from now on."""
        key = f"{self.group.prefix}/group/{self.group.name}"
        record = json.loads(self.group.etcd.get(key) or "{}")
        self.group.etcd.put(key, json.dumps(record | {"copies": copies}))
        self.group.put("@fence", "{}")  # all controllers watch it, as with `piehole group set`

    def look_around(self) -> None:
        """Have every controller look now for what dead pushes left; it does so every few seconds anyway."""
        for site in self.sites:
            if site.running and site.is_served:
                site.signal(signal.SIGHUP)

    def stop_controller(self, site: Faulty) -> None:
        if site.running:
            site.stop()

    def next_push(self) -> int:
        self._pushes += 1
        return self._pushes

    def commit(self, parent: str, message: str) -> str:
        """A new commit on that parent (``""``: a root), in the pusher's clone."""
        tree = git.git(self.work, "mktree", stdin=_blob_line(self.work, message)).stdout.strip()
        parents = ["-p", parent] if parent else []
        return git.git(self.work, "commit-tree", tree, *parents, "-m", message).stdout.strip()


def _blob_line(work: Path, text: str) -> str:
    blob = git.git(work, "hash-object", "-w", "--stdin", stdin=f"{text}\n").stdout.strip()
    return f"100644 blob {blob}\tfile.txt\n"
