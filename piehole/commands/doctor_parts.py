"""The parts of the report that `piehole doctor` writes. Each raises what it must: the report says so in its place."""

from __future__ import annotations

import dataclasses
import datetime
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Final

from piehole import __version__, git
from piehole.commands.check import etcd_links
from piehole.deadline import Deadline
from piehole.group import ref_log
from piehole.group.records import at
from piehole.group.replica import Replica
from piehole.repository import hook_files

_UNITS: Final = ("piehole-http.socket", "piehole-http.service", "etcd.service")
_EACH: Final = 60.0  # seconds for one part
LARGEST: Final = 512 << 10  # bytes of one part
MOST: Final = 20  # repositories


@dataclass(frozen=True, slots=True)
class ReportRequest:
    """``log``: the controller's log, instead of the journal of ``unit``; ``audit``: compare all sites as well."""

    repositories: Sequence[Path]
    unit: str = "piehole-controller"
    log: Path | None = None
    audit: bool = False
    names: bool = False
    hosts: bool = True


class Noted(Exception):
    """What a part holds, and what to say of it."""

    def __init__(self, text: str, note: str) -> None:
        super().__init__(note)
        self.text = text


def all_parts(request: ReportRequest, deadline: Deadline) -> dict[str, Callable[[], str]]:
    """What makes each file of the report."""
    wanted: dict[str, Callable[[], str]] = {
        "versions.txt": lambda: _versions(deadline),
        "machine.txt": lambda: _machine(deadline),
        "units.txt": lambda: _units(request.unit, deadline),
        "controller-log.txt": lambda: _controller_log(request, deadline),
        "config.json": lambda: _piehole(deadline, "config", "--json"),
    }
    for number, repository in enumerate(request.repositories[:MOST], 1):
        folder = f"{number:02}-{repository.name or 'repository'}"
        for name, part in _of_repository(repository.absolute(), request, deadline).items():
            wanted[f"{folder}/{name}"] = part
    return wanted


def now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def _run(deadline: Deadline, *command: str) -> tuple[int, str, str]:
    """The status, the output and the complaints of a program."""
    try:
        process = subprocess.Popen(
            command,
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, "LC_ALL": "C.UTF-8"},
            start_new_session=True,
        )
    except OSError as error:
        raise Noted("", f"not collected: {command[0]}: {error.strerror}") from error
    try:
        out, err = process.communicate(timeout=deadline.at_most(_EACH).remaining())
    except subprocess.TimeoutExpired as error:
        git.kill_group(process)
        raise Noted("", f"not collected: `{' '.join(command)}` did not end in time") from error
    return process.returncode, out.decode("utf-8", "surrogateescape"), err.decode("utf-8", "replace")


def _piehole(deadline: Deadline, *words: str) -> str:
    """What a command of piehole prints, in a process of its own."""
    status, out, err = _run(deadline, sys.executable, "-P", "-m", "piehole.cli", *words)
    if status or err.strip():
        raise Noted(out or err, f"exit status {status}{f': {err.strip()}' if err.strip() else ''}")
    return out


def _said(deadline: Deadline, *command: str) -> str:
    """What a program prints, its complaints included, under its command line."""
    try:
        status, out, err = _run(deadline, *command)
    except Noted as failed:
        return f"$ {' '.join(command)}\n{failed}\n\n"
    return f"$ {' '.join(command)}\n{out}{err}{f'exit status {status}' if status else ''}\n\n"


def _versions(deadline: Deadline) -> str:
    lines = [f"piehole {__version__} ({Path(__file__).parents[1]})", f"python {sys.version} ({sys.executable})"]
    for name in [re.split(r"[^\w.-]", one)[0] for one in metadata.requires("piehole") or ()]:
        try:
            lines.append(f"{name} {metadata.version(name)}")
        except metadata.PackageNotFoundError:
            lines.append(f"{name}: not installed")
    return "\n".join(lines) + "\n\n" + _said(deadline, "git", "version", "--build-options")


def _machine(deadline: Deadline) -> str:
    system = platform.uname()
    try:
        release = platform.freedesktop_os_release().get("PRETTY_NAME", "")
    except OSError:
        release = "no os-release"
    lines = [
        f"{system.system} {system.release} {system.version} {system.machine}, {release}",
        f"processors: {os.cpu_count()}, load: {os.getloadavg()}",
        f"this account: uid {os.geteuid()}, groups {os.getgroups()}, umask and limits: {Path('/proc/self/limits').read_text()}",
        f"time: {now()}",
    ]
    return "\n".join(lines) + "\n" + _said(deadline, "timedatectl", "show") + _said(deadline, "free", "-m")


def _units(unit: str, deadline: Deadline) -> str:
    wanted = "Id,LoadState,UnitFileState,ActiveState,SubState,Result,NRestarts,ExecMainStatus,ActiveEnterTimestamp,MemoryCurrent"
    shown = _said(deadline, "systemctl", "show", f"--property={wanted}", unit, *_UNITS)
    return shown + _said(deadline, "systemctl", "cat", unit)


