"""Small steps that several failure modes have in common."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support import git
from tests.support.sites import MAIN, Group, Site, accepted
from tests.support.wait import until

PATIENCE = 40.0  # seconds for what takes a fraction of one on an idle machine


def begun(group: Group, *more: str) -> tuple[Path, str]:
    """A clone of the first site, and the first commit, which every site has on main (and on ``more``)."""
    work = git.clone(group[0].repository, group.fresh("begun"))
    first = git.commit(work, "first")
    accepted(git.push(work, group[0].repository, "HEAD:main", *(f"HEAD:{name}" for name in more)))
    for site in group:
        until(lambda site=site: site.at() == first or not site.running, PATIENCE, f"{site.name} has the first commit")  # type: ignore[misc]
    return work, first


def told(group: Group, ref: str = MAIN) -> None:
    """Wait until every site has told etcd that it has this ref's newest value."""
    newest = group.etcd.look(group.key(ref))
    assert newest is not None
    for site in group:
        until(lambda site=site: site.progress() >= newest.mod_revision, PATIENCE, f"{site.name} has told of {ref}")  # type: ignore[misc]


def stuck(site: Site, ref: str, words: str = "") -> str:
    """Wait until the site's controller reports the ref as stuck; returns why."""

    def why() -> str:
        found = [event["stuck"][ref] for event in site.events("reconcile") if ref in event.get("stuck", {})]
        return next((one for one in found if words in one), "")

    return until(why, PATIENCE, f"{site.name} reports {ref} as stuck ({words})")


@contextmanager
def git_that(group: Group, folder: Path, command: str, script: str) -> Iterator[Path]:
    """Controllers that are started inside this run ``script`` where they would run ``git COMMAND``; ``$git`` is the real one.

    Yields a file that the script may make to show that it ran.
    """
    real = shutil.which("git")
    folder.mkdir()
    wrapper = folder / "git"
    seen = folder / "seen"
    wrapper.write_text(
        f'#!/bin/sh\ngit={real}\nseen={seen}\ncase " $* " in *" {command} "*)\n{script}\n;;\nesac\nexec "$git" "$@"\n'
    )
    wrapper.chmod(0o755)
    before = group.environment
    group.environment = {**before, "PATH": f"{folder}:{before['PATH']}"}
    try:
        yield seen
    finally:
        group.environment = before


@contextmanager
def meanwhile(work: Callable[[], None]) -> Iterator[threading.Thread]:
    """Do ``work`` again and again beside the test, until the block ends; what it raises, the test raises."""
    ending = threading.Event()
    faults: list[BaseException] = []

    def run() -> None:
        try:
            while not ending.is_set():
                work()
        except BaseException as fault:  # noqa: BLE001 -- raised by the test
            faults.append(fault)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield thread
    finally:
        ending.set()
        thread.join()
        if faults:
            raise faults[0]
