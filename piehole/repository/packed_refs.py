"""Creating very many refs at once: in git's file of packed refs, by one rename, instead of a file (and an fsync) for each.

``git clone`` writes the refs of a new repository in this way; ``git update-ref`` cannot. It is done only where no ref is packed
yet, so nothing can be lost by it. The file is made by git (``git pack-refs`` in a scratch repository) and checked here. It is renamed
into its place while git holds the locks of all its refs, has seen that none of them exists, and holds the lock of the packed refs: what
:mod:`piehole.repository.ref_transaction` says of these locks holds here, too. A ref that is made this way has no reflog before its next move.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Final

from piehole import git
from piehole.errors import GitError
from piehole.files import sync
from piehole.refs import PIEHOLE_REFS, encode
from piehole.transfer.quarantine import Quarantine

_NAME: Final = "packed-refs"
# To delete a ref, git locks the packed refs before it says that it is prepared, even where there is no such ref.
UNUSED: Final = f"{PIEHOLE_REFS}packing"


_EMPTY: Final = 4096  # bytes; where no ref is packed any more, git leaves a header of some fifty


def possible(git_dir: Path) -> bool:
    """Whether this repository keeps its refs in files, and has none packed."""
    path = git_dir / _NAME
    if (git_dir / "reftable").exists() or path.is_symlink():
        return False
    try:
        with path.open("rb") as file:
            return all(line.startswith(b"#") for line in file.read(_EMPTY).splitlines())
    except FileNotFoundError:
        return True
    except OSError:
        return False


class PackedRefs:
    """A file of packed refs that is not in its place yet. A context manager: it removes what it has made.

    :raises GitError: git could not make it, or made another one than was asked for
    """

    def __init__(self, git_dir: Path, object_format: str, refs: Mapping[str, str]) -> None:
        """:param refs: the oid of each new ref, whose objects are here"""
        self._git_dir = git_dir
        self._object_format = object_format
        self._refs = refs
        self._quarantine = Quarantine(git_dir)
        self._made = Path()

    def __enter__(self) -> PackedRefs:
        self._quarantine.__enter__()
        try:
            self._make()
        except BaseException:
            self._quarantine.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._quarantine.__exit__(kind, error, trace)

    @property
    def locks(self) -> list[str]:
        """Commands for :meth:`RefTransaction.prepare`, which check that these refs do not exist and lock the packed refs."""
        none = "0" * len(next(iter(self._refs.values())))
        return [*(f"verify {ref}\0{none}\0" for ref in self._refs), f"delete {UNUSED}\0\0"]

    def check(self) -> None:
        """Check that the file may come into its place, now that git holds the locks.

        :raises GitError: the packed refs are not locked, or there are some by now
        """
        if not os.path.lexists(self._git_dir / f"{_NAME}.lock"):
            raise GitError(f"git does not lock the packed refs of {self._git_dir}")
        if not possible(self._git_dir):
            raise GitError(f"{self._git_dir} has packed refs by now")

    def publish(self) -> None:
        """Put the file in its place: from now on the refs exist.

        :raises GitError: it cannot be written; nothing has changed
        :raises OSError: it is in its place, and may be lost again when the power fails
        """
        try:
            sync(self._made)
            self._made.rename(self._git_dir / _NAME)
        except OSError as error:
            raise GitError(f"{self._git_dir / _NAME} cannot be written: {error.strerror}") from error
        sync(self._git_dir)

    def _make(self) -> None:
        scratch = self._quarantine.path / "refs.git"
        self._made = scratch / _NAME
        shared = git.run(self._git_dir, ["config", "--default=umask", "--get", "core.sharedRepository"])
        git.run(
            None,
            [
                "init", "--quiet", "--bare", "--template=", f"--object-format={self._object_format}",
                f"--shared={git.lines(shared.stdout)[0]}", str(scratch),
            ],
            extra_env={"GIT_DEFAULT_REF_FORMAT": "files"},
        )  # fmt: skip
        try:
            self._made.write_bytes(b"".join(encode(f"{oid} {ref}\n") for ref, oid in self._refs.items()))
        except OSError as error:
            raise GitError(f"{self._made} cannot be written: {error.strerror}") from error
        # Git sorts them, and notes what tags point to, for which it needs the objects.
        store = {"GIT_OBJECT_DIRECTORY": str(self._git_dir / "objects")}
        git.run(scratch, ["-c", f"core.hooksPath={os.devnull}", "pack-refs", "--all"], extra_env=store)
        try:
            made = self._made.read_bytes()
        except OSError as error:
            raise GitError(f"{self._made} cannot be read: {error.strerror}") from error
        if _parse(made) != self._refs:
            raise GitError(f"git pack-refs made a file of other refs than it was given, in {self._git_dir}")


def _parse(packed: bytes) -> dict[str, str] | None:
    """The refs of such a file as git writes it: sorted, with what each tag points to below it. None: it is of another form."""
    header, *lines = git.lines(packed) or [""]
    if not header.startswith("# pack-refs with:") or not {"fully-peeled", "sorted"} <= set(header.split()):
        return None
    split = [line.split(" ", 1) for line in lines if not line.startswith("^")]
    return {pair[-1]: pair[0] for pair in split}
