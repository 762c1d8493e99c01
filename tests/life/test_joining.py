"""A new site joins a busy group, and nobody waits for it."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.life.bed import Life, begun, bytes_fetched, held_fetches, history, live, named
from tests.life.page import commands
from tests.support import git
from tests.support.assertions import accepted
from tests.support.git import MAIN
from tests.support.groups import Group, MakeGroup
from tests.support.sites import Site
from tests.support.wait import PATIENCE, meanwhile, until

_COMMITS = 1500  # three objects each


@contextmanager
def _pushers(life: Life, work: Path, names: tuple[str, ...]) -> Iterator[Callable[[], list[int]]]:
    """Users who push to branches of their own, each at a site of their own; gives how often each has pushed so far."""
    counts = [0] * len(names)

    def pusher(number: int, clone: Path) -> Callable[[], None]:
        repository = life[names[number]].repository

        def push() -> None:
            git.commit(clone, f"by pusher {number}")
            accepted(git.push(clone, repository, f"HEAD:busy{number}"))
            counts[number] += 1

        return push

    with ExitStack() as ends:
        for number in range(len(names)):
            clone = git.clone(work, life.group.fresh("pusher"))
            ends.enter_context(meanwhile(pusher(number, clone)))
        yield lambda: list(counts)


def _other_group(life: Life) -> tuple[Group, Site, Site]:
    """A group `paper` with a repository at oslo and one at quito, beside those of `tools`: one controller for both."""
    group = Group(life.group.folder, life.group.endpoints, life.group.prefix, name="paper")
    group.environment = life.group.environment
    oslo, quito = (named(group, name, "paper.git") for name in ("oslo", "quito"))
    for site in (oslo, quito):
        site.build()
    return group, oslo, quito


@pytest.mark.slow
def test_a_first_clone_holds_up_neither_the_group_nor_the_other_repositories_of_its_server(
    make_group: MakeGroup, tmp_path: Path
) -> None:
    life = live(make_group, tmp_path)
    work = begun(life, _COMMITS)
    others = [life[name] for name in ("oslo", "lima", "kyoto")]
    paper, paper_oslo, paper_quito = _other_group(life)
    letter = git.clone(paper_oslo.repository, life.group.fresh("letter"))
    quito = life.site("quito")
    with _pushers(life, work, ("oslo", "lima", "kyoto", "lima")) as counts:
        life.admin.run(quito, commands("A site joins"))
        with held_fetches(life.group, tmp_path / "held", "tools.git") as held:
            quito.launch()
            held.wait_begun()
            before = counts()
            assert "  joining  " in _line(life, "quito")

            until(
                lambda: all(new >= old + 3 for old, new in zip(before, counts(), strict=True)), PATIENCE, "pushes go on"
            )
            oid = git.commit(work, "while quito clones")
            accepted(git.push(work, life["lima"].repository, "HEAD:main"))
            life.group.arrives(MAIN, oid, others)

            for here, there in ((paper_quito, paper_oslo), (paper_oslo, paper_quito)):
                page = git.commit(letter, f"to {here.name}")
                accepted(git.push(letter, here.repository, "HEAD:main"))
                paper.arrives(MAIN, page, [here, there])

            accepted(git.push(work, quito.repository, "HEAD:from-quito"))
            life.group.arrives("refs/heads/from-quito", oid, [*others, quito])
            assert quito.at() == "", "the clone has not ended meanwhile"
    life.group.in_step(timeout=PATIENCE)
    until(lambda: "in step" in _line(life, "quito"), PATIENCE, "quito has told that it is in step")
    quito.fsck()
    paper_quito.fsck()
    assert bytes_fetched(quito) > 0


def _line(life: Life, name: str) -> str:
    listed = life["oslo"].piehole("sites").out.splitlines()
    return next(line for line in listed if line[2:].startswith(f"{name} "))


def test_a_controller_killed_in_the_middle_of_the_first_clone_leaves_nothing_and_the_next_one_clones(
    make_group: MakeGroup, tmp_path: Path
) -> None:
    life = live(make_group, tmp_path, ("oslo",))
    begun(life, _COMMITS)
    quito = life.site("quito")
    life.admin.run(quito, commands("A site joins"))
    with held_fetches(life.group, tmp_path / "held", "tools.git") as held:
        quito.start()
        held.wait_begun()
        quito.kill()
    assert quito.refs() == {}
    quito.start()
    life.group.in_step(timeout=PATIENCE)
    quito.fsck()
    left = list((quito.repository / "objects").glob("*quarantine*")) + list(quito.repository.rglob("*.keep"))
    assert left == []


def test_a_gc_at_the_source_in_the_middle_of_the_first_clone_does_no_harm(
    make_group: MakeGroup, tmp_path: Path
) -> None:
    life = live(make_group, tmp_path, ("oslo",))
    work = begun(life, _COMMITS)
    history(work, 200)
    accepted(git.push(work, life["oslo"].repository, "refs/heads/main"))
    quito = life.site("quito")
    life.admin.run(quito, commands("A site joins"))
    with held_fetches(life.group, tmp_path / "held", "tools.git") as held:
        quito.start()
        held.wait_begun()
        git.git(life["oslo"].repository, "gc", "--quiet", "--prune=now")
        held.release()
        life.group.in_step(timeout=PATIENCE)
    quito.fsck()


def test_two_sites_join_at_once_and_may_fetch_from_each_other(make_group: MakeGroup, tmp_path: Path) -> None:
    life = live(make_group, tmp_path, ("oslo",))
    begun(life, _COMMITS)
    new = [life.site(name) for name in ("quito", "perth")]
    for site in new:
        life.admin.run(site, commands("A site joins"), {"quito": site.name})
    for site in new:
        site.launch()
    life.group.in_step(timeout=PATIENCE)
    for site in new:
        site.fsck()


def test_install_run_twice_at_once_makes_one_site(make_group: MakeGroup, tmp_path: Path) -> None:
    life = live(make_group, tmp_path, ("oslo",))
    begun(life)
    quito = life.site("quito")
    git.make_bare(quito.repository)
    install = ["piehole", "install", str(quito.repository), "--group", "tools", "--site", "quito", "--url", quito.url]
    both = [
        subprocess.Popen(
            install,
            env=life.admin.environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for _ in range(2)
    ]
    said = [process.communicate(timeout=60)[0] for process in both]
    assert any(process.returncode == 0 for process in both), said
    # One that lost says so, and to run it again; that is harmless.
    life.admin.run(quito, commands("A site comes back"))
    quito.start()
    life.group.in_step()
    assert quito.piehole("check", check=False).out.count("is missing") == 0
    work = quito.clone()
    oid = git.commit(work, "to the new site")
    accepted(git.push(work, quito.repository, "HEAD:main"))
    life.group.arrives(MAIN, oid)
