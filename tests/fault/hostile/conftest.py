"""Sites with controllers, as everywhere (``make_group``)."""

from __future__ import annotations

from tests.support.sites import make_group

__all__ = ["make_group"]