def _controller_log(request: ReportRequest, deadline: Deadline) -> str:
    if request.log is not None:
        return _tail(request.log)
    status, out, err = _run(
        deadline, "journalctl", "-u", request.unit, "-n", "3000", "--no-pager", "-o", "short-iso", "-q"
    )
    out = out.removeprefix("-- No entries --\n")
    if status or err.strip() or not out.strip():
        how = f"as root, `journalctl -u {request.unit} -n 3000 >FILE`, then --log FILE"
        raise Noted(
            out,
            f"the journal of {request.unit} shows this account {'less' if out.strip() else 'nothing'}: {err.strip() or how}",
        )
    return out


def _tail(path: Path) -> str:
    if not path.is_file():
        raise Noted("", f"not collected: there is no file {path}")
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - LARGEST))
        found = file.read(LARGEST).decode("utf-8", "replace")
    return found.partition("\n")[2] if size > LARGEST else found


def _of_repository(repository: Path, request: ReportRequest, deadline: Deadline) -> dict[str, Callable[[], str]]:
    at_it = ("-C", str(repository), "--json")
    parts: dict[str, Callable[[], str]] = {
        "etcd.json": lambda: _etcd(repository),
        "clocks.txt": lambda: _clocks(repository, deadline),
        "disk.txt": lambda: _disk(repository, deadline),
        "hooks.txt": lambda: _hooks(repository),
        "refs.txt": lambda: _refs(repository),
        "ref-log.jsonl": lambda: _tail(repository / ref_log.FILE),
    }
    for name in ("config", "status", "check", "sites", *(["audit"] if request.audit else [])):
        parts[f"{name}.json"] = partial(_piehole, deadline, name, *at_it)
    return parts


def _etcd(repository: Path) -> str:
    """Each endpoint, its version included."""
    links = etcd_links.links(Replica.open(repository))
    return json.dumps([dataclasses.asdict(link) for link in links], indent=2) + "\n"


def _disk(repository: Path, deadline: Deadline) -> str:
    disk = os.statvfs(repository)
    usage = shutil.disk_usage(repository)
    lines = [
        f"{repository}: uid {repository.stat().st_uid}, mode {repository.stat().st_mode:o}",
        f"bytes: {usage.total:,} in all, {usage.free:,} free; inodes: {disk.f_files:,} in all, {disk.f_favail:,} free",
    ]
    own = repository / "piehole"
    lines += [
        f"{path}: {path.lstat().st_size:,} bytes, mode {path.lstat().st_mode:o}" for path in sorted(own.glob("*"))
    ]
    kind = _said(deadline, "stat", "-f", "-c", "%T", str(repository))
    return "\n".join(lines) + "\n\n" + kind + _said(deadline, "git", "-C", str(repository), "count-objects", "-v")


def _hooks(repository: Path) -> str:
    lines = hook_files.faults(repository) or ["piehole's hooks are as they should be"]
    for path in sorted((repository / "hooks").iterdir()):
        if path.suffix != ".sample" and path.is_file():
            whose = "piehole's" if hook_files.is_ours(path) else "chained" if hook_files.is_chained(path) else "foreign"
            lines.append(f"{path.name}: {whose}, mode {path.stat().st_mode:o}, {path.stat().st_size:,} bytes")
    return "\n".join(lines) + "\n"


def _refs(repository: Path) -> str:
    """How many refs there are, by their folders. Their names may say more than is wanted."""
    listed = git.run(repository, ["for-each-ref", "--format=%(refname)"], timeout=_EACH).stdout
    counted = Counter(
        "/".join(ref.split("/")[: 3 if ref.startswith("refs/piehole/") else 2]) for ref in git.lines(listed)
    )
    return "".join(f"{folder}: {count:,}\n" for folder, count in sorted(counted.items())) or "no refs\n"


def _clocks(repository: Path, deadline: Deadline) -> str:
    """What the times in records say of the clocks of the sites."""
    moment = time.time()
    found = json.loads(
        _run(deadline, sys.executable, "-P", "-m", "piehole.cli", "sites", "-C", str(repository), "--json")[1]
    )
    times = {one["site"]: at(one["reported"] or "") for one in found.get("sites", ())}
    lines = [
        f"{site}: its last record is of {moment - then:+.0f} s ago by this machine's clock"
        for site, then in times.items()
        if then
    ]
    lines += [
        f"{site}: its clock is ahead of this machine's" for site, then in times.items() if then and then > moment + 1
    ]
    pushes = [(one.site, then) for one in ref_log.recent(repository, LARGEST)[0] if (then := at(one.time))]
    lines += clocks_that_differ(pushes)
    return "\n".join(lines or ["no record says when it was written"]) + "\n"


def clocks_that_differ(pushes: Sequence[tuple[str, float]]) -> list[str]:
    """Where a later push has an earlier time, the clocks of the two sites differ by at least that.

    :param pushes: the site and the time of each, in the order of their revisions
    """
    worst: dict[tuple[str, str], float] = {}
    newest: dict[str, float] = {}
    for site, then in pushes:
        for other, before in newest.items():
            if other != site and before > then:
                worst[site, other] = max(worst.get((site, other), 0.0), before - then)
        newest[site] = max(then, newest.get(site, 0.0))
    return [
        f"{site}: its clock was behind that of {other} by {seconds:.1f} s or more"
        for (site, other), seconds in worst.items()
    ]
