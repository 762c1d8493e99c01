"""What other programs do to a site's repository, at which piehole must lay no hand."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Final

from tests.fault.history.place import Place
from tests.support.git import git, refs

Heal = Callable[[], None]
# No refs of the group.
_OWN: Final = "refs/piehole/own/"
_GONE: Final = f"{_OWN}gone"
_MANY: Final = 20


class Strangers:
    """Gits of somebody's own, that hold a lock in the repositories ``holding``.

    ``robbed`` tells of each lock that was taken from one of them, and of each ref that was lost.
    """

    def __init__(self) -> None:
        self.robbed: list[str] = []
        self.holding: set[Path] = set()

    def hold(self, place: Place) -> Heal | None:
        """Delete a packed ref, and hold the lock of the packed refs until that is healed, as `git pack-refs` does in a large repository."""
        site = place.site.repository
        if site in self.holding or not self._prepare(site):
            return None
        process = subprocess.Popen(
            ["git", "-c", "core.hooksPath=/dev/null", "update-ref", "--stdin"],
            cwd=site,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(f"start\ndelete {_GONE}\nprepare\n")
        process.stdin.flush()
        if [process.stdout.readline() for _ in range(2)] != ["start: ok\n", "prepare: ok\n"]:
            process.communicate(timeout=60)  # somebody else has the lock, or the disk is full
            return None
        self.holding.add(site)
        lock = site / "packed-refs.lock"
        made = lock.stat().st_ino

        def heal() -> None:
            if not lock.exists() or lock.stat().st_ino != made:
                self.robbed.append(f"{place.site.name}: {lock} was removed while git held it")
            process.communicate("commit\n", timeout=60)
            here = refs(site)
            self.robbed += [f"{place.site.name}: {ref} is lost" for ref in _own() if ref not in here]
            self.holding.discard(site)

        return heal

    def _prepare(self, site: Path) -> bool:
        """Have refs of somebody's own there, packed."""
        tree = git(site, "hash-object", "-t", "tree", "-w", "--stdin", check=False).stdout.strip()
        lines = "".join(f"update {ref} {tree}\n" for ref in [*_own(), _GONE])
        asked = (["update-ref", "--stdin"], lines), (["pack-refs", "--all"], "")
        return all(
            git(site, "-c", "core.hooksPath=/dev/null", *words, stdin=stdin, check=False).returncode == 0
            for words, stdin in asked
        )


def _own() -> list[str]:
    return [f"{_OWN}{number}" for number in range(_MANY)]
