"""Where a hook's Python starts: ``python -I -S entry.py LIBRARIES HOOK ARGUMENTS…``.

``-I``: a hook's working directory is the bare repository, whose folder ``hooks`` would shadow this package, and a pusher's
environment may hold anything. ``-S``: looking for installed packages costs a push 10 ms, and only
:mod:`hooks.direct` needs them.
"""

import os
import sys

if __name__ == "__main__":
    sys.path.append(__file__.rpartition("/hooks/")[0])
    try:
        from hooks.main import run
    except ImportError as error:
        sys.stderr.write(
            f"piehole: no-access: piehole is incomplete ({error}), so no push can be agreed. Run 'piehole install' at this site.\n"
        )
        sys.exit(1)
    lines = (
        sys.stdin.buffer.read().decode("utf-8", "surrogateescape").split("\n")[:-1]
        if sys.argv[2] in ("pre-receive", "reference-transaction")
        else []
    )
    # At once: taking the interpreter down costs a push 2 ms, and nothing is left to write.
    os._exit(run(sys.argv[1], sys.argv[2:], lines))
