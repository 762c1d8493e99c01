"""Every path below a folder, however deep: a ref's name may have two thousand components, and ``os.walk`` recurses.

Imports nothing heavy: it is on the hooks' path.
"""

from __future__ import annotations

import os

TYPE_CHECKING = False  # importing typing costs a hook 4 ms; type checkers take this name as true
if TYPE_CHECKING:
    from collections.abc import Iterator


def below(folder: str) -> Iterator[tuple[str, bool]]:
    """Every path below ``folder``, and whether it is a folder itself. Symbolic links are not followed; what cannot be listed
    (gone, closed, or its path too long) is left out.
    """
    waiting = [folder]
    while waiting:
        try:
            with os.scandir(waiting.pop()) as entries:
                found = [(entry.path, entry.is_dir(follow_symlinks=False)) for entry in entries]
        except OSError:
            continue
        yield from found
        waiting += [path for path, is_folder in found if is_folder]
