"""A page that a test runs by its mark."""

from tests.guide.conftest import page

__all__ = ["page"]
