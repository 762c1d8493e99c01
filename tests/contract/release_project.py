"""A small project that tools/release can release, whose gates and build are stand-ins that note that they ran."""

from __future__ import annotations

import datetime
import os
import subprocess
import sys
from pathlib import Path

from tests.support.git import git

ROOT = Path(__file__).parents[2]
_FILES = {
    "pyproject.toml": """\
[project]
version = "1.2.0"
urls = { Source = "https://git.example.com/piehole", Documentation = "https://docs.example.com" }
""",
    "piehole/__init__.py": '__version__ = "1.2.0"\n',
    "CHANGELOG.md": "# Changes\n\n## 1.2.0 (TODAY)\n\n* A thing.\n\n## 1.1.0 (2020-01-01)\n\n* An older thing.\n",
    "Makefile": "check test-all:\n\t@echo $@ $(ARGS) >>ran\n\t@! test -e broken-$@\n",
    "tools/build": 'mkdir -p "$1"\necho build >>ran\necho wheel >"$1/a.whl"\necho sdist >"$1/a.tar.gz"\n',
    "tools/audit.py": 'import pathlib\npathlib.Path("ran").open("a").write("audit\\n")\nraise SystemExit(int(pathlib.Path("audited").read_text()))\n',
    "tools/bootstrap": "exit 0\n",
    ".gitignore": "/ran\n/broken-*\n/audited\n/dist/\n/.cache/\n/.venv/\n__pycache__/\n",
}


class Project:
    """A project that can be released, and a way to try."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        git(folder.parent, "init", "-q", "-b", "main", str(folder))
        today = datetime.datetime.now(datetime.UTC).date().isoformat()
        for name, text in _FILES.items():
            self.write(name, text.replace("TODAY", today))
        for name in ("__init__.py", "check_tree.py", "release", "release.py"):
            self.write(f"tools/{name}", (ROOT / "tools" / name).read_text())
        (folder / "tools/release").chmod(0o755)
        (folder / ".venv/bin").mkdir(parents=True)
        (folder / ".venv/bin/python").symlink_to(sys.executable)
        self.write("audited", "0")
        self.commit()

    def write(self, name: str, text: str) -> None:
        (self.folder / name).parent.mkdir(parents=True, exist_ok=True)
        (self.folder / name).write_text(text)

    def replace(self, name: str, old: str, new: str) -> None:
        text = (self.folder / name).read_text()
        assert old in text
        self.write(name, text.replace(old, new))
        self.commit()

    def commit(self) -> None:
        git(self.folder, "add", "-A")
        git(self.folder, "commit", "-qm", "a change")

    def release(self, *options: str, status: int = 0) -> str:
        """What it said, on standard output if it succeeded, else on standard error."""
        done = subprocess.run(
            [self.folder / "tools/release", *options],
            env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == status, (done.stdout, done.stderr)
        assert "Traceback" not in done.stderr
        return done.stderr if status else done.stdout

    def ran(self) -> list[str]:
        """The steps that did something, since this was asked last."""
        log = self.folder / "ran"
        lines = log.read_text().split("\n")[:-1] if log.exists() else []
        log.unlink(missing_ok=True)
        return [line.strip() for line in lines]

    def tags(self) -> str:
        return git(self.folder, "tag").stdout.strip()
