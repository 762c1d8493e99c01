"""Playing the demo from its beginning to its end, whatever happens in between."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from piehole.demo.bed import Bed, find_etcd
from piehole.demo.interrupts import Interrupts
from piehole.demo.stories import BAR, Stories
from piehole.errors import PieholeError


def history_of(repository: str | None) -> Path | None:
    """The repository whose history the demo pushes: the given one, else the one around the current directory if it has commits.

    :raises PieholeError: the given one has no commits
    """
    asked = Path(repository or ".").resolve()
    done = subprocess.run(
        ["git", "-C", str(asked), "rev-parse", "--verify", "--quiet", "HEAD"], capture_output=True, check=False
    )
    if done.returncode == 0:
        return asked
    if repository:
        raise PieholeError(f"{asked} is no git repository with commits.")
    return None


def play(repository: str | None, say: Callable[[str], None], *, serve: bool) -> None:
    """Play all stories, or with ``serve`` keep the sites up until interrupted. Nothing is left running.

    :raises PieholeError: a story did not end as expected, or something could not be started
    """
    history = history_of(repository)
    binary = find_etcd()
    started = time.monotonic()
    with _stage() as (bed, interrupts):
        bed.start_etcd(binary)
        for site in bed.sites:
            site.build()
        say(
            f"An etcd and three sites ({', '.join(site.name for site in bed.sites)}), "
            f"each with its Git server and its controller."
        )
        if serve:
            _serve(bed, say, interrupts)
            return
        stories = Stories(bed, say, history)
        stories.play()
    within = "within" if stories.slowest <= BAR else "MISSED"
    say(
        f"\nEvery story ended as expected, in {time.monotonic() - started:.0f} s. "
        f"Slowest arrival {stories.slowest * 1000:.0f} ms: {within} the bar of {BAR * 1000:.0f} ms."
    )


def _serve(bed: Bed, say: Callable[[str], None], interrupts: Interrupts) -> None:
    say("Clone from any of these, push to any of them:")
    for site in bed.sites:
        say(f"  git clone {site.url}")
    say(f"etcd is at {bed.endpoint}; the repositories are below {bed.folder}. Ctrl-C ends it all.")
    interrupts.wait()


@contextmanager
def _stage() -> Iterator[tuple[Bed, Interrupts]]:
    """An empty bed, and the end of all that was started in it, whatever happens."""
    with Interrupts() as interrupts, ExitStack() as ends:
        with interrupts.held():
            folder = Path(tempfile.mkdtemp(prefix="piehole-demo-"))
            bed = Bed(folder, interrupts.held)

            def end() -> None:
                with interrupts.held():
                    bed.end()
                    shutil.rmtree(folder, ignore_errors=True)

            ends.callback(end)
        yield bed, interrupts
