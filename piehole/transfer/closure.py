"""Proof, without a git process, that a small pack is closed: with it, all that the wanted objects need is here.

It is never weaker than ``git rev-list --objects WANTS ^HAVES``, which is asked wherever this finds no proof. What is relied upon
are the haves: tips of local refs, whose closure is complete. So whatever one of their trees names is here. Each object of the
pack that a want reaches must name only such objects, other ones of the pack (of the kind that it is said to be), or haves.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Final

from piehole.transfer.object_store import ObjectStore
from piehole.transfer.packfile import BLOB, COMMIT, KINDS, TAG, TREE, GitObject, LeaveToGit

_COMMIT: Final = re.compile(rb"tree ([0-9a-f]+)\n((?:parent [0-9a-f]+\n)*)author ")
_TAG: Final = re.compile(rb"object ([0-9a-f]+)\ntype ([a-z]+)\ntag [^\n]+\n")
# Other modes than git writes are for git to judge.
_MODES: Final = {b"40000": TREE, b"100644": BLOB, b"100755": BLOB, b"120000": BLOB, b"100664": BLOB, b"160000": 0}
_SUBMODULE: Final = 0
_BASES: Final = 16  # commits that trees are compared with


def parents_of(commit: GitObject, width: int) -> tuple[str, ...] | None:
    """The parents of a commit; None where its form is unusual. ``width``: bytes of an oid."""
    found = _COMMIT.match(commit.content)
    parents = tuple(word.decode() for word in found[2].split()[1::2]) if found else None
    return parents if parents is not None and all(len(parent) == 2 * width for parent in parents) else None


class ClosureProof:
    """One proof. Every method raises LeaveToGit where there is none, and what ``Store.read`` raises."""

    def __init__(
        self, pack: Mapping[bytes, GitObject], haves: Collection[bytes], store: ObjectStore, width: int
    ) -> None:
        """:param width: bytes of an oid"""
        self._pack = pack
        self._haves = frozenset(haves)
        self._store = store
        self._width = width
        self._entry = re.compile(rb"([0-7]{5,6}) ([^\0/]+)\0(.{%d})" % width, re.DOTALL)
        self._bases: dict[bytes, bytes] = {}  # the tree of each have that a commit of the pack builds upon
        self._known: dict[bytes, dict[bytes, tuple[int, bytes]]] = {}  # trees of haves: what is under each name
        self._complete: set[tuple[int, bytes]] = set()  # kinds and oids of these trees and of all that they name
        self._due: set[tuple[int, bytes]] = set()  # what must be there, and is not in the pack

    def prove(self, wants: Collection[bytes]) -> None:
        """:raises LeaveToGit: not all of their closure is known to be here"""
        self._walk_trees(self._walk_commits(wants))
        if not self._due <= self._complete:
            raise LeaveToGit("names objects that are neither in the pack nor beside it")

    def _walk_commits(self, wants: Collection[bytes]) -> list[bytes]:
        """The trees of all commits of the pack that the wants reach."""
        trees: list[bytes] = []
        pending = [(want, self._pack[want].kind) for want in wants]
        seen = set()
        while pending:
            oid, kind = pending.pop()
            obj = self._pack[oid]
            if obj.kind == kind and oid in seen:
                continue
            seen.add(oid)
            if obj.kind != kind:
                raise LeaveToGit("an object of another kind than is said")
            if kind == COMMIT:
                tree, parents = self._commit(obj)
                trees.append(tree)
                pending += [(parent, COMMIT) for parent in parents if not self._is_base(parent)]
            elif kind == TAG:
                target, named = self._tag(obj)
                if target not in self._haves:
                    pending.append((target, named))
                elif self._store.read(target).kind != named:
                    raise LeaveToGit("an object of another kind than is said")
            else:
                raise LeaveToGit("a want or a tag's target that is no commit")
        return trees

    def _is_base(self, parent: bytes) -> bool:
        if parent in self._haves and parent not in self._bases:
            commit = self._store.read(parent)
            if commit.kind != COMMIT or len(self._bases) == _BASES:
                raise LeaveToGit("no parent, or too many of them")
            self._bases[parent] = self._commit(commit)[0]
        return parent in self._haves

    def _walk_trees(self, roots: list[bytes]) -> None:
        """Each tree of the pack beside those that haves have at the same path: there stands what it has in common with them."""
        bases = tuple(dict.fromkeys(self._bases.values()))
        self._complete |= {(TREE, base) for base in bases}
        pending = [(root, bases) for root in roots]
        # A second path to a tree could only make known more: where that is needed, git is asked.
        seen = set()
        while pending:
            oid, beside = pending.pop()
            if oid in seen:
                continue
            seen.add(oid)
            if oid not in self._pack:
                self._due.add((TREE, oid))
                continue
            older = [self._older(base) for base in beside]
            for name, (kind, entry) in self._entries(self._pack[oid]):
                here = self._pack.get(entry)
                if kind == _SUBMODULE:
                    continue
                if here is None:
                    self._due.add((kind, entry))
                elif here.kind != kind:
                    raise LeaveToGit("an object of another kind than is said")
                elif kind == TREE:
                    found = (tree.get(name, (BLOB, b"")) for tree in older)
                    pending.append((entry, tuple(dict.fromkeys(base for was, base in found if was == TREE))))

    def _older(self, base: bytes) -> dict[bytes, tuple[int, bytes]]:
        """The entries of a tree of a have, all of which are here."""
        found = self._known.get(base)
        if found is None:
            found = self._known[base] = dict(self._entries(self._store.read(base)))
            self._complete.update(found.values())
        return found

    def _entries(self, tree: GitObject) -> list[tuple[bytes, tuple[int, bytes]]]:
        """Names, kinds and oids of a tree, which must be one from the first to the last byte."""
        if tree.kind != TREE:
            raise LeaveToGit("an object of another kind than is said")
        entries: list[tuple[bytes, tuple[int, bytes]]] = []
        at = 0
        while at < len(tree.content):
            # Always from where the last one ended: a search would take very long in a tree that is made for that.
            entry = self._entry.match(tree.content, at)
            if entry is None:
                raise LeaveToGit("a tree of another form")
            entries.append((entry[2], (_MODES[entry[1]], entry[3])))
            at = entry.end()
        return entries

    def _commit(self, commit: GitObject) -> tuple[bytes, list[bytes]]:
        found = _COMMIT.match(commit.content)
        if found is None:
            raise LeaveToGit("a commit of another form")
        return self._oid(found[1]), [self._oid(word) for word in found[2].split()[1::2]]

    def _tag(self, tag: GitObject) -> tuple[bytes, int]:
        found = _TAG.match(tag.content)
        if found is None:
            raise LeaveToGit("a tag of another form")
        return self._oid(found[1]), next(kind for kind, name in KINDS.items() if name == found[2])

    def _oid(self, text: bytes) -> bytes:
        if len(text) != 2 * self._width:
            raise LeaveToGit("an oid of another format")
        return bytes.fromhex(text.decode())
