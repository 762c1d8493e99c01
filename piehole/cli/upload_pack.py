"""Run `git upload-pack` behind the read gate: whoever fetches sees every push that was answered before.

It stands where ssh's forced command or a wrapper would run `git upload-pack`, and takes its options. It asks the controller whether the
repository has reached what is the newest in the group now, waits for that up to piehole.readWait seconds, and then becomes
`git upload-pack`. If the repository has not reached it in time, or that cannot be known, piehole.readGate decides: `wait` serves with a
warning on the client's terminal, `strict` refuses with `behind:`. With `off` (the default) nothing is asked of etcd.

Fetches of other sites pass by. They are marked by `piehole=peer` in GIT_PROTOCOL (sshd needs `AcceptEnv GIT_PROTOCOL`), or --peer is given
in the forced command of the peer's key. --ask only asks, for wrappers that run git themselves: exit status 1 if the fetch is refused.
"""

from __future__ import annotations

import os
import sys

from piehole.fastpath.controller_socket import NoController
from piehole.fastpath.read_gate import ask_gate, find_git_dir, is_peer
from piehole.fastpath.read_messages import REFUSE, WARN, ReadAnswer

TYPE_CHECKING = False  # importing typing costs 4 ms; type checkers take this name as true
if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

EXAMPLES = (
    ("piehole upload-pack /srv/git/tools.git", "what a forced command of ssh runs in place of `git upload-pack`"),
    ("piehole upload-pack --ask /srv/git/tools.git", "only ask whether a fetch would be served now"),
)

_OURS = ("--peer", "--ask")


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--peer", action="store_true", help="a peer's own fetch: pass by the gate")
    parser.add_argument("--ask", action="store_true", help="only ask; do not run git")
    parser.add_argument("options", nargs="...", metavar="[git's options] REPO", help="as for `git upload-pack`")


def run(args: argparse.Namespace) -> int:
    return serve([*(one for one in _OURS if vars(args)[one[2:]]), *args.options])


def serve(words: Sequence[str]) -> int:
    """Become git, or refuse. Every fetch waits for this: it loads no more than it needs.

    :param words: the arguments after the command's name
    """
    given = [word for word in words if word not in _OURS]
    peer, asks_only = (word in words for word in _OURS)
    repository = given[-1] if given else ""
    if not peer and not is_peer(os.environ):
        git_dir = find_git_dir(repository, strict="--strict" in given)
        if repository and not git_dir:
            # In git's own words. Git itself would serve a repository that is put there only now, and that nobody was asked about.
            os.write(2, os.fsencode(f"fatal: '{repository}' does not appear to be a git repository\n"))
            return 1 if asks_only else 128
        answer = judge(git_dir)
        if answer.state == REFUSE and not asks_only:
            os.write(1, packet(f"ERR {words_of(answer)}"))
        elif answer.state in (REFUSE, WARN):
            say(answer)
        if answer.state == REFUSE:
            return 1
    if asks_only:
        return 0
    return become_git(["upload-pack", *given])


def become_git(words: Sequence[str]) -> int:
    """Replace this process by git, as ssh or the web server would have started it; returns only where there is no git."""
    try:
        os.execvp("git", ["git", *words])  # noqa: S606 -- this process becomes git, from a list of arguments
    except OSError as error:
        sys.stderr.write(f"piehole: git cannot be run ({error}): put it on the PATH of this service.\n")
        return 1


def judge(git_dir: str) -> ReadAnswer:
    """Whether this repository's refs are new enough; where no controller answers, as far as this account can find out itself."""
    if not git_dir:
        return ReadAnswer("")
    try:
        return ask_gate(git_dir)
    except NoController as error:
        from pathlib import Path

        from piehole.commands.read_gate import gate_alone

        return gate_alone(Path(git_dir), str(error))


def say(answer: ReadAnswer) -> None:
    """Write to standard error what over ssh the client's terminal shows."""
    os.write(2, words_of(answer).encode("utf-8", "surrogateescape"))


def words_of(answer: ReadAnswer) -> str:
    return f"piehole: behind: {answer.sentence}\n"


def packet(text: str) -> bytes:
    """A line of git's protocol (gitprotocol-common(5))."""
    data = text.encode("utf-8", "surrogateescape")[:65000]
    return b"%04x" % (len(data) + 4) + data
