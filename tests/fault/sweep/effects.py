"""Which functions of the program do something that outlives them: found in the source, so that a new one cannot be overlooked."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.fault.tree import SOURCE

# Where a push, its replication and the progress of it run; what these import, and what that imports, belongs to it.
_ROOTS: Final = ("hooks.entry", "hooks.direct", "controller.daemon")
_ON_DISK: Final = frozenset(
    {
        *("write", "write_text", "write_bytes", "pwrite", "touch", "truncate", "mkdir", "makedirs", "mkdtemp"),
        *("unlink", "remove", "rmdir", "rmtree", "rename", "replace", "link", "symlink", "chmod", "fchmod"),
        "replace_file",
    }
)
# Words of git's that change a repository, in an argument list.
_BY_GIT: Final = frozenset(
    {"update-ref", "symbolic-ref", "hash-object", "repack", "pack-objects", "index-pack", "fetch"}
)
_IN_ETCD: Final = frozenset({"Put", "Delete"})


@dataclass(frozen=True)
class Function:
    """``name`` is ``module:function`` or ``module:Class.function``; ``effects``: what it calls or names that is durable."""

    name: str
    effects: frozenset[str]
    reached: tuple[str, ...]


def functions() -> list[Function]:
    """Every function that runs between "received" and "progress published", with its durable effects and its steps."""
    return [one for module in sorted(_closure()) for one in _of_module(module)]


def steps_called() -> list[str]:
    """The constants of Step, by name, one for each call of ``reached`` in the program."""
    return [step for one in functions() for step in one.reached]


def _path(module: str) -> Path | None:
    base = SOURCE / Path(*module.split("."))
    return next((path for path in (base.with_suffix(".py"), base / "__init__.py") if path.exists()), None)


def _closure() -> set[str]:
    found: set[str] = set()
    pending = list(_ROOTS)
    while pending:
        module = pending.pop()
        path = _path(module)
        if module in found or path is None:
            continue
        found.add(module)
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and node.module:
                pending += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
            elif isinstance(node, ast.Import):
                pending += [alias.name for alias in node.names]
    return found


def _of_module(module: str) -> Iterator[Function]:
    path = _path(module)
    assert path is not None
    yield from _below(ast.parse(path.read_text()), f"{module}:")


def _below(node: ast.AST, prefix: str) -> Iterator[Function]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef):
            yield _function(child, f"{prefix}{child.name}")
        elif isinstance(child, ast.ClassDef):
            yield from _below(child, f"{prefix}{child.name}.")


def _function(function: ast.FunctionDef, name: str) -> Function:
    effects: set[str] = set()
    reached: list[str] = []
    for node in ast.walk(function):
        if isinstance(node, ast.Constant) and node.value in _BY_GIT:
            effects.add(str(node.value))
        if not isinstance(node, ast.Call):
            continue
        called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        if called == "reached":
            argument = node.args[0]
            assert isinstance(argument, ast.Attribute), f"{name}: reached() takes a constant of Step"
            reached.append(argument.attr)
        elif called in _IN_ETCD or (
            called in _ON_DISK and isinstance(node.func, ast.Attribute) and not _of_text(called, node)
        ):
            effects.add(called)
        elif called == "open" and _creates(node):
            effects.add("open")
    return Function(name, frozenset(effects), tuple(reached))


def _of_text(called: str, node: ast.Call) -> bool:
    """``str.replace`` takes two arguments, ``Path.replace`` one; dataclasses.replace is called by its bare name."""
    return called == "replace" and len(node.args) + len(node.keywords) != 1


def _creates(node: ast.Call) -> bool:
    text = ast.unparse(node)
    return "O_CREAT" in text or "O_APPEND" in text or "'w'" in text or "'a'" in text or "'wb'" in text
