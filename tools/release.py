"""The release checklist: from a clean tree on main to a tag and to what has to be published, one step after the other.

A step that fails says why, and ends the run with 1; the next run of the same commit goes on there. --rehearsal makes no tag, goes on
where only a real release must stop, and may leave steps out with --skip.
"""

from __future__ import annotations

import argparse
import datetime
import hashlib
import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

from tools.check_tree import version_faults

ROOT: Final = Path(__file__).resolve().parents[1]
_STATE: Final = ROOT / ".cache" / "release.json"
_DIST: Final = ROOT / "dist"
_SUMS: Final = "SHA256SUMS"
_NO_HOME: Final = re.compile(r"\bexample\.org\b")


class Refused(Exception):
    """The release cannot go on."""


def git(*arguments: str, check: bool = True) -> str:
    done = subprocess.run(["git", "-C", str(ROOT), *arguments], capture_output=True, text=True, check=False)
    if done.returncode and check:
        raise Refused(f"git {arguments[0]}: {done.stderr.strip()}")
    return done.stdout.strip()


def run(*command: str) -> None:
    print("$", *command, flush=True)
    if status := subprocess.run(command, cwd=ROOT, check=False).returncode:
        raise Refused(f"{' '.join(command)} ended with {status}")


class Release:
    """What is released. ``rehearsal``: no tag, and what only a real release must not have is said and passed over."""

    def __init__(self, *, rehearsal: bool) -> None:
        self.rehearsal = rehearsal
        self.project: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
        self.version: str = self.project["version"]
        self.tag = f"v{self.version}"
        self.commit = git("rev-parse", "HEAD")

    def must(self, fine: bool, fault: str) -> None:
        """
        :raises Refused: it is not fine, and this is no rehearsal
        """
        if not fine and not self.rehearsal:
            raise Refused(fault)
        if not fine:
            print(f"  a release would stop here: {fault}")

    def check_tree(self) -> None:
        changed = git("status", "--porcelain")
        if changed:
            raise Refused(f"the tree is not clean; commit or stash:\n{changed}")
        branch = git("branch", "--show-current")
        self.must(
            branch == "main", f"this is the branch {branch or '(none)'}, and releases are made on main: git switch main"
        )
        upstream = git("rev-parse", "--verify", "--quiet", "@{upstream}", check=False)
        behind = upstream and git("rev-list", f"HEAD..{upstream}")
        self.must(not behind, "the upstream of this branch has more commits: git pull --ff-only")

    def check_version(self) -> None:
        if faults := list(version_faults(ROOT)):
            raise Refused("\n".join(faults))
        tagged = git("rev-parse", "--verify", "--quiet", f"{self.tag}^{{commit}}", check=False)
        self.must(
            tagged in ("", self.commit),
            f"{self.tag} is a tag of another commit: raise the version (pyproject.toml, piehole/__init__.py)",
        )
        heading, _, text = self.changes()
        today = datetime.datetime.now(datetime.UTC).date().isoformat()
        self.must(
            heading == f"## {self.version} ({today})",
            f"CHANGELOG.md: the first heading must be `## {self.version} ({today})`, not `{heading}`",
        )
        if not text.strip():
            raise Refused(f"CHANGELOG.md says nothing of {self.version}")

    def changes(self) -> tuple[str, str, str]:
        """The heading of the newest version in the change log, a line feed, and what stands below."""
        _, *sections = re.split(r"^(?=## )", (ROOT / "CHANGELOG.md").read_text(), flags=re.MULTILINE)
        return sections[0].partition("\n")

    def check_home(self) -> None:
        named = [f"pyproject.toml: {url}" for url in self.project["urls"].values() if _NO_HOME.search(url)]
        self.must(not named, "\n".join(["the project has no public home yet; write its address instead of", *named]))

    def gates(self) -> None:
        run("make", "check")

    def audit(self) -> None:
        print("$ make audit", flush=True)
        status = subprocess.run([sys.executable, "-m", "tools.audit"], cwd=ROOT, check=False).returncode
        if status not in (0, 3):
            raise Refused("the audit found a fault")
        self.must(
            status == 0,
            "known faults of the packages could not be asked for: run it where the network reaches a database",
        )

    def tests(self) -> None:
        run("make", "test-all")

    def build(self) -> None:
        for old in _DIST.glob("*"):
            old.unlink()
        run("sh", "tools/build", str(_DIST), self.commit)

    def artefacts(self) -> None:
        run("env", f"PIEHOLE_TEST_DIST={_DIST}", "make", "test-all", "ARGS=tests/packaging")

    def checksums(self) -> None:
        (_DIST / _SUMS).write_text(self.sums())
        print((_DIST / _SUMS).read_text(), end="")

    def sums(self) -> str:
        """As ``sha256sum -c`` reads them."""
        files = sorted(path for path in _DIST.glob("[!.]*") if path.name != _SUMS)
        return "".join(f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n" for path in files)

    def make_tag(self) -> None:
        if not (_DIST / _SUMS).exists() or (_DIST / _SUMS).read_text() != self.sums():
            raise Refused(
                "the files in dist/ are not those that were built and tested; to build them again: rm .cache/release.json"
            )
        signing = git("config", "user.signingKey", check=False)
        how = "signed" if signing else "not signed: git config user.signingKey names no key"
        message = f"piehole {self.version}\n\n{self.changes()[2].strip()}\n\n{self.sums()}"
        if self.rehearsal:
            print(f"  would make the tag {self.tag} ({how}):\n\n{message}")
        elif git("tag", "-l", self.tag):
            print(f"  {self.tag} is there")
        else:
            git(
                "tag", "--sign" if signing else "--annotate", "--cleanup=verbatim", "-m", message, self.tag, self.commit
            )
            print(f"  made the tag {self.tag} ({how})")

    def publish(self) -> None:
        urls = self.project["urls"]
        print(
            f"Publish, in this order:\n"
            f"  1. git push origin main {self.tag}        to {urls['Source']}\n"
            f"  2. all files of dist/ as the release {self.tag}    at {urls['Source']}/releases\n"
            f"  3. make docs, and the folder build/site    at {urls['Documentation']}\n"
            f"  4. where piehole is on a package index: .venv/bin/uv publish dist/*.whl dist/*.tar.gz"
        )


class Step(NamedTuple):
    """One line of the list. ``again``: it is cheap, so it is taken in every run."""

    name: str
    text: str
    take: Callable[[Release], None]
    again: bool = False


STEPS: Final = (
    Step("tree", "the tree is clean, and main", Release.check_tree, again=True),
    Step("version", "version, change log and date are in step", Release.check_version, again=True),
    Step("home", "the project's addresses are real", Release.check_home, again=True),
    Step("gates", "format, lint, types, layers", Release.gates),
    Step("audit", "the packages that it needs", Release.audit, again=True),
    Step("tests", "all tests", Release.tests),
    Step("build", "sdist, wheel, Debian package, SBOM", Release.build),
    Step("artefacts", "what was built is tested", Release.artefacts),
    Step("checksums", _SUMS, Release.checksums),
    Step("tag", "an annotated tag", Release.make_tag, again=True),
    Step("publish", "what is to be published where", Release.publish, again=True),
)


def _passed(commit: str) -> list[str]:
    """The steps that a run of this commit has passed."""
    try:
        found: dict[str, list[str]] = json.loads(_STATE.read_text())
    except (OSError, ValueError):
        return []
    return found.get(commit, [])


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        "tools/release", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rehearsal", action="store_true", help="make no tag")
    parser.add_argument("--skip", action="append", default=[], choices=[step.name for step in STEPS], metavar="STEP")
    given = parser.parse_args(arguments)
    if given.skip and not given.rehearsal:
        parser.error("--skip is for a rehearsal only")
    try:
        release = Release(rehearsal=given.rehearsal)
        passed = _passed(release.commit)
        for number, step in enumerate(STEPS, 1):
            print(f"[{number}/{len(STEPS)}] {step.name}: {step.text}", flush=True)
            if step.name in given.skip:
                print("  left out")
            elif step.name in passed and not step.again:
                print("  passed before")
            else:
                step.take(release)
                passed.append(step.name)
                _STATE.parent.mkdir(exist_ok=True)
                _STATE.write_text(json.dumps({release.commit: passed}))
    except Refused as refused:
        print(
            f"tools/release: {refused}\nNothing was tagged. Fix this and run it again; it goes on from here.",
            file=sys.stderr,
        )
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
