"""The gates themselves: each must be able to fail."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tools import check_tree

ROOT = Path(__file__).parents[2]
LEAVE_NOTHING = ROOT / "tools" / "leave_nothing.py"


def _leave_nothing(script: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(LEAVE_NOTHING), "sh", "-c", script],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


def test_a_command_that_leaves_nothing_keeps_its_status() -> None:
    assert _leave_nothing("true").returncode == 0
    assert _leave_nothing("exit 7").returncode == 7
    assert _leave_nothing("kill -9 $$").returncode == 137
    assert _leave_nothing("sleep 0.2 &").returncode == 0


@pytest.mark.slow
def test_a_process_that_is_left_behind_is_named_and_killed() -> None:
    done = _leave_nothing("setsid sleep 1234.5 >/dev/null 2>&1 & exit 0")

    assert done.returncode == 1
    assert "sleep 1234.5" in done.stderr
    pid = int(next(line for line in done.stderr.splitlines() if "sleep" in line).split()[0])
    assert not Path(f"/proc/{pid}").exists()


_LAYERS = ("cli", "demo", "commands", "replicate", "push", "group", "repository", "transfer", "etcd", "fastpath")


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A small program of the same shape, with every import that the layers allow, and this project's contracts."""
    sources = {f"piehole/{layer}/__init__.py": "" for layer in _LAYERS}
    sources |= {f"piehole/{module}.py": "" for module in ("refs", "git", "files", "deadline", "long_work", "errors")}
    sources |= {
        "piehole/__init__.py": "",
        "piehole/cli/__init__.py": "def main():\n    import controller.run\n    import hooks.update\n",
        "piehole/push/swap.py": "from piehole.group import keys\n",
        "piehole/group/keys.py": "from piehole.etcd import client\nfrom piehole import errors\n",
        "piehole/etcd/client.py": "import etcd3gw\n",
        "piehole/fastpath/inflight.py": "import os\n",
        "controller/__init__.py": "",
        "controller/run.py": "import tenacity\nfrom piehole.push import swap\n",
        "hooks/__init__.py": "",
        "hooks/update.py": "from piehole.fastpath import inflight\ndef direct():\n    from piehole.push import swap\n",
    }
    for name, text in sources.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    shutil.copy(ROOT / ".importlinter", tmp_path)
    return tmp_path


