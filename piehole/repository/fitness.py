"""What makes a repository unfit for piehole. ``install`` refuses such a repository, and ``check`` names each problem."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Final

from piehole import git
from piehole.errors import GitError, PieholeError
from piehole.repository import verification
from piehole.repository.git_settings import GitConfig

OLDEST_GIT: Final = (2, 36)  # core.fsync; the hook reference-transaction itself came with 2.28


@dataclass(frozen=True, slots=True)
class Fault:
    """A problem and its fix. A warning is about something that piehole supports, within the limits that it names.

    ``word``: what `piehole explain` says more of, ``""`` where there is no such word.
    """

    what: str
    fix: str
    warning: bool = False
    word: str = ""

    def __str__(self) -> str:
        return f"{self.what}: {self.fix}"


def find_repository(folder: Path, fix: str = "") -> Path:
    """The git directory of the bare repository at ``folder``.

    :param fix: what to do where there is none
    :raises PieholeError: there is none, or it is not bare
    """
    try:
        is_folder = folder.is_dir()
        is_closed = is_folder and not os.access(folder, os.X_OK)
    except PermissionError:
        is_folder, is_closed = False, True
    if is_closed:
        raise PieholeError(f"this account may not look into {folder}. Run this as the repository's owner.")
    if not is_folder:
        if folder.exists():
            raise PieholeError(f"{folder} is a file, not a repository.")
        beside = folder.with_name(f"{folder.name}.git") if folder.name else folder
        raise PieholeError(
            f"there is no folder {folder}. {f'Did you mean {beside}?' if beside.is_dir() else fix}".rstrip()
        )
    asked = ["rev-parse", "--absolute-git-dir", "--is-bare-repository"]
    try:
        try:
            shown = git.run(None, ["-C", str(folder), *asked]).stdout
        except GitError as error:
            if "safe.bareRepository" not in error.stderr:
                raise
            shown = git.run(folder.resolve(), asked).stdout  # named outright, as that setting asks for
    except GitError as error:
        if "dubious ownership" in error.stderr:
            raise PieholeError(
                f"git refuses {folder} because another account owns it (safe.directory). Run this as the repository's owner."
            ) from error
        raise PieholeError(f"{folder} is no git repository. {fix}".rstrip()) from error
    git_dir, bare = git.lines(shown)
    if bare != "true":
        raise PieholeError(
            f"{folder} is not a bare repository: its work tree would not follow. Use a bare one (`git clone --bare`). {fix}".rstrip()
        )
    if re.search(r"[\n\r]", git_dir):
        raise PieholeError(f"{git_dir!r} cannot be served: its path holds a line break.")
    return Path(git_dir)


def git_version() -> tuple[int, ...]:
    shown = git.lines(git.run(None, ["version"]).stdout)[0]
    return tuple(int(part) for part in re.findall(r"\d+", shown)[:3])


def faults(git_dir: Path) -> list[Fault]:
    """What makes this repository unfit, and the warnings."""
    found: list[Fault] = []
    config = GitConfig(git_dir)
    version = git_version()
    if version < OLDEST_GIT:
        found.append(
            Fault(
                f"git {'.'.join(map(str, version))} is too old", f"install git {OLDEST_GIT[0]}.{OLDEST_GIT[1]} or newer"
            )
        )
    hooks_path = config.one("core.hookspath")
    if hooks_path and (git_dir / hooks_path).resolve() != (git_dir / "hooks").resolve():
        found.append(
            Fault(
                f"core.hooksPath is {hooks_path}, so git runs no hook of {git_dir / 'hooks'}",
                f"set it for this repository alone: git -C {git_dir} config core.hooksPath hooks",
            )
        )
    if (git_dir / "shallow").exists():
        found.append(Fault("the repository is shallow, its history is cut", "complete it with `git fetch --unshallow`"))
    if _is_partial(config):
        found.append(
            Fault(
                "the repository is a partial clone, objects are missing on purpose", "clone it again without a filter"
            )
        )
    if (git_dir / "info" / "grafts").exists():
        found.append(
            Fault(
                "info/grafts rewrites history as this site sees it",
                "remove the file, or make the change real with `git replace --convert-graft-file` and a rewrite",
            )
        )
    if config.is_true("receive.shallowupdate"):
        found.append(
            Fault(
                "receive.shallowUpdate is set, so git accepts histories that are cut off",
                "piehole refuses these, and walks through the history of each push to find them: unset it",
                warning=True,
            )
        )
    found += [*_borrowed(git_dir / "objects"), *_large_files(git_dir)]
    return found


def _borrowed(objects: Path, depth: int = 5) -> Iterator[Fault]:
    """Each object store that this one borrows objects from, and those that they borrow from."""
    listed = objects / "info" / "alternates"
    try:
        lines = listed.read_text(errors="surrogateescape").split("\n")
    except FileNotFoundError:
        return
    for line in lines:
        if not line or line.startswith("#"):
            continue
        named = line[1:-1].encode().decode("unicode_escape") if line.startswith('"') else line
        store = objects / named
        if not store.is_dir() or not os.access(store, os.R_OK | os.X_OK):
            yield Fault(
                f"objects are borrowed from {store} ({listed}), which is {'not readable' if store.is_dir() else 'not there'}",
                "bring it back; or remove that line, if `git fsck --connectivity-only` finds nothing missing without it",
            )
            continue
        yield Fault(
            f"objects are borrowed from {store}",
            f"this works as long as nothing is pruned there; `git repack -a -d` and removing {listed} ends it",
            warning=True,
        )
        if depth:
            yield from _borrowed(store, depth - 1)


def _large_files(git_dir: Path) -> Iterator[Fault]:
    """Whether Git LFS is used, and no file in the branch names one server for all clones."""
    listed = git.run(git_dir, ["for-each-ref", "--count=100", "--format=%(refname)", "refs/heads"]).stdout
    branches = ["HEAD", *git.lines(listed)]
    found = _blobs(git_dir, [f"{branch}:{name}" for branch in branches for name in (".gitattributes", ".lfsconfig")])
    using = [branch for branch in branches if b"filter=lfs" in found[f"{branch}:.gitattributes"]]
    alone = [b for b in using if not re.search(rb"^\s*url\s*=", found[f"{b}:.lfsconfig"], re.MULTILINE)]
    if alone or (not using and (git_dir / "lfs").exists()):
        yield Fault(
            f"the repository uses Git LFS ({f'.gitattributes of {alone[0]}' if alone else git_dir / 'lfs'})",
            "piehole replicates the pointers, not the large files, so a clone of another site fails at its checkout: give all sites one LFS "
            "server (lfs.url in a committed .lfsconfig)",
            warning=True,
        )


def _blobs(git_dir: Path, names: list[str]) -> dict[str, bytes]:
    """What these names (``REVISION:PATH``) hold, nothing where they do not exist."""
    asked = "".join(f"{name}\n" for name in names).encode("utf-8", "surrogateescape")
    rest = git.run(git_dir, ["cat-file", "--batch"], stdin=asked, ok=(0, 128)).stdout
    found = dict.fromkeys(names, b"")
    for name in names:
        header, _, rest = rest.partition(b"\n")
        words = header.split(b" ")
        if len(words) == 3 and words[1] in (b"blob", b"tree") and words[2].isdigit():
            size = int(words[2])
            found[name], rest = rest[:size], rest[size + 1 :]
    return found


def _is_partial(config: GitConfig) -> bool:
    promisors = (name for name in config.names() if name.startswith("remote.") and name.endswith(".promisor"))
    return bool(config.one("extensions.partialclone")) or any(config.is_true(name) for name in promisors)


def setting_that_admits_gaps(config: GitConfig) -> str:
    """The setting with which receive-pack accepts a history that is not complete here; ``""`` where there is none."""
    if config.is_true("receive.shallowupdate"):
        return "receive.shallowUpdate is set"
    return "a remote is a promisor (partial clone)" if _is_partial(config) else ""


@dataclass(frozen=True, slots=True)
class Gaps:
    """Why git's own connectivity check does not prove a push complete. ``old``: the history that refs hold may have gaps as well."""

    why: str
    old: bool


