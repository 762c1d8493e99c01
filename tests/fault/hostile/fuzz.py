"""``python -m tests.fault.hostile.fuzz PARSER SECONDS FOLDER`` (`make fuzz`): atheris over one of our parsers, or over ``all`` by turns.

FOLDER keeps the corpus: the seeds, and each input that reached new code. An input that broke a promise is written beside it, and
its name is printed; as a seed in ``parsers.py`` it becomes a test. Exit status: 0 nothing was found; 2 atheris is not installed;
else something was found.
"""

from __future__ import annotations

import sys
from pathlib import Path

try:
    import atheris
except ImportError:
    sys.stderr.write(
        "atheris is not installed: it has wheels for Linux on x86_64 and Python up to 3.13. Run `make fuzz` there; "
        '`make test ARGS="-k mutation"` tries random mutations without it.\n'
    )
    sys.exit(2)

with atheris.instrument_imports(include=["piehole", "hooks", "tests.fault.hostile.parsers"]):
    from tests.fault.hostile.parsers import PARSERS, SEEDS


def main(name: str, seconds: int, folder: Path) -> None:
    """It never returns: libFuzzer ends the process."""
    parsers = list(PARSERS.values()) if name == "all" else [PARSERS[name]]

    def one(data: bytes) -> None:
        if len(parsers) == 1:
            parsers[0](data)
        elif data:
            parsers[data[0] % len(parsers)](data[1:])

    corpus = folder / f"corpus-{name}"
    corpus.mkdir(parents=True, exist_ok=True)
    for place, parser in enumerate(PARSERS):
        if name in (parser, "all"):
            for number, seed in enumerate(SEEDS[parser]):
                (corpus / f"{parser}-{number}").write_bytes(bytes([place]) * (name == "all") + seed)
    limits = [f"-max_total_time={seconds}", "-timeout=20", "-rss_limit_mb=2048", "-max_len=100000", "-verbosity=1"]
    atheris.Setup([sys.argv[0], *limits, f"-artifact_prefix={folder}/", str(corpus)], one)
    atheris.Fuzz()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]))
