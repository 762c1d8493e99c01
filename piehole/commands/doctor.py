"""``piehole doctor``: collect what whoever looks into a fault needs to know, without secrets, in one file.

Each part is collected by itself, within a time, so that a broken repository, etcd or controller costs no more than its own part.
"""

from __future__ import annotations

import io
import os
import socket
import tarfile
import time
import zipfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from piehole import __version__
from piehole.commands.doctor_parts import LARGEST, MOST, Noted, ReportRequest, all_parts, now
from piehole.commands.secrets import Cleaner
from piehole.deadline import Deadline
from piehole.errors import PieholeError, UsageError

_AT_ONCE: Final = 4
_ALL: Final = 180.0  # seconds
_KINDS: Final = (".tar.gz", ".tgz", ".zip")


@dataclass(frozen=True, slots=True)
class ReportPart:
    """One file of the report. ``note``: what went wrong with it."""

    name: str
    text: str
    note: str = ""


@dataclass(frozen=True, slots=True)
class FaultReport:
    parts: Sequence[ReportPart]
    removed: Mapping[str, int]


def check_place(bundle: Path) -> None:
    """
    :raises UsageError: its name says no kind of file that can be written
    :raises PieholeError: it cannot be made there
    """
    if not bundle.name.endswith(_KINDS):
        raise UsageError(f"{bundle} is no name for a report: let it end with .tar.gz or .zip.")
    if os.path.lexists(bundle):
        raise PieholeError(f"{bundle} is there already, and nothing is overwritten. Name another file.")
    if not bundle.parent.is_dir() or not os.access(bundle.parent, os.W_OK | os.X_OK):
        raise PieholeError(f"no file can be made in {bundle.parent}. Name another place, such as /tmp/{bundle.name}.")


def collect(request: ReportRequest) -> FaultReport:
    """Collect all parts, and take the secrets out of them."""
    deadline = Deadline(_ALL)
    wanted = all_parts(request, deadline)
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        parts = list(pool.map(lambda item: _made(item[0], item[1], deadline), wanted.items()))
    if len(request.repositories) > MOST:
        left = "".join(f"{path}\n" for path in request.repositories[MOST:])
        parts.append(ReportPart("left-out.txt", left, f"only the first {MOST} repositories were looked at"))
    texts = [text for one in parts for text in (one.text, one.note)]
    own = {socket.gethostname(), socket.gethostname().partition(".")[0]} - {"localhost"}
    cleaner = Cleaner(texts, names=request.names, hosts=request.hosts, own_hosts=own)
    cleaned = [ReportPart(cleaner.clean(one.name), cleaner.clean(one.text), cleaner.clean(one.note)) for one in parts]
    return FaultReport([_summary(cleaned, cleaner.removed), *cleaned], dict(cleaner.removed))


def write(report: FaultReport, bundle: Path) -> int:
    """Write the report; its size in bytes. Only this account can read it.

    :raises FileExistsError: something is there by now
    """
    content = (_zip if bundle.name.endswith(".zip") else _tar)(report.parts)
    handle = os.open(bundle, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
    except OSError:
        bundle.unlink(missing_ok=True)
        raise
    return len(content)


def _tar(parts: Iterable[ReportPart]) -> bytes:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w:gz") as archive:
        for one in parts:
            data = _bytes(one)
            entry = tarfile.TarInfo(f"piehole-report/{one.name}")
            entry.size, entry.mode, entry.mtime = len(data), 0o600, int(time.time())
            archive.addfile(entry, io.BytesIO(data))
    return made.getvalue()


def _zip(parts: Iterable[ReportPart]) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as archive:
        for one in parts:
            archive.writestr(f"piehole-report/{one.name}", _bytes(one))
    return made.getvalue()


def _bytes(part: ReportPart) -> bytes:
    return part.text.encode("utf-8", "surrogateescape")


def _made(name: str, part: Callable[[], str], deadline: Deadline) -> ReportPart:
    """One part, whatever happens to it."""
    if deadline.passed:
        return ReportPart(name, "", f"not collected: {_ALL:g} s had passed")
    try:
        text, note = part(), ""
    except Noted as found:
        text, note = found.text, str(found)
    except Exception as error:  # noqa: BLE001 -- a report of a fault must not end by a fault
        text, note = "", f"not collected: {type(error).__name__}: {error}"
    if len(text) > LARGEST:
        # The end of a log is what happened last; of everything else the beginning tells what it is.
        is_log = "log" in name
        text = text[-LARGEST:].partition("\n")[2] if is_log else text[:LARGEST]
        note = f"{note}; cut to its {'last' if is_log else 'first'} {LARGEST >> 10} KiB".removeprefix("; ")
    return ReportPart(name, text, note)


def _summary(parts: Sequence[ReportPart], removed: Mapping[str, int]) -> ReportPart:
    lines = [f"A report of piehole {__version__}, made {now()}.", ""]
    lines += [f"{one.name}  {len(_bytes(one)):,} bytes{f'  ({one.note})' if one.note else ''}" for one in parts]
    lines += [
        "",
        "Taken out: " + (", ".join(f"{count} {kind}" for kind, count in sorted(removed.items())) or "nothing"),
    ]
    return ReportPart("README.txt", "\n".join(lines) + "\n")
