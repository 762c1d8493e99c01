"""The hook files in a repository: writing, recognising, checking and removing them. A foreign hook is never touched."""

from __future__ import annotations

import os
import re
import shlex
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from piehole import files
from piehole.errors import PieholeError
from piehole.repository.git_settings import GitConfig
from piehole.repository.settings import default

# ``pre-receive`` starts the process that answers the other two. Where a foreign hook has its place, the first ``update`` does.
HOOKS: Final = ("pre-receive", "update", "reference-transaction")
# Only where piehole.announce is set: says after a push how many sites have it.
ANNOUNCER: Final = "post-receive"
EVERY: Final = (*HOOKS, ANNOUNCER)
_OPTIONAL: Final = ("pre-receive", ANNOUNCER)
_GATE: Final = "reference-transaction"
_MARK: Final = b"# piehole hook;"
# `"$0".d/*`, `${GIT_DIR}/hooks/${hookname}.d/*`, `hooks/update.d/*`
_RUNS_A_FOLDER: Final = re.compile(rb"\.d[\"'}]?/")
_GITOLITE: Final = b"Gitolite::Hooks::Update"
_GITOLITE_FIX: Final = (
    "copy deploy/gitolite/local to gitolite's LOCAL_CODE, append deploy/gitolite/piehole.rc to its rc file and run `gitolite setup` "
    "(docs/guides/gitolite.md), which then installs the repositories"
)


def _package_file(package: str, name: str) -> Path:
    spec = find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise PieholeError(
            f"this installation of piehole is incomplete: the package {package!r} is missing. Install it again."
        )
    return Path(spec.submodule_search_locations[0]) / name


def first_line(shell: Path = Path("/bin/sh")) -> str:
    """The hooks' first line. bash takes functions and options from its environment, which a pusher may have set: a function named
    ``read``, or SHELLOPTS=noexec, would let every push through. With -p it does not. Other shells take nothing from the environment,
    and some of them know no -p.
    """
    return f"#!{shell} -p" if shell.resolve().name == "bash" else f"#!{shell}"


def text(hook: str) -> str:
    """The content of the hook's file for this interpreter and this installation."""
    shim = _package_file("hooks", "shim.sh").read_text().replace("#!/bin/sh", first_line(), 1)
    values = {
        "@HOOK@": hook,
        "@PYTHON@": sys.executable,
        "@ENTRY@": str(_package_file("hooks", "entry.py")),
        "@LIBRARIES@": str(_package_file("etcd3gw", "").parent),
    }
    for name, value in values.items():
        shim = shim.replace(name, shlex.quote(value))
    return shim


def is_ours(path: Path) -> bool:
    """Whether piehole wrote this file."""
    try:
        return _MARK in path.read_bytes()[:200]
    except FileNotFoundError:
        return False


def is_chained(path: Path) -> bool:
    """Whether this is a foreign hook that calls piehole's by its name (docs/guides/hooks.md)."""
    return _named(path) is not None


def _named(path: Path) -> Path | None:
    """The file of piehole that a foreign hook calls by its name; None where it calls none."""
    try:
        script = path.read_bytes()
    except FileNotFoundError:
        return None
    if _MARK in script[:200]:
        return None
    places = (path.with_name(f"{path.name}.piehole"), path.with_name(f"{path.name}.d") / "piehole")
    return next((one for one in places if one.relative_to(path.parent).as_posix().encode() in script), None)


def _delegated(path: Path) -> Path | None:
    """Piehole's file, where a foreign hook runs the files of a folder one by one, as those of forges do; None where it does not.

    Not for ``reference-transaction``: a script that does not name piehole's there could move refs without it.
    """
    folder = path.with_name(f"{path.name}.d")
    if path.name == _GATE or not folder.is_dir() or not path.exists() or is_ours(path):
        return None
    if not _RUNS_A_FOLDER.search(path.read_bytes()):
        return None
    beside = path.with_name(f"{path.name}.piehole")
    for one in _files(folder):
        if is_ours(one):
            return one
        if beside.name.encode() in one.read_bytes():
            return beside
    return folder / "piehole"


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("*") if path.is_file())


def is_gitolite(git_dir: Path) -> bool:
    """Whether gitolite's access rules are the ``update`` hook here.

    gitolite makes that link again, and refuses everybody where it is missing; it calls piehole from a trigger (docs/guides/gitolite.md).
    """
    try:
        return _GITOLITE in (git_dir / "hooks" / "update").read_bytes()
    except FileNotFoundError:
        return False


def place(git_dir: Path, hook: str) -> Path:
    """Where piehole's own file goes: where a foreign hook runs it, else under the hook's name."""
    path = git_dir / "hooks" / hook
    if hook == "update" and is_gitolite(git_dir):
        return path.with_name(f"{hook}.piehole")
    return _named(path) or _delegated(path) or path


