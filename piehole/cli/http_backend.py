"""Run `git http-backend` behind the read gate, as a CGI program: whoever fetches sees every push that was answered before.

It stands where the web server's CGI would run `git http-backend`, in the same environment (GIT_PROJECT_ROOT or PATH_TRANSLATED). The first
request of a fetch (GET …/info/refs) waits at the gate as in `piehole upload-pack`; every other request goes straight to git, since what a
fetch asks for afterwards is read later. `strict` refuses in that first answer, and git prints the sentence. `wait` cannot warn on the
client's terminal: http has no place for it. The warning is in the web server's error log, and in the header Piehole-Behind of the answer.

Fetches of other sites carry the header Piehole-Peer and pass by.
"""

from __future__ import annotations

import os

from piehole.cli.upload_pack import become_git, judge, packet, say, words_of
from piehole.fastpath.read_gate import find_git_dir, is_peer
from piehole.fastpath.read_messages import REFUSE, WARN

TYPE_CHECKING = False  # importing typing costs 4 ms; type checkers take this name as true
if TYPE_CHECKING:
    import argparse
    from collections.abc import Mapping, Sequence

EXAMPLES = (
    ("piehole http-backend", "what the web server's CGI runs in place of `git http-backend`"),
    (
        "GIT_PROJECT_ROOT=/srv/git PATH_INFO=/tools.git/info/refs REQUEST_METHOD=GET piehole http-backend",
        "ask as the web server would, to try it",
    ),
)

_ADVERTISED = "/info/refs"
_SERVICE = "service=git-upload-pack"
_NOT_FOUND = b"Status: 404 Not Found\r\nCache-Control: no-cache\r\n\r\n"


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("options", nargs="...", metavar="[git's options]", help="as for `git http-backend`")


def run(args: argparse.Namespace) -> int:
    return serve(args.options)


def serve(words: Sequence[str]) -> int:
    """Become git, or refuse.

    :param words: the arguments after the command's name
    """
    path = gated(os.environ)
    if path and not is_peer(os.environ):
        git_dir = find_git_dir(path)
        if not git_dir:
            # What git would say. Git itself would serve a repository that is put there only now, and that nobody was asked about.
            os.write(1, _NOT_FOUND)
            return 0
        answer = judge(git_dir)
        if answer.state in (REFUSE, WARN):
            say(answer)
        if answer.state == REFUSE:
            os.write(1, _refused(os.environ, words_of(answer)))
            return 0
        if answer.state == WARN:
            # git writes its own headers after this one.
            os.write(1, b"Piehole-Behind: %s\r\n" % answer.sentence.encode("ascii", "replace"))
    return become_git(["http-backend", *words])


def gated(environment: Mapping[str, str]) -> str:
    """The repository whose refs this request begins to read, ``""`` where it reads none or goes on with what was begun."""
    root, info = environment.get("GIT_PROJECT_ROOT", ""), environment.get("PATH_INFO", "")
    path = f"{root.rstrip('/')}/{info.lstrip('/')}" if root else environment.get("PATH_TRANSLATED", "")
    reads = environment.get("REQUEST_METHOD") in ("GET", "HEAD") and path.endswith(_ADVERTISED)
    query = environment.get("QUERY_STRING", "").split("&")
    pushes = any(one.startswith("service=") and one != _SERVICE for one in query)
    return path.removesuffix(_ADVERTISED) if reads and not pushes else ""


def _refused(environment: Mapping[str, str], words: str) -> bytes:
    """The answer to a refused request: one that git prints, or for a client that reads plain files a status that it does."""
    if _SERVICE not in environment.get("QUERY_STRING", "").split("&"):
        head = b"Status: 503 Service Unavailable\r\nContent-Type: text/plain\r\nCache-Control: no-cache\r\n\r\n"
        return head + words.encode("utf-8", "surrogateescape")
    head = b"Content-Type: application/x-git-upload-pack-advertisement\r\nCache-Control: no-cache\r\n\r\n"
    return head + packet("# service=git-upload-pack\n") + b"0000" + packet(f"ERR {words}")
