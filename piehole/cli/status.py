"""Show how far each site has replicated: in step, or behind and by how much, or stuck and why.

Without REPO, -C or --root: the current repository or, outside a repository, all below piehole.root. Another site is behind by the
number of refs that moved after its progress record; this site is judged by its refs.

On a terminal, a table is printed: the sites of one repository, or one row for each of several repositories, worst first, with what is
wrong below it and a summary at the end. LAG is the age of the oldest change that a site lacks. If more than five repositories are well,
these are only counted; --all lists them. What `piehole explain` can say more of is named below. There are no colours where NO_COLOR is set or
TERM is "dumb".

Elsewhere, and with --format lines, lines for scripts are printed. Each line begins with the repository's path:

  group G, site S: …          the summary of this site: in step, not in step, halted, or not known
  site S: STATE …             one line per site; STATE is 'in step', 'behind', 'corrupt', 'never seen' or 'left';
                              'silent for …': its controller has given no sign of life for more than 45 seconds
  halted: TOKEN: …            this site must not move until an administrator decides
  corrupt: WHAT               objects that this site claims to have are missing or damaged; it is repaired from another site
  pending: REF: …             the next reconcile here will move it
  stuck: REF: …               why it cannot be moved here
  locked: REF: …              its value in the group is no object id (an administrator did that); it does not count
  unadopted: REF              the group has no value for it, so it stays as it is, at this site alone; it does not count
  note: …                     what to do about the unadopted refs
  copies: …                   where the group promises copies: how many sites can hold them now, and why the others cannot
  verified: …                 where the proof of all objects here is overdue, or kept tips were found to be incomplete
  controller: …               whether a controller answers here

The exit status is 0 only when every site shown is in step, this one included, a controller answers here, no other site's
controller is silent, and as many sites can hold copies as the group promises. (The controllers of older versions give no sign of life;
that is not known, and does not count as silent. Such a site takes no copies.)

--wait TIME waits until every site that has not left has reached the state that is the newest now; exit status 1 if not in time, or for
a silent controller.

--watch shows this again and again, until Ctrl-C ends it: in place on a terminal, elsewhere a new block after each change (with --json,
one object a line).

--json prints one object. Fields may be added, none will change its meaning:

  format        1
  converged     true when the exit status is 0
  repositories  a list of objects:
    repository, group, site   path and names (text)
    revision, newest          etcd's revision, and the newest revision that moved one of the group's refs
    in_step, converged        this site has every value of the group; every site that has not left has
    healthy                   a controller answers here, none of another site is silent, and the promise of copies can be kept
    error                     null, or why etcd could not be asked; where the repository itself could not be examined, why, and of the
                              other fields only repository is there
    halted                    null, or an object with token and why
    corrupt                   null, or what is missing or damaged (as far as a few seconds allow to examine it)
    controller                whether a controller answers; controller_says holds its own lines
    second_controller         null, or what another controller is called that was refused here
    pending, stuck, locked    objects from a ref to a sentence
    unadopted                 a list of refs
    sites                     a list of objects: site, this (bool), state, behind (number of refs), since (the time of the first
                              change that it lacks, or null), seconds (since then, or null), revision and reported (of its progress
                              record, or null), url, fault (null, or why its records cannot be used), verified (null, or what
                              the site has published of its last examination: result, time, why, and proven: when all its
                              objects were last proven), overdue (whether that is longer ago than one and a half times this site's
                              piehole.verifyEvery), heard (seconds since its
                              controller's last sign of life, or null where none is known), silent (whether that is too long)
    copies                    null where the group's record cannot be used, or an object: promised (a number, "majority" or "all"),
                              needed (how many sites that is now), kept (bool: a push to this site finds so many), able (the sites
                              that can hold copies), unable (an object: the others, each with the reason)
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Thread
from typing import TYPE_CHECKING

from piehole.cli import common, tables
from piehole.cli.printing import complain, tell
from piehole.errors import PieholeError, UsageError

if TYPE_CHECKING:
    from piehole.cli.status_text import FoundStatus
    from piehole.deadline import Deadline

EXAMPLES = (
    ("piehole status", "the current repository, or all below piehole.root"),
    ("piehole status --root /srv/git --json", "all repositories below /srv/git, for a script"),
)

_PATIENCE = 5.0  # seconds for etcd, for each repository
_AT_ONCE = 8  # repositories that are read at the same time
_EVERY = 2.0  # seconds between two looks of --watch, and at least
_SHARE = 3.0  # so many times as long as a look takes
_FIND_EVERY = 30.0  # seconds between two searches for repositories


def arguments(parser: argparse.ArgumentParser) -> None:
    common.add_repositories(parser)
    common.add_etcd(parser)
    common.add_time(parser, "--wait", "wait so long for every site to replicate what is the newest now")
    parser.add_argument("--watch", action="store_true", help="show it again and again, until Ctrl-C")
    common.add_format(parser)
    parser.add_argument(
        "--all", action="store_true", help="list repositories that are well, too, instead of only counting them"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object (described above)")


def run(args: argparse.Namespace) -> int:
    from piehole.deadline import Deadline

    if args.watch and args.wait is not None:
        raise UsageError("--watch and --wait exclude each other: --watch goes on until Ctrl-C.")
    if args.watch:
        _watch(args)
    waiting = None if args.wait is None else Deadline(args.wait)
    lines = not args.json and not tables.wanted(args.format, sys.stdout)
    seen: list[FoundStatus] = []
    for one in _Looks(args).look(common.repositories(args), waiting):
        seen.append(one)
        if lines:
            _print([one], args)
    if not lines:
        _print(seen, args)
    return max(one.exit_status for one in seen)


class _Looks:
    """Reads the status of repositories, with one connection to etcd for all that have the same."""

    def __init__(self, args: argparse.Namespace) -> None:
        connections = common.Connections(common.overrides(args))
        self._open = (
            connections.open if args.repos else connections.at
        )  # those that a search has found are repositories

    def look(self, folders: Sequence[Path], waiting: Deadline | None, *, examine: bool = True) -> Iterator[FoundStatus]:
        """Yield the status of each repository, in this order.

        :param examine: examine the objects as well, for some seconds in all
        """
        from piehole.replicate.examination import QUICK

        seconds = QUICK / len(folders) if examine else 0.0
        if len(folders) == 1:
            yield self._one(folders[0], waiting, seconds)
            return
        from concurrent.futures import ThreadPoolExecutor

        with ThreadPoolExecutor(_AT_ONCE) as pool:
            yield from pool.map(lambda folder: self._one(folder, waiting, seconds), folders)

    def _one(self, folder: Path, waiting: Deadline | None, examine: float) -> FoundStatus:
        from piehole.cli.status_text import FoundStatus
        from piehole.commands.status import status, wait

        try:
            replica = self._open(folder)
            found, reached = status(replica, _PATIENCE, examine), None
            if waiting is not None and not (found.trouble or found.halted):
                reached = wait(found, waiting, _PATIENCE)
                found = status(replica, _PATIENCE, examine)
            return FoundStatus(replica.git_dir, found, reached)
        except (PieholeError, OSError) as error:
            return FoundStatus(folder, error)


def _print(seen: Sequence[FoundStatus], args: argparse.Namespace) -> None:
    from piehole.cli import status_table, status_text

    table = not args.json and tables.wanted(args.format, sys.stdout)
    for one in seen:
        if isinstance(one.found, PieholeError | OSError):
            if not table:
                complain(f"{one.git_dir}: {one.found}")
        elif not args.json and not table:
            for line in status_text.lines(one.found):
                tell(f"{one.git_dir}: {line}")
    if args.json:
        print(json.dumps(status_text.as_json(seen), indent=None if args.watch else 2))
    if table:
        most, paint = tables.window()[0], tables.coloured(sys.stdout)
        print("\n".join(status_table.table(seen, unfold=args.all, most=most, paint=paint)))


# ---- --watch


def _watch(args: argparse.Namespace) -> None:
    """Show each new look until Ctrl-C, which ends this process."""
    in_place = not args.json and args.format != "lines" and tables.is_terminal(sys.stdout)
    try:
        folders = common.repositories(args)
        (_redraw if in_place else _print_changes)(args, folders)
    except (KeyboardInterrupt, SystemExit) as end:
        sys.stdout.flush()
        # Not by way of the interpreter's end: that waits for the threads which still wait for etcd.
        os._exit(end.code if isinstance(end, SystemExit) and isinstance(end.code, int) else 130)


def _looks(args: argparse.Namespace, folders: Sequence[Path]) -> SimpleQueue[list[FoundStatus]]:
    """A queue that gets one look after the other, from a thread of its own."""
    queue: SimpleQueue[list[FoundStatus]] = SimpleQueue()

    def read(folders: Sequence[Path]) -> None:
        looks, found_at, examine = _Looks(args), time.monotonic(), True
        while True:
            began = time.monotonic()
            if began - found_at > _FIND_EVERY:
                try:
                    folders, found_at = common.repositories(args), began
                except PieholeError:
                    pass  # then each of those that were there says what is wrong
            queue.put(list(looks.look(folders, None, examine=examine)))
            examine = False  # from now on the controller's mark is enough
            time.sleep(max(_EVERY, _SHARE * (time.monotonic() - began)))

    Thread(target=read, args=(folders,), daemon=True).start()
    return queue


def _print_changes(args: argparse.Namespace, folders: Sequence[Path]) -> None:
    queue, before = _looks(args, folders), None
    while True:
        seen = queue.get()
        now = [one.signature for one in seen]
        if now == before:
            continue
        if before is not None and not args.json:
            print()
        _print(seen, args)
        sys.stdout.flush()
        before = now


def _redraw(args: argparse.Namespace, folders: Sequence[Path]) -> None:
    from piehole.cli import status_table
    from piehole.cli.redraw import Screen

    with Screen() as screen:
        queue, seen, at = _looks(args, folders), None, ""
        while True:
            try:
                seen = queue.get_nowait()
                at = time.strftime("%H:%M:%S")
            except Empty:
                pass
            # The last column stays free: what erases the rest of a line would take a letter there.
            most, paint = tables.window()[0] - 1, tables.coloured(sys.stdout)
            head = tables.clipped(f"piehole status at {at or '…'} (Ctrl-C ends)", most)
            shown = status_table.table(seen, unfold=args.all, most=most, paint=paint) if seen else [""]
            screen.show([head, "", *shown])
            screen.wait(0.25)