def _is_foreign(path: Path) -> bool:
    """Whether this is a foreign hook that does not run piehole's."""
    return path.exists() and not is_ours(path) and not is_chained(path) and not _delegated(path)


def refuse_foreign(git_dir: Path) -> None:
    """Check that no foreign hook is in the way.

    :raises PieholeError: a foreign hook stands where piehole's must go
    """
    gitolite = is_gitolite(git_dir)
    if gitolite and not is_chained(git_dir / "hooks" / "reference-transaction"):
        raise PieholeError(f"{_gitolite_lacks_gate(git_dir)}: {_GITOLITE_FIX}.")
    for hook in HOOKS:
        path, own = git_dir / "hooks" / hook, place(git_dir, hook)
        if own != path and own.exists() and not is_ours(own):
            raise PieholeError(f"{own} is somebody else's file, and piehole's goes there. Move it away.")
        if gitolite and hook == "update":
            continue
        if _is_foreign(path) and hook not in _OPTIONAL:
            idle = "" if os.access(path, os.X_OK) else " (it is not executable, so git ignores it)"
            raise PieholeError(
                f"{path} is somebody else's hook{idle}, and piehole overwrites none. To run both, have it end with "
                f'`exec "$(dirname "$0")/{hook}.piehole" "$@"` (for reference-transaction it must pass standard input on), then run '
                "`piehole install` again. If it is not needed, move it away."
            )


def _gitolite_lacks_gate(git_dir: Path) -> str:
    return (
        f"{git_dir / 'hooks' / 'update'} is gitolite's and stays in charge, and "
        f"{git_dir / 'hooks' / 'reference-transaction'} is not the link by which it lets piehole decide after it"
    )


def _wanted(git_dir: Path) -> tuple[str, ...]:
    announce = GitConfig(git_dir).one("piehole.announce", default("announce")).lower()
    return HOOKS if announce in ("0", "off", "false", "no") else EVERY


def write(git_dir: Path) -> list[str]:
    """Write or repair the hooks; return the names of those that were changed.

    :raises PieholeError: a foreign hook is in the way, or the file cannot be executed where it lies
    """
    wanted = outdated(git_dir)
    (git_dir / "hooks").mkdir(exist_ok=True)
    for path, content in wanted.items():
        files.replace_file(path, content, 0o755)  # a push that is under way runs the old hook or the new one
        if not os.access(path, os.X_OK):
            raise PieholeError(f"{path} cannot be executed: is the file system mounted with noexec?")
    gone = unwanted(git_dir)
    for path in gone:
        path.unlink()
    return [path.relative_to(git_dir / "hooks").as_posix() for path in (*wanted, *gone)]


def unwanted(git_dir: Path) -> list[Path]:
    """The hook files of piehole that have no task any more."""
    return [path for path in ours(git_dir) if ANNOUNCER in path.as_posix()] if _wanted(git_dir) == HOOKS else []


def outdated(git_dir: Path) -> dict[Path, str]:
    """The hook files that are missing or other than they should be, each with its right content.

    :raises PieholeError: a foreign hook is in the way
    """
    refuse_foreign(git_dir)
    wanted = {path: text(hook) for hook in _wanted(git_dir) if not _is_foreign(path := place(git_dir, hook))}
    return {
        path: content
        for path, content in wanted.items()
        if not (path.exists() and path.read_text(errors="replace") == content and os.access(path, os.X_OK))
    }


def ours(git_dir: Path) -> list[Path]:
    """Piehole's own hook files."""
    hooks = [git_dir / "hooks" / hook for hook in EVERY]
    return [
        path
        for own in hooks
        for path in (own, own.with_name(f"{own.name}.piehole"), *_files(own.with_name(f"{own.name}.d")))
        if is_ours(path)
    ]


def remove(git_dir: Path) -> list[str]:
    """Remove piehole's own hook files; return their names."""
    found = ours(git_dir)
    for path in found:
        path.unlink()
    return [path.relative_to(git_dir / "hooks").as_posix() for path in found]


def faults(git_dir: Path) -> list[str]:
    """What is wrong with the hooks, a sentence each; the fix is always `piehole install`."""
    found = []
    if is_gitolite(git_dir) and not is_chained(git_dir / "hooks" / "reference-transaction"):
        found.append(f"{_gitolite_lacks_gate(git_dir)} (docs/guides/gitolite.md)")
    for hook in _wanted(git_dir):
        path = place(git_dir, hook)
        entry = git_dir / "hooks" / hook
        if hook in _OPTIONAL and _is_foreign(path):
            continue
        if not path.exists():
            found.append(f"{path} is missing")
        elif not is_ours(path):
            found.append(f"{path} is not piehole's hook and does not run it")
        elif not os.access(path, os.X_OK) or not os.access(entry, os.X_OK):
            found.append(f"{path if not os.access(path, os.X_OK) else entry} is not executable")
        elif path.read_text(errors="replace") != text(hook):
            found.append(f"{path} was written by another version or for another interpreter")
    return found
