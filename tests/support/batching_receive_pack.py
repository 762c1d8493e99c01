"""A stand-in for the receive-pack of git 2.50 and later, for machines with an older git: it calls the hooks as git 2.55 was seen to.

It speaks the protocol of a push (gitprotocol-pack(5)) and keeps refs in files. Without ``--atomic`` all deletions of a push are one
transaction and all other commands another one. Each transaction may fail in part: ``prepared`` and ``committed`` name all its refs,
also those that are rejected by then. Not replayed: the quarantine, reflogs, and every check that git makes before ``update``.

Run as a program it is ``git-receive-pack REPOSITORY``; :func:`command` gives what `git push --receive-pack` takes.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

_LOCK_TIMEOUT = 0.1  # seconds, as core.filesRefLockTimeout
_CAPABILITIES = "report-status delete-refs quiet atomic ofs-delta object-format={} agent=stand-in"


def command(folder: Path) -> str:
    """The program, written below ``folder``. Its process has git's name, by which the hooks know it."""
    program = folder / "batching-receive-pack"
    if not program.exists():
        home = f"PYTHONHOME={sys.base_prefix}:{sys.base_exec_prefix}"
        program.write_text(f'#!/bin/bash\n{home} exec -a git-receive-pack {sys.executable} -S {__file__} "$@"\n')
        program.chmod(0o755)
    return str(program)


@dataclass
class _Update:
    old: str
    new: str
    ref: str
    rejected: str = ""
    locked: bool = False

    @property
    def deletes(self) -> bool:
        return not self.new.strip("0")


