"""Taking secrets, and names of people and hosts, out of text that others will read."""

from __future__ import annotations

import re
from typing import Final

REMOVED: Final = "(removed)"
# Greedy: a password may hold "@" and "/". What of the host is lost with it is no loss.
_USERINFO: Final = re.compile(r"(?<=://)[^\s\"'<>`|]*@")


def hide_userinfo(text: str) -> str:
    """The text without the user names and passwords of its URLs."""
    return _USERINFO.sub("…@", text)
