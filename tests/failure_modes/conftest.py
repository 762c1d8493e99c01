from tests.support.sites import make_group

__all__ = ["make_group"]
