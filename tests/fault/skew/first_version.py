"""What the first version of piehole has left behind: three repositories, and every transaction that its etcd has seen.

``python -m tests.fault.skew.first_version`` has made both files in `recorded/` by running that version, from this project's history:

* ``first-version.tar.xz``: the repositories of the sites a, b and c. c is behind: its controller ended before the last pushes;
* ``first-version.json``: what each revision of etcd changed. Written again one by one, every key has the mod_revision that it had.
"""

from __future__ import annotations

import io
import json
import shutil
import sys
import tarfile
import tempfile
from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from tests.fault.skew.previous import unpack
from tests.fault.tree import SOURCE, TreeSite
from tests.support import git
from tests.support.assertions import accepted, arrives
from tests.support.etcd import EtcdProcess, find_etcds
from tests.support.etcd_raw import RawEtcd
from tests.support.git import MAIN
from tests.support.groups import Group
from tests.support.sites import Site

# The first commit with hooks, a controller, a demo, and a command for each task of an administrator.
COMMIT: Final = "7f36013"
RECORDED: Final = Path(__file__).parent / "recorded"
ARCHIVE: Final = RECORDED / "first-version.tar.xz"
TRANSACTIONS: Final = RECORDED / "first-version.json"
SITES: Final = ("a", "b", "c")
PREFIX: Final = "/piehole"


def _places(folder: Path, endpoint: str, program: Path) -> dict[str, str]:
    """What is another one on every machine, by its name in what is recorded."""
    found = find_spec("etcd3gw")
    assert found is not None and found.origin is not None
    return {
        "@FOLDER@": str(folder),
        "@ETCD@": endpoint,
        "@PROGRAM@": str(program),
        "@LIBRARIES@": str(Path(found.origin).parents[1]),
        "@PYTHON@": sys.executable,
    }


def load(folder: Path, etcd: EtcdProcess, programs: Mapping[str, Path]) -> Group:
    """The group as its first version has left it, in a fresh etcd.

    :param programs: the tree that each site's hooks run; this one where it is not named
    """
    raw = etcd.raw
    for number, transaction in enumerate(json.loads(TRANSACTIONS.read_text())):
        text = json.dumps(transaction).replace("@FOLDER@", str(folder))
        changes: dict[str, str | None] = json.loads(text)
        puts = {key: value for key, value in changes.items() if value is not None}
        revision = raw.change(puts, [key for key, value in changes.items() if value is None])
        assert revision == number + 2, "etcd is not fresh"
    group = Group(folder, [etcd.endpoint], PREFIX)
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(folder, filter="data")
    for name in SITES:
        program = programs.get(name, SOURCE)
        group.sites.append(TreeSite(group, name, program) if name in programs else Site(group, name))
        for path in _texts(group[name].repository):
            text = path.read_text()
            for place, value in _places(folder, etcd.endpoint, program).items():
                text = text.replace(place, value)
            path.write_text(text)
    return group


def _texts(repository: Path) -> Iterator[Path]:
    """The files in which paths stand."""
    yield repository / "config"
    yield from (repository / "hooks").iterdir()


def main() -> None:
    """Run the first version and record what it leaves."""
    work = Path(tempfile.mkdtemp(prefix="first-"))
    etcd = EtcdProcess(next(path for version, path in find_etcds().items() if version.startswith("3.5")), work / "etcd")
    group = Group(work / "sites", [etcd.start().endpoint], PREFIX, settings={"piehole.exclude": "refs/heads/ci/*"})
    try:
        assert unpack(work / "program", COMMIT)
        _live(group, work)
        etcd_says = _transactions(etcd.raw)
        places = _places(group.folder, etcd.endpoint, work / "program")
        TRANSACTIONS.write_text(_placeless(json.dumps(etcd_says, indent=1, sort_keys=True), places) + "\n")
        _pack(group, places)
    finally:
        for site in group:
            site.end()
        etcd.kill()
        shutil.rmtree(group.runtime)
        shutil.rmtree(work)


def _live(group: Group, folder: Path) -> None:
    """A group's life: refs from before it, pushes at two sites, what is deleted, overwritten and left out, and a site that falls behind."""
    a, b, c = (TreeSite(group, name, folder / "program") for name in SITES)
    group.sites += [a, b, c]
    seed = git.clone(git.make_bare(a.repository), folder / "seed")
    git.commit(seed, "from before the group")
    accepted(git.push(seed, "origin", "HEAD:main", "HEAD:topic"))
    for site in group:
        site.build()
        site.start()
    arrives(group, MAIN, git.rev_parse(seed))
    git.git(seed, "tag", "-a", "-m", "the first release", "v1")
    git.commit(seed, "one")
    accepted(git.push(seed, str(a.repository), "HEAD:main", "HEAD:rewritten", "HEAD:ci/1", "v1"))
    git.git(seed, "commit", "-q", "--amend", "-m", "one, in other words")
    accepted(git.push(seed, str(b.repository), "+HEAD:rewritten", ":topic"))
    arrives(group, "refs/heads/rewritten", git.rev_parse(seed))
    arrives(group, "refs/heads/topic", "")
    c.stop()
    git.git(seed, "reset", "-q", "--hard", a.at())
    two = git.commit(seed, "two")
    accepted(git.push(seed, str(b.repository), "HEAD:main", "HEAD:late", ":v1"))
    arrives([a, b], MAIN, two)
    arrives([a, b], "refs/tags/v1", "")
    for site in (a, b):
        site.stop()


def _transactions(raw: RawEtcd) -> list[dict[str, str | None]]:
    """What each revision has changed, from 2 on, which is the first that changes anything."""
    found: dict[int, dict[str, str | None]] = {}
    for key in raw.get_prefix(PREFIX):
        for change in raw.history(key):
            found.setdefault(change.revision, {})[key] = change.value
    assert sorted(found) == list(range(2, raw.revision() + 1)), "a key has gone, and with it what it was"
    return [found[revision] for revision in sorted(found)]


def _placeless(text: str, places: Mapping[str, str]) -> str:
    for place, value in places.items():
        text = text.replace(value, place)
    return text


def _pack(group: Group, places: Mapping[str, str]) -> None:
    for site in group:
        for sample in (site.repository / "hooks").glob("*.sample"):
            sample.unlink()
        for path in _texts(site.repository):
            path.write_text(_placeless(path.read_text(), places))
    with tarfile.open(ARCHIVE, "w:xz") as archive:
        for path in sorted(path for site in group for path in site.root.rglob("*")):
            entry = archive.gettarinfo(path, str(path.relative_to(group.folder)))
            entry.uid = entry.gid = entry.mtime = 0
            entry.uname = entry.gname = "root"
            archive.addfile(entry, io.BytesIO(path.read_bytes()) if path.is_file() else None)


if __name__ == "__main__":
    main()
