"""Whether another hook that calls piehole's passes its exit status on, as far as that can be read in a plain shell script."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from piehole.repository import hook_files
from piehole.repository.fitness import Fault

_SHELL: Final = re.compile(r"#! *\S*(?:/|env )(?:ba|da|k|z)?sh\b")
_DROPPED: Final = re.compile(r"\|\| *(?:true|:|exit +0|echo)(?: |;|$)|; *(?:true|:|exit +0) *$|[^&>]& *$")
_HANDED_ON: Final = re.compile(r"(?:exit|return) +\"?\$|\w+=\"?\$\?|[\[{}()]|(?:fi|esac|done|else|elif|if|case|test)\b")


def faults(git_dir: Path) -> Iterator[Fault]:
    for hook in hook_files.HOOKS:
        path = git_dir / "hooks" / hook
        if not hook_files.is_chained(path):
            continue
        name = hook_files.place(git_dir, hook).relative_to(path.parent).as_posix()
        if loses_status(path.read_text(errors="replace"), name):
            yield Fault(
                f"{path} seems to lose the exit status of {name}, so what piehole refuses could move here all the same",
                f'let it end with `exec "$(dirname "$0")/{name}" "$@"` (docs/guides/hooks.md)',
                warning=True,
            )


def loses_status(script: str, name: str) -> bool:
    """Whether a shell script clearly drops the exit status of the command line that names ``name``.

    False if the script does not show it: another language, the name in a variable, the call in a condition.
    """
    lines = [line.strip() for line in script.splitlines()]
    if not lines or not _SHELL.match(lines[0]):
        return False
    code = [line for line in lines[1:] if line and not line.startswith("#")]
    calls = [number for number, line in enumerate(code) if name in line]
    if not calls or any(re.match(r"set +-\w*e", line) for line in code):
        return False
    call = code[calls[-1]]
    if re.match(rf"\w+=[\"']?[^;|&]*{re.escape(name)}[\"']?$", call) or re.match(r"(?:if|while|until|exec)\b", call):
        return False
    if _DROPPED.search(call):
        return True
    if "||" in call or "&&" in call or re.search(r";\s*exit\b", call):
        return False
    after = code[calls[-1] + 1 :]
    return bool(after) and not _HANDED_ON.match(after[0])
