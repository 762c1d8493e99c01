"""Make docs/tutorial/three-servers.md from deploy/three-servers.sh.   usage: python tools/three_servers_doc.py [--check]

Lines that begin with ``#:`` are the page's prose; what stands between them becomes its code. Standard library only.
"""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SCRIPT = ROOT / "deploy" / "three-servers.sh"
PAGE = ROOT / "docs" / "tutorial" / "three-servers.md"


def page(script: str) -> str:
    """The page that a script tells."""
    parts: list[str] = []
    code: list[str] = []

    def end_code() -> None:
        text = "\n".join(code).strip("\n")
        code.clear()
        if text:
            parts.extend(["", "```sh", *text.split("\n"), "```", ""])

    for line in script.splitlines()[1:]:  # without the line that names the shell
        if line == "#:" or line.startswith("#: "):
            end_code()
            parts.append(line[3:])
        else:
            code.append(line)
    end_code()
    lines = [line for number, line in enumerate(parts) if line or (number and parts[number - 1])]
    return "\n".join(lines).strip("\n") + "\n"


def main(arguments: list[str]) -> int:
    """1 where ``--check`` finds the page out of date."""
    wanted = page(SCRIPT.read_text())
    if arguments == ["--check"]:
        if PAGE.exists() and PAGE.read_text() == wanted:
            return 0
        sys.stderr.write(f"{PAGE.name} is out of date: run python {Path(__file__).name}\n")
        return 1
    PAGE.write_text(wanted)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
