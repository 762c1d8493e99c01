"""The client's side of the read gate: which repository a fetch is for, who passes by, and the controller's answer.

A fetch waits for it, so it imports as little as a hook does.
"""

from __future__ import annotations

import os

from piehole.fastpath import controller_socket
from piehole.fastpath.controller_socket import NoController
from piehole.fastpath.read_messages import NOT_SERVED, ReadAnswer, pack_gate_question

TYPE_CHECKING = False  # importing typing costs 4 ms; type checkers take this name as true
if TYPE_CHECKING:
    from collections.abc import Mapping

# How a peer marks its own fetches, so that two sites never wait for each other: a field of the variable GIT_PROTOCOL, of which git reads
# the fields that it knows (git(1)); over http, this header, as CGI names it (RFC 3875).
PEER_FIELD = "piehole=peer"
PEER_HEADER = "Piehole-Peer"
_PEER_VARIABLE = "HTTP_PIEHOLE_PEER"

# Where git looks for the repository that a client names, in this order (enter_repo in git's path.c).
_SUFFIXES = ("/.git", "", ".git/.git", ".git")


def find_git_dir(path: str, *, strict: bool = False) -> str:
    """The git directory that git serves for this path, ``""`` where there is none."""
    named = os.path.expanduser(path).rstrip("/") or "/"
    for suffix in ("",) if strict else _SUFFIXES:
        found = named + suffix
        if os.path.isfile(found):  # a file .git that names the directory
            try:
                with open(found, "rb") as file:
                    content = file.read(4096).decode("utf-8", "surrogateescape")
            except OSError:
                continue
            if content.startswith("gitdir: "):
                found = os.path.join(os.path.dirname(found), content[8:].rstrip("\n"))
        # A further worktree has its objects elsewhere (gitrepository-layout(5)).
        whole = os.path.isdir(f"{found}/objects") or os.path.isfile(f"{found}/commondir")
        if whole and os.path.lexists(f"{found}/HEAD"):
            return os.path.realpath(found)
    return ""


def is_peer(environment: Mapping[str, str]) -> bool:
    """Whether the fetch is a peer's own."""
    fields = environment.get("GIT_PROTOCOL", "").split(":")
    return PEER_FIELD in fields or _PEER_VARIABLE in environment


def ask_gate(git_dir: str) -> ReadAnswer:
    """The controller's answer: whether this repository has reached what is the newest in the group now.

    :raises NoController: none answers, or not for this repository
    """
    try:
        answer = ReadAnswer.parse(controller_socket.ask(git_dir, pack_gate_question(git_dir)))
    except (ValueError, LookupError) as error:
        raise NoController("the controller speaks another version") from error
    if answer.state == NOT_SERVED:
        raise NoController(f"the controller that it names does not serve {git_dir}")
    return answer
