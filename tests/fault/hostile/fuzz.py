"""``python -m tests.fault.hostile.fuzz PARSER LIBFUZZER-OPTIONS…``: atheris over one of our parsers, or over ``all`` by turns.

It never returns: libFuzzer ends the process, with status 0 where nothing was found.
"""

from __future__ import annotations

import sys

import atheris

with atheris.instrument_imports(include=["piehole", "hooks", "tests.fault.hostile.parsers"]):
    from tests.fault.hostile.parsers import PARSERS


def main() -> None:
    name = sys.argv.pop(1)
    parsers = list(PARSERS.values()) if name == "all" else [PARSERS[name]]

    def one(data: bytes) -> None:
        if len(parsers) == 1:
            parsers[0](data)
        elif data:
            parsers[data[0] % len(parsers)](data[1:])

    atheris.Setup(sys.argv, one)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
