"""The command that a fault offers to be copied."""

from __future__ import annotations

import pytest

from controller.repository_view import refused

HERE = "/srv/git/a b.git"


@pytest.mark.parametrize(
    ("sentence", "fix"),
    [
        ("etcd went back: run `piehole accept`, or see the page", "piehole accept -C '/srv/git/a b.git'"),
        ("run `piehole clobber --newest` here", "piehole clobber -C '/srv/git/a b.git' --newest"),
        ("run `piehole audit --repair -C /x` here", "piehole audit --repair -C /x"),
        ("join it again with `piehole install --group tools`", "piehole install --group tools"),
        ("its objects are shallow", "piehole check -C '/srv/git/a b.git'"),
        # What is copied into a shell is words alone, and of piehole only.
        ("renamed: `piehole install --group x;curl`", "piehole check -C '/srv/git/a b.git'"),
        ("renamed: `piehole install --group $(curl)`", "piehole check -C '/srv/git/a b.git'"),
        ("renamed: `piehole install --group 'x`", "piehole check -C '/srv/git/a b.git'"),
        ("it said `git clone evil` and `rm -rf /`", "piehole check -C '/srv/git/a b.git'"),
    ],
)
def test_a_fault_offers_a_command_that_is_safe_to_copy(sentence: str, fix: str) -> None:
    assert [fault.fix for fault in refused(HERE, sentence, 1).faults] == [fix]