def gaps(git_dir: Path, setting: str) -> Gaps | None:
    """What may hide gaps from git's connectivity check; None: nothing, so what receive-pack accepts is complete.

    A push asks this, so it takes a few stats and no process.

    :param setting: by :func:`setting_that_admits_gaps`
    """
    for name in ("shallow", "info/grafts"):
        if os.path.lexists(git_dir / name):
            return Gaps(f"the file {name} cuts histories off", old=True)
    if setting:
        return Gaps(setting, old="promisor" in setting)
    try:
        packed = (git_dir / "packed-refs").stat()
    except OSError:
        packed = None
    loose = (git_dir / "refs" / "replace").is_dir()
    if loose or (packed and _replaces(str(git_dir), packed.st_ino, packed.st_size, packed.st_mtime_ns)):
        return Gaps("refs/replace/ replaces objects", old=False)
    return None


@lru_cache(maxsize=1024)
def _replaces(git_dir: str, *_: int) -> bool:
    """Whether the packed refs, as they were with this stat, have names below refs/replace/."""
    try:
        return b" refs/replace/" in Path(git_dir, "packed-refs").read_bytes()
    except OSError:
        return True


def refuse_unfit(git_dir: Path) -> list[Fault]:
    """The warnings about a repository that is fit.

    :raises PieholeError: it is unfit
    """
    found = faults(git_dir)
    grave = [fault for fault in found if not fault.warning]
    if grave:
        raise PieholeError(f"{git_dir} cannot be installed. " + " ".join(f"{fault}." for fault in grave))
    return found


def unproven(git_dir: Path, verify_every: float) -> Iterator[Fault]:
    """What is known of the last proof of all objects here: whether it is overdue, and which kept tips were incomplete."""
    since = verification.waits_too_long(git_dir, verify_every)
    if since:
        yield Fault(
            f"the objects here were not proven since {since}, though piehole.verifyEvery is {verify_every / 86400:g} days",
            f"see that a controller runs and what it logs (repository.not_verified), or run `piehole audit --verify -C {git_dir}`",
            warning=True,
            word="overdue",
        )
    for ref, why in verification.incomplete_kept_tips(git_dir).items():
        yield Fault(
            f"{ref} keeps a tip that is not complete: {why}",
            f"`piehole audit --deep --repair -C {git_dir}` fetches it from another site that has kept it",
            warning=True,
        )
