"""A command imports what it needs and no more: what loads slowly is not loaded to show help or to read arguments."""

from __future__ import annotations

import subprocess
import sys

import pytest

from piehole.cli.parser import COMMANDS
from tests.support.groups import Group

# Of other people's packages, and of the standard library what only they and the work of a command need.
_SLOW = {
    "asyncio",
    "dulwich",
    "email",
    "etcd3gw",
    "futurist",
    "http.client",
    "requests",
    "ssl",
    "structlog",
    "tenacity",
    "urllib3",
}
_RUN = """
import sys
from piehole.cli.parser import COMMANDS, run
{0}
print("loaded:", *sorted(name for name in sys.modules if name in {1} or name.startswith(("piehole.", "controller", "hooks"))))
"""
_ALWAYS = {"piehole.cli", "piehole.cli.parser", "piehole.cli.printing", "piehole.errors"}


def _loaded(act: str) -> set[str]:
    script = _RUN.format(act, sorted(_SLOW))
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return set(done.stdout.rpartition("loaded:")[2].split())


def test_the_help_of_piehole_loads_no_command() -> None:
    assert _loaded("run(['--help'])") == {*_ALWAYS, "piehole.cli.help_text"}


@pytest.mark.parametrize("name", COMMANDS)
def test_the_parser_of_a_command_loads_neither_another_command_nor_what_does_its_work(name: str) -> None:
    loaded = _loaded(f"COMMANDS[{name!r}].parser().format_help()")
    assert loaded & _SLOW == set()
    assert not [one for one in loaded if one.startswith(("piehole.commands", "piehole.etcd", "controller", "hooks"))]
    commands = {f"piehole.cli.{one.replace('-', '_')}" for one in COMMANDS}
    shares = {"group": {"rename", "sites"}, "http-backend": {"upload_pack"}}.get(name, set())
    allowed = {f"piehole.cli.{one}" for one in {name.replace("-", "_"), *shares}}
    assert loaded & commands == allowed


def test_the_work_of_status_loads_neither_dulwich_nor_what_etcd3gw_does_not_need_for_it() -> None:
    assert _loaded("import piehole.commands.status") & _SLOW <= {"email", "etcd3gw", "http.client", "ssl", "tenacity"}


def test_the_work_of_status_loads_nothing_that_repairs_or_fetches() -> None:
    loaded = _loaded("import piehole.commands.status")
    assert loaded & {"piehole.replicate.repair", "piehole.replicate.reconcile", "piehole.transfer.fetch"} == set()
    transfer = {name for name in loaded if name.startswith("piehole.transfer.")}
    assert transfer <= {"piehole.transfer.git_objects", "piehole.transfer.soundness"}


def test_completion_loads_the_command_that_is_typed_and_for_names_of_etcd_alone_its_client() -> None:
    line = "run(['completion', 'bash', '--line', 'piehole status --w'])"
    loaded = _loaded(line)
    assert loaded & _SLOW == set()
    assert "piehole.cli.clobber" not in loaded
    assert _loaded(line.replace("status --w", "log ma")) & _SLOW == set()


@pytest.mark.parametrize("command", ["status", "log", "sites", "wait", "kept"])
def test_a_command_that_asks_etcd_loads_no_library_for_http_and_no_dulwich(command: str, pair: Group) -> None:
    loaded = _loaded(f"run([{command!r}, '-C', {str(pair['a'].repository)!r}])")
    assert "http.client" in loaded
    assert loaded & {"asyncio", "dulwich", "requests", "structlog", "urllib3"} == set()
