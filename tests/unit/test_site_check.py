"""When a halted site asks again; no etcd here."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import structlog

from controller.site_check import SiteCheck
from piehole.errors import WENT_BACK, EtcdUnreachable, Halted
from piehole.group import progress


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> list[Exception]:
    """What the checks to come find, in order."""
    coming: list[Exception] = []

    def check(*_: object, **__: object) -> None:
        raise coming.pop(0)

    monkeypatch.setattr(progress, "check", check)
    return coming


@pytest.fixture
def site(tmp_path: Path) -> SiteCheck:
    """A site whose connection and view stay as they are."""
    replica = SimpleNamespace(git_dir=tmp_path, config=SimpleNamespace(group="g"))
    view = SimpleNamespace(epoch=1, view=lambda _: SimpleNamespace(revision=7, mod=lambda _: 0))
    return SiteCheck(cast(Any, replica), cast(Any, view), structlog.get_logger(), lambda: None)


def asked(site: SiteCheck) -> bool:
    """Take a turn; whether it has asked etcd."""
    if site.still_halted():
        return False
    try:
        site.run()
    except Halted as halted:
        site.halt(halted)
    except EtcdUnreachable:
        pass
    return True


def test_a_halted_site_does_not_ask_again_while_nothing_changes(site: SiteCheck, answers: list[Exception]) -> None:
    answers += [Halted(WENT_BACK, "etcd went back")]
    assert asked(site)
    assert not asked(site)


def test_a_halted_site_asks_again_soon_where_it_got_no_answer(site: SiteCheck, answers: list[Exception]) -> None:
    """An administrator may have decided; a moment's trouble with etcd cost half a minute more."""
    halted = Halted(WENT_BACK, "etcd went back")
    answers += [halted, EtcdUnreachable("no answer"), halted]
    assert asked(site)
    cast(Any, site)._etcd_view.epoch = 2
    assert asked(site)
    assert asked(site)
    assert not asked(site)
