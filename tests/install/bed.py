"""``piehole install`` as a person runs it."""

from __future__ import annotations

from pathlib import Path

from tests.support.command_line import Answer, piehole_in_process
from tests.support.groups import Group


class InstallBed(Group):
    """Adds the command itself, with all its options."""

    def run(self, repository: str, /, *options: str, **changes: str | None) -> Answer:
        """``piehole install`` with all that it needs; ``changes`` replace an option's value, None leaves it out."""
        given = {
            "group": "g",
            "site": repository,
            "url": str(self[repository].repository),
            "etcd": self.etcd.endpoint,
            "prefix": self.prefix,
        } | changes
        words = [word for name, value in given.items() if value is not None for word in (f"--{name}", value)]
        return piehole_in_process("install", self[repository].repository, *words, *options)

    def stored(self) -> dict[str, str]:
        return self.etcd.get_prefix(f"{self.prefix}/")

    def contents(self, site: str) -> dict[str, bytes]:
        """Every file of a repository."""
        root = self[site].repository
        return {
            str(path.relative_to(root)): path.read_bytes() for path in sorted(Path(root).rglob("*")) if path.is_file()
        }
