"""A test that skips, for the tests of the rule about skips; pytest does not find it by itself."""

from __future__ import annotations

import pytest


def test_skips() -> None:
    pytest.skip("no moon")
