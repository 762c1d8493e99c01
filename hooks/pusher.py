"""Who pushes, as a person knows the name: from the environment of receive-pack, or by the ssh key that has logged in."""

from __future__ import annotations

import os

TYPE_CHECKING = False  # importing typing costs a hook 4 ms; type checkers take this name as true
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

# Where piehole.pusherFrom is not set. sshd names the key where `ExposeAuthInfo yes` is set (sshd_config(5)).
DEFAULT = ("env:GL_USER", "env:REMOTE_USER", "key-comment", "account")
_KEY_FILES = ".ssh/authorized_keys", ".ssh/authorized_keys2"  # in the account's home: sshd's own default
_LARGEST = 8 << 20  # bytes of such a file that are read
# Fields between the nonce and the serial number of a certificate (PROTOCOL.certkeys), by the beginning of the key's type.
_KEY_FIELDS = {b"ssh-ed25519": 1, b"ssh-rsa": 2, b"ecdsa-": 2, b"sk-ssh-ed25519": 2, b"sk-ecdsa-": 3}


def name(environ: Mapping[str, str], sources: Sequence[str] = ()) -> str:
    """The first name that the sources give, in their order; else that of the account.

    :param sources: the values of piehole.pusherFrom
    """
    for source in sources or DEFAULT:
        kind, _, rest = source.partition(":")
        found = ""
        if kind == "env":
            found = environ.get(rest, "")
        elif kind == "key-comment":
            found = _key_comment(environ, (rest,) if rest else _KEY_FILES)
        elif kind == "account":
            break
        if found.strip():
            return found
    return environ.get("SUDO_USER") or _account()


def _account() -> str:
    """The name of the account that runs the hook."""
    import pwd

    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return str(os.getuid())


def _key_comment(environ: Mapping[str, str], files: Sequence[str]) -> str:
    """The comment of the key that has logged in, from the file that let it in; of a certificate the name that its authority gave it."""
    for line in _read(environ.get("SSH_USER_AUTH", "")).splitlines():
        method, _, key = line.partition(b" ")
        if method == b"publickey" and b" " in key:
            comment = _named_by_certificate(key) or _comment_of(key, environ.get("HOME", ""), files)
            if comment:
                return comment.decode("utf-8", "replace")
    return ""


def _comment_of(key: bytes, home: str, files: Sequence[str]) -> bytes:
    for file in files:
        content = b"\n" + _read(os.path.join(home, os.path.expanduser(file)))
        place = content.find(key)
        while place >= 0:
            begin = content.rfind(b"\n", 0, place) + 1
            options, (rest, *_) = content[begin:place], content[place + len(key) :].split(b"\n", 1)
            if not options.lstrip().startswith(b"#") and rest[:1] in (b" ", b"\t"):
                return rest.strip()
            place = content.find(key, place + 1)
    return b""


def _named_by_certificate(key: bytes) -> bytes:
    """The key id in a certificate, which its authority has signed; nothing where it is none."""
    kind, _, text = key.partition(b" ")
    fields = next((number for start, number in _KEY_FIELDS.items() if kind.startswith(start)), 0)
    if b"-cert-v01@" not in kind or not fields:
        return b""
    from binascii import a2b_base64

    try:
        blob = a2b_base64(text.split(b" ")[0])
        place = 0
        for _ in range(2 + fields):  # the type, the nonce, and the key
            place += 4 + int.from_bytes(blob[place : place + 4], "big")
        place += 12  # the serial number, and whether it is of a user
        return blob[place + 4 : place + 4 + int.from_bytes(blob[place : place + 4], "big")]
    except ValueError:
        return b""


def _read(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read(_LARGEST)
    except OSError:  # there is none, or it is not for this account
        return b""
