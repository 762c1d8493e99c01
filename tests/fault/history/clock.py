"""A wall clock that can be set wrong, for one site's controller, hooks and git: the monotonic clock stays as it is."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Final

_SOURCE: Final = r"""
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static long skew(void) {
    char text[32];
    int before = errno, file = open(SKEW_FILE, O_RDONLY | O_CLOEXEC);
    long seconds = 0;
    if (file >= 0) {
        ssize_t count = read(file, text, sizeof text - 1);
        if (count > 0) { text[count] = 0; seconds = atol(text); }
        close(file);
    }
    errno = before;
    return seconds;
}

int clock_gettime(clockid_t clock, struct timespec *now) {
    int failed = syscall(SYS_clock_gettime, clock, now);
    if (!failed && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) now->tv_sec += skew();
    return failed;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone) {
    struct timespec exact;
    (void)zone;
    if (clock_gettime(CLOCK_REALTIME, &exact)) return -1;
    now->tv_sec = exact.tv_sec;
    now->tv_usec = exact.tv_nsec / 1000;
    return 0;
}

time_t time(time_t *where) {
    struct timespec exact;
    clock_gettime(CLOCK_REALTIME, &exact);
    if (where) *where = exact.tv_sec;
    return exact.tv_sec;
}
"""


class Clock:
    """The clock of whatever is started with ``LD_PRELOAD`` set to ``library``; others are not touched."""

    def __init__(self, folder: Path) -> None:
        """
        :raises FileNotFoundError: there is no C compiler on this machine
        """
        compiler = shutil.which("cc") or shutil.which("gcc")
        if compiler is None:
            raise FileNotFoundError("no C compiler")
        self._file = folder / "clock-skew"
        self._file.write_text("0")
        self.library = folder / "clock.so"
        source = folder / "clock.c"
        source.write_text(_SOURCE)
        define = f'-DSKEW_FILE="{self._file}"'
        command = [compiler, "-shared", "-fPIC", "-O1", "-w", define, "-o", str(self.library), str(source)]
        subprocess.run(command, check=True, timeout=60)

    def set(self, seconds: int) -> None:
        """From now on it is this much ahead; running processes notice it, too."""
        scratch = self._file.with_name("clock-skew.new")
        scratch.write_text(str(seconds))
        scratch.replace(self._file)
