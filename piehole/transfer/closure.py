"""Proof, without a git process, that a small pack brings everything that the wanted objects still need.

The proof is never weaker than ``git rev-list --objects WANTS ^HAVES``, which runs wherever there is no proof. It relies on the
haves: tips of local refs, whose closure is complete, so whatever their trees name is here. Each object of the pack that a want
reaches must name only such objects, other objects of the pack (of the kind that is claimed), or haves.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Final

from piehole.transfer.git_objects import BLOB, COMMIT, TAG, TREE, GitObject, LeaveToGit, kind_of, tree_and_parents
from piehole.transfer.object_store import ObjectStore

_TAG: Final = re.compile(rb"object ([0-9a-f]+)\ntype ([a-z]+)\ntag [^\n]+\n")
# Other modes than git writes are left to git.
_MODES: Final = {b"40000": TREE, b"100644": BLOB, b"100755": BLOB, b"120000": BLOB, b"100664": BLOB, b"160000": 0}
_SUBMODULE: Final = 0
_BASES: Final = 16  # commits that trees are compared with


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
            raise LeaveToGit("names objects that are neither in the pack nor in a tree of a have")

    def _walk_commits(self, wants: Collection[bytes]) -> list[bytes]:
        """The trees of all commits in the pack that the wants reach."""
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
                raise LeaveToGit("an object of another kind than is claimed")
            if kind == COMMIT:
                tree, parents = self._commit(obj)
                trees.append(tree)
                pending += [(parent, COMMIT) for parent in parents if not self._is_base(parent)]
            elif kind == TAG:
                target, named = self._tag(obj)
                if target not in self._haves:
                    pending.append((target, named))
                elif self._store.read(target).kind != named:
                    raise LeaveToGit("an object of another kind than is claimed")
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
        """Compare each tree of the pack with the trees of haves at the same path: what they have in common is here."""
        bases = tuple(dict.fromkeys(self._bases.values()))
        self._complete |= {(TREE, base) for base in bases}
        pending = [(root, bases) for root in roots]
        # A second path to a tree could prove more. Where that would be needed, git is asked instead.
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
                    raise LeaveToGit("an object of another kind than is claimed")
                elif kind == TREE:
                    found = (tree.get(name, (BLOB, b"")) for tree in older)
                    pending.append((entry, tuple(dict.fromkeys(base for was, base in found if was == TREE))))

    def _older(self, base: bytes) -> dict[bytes, tuple[int, bytes]]:
        """The entries of a have's tree, all of which are here."""
        found = self._known.get(base)
        if found is None:
            found = self._known[base] = dict(self._entries(self._store.read(base)))
            self._complete.update(found.values())
        return found

    def _entries(self, tree: GitObject) -> list[tuple[bytes, tuple[int, bytes]]]:
        """The names, kinds and oids of a tree that is well-formed to its last byte.

        dulwich's ``parse_tree`` is as quick, but takes a mode ``+40000``, an empty name and ``a/b`` for sound.
        """
        if tree.kind != TREE:
            raise LeaveToGit("an object of another kind than is claimed")
        entries: list[tuple[bytes, tuple[int, bytes]]] = []
        at = 0
        while at < len(tree.content):
            # Match, never search: in a tree made for it, a search takes quadratic time.
            entry = self._entry.match(tree.content, at)
            if entry is None:
                raise LeaveToGit("a tree of another form")
            entries.append((entry[2], (_MODES[entry[1]], entry[3])))
            at = entry.end()
        return entries

    def _commit(self, commit: GitObject) -> tuple[bytes, list[bytes]]:
        tree, parents = tree_and_parents(commit, self._width)
        return bytes.fromhex(tree), [bytes.fromhex(parent) for parent in parents]

    def _tag(self, tag: GitObject) -> tuple[bytes, int]:
        found = _TAG.match(tag.content)
        if found is None:
            raise LeaveToGit("a tag of another form")
        if len(found[1]) != 2 * self._width:
            raise LeaveToGit("an oid of another format")
        return bytes.fromhex(found[1].decode()), kind_of(found[2])
