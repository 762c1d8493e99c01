"""The diagrams: docs/images/NAME.svg is drawn from NAME.dot by graphviz, with colours that are readable in light and dark.

A drawing names the checksum of what it was made from, so it is drawn again only after a change, and needs no graphviz otherwise.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import subprocess
import textwrap
from collections.abc import Mapping
from configparser import ConfigParser
from itertools import pairwise
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]
IMAGES: Final = ROOT / "docs" / "images"
ARCHITECTURE: Final = ROOT / "docs" / "development" / "architecture.md"
LAYERS: Final = "docs/images/layers.dot"

# DejaVu is wider than what most readers have, so the text fits its box everywhere.
_FONT: Final = [f"-{what}fontname=DejaVu Sans" for what in "GNE"]
_DRAW: Final = [
    "dot",
    "-Tsvg",
    *_FONT,
    "-Nshape=box",
    "-Nstyle=rounded",
    "-Nfontsize=13",
    "-Efontsize=12",
    "-Gfontsize=13",
]

# Classes of dot's own (graph, cluster, node, edge), and of the sources.
_STYLE: Final = """
svg { --paper: #ffffff; --ink: #1f2328; --line: #59636e; --box: #f6f8fa; --main: #0a5cc2; --good: #1a7f37; --bad: #b3261e }
@media (prefers-color-scheme: dark) {
  svg { --paper: #16191d; --ink: #e6e9ed; --line: #9aa4b0; --box: #21262d; --main: #79b8ff; --good: #6fd48a; --bad: #ff9b93 }
}
text { font-family: system-ui, "DejaVu Sans", sans-serif; fill: var(--ink) }
.graph > polygon { fill: var(--paper) }
.cluster > polygon { fill: none; stroke: var(--line); stroke-dasharray: 2 3 }
.cluster > text { fill: var(--line) }
.node path, .node polygon { fill: var(--box); stroke: var(--line) }
.edge path { stroke: var(--line) }
.edge polygon { fill: var(--line); stroke: var(--line) }
.etcd path, .edge.main path { stroke: var(--main); stroke-width: 2 }
.good path { stroke: var(--good); stroke-width: 2 }
.bad path { stroke: var(--bad); stroke-width: 2 }
"""


def layers() -> str:
    """The source of the picture of the layers: the contract that lint-imports checks, with the promises of the module map."""
    contract = ConfigParser()
    contract.read(ROOT / ".importlinter")
    rows = [row.split(" | ") for row in contract["importlinter:contract:layers"]["layers"].split("\n") if row]
    promises = dict(re.findall(r"^### `([\w/]+)/`\n\n((?:.+\n)+)", ARCHITECTURE.read_text(), re.MULTILINE))
    folders = [row for row in rows if row[0].replace(".", "/") in promises]
    ground = ", ".join(name for row in rows if row not in folders for name in row)
    lines = ["// Made by `make docs` from .importlinter and the module map.", "digraph layers {", "  ranksep=0.2"]
    for row in folders:
        boxes = [f'"{one}" [label={json.dumps(_label(one, promises))}]' for one in row]
        lines.append(f"  {{ rank=same; {'; '.join(boxes)} }}")
    for upper, lower in pairwise([*folders, ["ground"]]):
        lines += [f'  "{one}" -> "{below}"' for one in upper for below in lower]
    lines.append(f"  ground [label={json.dumps(_wrapped('the ground: ' + ground.replace('piehole.', '')))}]")
    return "\n".join([*lines, "}", ""])


def _label(module: str, promises: Mapping[str, str]) -> str:
    folder = module.replace(".", "/")
    return f"{folder}\n{_wrapped(promises[folder].replace('`', ''))}"


def _wrapped(text: str) -> str:
    return "\n".join(textwrap.wrap(" ".join(text.split()), 70))


def checksum(source: str) -> str:
    return hashlib.sha256((source + _STYLE).encode()).hexdigest()


def draw() -> list[str]:
    """Draw what has changed. Returns a line for each drawing that could not be made."""
    faults = []
    for file in sorted(IMAGES.glob("*.dot")):
        source, drawing = file.read_text(), file.with_suffix(".svg")
        if drawing.exists() and checksum(source) in drawing.read_text():
            continue
        if shutil.which("dot") is None:
            faults.append(
                f"{drawing.name} is older than {file.name}, and there is no dot to draw it (Debian: apt-get install graphviz)"
            )
            continue
        done = subprocess.run(_DRAW, input=source, capture_output=True, text=True, timeout=60, check=True)
        drawing.write_text(_styled(done.stdout, source))
    return faults


def _styled(svg: str, source: str) -> str:
    svg = re.sub(r"<!--.*?-->\n?|<\?xml.*?\?>\n|<!DOCTYPE.*?>\n|<title>.*?</title>\n", "", svg, flags=re.DOTALL)
    svg = re.sub(r' (?:font-family|xmlns:xlink)="[^"]*"', "", svg)
    svg = re.sub(r'(width|height)="(\d+)pt"', r'\1="\2"', svg)
    head, opening, rest = re.split(r"(<svg [^>]*>\n)", svg, maxsplit=1)
    return f"{head}{opening}<!-- Made by `make docs` from {checksum(source)} -->\n<style>{_STYLE}</style>\n{rest}"
