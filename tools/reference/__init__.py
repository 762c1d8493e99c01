"""The pages of docs/reference/, the diagrams, the manual pages and the completion files are made from the code.   usage: make docs

:func:`texts` returns what each file should hold; a test compares it with what it holds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from tools.reference import commands, diagrams, keys, lists, schemas, settings

ROOT: Final = Path(__file__).parents[2]

# The pages of docs/reference, and what each is made from.
_PAGES: Final[dict[str, tuple[str, Callable[[], Iterator[str]]]]] = {
    "exit-statuses.md": ("piehole/cli/parser.py", lists.exit_statuses),
    "json.md": ("piehole/schemas/", schemas.page),
    "keys.md": ("piehole/group/keys.py and tools/reference/keys.py", keys.page),
    "log-events.md": ("controller/events.py", lists.log_events),
    "metrics.md": ("controller/metrics.py", lists.metrics),
    "settings.md": ("piehole/repository/settings.py and git_settings.py", settings.page),
    "tokens.md": ("piehole/errors.py and docs/trouble/index.md", lists.tokens),
}


def texts() -> dict[str, str]:
    """The path below the root, and the content, of each file that is made from the code."""
    found = commands.texts()
    for name, (source, lines) in _PAGES.items():
        title, _, rest = "\n".join(lines()).partition("\n")
        found[f"docs/reference/{name}"] = f"{title}\n\n<!-- Made by `make docs` from {source}. -->\n\n{rest}\n"
    found[diagrams.LAYERS] = diagrams.layers()
    return found


def write() -> str:
    """Write them, and draw the diagrams that have changed. Returns why some could not be drawn."""
    for stale in (ROOT / commands.MAN).glob("*.1"):
        stale.unlink()
    for name, text in texts().items():
        (ROOT / name).parent.mkdir(parents=True, exist_ok=True)
        (ROOT / name).write_text(text)
    return "\n".join(diagrams.draw())
