"""What a disk has after a power failure: the test cannot take the kernel's memory away, so it copies only what was synced.

Each process writes down what it has synced, by a library that is loaded before all others. A file that is new or was changed counts only
where it was synced afterwards, and a name only where its folder was.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

COMPILER: Final = shutil.which("cc") or shutil.which("gcc")
_SOURCE: Final = r"""
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static int noted(int file, int failed) {
    struct stat is;
    struct timespec now;
    char line[80];
    int before = errno, log;
    if (failed || fstat(file, &is)) return failed;
    clock_gettime(CLOCK_REALTIME, &now);
    log = open(LOG_FILE, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0666);
    if (log >= 0) {
        write(log, line, snprintf(line, sizeof line, "%lu %ld%09ld\n", (unsigned long)is.st_ino, (long)now.tv_sec, now.tv_nsec));
        close(log);
    }
    errno = before;
    return failed;
}

int fsync(int file) { return noted(file, syscall(SYS_fsync, file)); }
int fdatasync(int file) { return noted(file, syscall(SYS_fdatasync, file)); }
"""


class SyncLog:
    """Of whatever is started with ``LD_PRELOAD`` set to ``library``."""

    def __init__(self, folder: Path) -> None:
        self.library = folder / "syncs.so"
        self._log = folder / "syncs"
        source = folder / "syncs.c"
        source.write_text(_SOURCE)
        define = f'-DLOG_FILE="{self._log}"'
        command = [str(COMPILER), "-shared", "-fPIC", "-O1", "-w", define, "-o", str(self.library), str(source)]
        subprocess.run(command, check=True, timeout=60)

    def times(self) -> dict[int, int]:
        """When each inode was last synced, in nanoseconds."""
        if not self._log.exists():
            return {}
        pairs = (line.split() for line in self._log.read_text().splitlines())
        return {int(inode): int(at) for inode, at in pairs}


class Disk:
    """A folder, as it was on the disk when this was made, and what of it a power failure leaves."""

    def __init__(self, folder: Path, log: SyncLog) -> None:
        self._folder = folder
        self._log = log
        self._since = time.time_ns()
        self._names = {path: os.lstat(path).st_ino for path in _below(folder)}

    def after_power_failure(self, copy: Path) -> Path:
        """Copy what is on the disk."""
        synced = self._log.times()
        lost: set[Path] = set()
        for path in _below(self._folder):
            target = copy / path.relative_to(self._folder)
            if path.parent in lost or not self._is_there(path, synced):
                lost.add(path)
            elif path.is_dir():
                target.mkdir(parents=True)
            else:
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(path, target)
        return copy

    def _is_there(self, path: Path, synced: dict[int, int]) -> bool:
        found = os.lstat(path)
        folder = synced.get(os.lstat(path.parent).st_ino, 0)
        is_named = self._names.get(path) == found.st_ino or folder >= (
            found.st_ctime_ns if path.is_file() else self._since
        )
        is_written = (
            path.is_dir() or found.st_mtime_ns < self._since or synced.get(found.st_ino, 0) >= found.st_mtime_ns
        )
        return is_named and is_written


def _below(folder: Path) -> Iterator[Path]:
    """All paths, a folder before what is in it."""
    for parent, folders, files in os.walk(folder):
        yield from (Path(parent) / name for name in (*folders, *files))
