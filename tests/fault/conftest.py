"""Shared by the parts of the fault suite."""

from __future__ import annotations

from tests.support.sites import make_group

__all__ = ["make_group"]
