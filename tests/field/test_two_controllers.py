"""Two controllers find the same repository, and a controller's socket or pointer is removed while it runs."""

from __future__ import annotations

import shutil
import signal
from pathlib import Path

import pytest

from piehole.fastpath import controller_socket
from tests.support.command_line import start_piehole
from tests.support.groups import Group, MakeGroup
from tests.support.process import ManagedProcess
from tests.support.sites import Site
from tests.support.wait import until


def pointer(site: Site) -> Path:
    return site.repository / controller_socket.POINTER


def answers(site: Site) -> bool:
    try:
        controller_socket.ask_status(str(site.repository))
    except controller_socket.NoController:
        return False
    return True


class Second:
    """A second controller, whose root holds that of the site."""

    def __init__(self, group: Group) -> None:
        self.log = group.folder / "second.log"
        arguments = ["controller", "--root", str(group.folder), "--log-format", "json"]
        self.process: ManagedProcess = start_piehole(arguments, self.log, group.environment)

    def said(self, *words: str) -> bool:
        return any(all(word in line for word in words) for line in self.log.read_text().splitlines())


def test_a_second_controller_refuses_the_repository_and_takes_over_when_the_first_ends(make_group: MakeGroup) -> None:
    group = make_group(1)
    site = group[0]
    before = pointer(site).read_text()
    second = Second(group)
    try:
        until(lambda: second.said("repository.refused", str(site.repository)), 20, "the second refuses it by name")
        assert second.said("repository.refused", before.strip())
        assert not second.said("repository.served")
        assert pointer(site).read_text() == before
        assert answers(site)
        assert f"process {second.process.pid}" in site.piehole("status", check=False).line("second controller")
        assert f"process {second.process.pid}" in site.piehole("check", check=False).line(
            "finds this repository, and is refused"
        )
        site.kill()
        second.process.signal(signal.SIGHUP)  # else it looks every five seconds
        until(lambda: second.said("repository.served", str(site.repository)), 20, "the second takes over")
        until(lambda: answers(site), 10, "and answers")
        assert "second controller" not in site.piehole("status", check=False).out
    finally:
        second.process.end()


def test_the_end_of_a_second_controller_changes_nothing(make_group: MakeGroup) -> None:
    """Seen: it removed the pointer that it had taken, and the first could not be reached any more."""
    group = make_group(1)
    site = group[0]
    second = Second(group)
    try:
        until(lambda: second.said("repository.refused", str(site.repository)), 20, "the second refuses it by name")
        second.process.signal(signal.SIGTERM)
        assert second.process.wait(20) == 0
    finally:
        second.process.end()
    assert answers(site)
    assert "second controller" not in site.piehole("status", check=False).out


@pytest.mark.parametrize("what", ["pointer", "socket", "folder"])
def test_what_a_clean_up_job_removes_is_put_back(make_group: MakeGroup, what: str) -> None:
    site = make_group(1)[0]
    path = Path(pointer(site).read_text().strip())
    if what == "pointer":
        pointer(site).unlink()
    elif what == "socket":
        path.unlink()
    else:
        shutil.rmtree(path.parent)
    assert not answers(site)
    site.signal(signal.SIGHUP)
    until(lambda: answers(site), 20, f"the {what} is back")
    assert site.running
    assert Path(pointer(site).read_text().strip()) == path
    assert site.stop() == 0
    assert not path.exists()


def test_a_controller_that_cannot_be_reached_any_more_ends_so_that_it_is_started_again(make_group: MakeGroup) -> None:
    """Its runtime directory is gone, and something is in its place: a new start can choose another."""
    group = make_group(1)
    site = group[0]
    shutil.rmtree(group.runtime)
    group.runtime.write_text("")
    try:
        site.signal(signal.SIGHUP)
        assert site.controller is not None
        assert site.controller.wait(20) == 1
    finally:
        group.runtime.unlink()
    assert "cannot be made again" in site.log_text()


def test_a_pointer_to_a_controller_that_was_killed_is_replaced_at_once(make_group: MakeGroup) -> None:
    site = make_group(1)[0]
    site.kill()
    left = pointer(site).read_text()
    site.controller = start_piehole(
        ["controller", "--root", str(site.root.parent), "--log-format", "json"], site.log, site.environment
    )
    until(lambda: pointer(site).read_text() != left, 20, "another controller has taken over")
    until(lambda: answers(site), 10, "and answers")


def test_a_repository_that_was_moved_below_another_root_is_served_there(make_group: MakeGroup) -> None:
    """Its pointer came with it, and names a controller that runs."""
    group = make_group(2)
    first, second = group
    first_pointer = pointer(first).read_text()
    second.stop()
    shutil.rmtree(second.root)
    second.root.mkdir()
    shutil.move(first.repository, second.repository)
    second.controller = start_piehole(
        ["controller", "--root", str(second.root), "--log-format", "json"], second.log, second.environment
    )
    until(lambda: pointer(second).read_text() != first_pointer, 30, "the other controller has taken it")
    assert answers(second)
