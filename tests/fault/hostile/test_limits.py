"""Each limit of a fetch is an option of the controller, and holds."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from piehole.fastpath.inflight import FOLDER, Record, records
from tests.fault.hostile.bombs import BLOB, delta_bomb, pack, plain
from tests.fault.hostile.test_rubbish import sound
from tests.support.command_line import piehole_in_process
from tests.support.git import MAIN
from tests.support.groups import MakeGroup
from tests.transfer.liar import Talk, lying_peer, says_nothing, sends_for_ever, sends_pack

BASE = bytes(1 << 16)
LIMITS: dict[str, tuple[str, Talk, str]] = {
    "--fetch-max-bytes": ("200000", sends_for_ever, "more than the 200000 bytes that are allowed"),
    "--fetch-max-memory": (
        "100000000",
        sends_pack(pack([plain(BLOB, BASE), delta_bomb(BASE, 1 << 14)])),
        "a pack that git refuses: fatal: Out of memory",
    ),
    "--fetch-stall": ("0.5", says_nothing, "no byte arrived for 0.5 s"),
    "--fetch-timeout": ("1.25", sends_for_ever, "took longer than 1.25 s"),
}


@pytest.mark.parametrize("option", LIMITS)
def test_the_limit_of_a_fetch_is_what_the_controller_was_told(make_group: MakeGroup, option: str) -> None:
    value, talk, words = LIMITS[option]
    group = make_group(0)
    with lying_peer(talk) as url:
        group.add("a", url=url).build()
        b = group.add("b").build()
        group.put(MAIN, "12" * 20)
        b.start(option, value)
        assert words in b.stuck(MAIN)
        assert b.at() == ""
        sound([b])
        b.stop()  # it tries again and again
        assert list(b.repository.glob("objects/piehole-quarantine-*")) == []


@pytest.mark.parametrize("option", LIMITS)
@pytest.mark.parametrize("value", ["0", "-1", "much", "nan", ""])
def test_a_limit_that_is_none_is_a_wrong_argument(option: str, value: str) -> None:
    ended = piehole_in_process("controller", "--root", "/nonexistent", f"{option}={value}")
    assert ended.status == 2
    assert option in ended.err


@pytest.mark.timeout(20)
def test_a_pipe_in_the_place_of_an_in_flight_record_holds_up_nobody(tmp_path: Path) -> None:
    """Whoever may push over a shared disk may write that folder, and each reconcile reads it."""
    folder = tmp_path / FOLDER
    folder.mkdir(parents=True)
    os.mkfifo(folder / "b-1.1.1")
    sparse = folder / "b-1.1.2"
    sparse.touch()
    os.truncate(sparse, 1 << 40)
    assert list(records(str(tmp_path))) == []
    with pytest.raises(OSError, match="no file"):
        Record(str(tmp_path), "b-1.1.1").load()
    with pytest.raises(OSError, match="too large"):
        Record(str(tmp_path), "b-1.1.2").load()
