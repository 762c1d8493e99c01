"""The beds of the tests here: sites with controllers, on one machine."""

from __future__ import annotations

from tests.support.sites import make_group

__all__ = ["make_group"]
