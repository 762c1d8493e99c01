"""Many repositories at one site, made by copying: each a group of its own that is one push behind."""

from __future__ import annotations

import shutil
from pathlib import Path

from tests.support import git
from tests.support.assertions import accepted
from tests.support.git import MAIN
from tests.support.groups import Group


def prepare(group: Group) -> tuple[str, str]:
    """Bring both sites of a group without controllers to a first commit, and the first one alone to a second."""
    work = group[0].clone()
    first = git.commit(work, "first")
    accepted(git.push(work, group[0].url, "HEAD:main"))
    group[1].piehole("reconcile", "--once")
    second = git.commit(work, "second")
    accepted(git.push(work, group[0].url, "HEAD:main"))
    assert group[1].at() == first
    return first, second


def crowd(group: Group, count: int, *, url: str = "") -> list[Path]:
    """Copies of the second site's repository, each of a group of its own, which lacks what the first site has.

    :param url: where the first site's repository is said to be, if not where it is
    """
    keys = {key: value for key, value in group.etcd.get_prefix(group.prefix).items() if f"/{group.name}" in key}
    made = []
    for number in range(count):
        name = f"crowd{number}{'x' if url else ''}"
        copy = group[1].root / f"{name}.git"
        shutil.copytree(group[1].repository, copy)
        config = (copy / "config").read_text().replace(f"group = {group.name}\n", f"group = {name}\n")
        (copy / "config").write_text(config)
        for key, value in keys.items():
            old = group[0].url
            group.etcd.put(_renamed(key, group, name), value.replace(f'"{old}"', f'"{url or old}"'))
        made.append(copy)
    return made


def _renamed(key: str, group: Group, name: str) -> str:
    kind, _, rest = key[len(group.prefix) + 1 :].partition("/")
    return f"{group.prefix}/{kind}/{name}{rest[len(group.name) :]}"


def at(repository: Path, ref: str = MAIN) -> str:
    return (repository / ref).read_text().strip()
