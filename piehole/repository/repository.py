"""One local repository, as git answers questions about it. ``ref_moves`` moves its refs, ``piehole.transfer`` brings objects."""

from __future__ import annotations

import os
import time
from bisect import bisect_left
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from errno import ELOOP, ENAMETOOLONG
from pathlib import Path
from stat import S_ISREG
from typing import Final

from piehole import git
from piehole.errors import GitError, PieholeError
from piehole.fastpath import held_locks, ref_files
from piehole.refs import HEAD, Command, decode, encode, is_zero, parents, zero
from piehole.repository import ancestry

# piehole's own moves are not pushes: they need no hook, and a hook that refuses everything must not block a recovery.
NO_HOOKS: Final = ("-c", f"core.hooksPath={os.devnull}")


@dataclass(frozen=True, slots=True)
class ObservedState:
    """The observed state: local refs, those of them that are symbolic (name -> target), and where HEAD points."""

    refs: dict[str, str]
    symbolic: dict[str, str] = field(default_factory=dict)
    head: str = ""


class Repository:
    """The bare repository at ``git_dir``. Methods raise GitError when git fails where it must not."""

    def __init__(self, git_dir: Path, object_format: str = "sha1") -> None:
        self.git_dir = git_dir
        self.object_format = object_format
        self.zero = zero(object_format)

    def git(self, *arguments: str, stdin: bytes = b"", ok: tuple[int, ...] = (0,)) -> bytes:
        """What ``git ARGUMENTS`` prints."""
        return git.run(self.git_dir, [*NO_HOOKS, *arguments], stdin=stdin, ok=ok).stdout

    @property
    def has_reftable(self) -> bool:
        """Whether git keeps the refs in a reftable: there is one lock for all of them, and no file for each."""
        return (self.git_dir / "reftable").exists()

    def check_owner(self) -> None:
        """Only the repository's owner may change it: what another account leaves behind, root too, breaks the next push.

        :raises PieholeError: this process runs under another account
        """
        owner = self.git_dir.stat().st_uid
        if os.geteuid() != owner:
            raise PieholeError(
                f"{self.git_dir} belongs to the account with uid {owner}, and this runs as uid {os.geteuid()}: it would leave files "
                "that the next push cannot write. Run it as the repository's owner."
            )

    def observe(self) -> ObservedState:
        """All local refs and HEAD, as git shows them now."""
        refs: dict[str, str] = {}
        symbolic: dict[str, str] = {}
        for line in git.lines(self.git("for-each-ref", "--format=%(objectname) %(refname) %(symref)")):
            oid, _, rest = line.partition(" ")
            name, _, target = rest.partition(" ")
            if target:
                symbolic[name] = target
            else:
                refs[name] = oid
        return ObservedState(refs, symbolic, self.head())

    def head(self) -> str:
        """The ref that HEAD points to; ``""`` where it is detached."""
        if (self.git_dir / HEAD).is_symlink():  # as git made it long ago
            return git.lines(self.git("symbolic-ref", "--quiet", HEAD, ok=(0, 1)) or b"\n")[0]
        return self.symref_target(HEAD) or ""

    def read_ref(self, ref: str) -> str:
        """The oid of one ref, the zero oid where it does not exist."""
        found = git.lines(self.git("rev-parse", "--verify", "--quiet", "--end-of-options", ref, ok=(0, 1)))
        return found[0] if found else self.zero

    def values(self, refs: Sequence[str]) -> dict[str, str]:
        """The oids of those of these refs that exist, read by one process, for which git must be 2.43 or newer."""
        asked = encode("".join(f"{ref}\n" for ref in refs))
        shown = self.git("for-each-ref", "--format=%(objectname) %(refname)", "--stdin", stdin=asked) if refs else b""
        found = {name: oid for oid, _, name in (line.partition(" ") for line in git.lines(shown))}
        return {ref: found[ref] for ref in refs if ref in found}

    def blockers(self, refs: Sequence[str]) -> dict[str, str]:
        """For each of these refs that cannot be created here (directory/file), a ref that is in the way."""
        if self.has_reftable:
            names = sorted(git.lines(self.git("for-each-ref", "--format=%(refname)"))) if refs else []
            here = set(names)
            found = {}
            for ref in refs:
                after = names[bisect_left(names, f"{ref}/") :][:1]
                below = [name for name in after if name.startswith(f"{ref}/")]
                found[ref] = next(iter([*(name for name in parents(ref) if name in here), *below]), "")
        else:
            found = {ref: ref_files.blocker(str(self.git_dir), ref) for ref in refs}
        return {ref: blocker for ref, blocker in found.items() if blocker}

    def loose_value(self, ref: str) -> str | None:
        """What the file of a ref holds, most often its oid; None where it has no file of its own (packed, say)."""
        try:
            return self._read_loose(ref, os.O_NOFOLLOW)
        except OSError as error:
            return "a symbolic link" if error.errno == ELOOP else None

    def _read_loose(self, ref: str, flags: int = 0) -> str | None:
        try:
            descriptor = os.open(self.git_dir / ref, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | flags)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            if error.errno == ENAMETOOLONG:  # no such file can be there; git says so where it is asked to make it
                return None
            raise
        try:
            regular = S_ISREG(os.fstat(descriptor).st_mode)
            return decode(os.read(descriptor, 4096).rstrip(b"\n")) if regular else None
        finally:
            os.close(descriptor)

    def symref_targets(self, refs: Sequence[str]) -> dict[str, str]:
        """What these refs point to, for those that are symbolic. With reftable, and for more than one, without those that point to nowhere."""
        if self.has_reftable and len(refs) > 1:
            asked = encode("".join(f"{ref}\n" for ref in refs))
            shown = git.lines(self.git("for-each-ref", "--format=%(refname) %(symref)", "--stdin", stdin=asked))
            named = {name: target for name, _, target in (line.partition(" ") for line in shown) if target}
            return {ref: named[ref] for ref in refs if ref in named}
        targets = {ref: self.symref_target(ref) for ref in refs}
        return {ref: target for ref, target in targets.items() if target is not None}

    def symref_target(self, ref: str) -> str | None:
        """What ``ref`` points to where it is a symbolic ref."""
        if not self.has_reftable:
            # Packed refs are never symbolic, so the loose file tells all, and without a process.
            text = self._read_loose(ref) or ""
            return text[4:].strip() if text.startswith("ref:") else None
        found = git.lines(self.git("symbolic-ref", "--quiet", ref, ok=(0, 1, 128)))
        return found[0] if found else None

    def kinds(self, oids: Sequence[str]) -> dict[str, str]:
        """The type of each object that exists here (``commit``, ``tag``, ``tree``, ``blob``); absent ones are left out."""
        asked = "".join(f"{oid}\n" for oid in oids).encode()
        answers = git.lines(self.git("cat-file", "--batch-check=%(objectname) %(objecttype)", stdin=asked))
        pairs = (answer.split(" ") for answer in answers)
        return {pair[0]: pair[1] for pair in pairs if len(pair) == 2 and pair[1] != "missing"}

    def contains(self, new: str, old: str) -> bool:
        """Whether the history of ``new`` holds ``old``: both are commits that exist here, and ``new`` descends from it.

        The objects are read as they are: replacements and grafts do not count (:mod:`piehole.git`), and in a shallow
        repository nothing is taken for a descendant, since its history is cut.
        """
        if is_zero(old) or is_zero(new):
            return is_zero(old)
        if old == new:
            return True
        if (self.git_dir / "shallow").exists():
            return False
        try:
            found = git.run(self.git_dir, ["merge-base", "--is-ancestor", old, new], ok=(0, 1, 128))
        except GitError:
            return False
        # merge-base peels tags, which are no commits.
        return found.returncode == 0 and self.kinds([old, new]) == {old: "commit", new: "commit"}

    def adds(self, moves: Iterable[Command]) -> bool:
        """Whether all of these moves are to commits that are here, and leave no tip behind; found without a process, for most pushes.

        False means "not known": :meth:`kinds` and :meth:`not_contained` tell.
        """
        return all(
            not move.deletes and ancestry.adds(self.git_dir, None if move.creates else move.old, move.new)
            for move in moves
        )

    def not_contained(
        self,
        moves: Iterable[Command],
        kinds: Mapping[str, str] | None = None,
        parents: Mapping[str, Sequence[str]] | None = None,
    ) -> list[str]:
        """The old tips that the moves would leave behind: those that the new value does not contain, and that exist here.

        :param kinds: what :meth:`kinds` says of all these oids, where that is known already
        :param parents: of commits, where they are known already
        """
        pending = [move for move in moves if not move.creates and move.old != move.new]
        shallow = (self.git_dir / "shallow").exists()
        parents = {} if shallow else dict(parents or {})
        news = dict.fromkeys(move.new for move in pending if not move.deletes and move.new not in parents)
        if not shallow:
            parents |= self._parents(news)
        # A parent is a commit, so these need no further check; most moves are by one commit.
        safe = {(move.old, move.new) for move in pending if ancestry.reaches(parents, move.new, move.old)}
        unclear = [move for move in pending if (move.old, move.new) not in safe]
        if not unclear:
            return []
        if kinds is None:
            kinds = self.kinds(list(dict.fromkeys(oid for move in unclear for oid in (move.old, move.new))))
        pairs = dict.fromkeys((move.old, move.new) for move in unclear)
        commits = [pair for pair in pairs if all(kinds.get(oid) == "commit" for oid in pair)]
        if not shallow:
            safe |= ancestry.contained(commits, self._walk, lambda old, new: self.contains(new, old))
        lost = [move.old for move in pending if move.deletes or (move.old, move.new) not in safe]
        return [oid for oid in dict.fromkeys(lost) if oid in kinds]

    def forward(self, pairs: Collection[tuple[str, str]]) -> set[tuple[str, str]]:
        """Those of these pairs ``(old, new)`` whose oids are commits that are here, and in which ``new`` descends from ``old``."""
        if (self.git_dir / "shallow").exists():
            return set()
        kinds = self.kinds(list(dict.fromkeys(oid for pair in pairs for oid in pair)))
        commits = [pair for pair in dict.fromkeys(pairs) if all(kinds.get(oid) == "commit" for oid in pair)]
        return ancestry.contained(commits, self._walk, lambda old, new: self.contains(new, old))

    def _walk(self, arguments: Sequence[str], revisions: Iterable[str]) -> bytes | None:
        asked = "".join(f"{revision}\n" for revision in revisions).encode()
        try:
            return self.git("rev-list", *arguments, "--stdin", stdin=asked)
        except GitError:  # some history is incomplete here: then each tip is asked for alone
            return None

    def _parents(self, oids: Iterable[str]) -> dict[str, list[str]]:
        """The parents of those oids that are commits which exist here, read by one process."""
        asked = "".join(f"{oid}\n" for oid in oids).encode()
        if not asked:
            return {}
        # (A tag is shown as the commit that it names, under the commit's oid.)
        walk = ["-c", "core.commitGraph=false", "rev-list", "--no-walk=unsorted", "--parents", "--ignore-missing"]
        lines = git.lines(self.git(*walk, "--stdin", stdin=asked))
        return {oid: parents for oid, *parents in (line.split(" ") for line in lines)}

    def lock_age(self, ref: str) -> float | None:
        """Seconds since a lock that hinders this ref (its own, the packed refs', or the reftable's) was taken; None: there is none."""
        ages = []
        for lock in (f"{ref}.lock", "packed-refs.lock", held_locks.REFTABLE):
            try:
                ages.append(time.time() - (self.git_dir / lock).stat().st_mtime)
            except OSError:
                continue
        return max(ages, default=None)

    def set_head(self, target: str) -> None:
        self.git("symbolic-ref", "-m", "piehole: the group's default branch", "HEAD", target)
