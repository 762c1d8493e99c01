"""Where a hook's Python starts: ``python -I -S entry.py LIBRARIES HOOK ARGUMENTS…``. Installed hooks name this file by its path.

``-I``: a hook's working directory is the bare repository, whose folder ``hooks`` would shadow this package, and a pusher's
environment may hold anything. ``-S``: looking for installed packages costs a push 10 ms, and only
:mod:`hooks.direct` needs them.
"""

import os
import sys


def run(libraries: str, arguments: list[str]) -> int:
    """Run the hook that ``arguments`` name and return its exit status.

    :param libraries: where Python finds the packages that only :mod:`hooks.direct` needs
    """
    hook = arguments[0]
    try:
        if hook in ("pre-receive", "update"):
            from hooks import helper
        else:
            from hooks.push_hooks import PushHooks
    except ImportError as error:
        sys.stderr.write(f"piehole: no-access: piehole is incomplete ({error}); run 'piehole install' at this site\n")
        return 1
    lines: list[str] = []
    if hook in ("pre-receive", "reference-transaction"):
        lines = sys.stdin.buffer.read().decode("utf-8", "surrogateescape").split("\n")[:-1]
    if hook == "update":
        return helper.update(libraries, arguments)
    if hook != "pre-receive":
        return PushHooks(os.path.realpath(os.environ.get("GIT_DIR", ".")), libraries).run(arguments, lines)
    try:
        helper.begin(libraries, lines)
    except (OSError, ValueError):
        pass  # it is there for speed alone: what has to be refused, the other hooks refuse
    return 0


if __name__ == "__main__":
    sys.path.append(__file__.rpartition("/hooks/")[0])
    # At once: taking the interpreter down costs a push 2 ms, and nothing is left to write.
    os._exit(run(sys.argv[1], sys.argv[2:]))