def _lint_imports(folder: Path) -> subprocess.CompletedProcess[str]:
    program = "import sys; from importlinter.cli import lint_imports_command; lint_imports_command()"
    return subprocess.run(
        [sys.executable, "-c", program, "--no-cache", "--no-logo"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(folder)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_the_layers_allow_what_the_design_needs(package: Path) -> None:
    done = _lint_imports(package)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("module", "line"),
    [
        ("piehole/etcd/client.py", "import controller.run"),
        ("piehole/etcd/client.py", "def late(): import hooks.update"),
        ("piehole/etcd/client.py", "def late(): import piehole.cli"),
        ("piehole/etcd/client.py", "def late(): import piehole.group.keys"),
        ("piehole/group/keys.py", "def late(): import piehole.push.swap"),
        ("piehole/group/keys.py", "import dulwich"),
        ("piehole/errors.py", "import piehole.fastpath.inflight"),
        ("piehole/fastpath/inflight.py", "def late(): from piehole import errors"),
        ("piehole/fastpath/inflight.py", "def late(): import urllib3"),
        ("controller/run.py", "def late(): import hooks.update"),
        ("controller/run.py", "import piehole.cli"),
        ("controller/run.py", "import etcd3gw"),
        ("hooks/update.py", "def late(): import controller.run"),
        ("hooks/update.py", "def late(): import structlog"),
    ],
)
def test_the_layers_refuse_an_import_in_the_wrong_direction(package: Path, module: str, line: str) -> None:
    with (package / module).open("a") as file:
        file.write(f"{line}\n")
    done = _lint_imports(package)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "BROKEN" in done.stdout


def test_the_layers_refuse_a_circle(package: Path) -> None:
    (package / "controller" / "daemon.py").write_text("from controller import run\n")
    with (package / "controller" / "run.py").open("a") as file:
        file.write("def late(): from controller import daemon\n")
    done = _lint_imports(package)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "cycles" in done.stdout


def test_a_path_of_this_machine_is_found(tmp_path: Path) -> None:
    root = tmp_path / "checkout"
    root.mkdir()
    guilty = root / "guilty.md"
    guilty.write_text(f"fine\nsee {tmp_path}/notes\n")
    innocent = root / "innocent.py"
    innocent.write_text(f'work = f"{{base}}{tmp_path}/x"\nother = "{tmp_path}er/x"\n')

    assert [fault.split(":")[:2] for fault in check_tree.machine_paths(root, [guilty, innocent])] == [
        ["guilty.md", "2"]
    ]


def test_versions_that_differ_are_found(tmp_path: Path) -> None:
    (tmp_path / "piehole").mkdir()
    (tmp_path / "piehole" / "__init__.py").write_text('__version__ = "0.1.0"\n')
    (tmp_path / "pyproject.toml").write_text('[project]\nversion = "0.1.0"\n')
    (tmp_path / "CHANGELOG.md").write_text("# Changes\n\n## [0.1.0]\n")
    assert list(check_tree.version_faults(tmp_path)) == []

    (tmp_path / "pyproject.toml").write_text('[project]\nversion = "0.2.0"\n')
    assert len(list(check_tree.version_faults(tmp_path))) == 2


@pytest.mark.parametrize(("require", "status", "last"), [("0", 0, "1 skipped: no moon (1)"), ("1", 1, "1 failed")])
def test_a_skip_is_named_last_and_fails_where_all_is_required(
    tmp_path: Path, require: str, status: int, last: str
) -> None:
    folder = ROOT / "tests" / "contract"
    # With a base folder of its own, pytest does not remove what whole earlier runs have left, which takes minutes.
    base = f"--basetemp={tmp_path / 'base'}"
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", base, str(folder / "skipping.py")],
        cwd=ROOT,
        env={**os.environ, "PIEHOLE_REQUIRE_ALL": require},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == status, done.stdout
    assert last in done.stdout.splitlines()[-1]


def test_what_git_runs_loads_no_heavy_package_at_its_start() -> None:
    program = (
        "import sys; sys.path.insert(0, sys.argv[1]); import hooks.entry, hooks.helper; "
        "print(*({'dulwich', 'etcd3gw', 'requests', 'structlog', 'tenacity', 'urllib3'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-c", program, str(ROOT)], capture_output=True, text=True, timeout=30, check=True
    )
    assert done.stdout.split() == []


def test_make_help_names_every_target() -> None:
    """But those that only prepare .venv for others."""
    makefile = (ROOT / "Makefile").read_text()
    targets = dict(re.findall(r"^([a-z-]+):.*\n\t?(.*)", makefile, re.MULTILINE))
    helpers = {name for name, recipe in targets.items() if recipe.startswith("@sh tools/bootstrap ")}
    said = subprocess.run(["make", "-C", str(ROOT), "help"], capture_output=True, text=True, check=True).stdout
    assert set(re.findall(r"^  make ([a-z-]+)  ", said, re.MULTILINE)) == set(targets) - helpers - {"help"}


def test_what_runs_before_a_commit_is_what_make_check_runs() -> None:
    """And it downloads nothing: all hooks are local, and run the tools of .venv."""
    hooks = (ROOT / ".pre-commit-config.yaml").read_text()
    entries = re.findall(r"entry: ([^,}]+)", hooks)
    assert re.findall(r"repo: (.*)", hooks) == ["local"]
    assert re.findall(r"language: (\w+)", hooks) == ["system"] * len(entries)
    checks = subprocess.run(["make", "-n", "-C", str(ROOT), "check"], capture_output=True, text=True, check=True).stdout
    tools = {tuple(words[:2]) for line in checks.splitlines() if (words := line.split())[0].startswith(".venv/bin/")}
    assert {tuple(entry.split()[:2]) for entry in entries} == tools - {(".venv/bin/mypy", "-p")}