class _ReceivePack:
    """One push to the repository in the current folder."""

    def __init__(self) -> None:
        shown = self._git("receive-pack", "--stateless-rpc", "--advertise-refs", ".")
        self._advertised = shown
        self._format = self._git("rev-parse", "--show-object-format").decode().strip()
        self._zero = "0" * {"sha1": 40, "sha256": 64}[self._format]

    def run(self) -> None:
        self._advertise()
        commands, capabilities = self._commands()
        if not commands:
            return
        if any(not one.deletes for one in commands):
            # Exactly the rest of standard input: what was read so far was read without a buffer.
            subprocess.run(["git", "unpack-objects", "-q"], check=True)
        if self._hook("pre-receive", [], commands):
            for one in commands:
                one.rejected = "pre-receive hook declined"
        elif "atomic" in capabilities:
            self._update_all(commands, may_fail=False)
        else:
            for deletes in (True, False):
                self._update_all([one for one in commands if one.deletes == deletes], may_fail=True)
        lines = ["unpack ok\n"]
        lines += [f"ng {one.ref} {one.rejected}\n" if one.rejected else f"ok {one.ref}\n" for one in commands]
        self._write(b"".join(map(_packet, lines)) + b"0000")

    def _update_all(self, commands: list[_Update], *, may_fail: bool) -> None:
        if not commands:
            return
        for one in commands:
            if self._hook("update", [one.ref, one.old, one.new], []):
                one.rejected = "hook declined"
        taken = [one for one in commands if not one.rejected]
        if not may_fail and len(taken) < len(commands):
            for one in taken:
                one.rejected = "atomic push failure"
        else:
            self._transaction(taken, may_fail=may_fail)

    def _transaction(self, updates: list[_Update], *, may_fail: bool) -> None:
        if self._hook("reference-transaction", ["preparing"], updates):
            self._abort(updates, "preparing")
        for one in updates:
            self._lock(one)
        names = {one.ref for one in updates if not one.rejected}
        for one in updates:
            if one.locked and not one.rejected and self._packed_rival(one.ref, names):
                one.rejected = "refname conflict"
                names.discard(one.ref)
        if not may_fail and any(one.rejected for one in updates):
            self._release(updates)
            for one in updates:
                one.rejected = "atomic transaction failed"
            return
        deleted = [one for one in updates if one.deletes and not one.rejected]
        packed = self._pack_lock(deleted) if deleted else []
        if self._hook("reference-transaction", ["prepared"], updates):
            self._abort(updates, "prepared")
        for one in updates:
            if not one.rejected and not one.deletes:
                Path(f"{one.ref}.lock").rename(one.ref)
                one.locked = False
        if packed:
            Path("packed-refs.new").rename("packed-refs")
            self._hook("reference-transaction", ["committed"], packed)
        for one in deleted:
            Path(one.ref).unlink(missing_ok=True)
        self._release(updates)
        self._hook("reference-transaction", ["committed"], updates)

    def _lock(self, one: _Update) -> None:
        lock = Path(f"{one.ref}.lock")
        until = time.monotonic() + _LOCK_TIMEOUT
        while True:
            try:
                lock.parent.mkdir(parents=True, exist_ok=True)
                with lock.open("x") as file:
                    file.write("" if one.deletes else f"{one.new}\n")
                break
            except (FileExistsError, NotADirectoryError) as error:
                if isinstance(error, NotADirectoryError) or not lock.exists():
                    one.rejected = "refname conflict"
                    return
                if time.monotonic() > until:
                    one.rejected = "reference already exists"
                    return
                time.sleep(0.005)
        one.locked = True
        if Path(one.ref).is_dir():
            try:
                Path(one.ref).rmdir()
            except OSError:
                one.rejected = "refname conflict"
        here = "" if one.rejected else self._value(one.ref)
        if not one.rejected and here != one.old:
            # Git keeps the lock of a ref with another value until the end, and of one that is missing it has none.
            one.rejected = "incorrect old value provided"
            if here != self._zero:
                return
        if one.rejected:
            lock.unlink()
            one.locked = False

    def _value(self, ref: str) -> str:
        asked = subprocess.run(["git", "rev-parse", "--verify", "-q", ref], capture_output=True, check=False)
        return asked.stdout.decode().strip() or self._zero

    def _packed_rival(self, ref: str, names: set[str]) -> bool:
        if self._value(ref) != self._zero:
            return False
        known = {*self._git("for-each-ref", "--format=%(refname)").decode().split(), *names} - {ref}
        return any(name.startswith(f"{ref}/") or ref.startswith(f"{name}/") for name in known)

    def _pack_lock(self, deleted: list[_Update]) -> list[_Update]:
        with Path("packed-refs.lock").open("x"):
            pass
        try:
            lines = Path("packed-refs").read_text().splitlines(keepends=True)
        except FileNotFoundError:
            lines = []
        gone = {one.ref for one in deleted}
        packed = {line.split()[1] for line in lines if line[0] not in "#^"}
        halves = [_Update(self._zero, self._zero, one.ref) for one in deleted]
        self._hook("reference-transaction", ["preparing"], halves)
        if not gone & packed:
            self._hook("reference-transaction", ["aborted"], halves)
            return []
        keeping = True
        with Path("packed-refs.new").open("w") as file:
            for line in lines:
                keeping = keeping if line[0] == "^" else line[0] == "#" or line.split()[1] not in gone
                file.write(line if keeping else "")
        if self._hook("reference-transaction", ["prepared"], halves):
            self._abort(deleted, "prepared")
        return halves

    def _abort(self, updates: list[_Update], state: str) -> NoReturn:
        self._hook("reference-transaction", ["aborted"], updates)
        self._release(updates)
        sys.exit(f"fatal: in '{state}' phase, update aborted by the reference-transaction hook")

    def _release(self, updates: list[_Update]) -> None:
        for one in updates:
            if one.locked:
                Path(f"{one.ref}.lock").unlink()
        if any(one.deletes for one in updates):
            for name in ("packed-refs.lock", "packed-refs.new"):
                Path(name).unlink(missing_ok=True)

    def _hook(self, name: str, arguments: list[str], updates: list[_Update]) -> int:
        program = Path("hooks") / name
        if not program.exists():
            return 0
        lines = "".join(f"{one.old} {one.new} {one.ref}\n" for one in updates)
        environment = {key: value for key, value in os.environ.items() if key != "PYTHONHOME"} | {"GIT_DIR": "."}
        # A hook that reads none of it is none that fails.
        done = subprocess.run([str(program), *arguments], input=lines.encode(), stdout=2, env=environment, check=False)
        return done.returncode

    @staticmethod
    def _git(*arguments: str) -> bytes:
        return subprocess.run(["git", *arguments], capture_output=True, check=True).stdout

    def _advertise(self) -> None:
        """Git's own advertisement, with the capabilities that are understood here."""
        length = int(self._advertised[:4], 16)
        first = self._advertised[4:length].partition(b"\0")[0]
        self._write(_packet(first.decode() + "\0" + _CAPABILITIES.format(self._format) + "\n"))
        self._write(self._advertised[length:])

    def _commands(self) -> tuple[list[_Update], list[str]]:
        found: list[_Update] = []
        capabilities: list[str] = []
        while length := int(self._read(4) or b"0000", 16):
            line, _, rest = self._read(length - 4).decode().rstrip("\n").partition("\0")
            capabilities += rest.split()
            old, new, ref = line.split(" ")
            found.append(_Update(old, new, ref))
        return found, capabilities

    @staticmethod
    def _read(count: int) -> bytes:
        found = b""
        while len(found) < count and (came := os.read(0, count - len(found))):
            found += came
        return found

    @staticmethod
    def _write(data: bytes) -> None:
        left = memoryview(data)
        while left:
            left = left[os.write(1, left) :]


def _packet(text: str) -> bytes:
    raw = text.encode()
    return f"{len(raw) + 4:04x}".encode() + raw


if __name__ == "__main__":
    os.chdir(sys.argv[-1])
    _ReceivePack().run()
