"""docs/reference/settings.md: its table of settings is made from the code, the rest of it is written by hand."""

from __future__ import annotations

from piehole.repository.settings import SETTINGS

PAGE = "docs/reference/settings.md"
_MADE = "from piehole/repository/settings.py. -->\n\n"


def page(written: str) -> str:
    """The page as it is, with its table made anew."""
    rows = ["| setting | meaning | default |", "| --- | --- | --- |"]
    for row in SETTINGS.values():
        see = f" ([{row.see.partition('#')[0].rpartition('/')[2]}](../{row.see}))" if row.see else ""
        default = ", ".join(f"`{one}`" for one in row.default) or row.otherwise
        rows.append(f"| `piehole.{row.name}` | {row.meaning.removesuffix('.')}{see} | {default} |")
    head, begin, rest = written.partition(_MADE)
    return head + begin + "\n".join(rows) + "\n\n" + rest.partition("\n\n")[2]
