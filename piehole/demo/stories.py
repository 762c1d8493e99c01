"""The stories that piehole is for. Each is played with real servers and real pushes, and its end is checked."""

from __future__ import annotations

import shutil
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from piehole.demo.bed import Bed, Clone, DemoSite
from piehole.errors import PieholeError

MAIN: Final = "refs/heads/main"
_PUSHES: Final = 15
BAR: Final = 0.15  # seconds after a push's return in which the other sites are to have the ref


class Stories:
    """Plays the stories in order; each leaves the group whole for the next one."""

    def __init__(self, bed: Bed, say: Callable[[str], None], history: Path | None) -> None:
        """
        :param history: the repository whose history is pushed; None: a small one is made up
        """
        self._bed = bed
        self._say = say
        self._history = history
        self._oslo, self._lima, self._kyoto = bed.sites
        self.slowest = 0.0

    def play(self) -> None:
        """
        :raises PieholeError: a story did not end as expected
        """
        for number, (title, story) in enumerate(
            (
                ("real history, pushed to one site, arrives at the others", self.history_arrives),
                ("small pushes, and how soon the others have them", self.small_pushes),
                ("two users race", self.race),
                ("the home server burns down before it has replicated", self.home_server_lost),
                ("the same, and the user has gone on working meanwhile", self.home_server_lost_with_more),
                ("a push, and both copies of it destroyed", self.both_copies_lost),
                ("an administrator rewrites a key by hand", self.key_rewritten),
                ("a site that was away recovers without its daemon", self.site_was_away),
            ),
            start=1,
        ):
            self._say(f"\n{number}. {title[0].upper()}{title[1:]}")
            started = time.monotonic()
            story()
            self._say(f"   as expected, in {time.monotonic() - started:.1f} s")

    def history_arrives(self) -> None:
        bed = self._bed
        source = bed.folder / "history"
        if self._history is None:
            self._tell("no repository with commits here, so a small history is made up")
            bed.run("git", "init", "--quiet", "--initial-branch=main", str(source))
            author = Clone(source, "author", bed.env)
            for n in range(20):
                (source / "file.txt").write_text(f"line {n}\n" * (n + 1))
                author.must("add", ".")
                author.commit(f"Change {n}")
        else:
            self._tell(f"the history is that of {self._history}")
            bed.run("git", "clone", "--quiet", "--no-local", "--bare", str(self._history), str(source))
        author = Clone(source, "author", bed.env)
        commits = author.must("rev-list", "--count", "HEAD")
        started = time.monotonic()
        author.must("push", "--quiet", self._oslo.url, f"HEAD:{MAIN}", "refs/tags/*:refs/tags/*")
        took = time.monotonic() - started
        lag = bed.everywhere(MAIN, author.must("rev-parse", "HEAD"))
        self._tell(
            f"{commits} commits pushed to oslo in {took * 1000:.0f} ms; lima and kyoto had them {lag * 1000:.0f} ms later"
        )
        for site in bed.sites:
            bed.run("git", f"--git-dir={site.repository}", "fsck", "--full", "--strict", "--no-progress")
        self._tell("git fsck finds all three sound")

    def small_pushes(self) -> None:
        alice = self._bed.clone(self._oslo, "alice")
        lags, pushes = [], []
        for n in range(_PUSHES):
            oid = alice.commit(f"Small change {n}")
            started = time.monotonic()
            alice.must("push", "--quiet", "origin", "main")
            pushes.append(time.monotonic() - started)
            lags.append(self._bed.everywhere(MAIN, oid, [self._lima, self._kyoto]))
        self.slowest = max(lags)
        self._tell(f"{_PUSHES} pushes to oslo: {statistics.median(pushes) * 1000:.0f} ms each (median)")
        self._tell(
            f"after a push returned, both other sites had it in {statistics.median(lags) * 1000:.0f} ms (median), "
            f"{max(lags) * 1000:.0f} ms at most; the bar is {BAR * 1000:.0f} ms"
        )

    def race(self) -> None:
        alice = self._bed.clone(self._oslo, "alice")
        bob = self._bed.clone(self._lima, "bob")
        hers = alice.commit("Alice was here")
        bob.commit("Bob was here")
        alice.must("push", "--quiet", "origin", "main")
        refused = bob.git("push", "--quiet", "origin", "main")
        self._expect(refused.returncode != 0, "bob's push to lima is refused")
        self._tell(
            "alice pushed to oslo first; bob's push to lima was refused, as any Git server would have refused it"
        )
        bob.must("pull", "--quiet", "--rebase", "origin", "main")
        self._expect(hers in bob.must("rev-list", "HEAD"), "bob's pull from lima brings alice's commit")
        bob.must("push", "--quiet", "origin", "main")
        self._bed.everywhere(MAIN, bob.must("rev-parse", "HEAD"))
        self._tell("he pulled from lima, which had alice's commit, and pushed again: both commits are everywhere")

    def home_server_lost(self) -> None:
        alice = self._bed.clone(self._oslo, "alice")
        oid = self._push_and_burn(alice, "Pushed just before the fire")
        pushed = alice.git("push", "--quiet", "lima", "main")
        self._expect(pushed.returncode == 0, "the same commit is pushed to lima at the first try", pushed.stderr)
        self._bed.everywhere(MAIN, oid, [self._lima, self._kyoto])
        self._tell("she pushed the same commit to lima: accepted at the first try, and kyoto has it")
        self._rebuild(self._oslo, oid)

    def home_server_lost_with_more(self) -> None:
        alice = self._bed.clone(self._oslo, "alice")
        self._push_and_burn(alice, "Pushed just before the second fire")
        oid = alice.commit("Written on the train, after the fire")
        pushed = alice.git("push", "--quiet", "kyoto", "main")
        self._expect(pushed.returncode == 0, "the further commit is pushed to kyoto at the first try", pushed.stderr)
        self._bed.everywhere(MAIN, oid, [self._lima, self._kyoto])
        self._tell("she committed once more and pushed to kyoto: accepted at the first try, both commits are safe")
        self._rebuild(self._oslo, oid)

    def both_copies_lost(self) -> None:
        alice = self._bed.clone(self._oslo, "alice")
        before = alice.must("rev-parse", "HEAD")
        lost = self._push_and_burn(alice, "A commit that nobody will see again")
        shutil.rmtree(alice.folder)
        self._tell("then her laptop fell into the sea: the group names a commit that no disk has")
        bob = self._bed.clone(self._lima, "bob")
        self._expect(bob.must("rev-parse", "HEAD") == before, "reading goes on, at the last commit that exists")
        bob.commit("Bob goes on")
        refused = bob.git("push", "--quiet", "origin", "main")
        self._expect(
            refused.returncode != 0 and lost in refused.stderr,
            "bob's push is refused, and names the lost commit",
            refused.stderr,
        )
        self._tell(f"bob can read, but his push is refused: the group has {lost[:12]}")
        self._bed.piehole("clobber", "-C", str(self._lima.repository), "--yes", MAIN)
        self._tell("the administrator ran `piehole clobber refs/heads/main` at lima: what lima has counts again")
        bob.must("push", "--quiet", "origin", "main")
        oid = bob.must("rev-parse", "HEAD")
        self._bed.everywhere(MAIN, oid, [self._lima, self._kyoto])
        self._tell("bob pushed again: accepted")
        self._rebuild(self._oslo, oid)

    def key_rewritten(self) -> None:
        alice = self._bed.clone(self._oslo, "alice")
        newest = alice.must("rev-parse", "HEAD")
        earlier = alice.must("rev-parse", "HEAD~1")
        self._bed.rewrite_key(MAIN, earlier)
        took = self._bed.everywhere(MAIN, earlier)
        self._tell(f"etcdctl put … {earlier[:12]}: every site went back to that commit in {took * 1000:.0f} ms")
        kept = [site.name for site in self._bed.sites if site.has(f"refs/piehole/kept/{newest}", newest)]
        self._expect(len(kept) == len(self._bed.sites), "the tip that it replaced is kept at every site")
        self._tell(f"the tip that it replaced is kept at every site as refs/piehole/kept/{newest[:12]}…")
        self._bed.rewrite_key(MAIN, newest)
        self._bed.everywhere(MAIN, newest)
        self._tell("and put back the same way")

    def site_was_away(self) -> None:
        self._kyoto.stop_controller()
        alice = self._bed.clone(self._oslo, "alice")
        for n in range(3):
            alice.commit(f"While kyoto was away, {n}")
            alice.must("push", "--quiet", "origin", "main")
        alice.must("push", "--quiet", "origin", "HEAD:refs/heads/topic")
        oid = alice.must("rev-parse", "HEAD")
        self._bed.everywhere(MAIN, oid, [self._oslo, self._lima])
        self._expect(not self._kyoto.has(MAIN, oid), "kyoto has not heard of it")
        started = time.monotonic()
        self._bed.piehole("reconcile", "--once", str(self._kyoto.repository))
        took = time.monotonic() - started
        self._expect(self._kyoto.has(MAIN, oid) and self._kyoto.has("refs/heads/topic", oid), "kyoto is in step")
        self._tell(f"kyoto missed 4 pushes; `piehole reconcile --once` brought it in step in {took * 1000:.0f} ms")
        self._kyoto.start_controller()

    def _push_and_burn(self, alice: Clone, message: str) -> str:
        """Alice pushes to oslo, which burns down before the others hear of it; returns what she pushed."""
        others = (self._lima, self._kyoto)
        for site in others:
            site.cut_off()
        oid = alice.commit(message)
        alice.must("push", "--quiet", "origin", "main")
        self._oslo.burn_down()
        for site in others:
            site.reconnect()
        self._expect(not any(site.has(MAIN, oid) for site in others), "no other site has it yet")
        self._tell(
            "alice pushed to oslo, and the push succeeded; oslo burned down before any other site had the commit"
        )
        return oid

    def _rebuild(self, site: DemoSite, oid: str) -> None:
        site.build()
        self._bed.everywhere(MAIN, oid)
        self._tell(f"{site.name} was set up anew from nothing, and caught up")

    def _tell(self, text: str) -> None:
        self._say(f"   {text}")

    def _expect(self, held: bool, what: str, said: str = "") -> None:
        if not held:
            raise PieholeError(f"this story did not end as expected: it is not true that {what}. {said}".rstrip())
