"""Completion: what is offered, and that bash, zsh and fish complete it when somebody presses the tabulator key."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import pytest

from piehole.cli.completion import FILES, FOLDERS, SCRIPTS, candidates
from piehole.cli.parser import COMMANDS
from tests.cli.terminal import Terminal
from tests.support.command_line import piehole
from tests.support.git import git
from tests.support.groups import Group
from tests.support.ports import free_ports

_PIEHOLE = """\
#!/bin/sh
if [ "$1" = completion ]; then exec {python} -m piehole.cli "$@"; fi
printf 'ran:'
printf ' <%s>' "$@"
echo
"""
_SHELLS = {
    "bash": (("bash", "--noprofile", "--norc", "-i"), "source <(piehole completion bash)"),
    "zsh": (("zsh", "-f", "-i"), "autoload -U compinit && compinit -D -u && source <(piehole completion zsh)"),
    "fish": (("fish", "--no-config", "-i"), "piehole completion fish | source"),
}


def _offered(line: str) -> list[str]:
    """The candidates for the last word, which may be empty."""
    return [value for value, _ in candidates(["piehole", *line.split(" ")])]


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("stat", ["status"]),
        ("--v", ["--version"]),
        ("help upl", ["upload-pack"]),
        ("status --wat", ["--watch"]),
        ("status --wait 5 --js", ["--json"]),
        ("status --format ", ["table", "lines"]),
        ("status --format=ta", ["--format=table"]),
        ("kept re", ["restore"]),
        ("kept restore --sinc", ["--since"]),
        ("kept list --jso", ["--json"]),
        ("group set ", ["copies", "copiesElse", "head"]),
        ("group set copiesElse ", ["refuse", "warn"]),
        ("config readG", ["readGate"]),
        ("-C", []),
        ("-C ", [FOLDERS]),
        ("-C a -C ", [FOLDERS]),
        ("-C /srv log --etcd h -n 3 --js", ["--json"]),
        ("check ", [FOLDERS]),
        ("audit a.git b", [FOLDERS]),
        ("install --etcd-ca ", [FILES]),
        ("completion z", ["zsh"]),
        ("nothing ", []),
        ("log --no-such-option ma", []),
    ],
)
def test_what_the_parsers_take_is_offered(line: str, offered: list[str], tmp_path: Path) -> None:
    assert _offered(line) == offered


def test_every_command_and_every_option_is_offered() -> None:
    assert _offered("") == list(COMMANDS)
    for name, command in COMMANDS.items():
        parser = command.parser()
        assert _offered(f"{name} -") == parser.options
        for action, inner in parser.actions.items():
            assert _offered(f"{name} {action} -") == inner.options


def test_refs_and_kept_tips_are_those_of_the_repository(pair: Group) -> None:
    a = pair["a"].repository
    git(a, "update-ref", "refs/tags/v1", "refs/heads/main")
    git(a, "update-ref", "refs/heads/x\u202ey", "refs/heads/main")  # a terminal would obey this name
    main = pair.value()
    assert main is not None
    git(a, "update-ref", f"refs/piehole/kept/{main}", main)
    assert _offered(f"log -C {a} ma") == ["main"]
    assert _offered(f"log -C {a} t") == ["tags/v1"]
    assert _offered(f"clobber -C {a} main refs/") == ["refs/heads/main", "refs/heads/x\u202ey", "refs/tags/v1"]
    assert _offered(f"kept -C {a} show ") == [main[:12]]
    assert _offered(f"group set -C {a} head ") == ["refs/heads/main", "refs/heads/x\u202ey"]
    printed = piehole("completion", "bash", "--line", f"piehole log -C {a} ").out
    assert [line.partition("\t")[0] for line in printed.splitlines()] == ["main", "tags/v1"]


def test_sites_and_groups_are_those_in_etcd(pair: Group) -> None:
    a, etcd = pair["a"].repository, pair.etcd.endpoint
    assert _offered(f"leave -C {a} --site ") == ["a", "b"]
    assert _offered(f"wait -C {a} main --sites a ") == ["a", "b"]
    git(a, "config", "--global", "piehole.prefix", pair.prefix)
    try:
        assert _offered(f"install --etcd {etcd} --group ") == ["g"]
    finally:
        git(a, "config", "--global", "--unset", "piehole.prefix")


def test_without_etcd_there_is_this_site_and_no_error(pair: Group) -> None:
    nobody = f"127.0.0.1:{free_ports(1)[0]}"
    assert _offered(f"leave -C {pair['a'].repository} --etcd {nobody} --site ") == ["a"]
    assert _offered(f"install --etcd {nobody} --group ") == []
    answer = piehole("completion", "zsh", "--words", "piehole", "leave", "-C", "/nowhere", "--site", "")
    assert (answer.status, answer.out, answer.err) == (0, "", "")


@pytest.mark.parametrize("shell", SCRIPTS)
def test_a_shell_completes(shell: str, pair: Group, tmp_path: Path) -> None:
    if not shutil.which(shell):
        pytest.skip(f"{shell} is not installed")
    program, setup = _SHELLS[shell]
    (tmp_path / "piehole").write_text(_PIEHOLE.format(python=sys.executable))
    (tmp_path / "piehole").chmod(0o755)
    (tmp_path / "home").mkdir()
    a = pair["a"].repository
    env = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "HOME": str(tmp_path / "home"), "TERM": "dumb"}
    root = Path(__file__).parents[2]
    with Terminal(program=program, columns=500, env={**env, "PYTHONPATH": str(root)}) as terminal:
        terminal.types(f"cd {a.parent} && {setup} && echo ready | cat")
        terminal.sees("ready\r\n")
        for typed, ran in (
            ("stat\t--js\t", "<status> <--json>"),
            ("kept rest\t", "<kept> <restore>"),
            ("controller --log-level=inf\t", "<controller> <--log-level=info>"),
            (f"log -C {a} ma\t", f"<log> <-C> <{a}> <main>"),
            (f"log -C {a} \t", f"<log> <-C> <{a}> <main>"),
            (f"leave -C {a} --site b\t", f"<leave> <-C> <{a}> <--site> <b>"),
            (f"check {a.name[:-2]}\t", f"<check> <{a.name}"),  # zsh takes the slash away again
        ):
            terminal.types(f"piehole {typed}")
            terminal.sees(f"ran: {ran}")
