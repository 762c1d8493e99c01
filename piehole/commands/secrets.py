"""Taking secrets, and the names of people and hosts, out of text that others will read."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import Final

from piehole import errors

REMOVED: Final = "(removed)"
_WORD: Final = re.compile(r"[^\s\"'<>`|]+")
_SCP_LOGIN: Final = re.compile(r"(?<![\w/.-])[\w.+-]+:[^\s/@:\"']+@(?=\w)")
# `curl -u NAME:PASSWORD`, `etcdctl --user NAME:PASSWORD`, and a line of ~/.netrc.
_LOGIN: Final = re.compile(r"((?<!\S)(?:-u|--(?:proxy-)?user)[ =][^\s:]+:|\blogin +\S+ +password +)\S+")
_KEY_END: Final = r"-----END [A-Z0-9 ]*PRIVATE KEY-----"
_KEY: Final = re.compile(
    rf"\A(?:(?!-----BEGIN ).)*?{_KEY_END}|-----BEGIN [A-Z0-9 ]*PRIVATE KEY-----.*?(?:{_KEY_END}|\Z)", re.DOTALL
)
_HEADER: Final = re.compile(
    r"(?i)\b((?:proxy-)?authorization|(?:set-)?cookie|x-[\w-]{0,40}(?:token|key))(\\*[\"']?\s*[:=]\s*\\*[\"']?)[^\"'\\\r\n]+"
)
_SCHEME: Final = re.compile(r"\b(Bearer|Basic|Negotiate|Token) +[\w+/=.~-]{6,}")
_QUERY: Final = re.compile(r"(?<=[?&])([\w.%-]+=)[^&\s\"'#\\]+")
_ASSIGNED: Final = re.compile(
    r"(?i)(?P<name>(?<![\w.-])[\w.-]{0,200}?(?:passw(?:or)?d|passphrase|secret|token|(?:api|access)[-_]?key|private[-_]?key|credential)[\w.-]*+)"
    r"(?P<sign>\\*[\"']?\s*[=:]\s*|(?<=\w) +(?=\S))(?:(?P<quote>\\*[\"'])(?P<quoted>(?:(?!(?P=quote)).)+)(?P=quote)|(?P<bare>[^\s,;&\"'}\]\\]+))"
)
_SHAPED: Final = re.compile(
    r"\beyJ[\w-]{8,}\.[\w-]+\.[\w-]*|\b(?:gh[pousr]_|github_pat_|glpat-|AKIA|xox[abprs]-)[\w-]{16,}"
    r"|\bssh-(?:rsa|ed25519) AAAA[\w+/=]+(?: [^\n\"',;]+)?"
)
_EMAIL: Final = re.compile(r"(?<![\w.+%-])[\w.+%-]+@[\w-]+(?:\.[\w-]+)+(?!:[^\s\d\"'])")
_PUSHER: Final = re.compile(r'"pusher":\s*"((?:[^"\\]|\\.)+)"|\bpusher=(\'[^\']+\'|"[^"]+"|[^\s,"\']+)')
_HOME: Final = re.compile(r"/home/([\w.-]+)")
_URL_HOST: Final = re.compile(r"://(?:[^\s/\"'@]*@)?(\[[0-9a-fA-F:.]+\]|[\w.-]+)|[\w…]@([\w.-]+):")
_ADDRESS: Final = re.compile(r"(?<![\w.])(?!127\.|0\.0\.0\.0)(?:\d{1,3}\.){3}\d{1,3}(?![\w.])")
# Accounts that name nobody.
_NOBODY: Final = {
    "git",
    "root",
    "gitea",
    "gitolite",
    "gitolite3",
    "gitlab",
    "forgejo",
    "www-data",
    "nobody",
    "piehole",
    "user",
}
_OWN_TOKENS: Final = {value for name, value in vars(errors).items() if name.isupper() and isinstance(value, str)}
_PLAIN: Final = {"true", "false", "null", "none", "", *_OWN_TOKENS}
_SHORTEST: Final = 3  # letters of a name that is looked for everywhere


def hide_userinfo(text: str) -> str:
    """The text without the user names and passwords of its URLs."""
    return _WORD.sub(_without_userinfo, text)


def _without_userinfo(found: re.Match[str]) -> str:
    """A password may hold "@" and "/", so all up to the last "@" goes. What of the path is lost with it is no loss."""
    before, sign, after = found[0].partition("://")
    _, at, rest = after.rpartition("@")
    return f"{before}{sign}…@{rest}" if at else found[0]


class Cleaner:
    """Takes secrets out of the texts of one report. A person, and a host, is called the same in all of them.

    :param names: keep the names and e-mail addresses of people
    :param hosts: keep the names and addresses of hosts
    """

    def __init__(self, texts: Iterable[str], *, names: bool, hosts: bool, own_hosts: Iterable[str] = ()) -> None:
        self.removed: Counter[str] = Counter()
        self._aliases: dict[str, str] = {}
        self._fields: dict[str, str] = {}
        self._emails = not names
        self._addresses = not hosts
        for text in texts:
            if not names:
                self._call("person", _people(text))
            if not hosts:
                self._call("host", _hosts(text))
        if not hosts:
            self._call("host", own_hosts)
        everywhere = sorted((name for name in self._aliases if len(name) >= _SHORTEST), key=len, reverse=True)
        self._named = re.compile(rf"(?<!\w)(?:{'|'.join(map(re.escape, everywhere))})(?!\w)") if everywhere else None

    def clean(self, text: str) -> str:
        """The text without secrets."""
        for pattern, kind, put in (
            (_KEY, "private keys", lambda _: f"(a private key was here) {REMOVED}"),
            (_HEADER, "headers of HTTP", lambda found: f"{found[1]}{found[2]}{REMOVED}"),
            (_WORD, "users and passwords of URLs", _without_userinfo),
            (_SCP_LOGIN, "users and passwords of URLs", lambda _: "…@"),
            (_LOGIN, "passwords and tokens", lambda found: f"{found[1]}{REMOVED}"),
            (_QUERY, "values in queries of URLs", lambda found: f"{found[1]}{REMOVED}"),
            (_ASSIGNED, "passwords and tokens", _assigned),
            (_SCHEME, "headers of HTTP", lambda found: f"{found[1]} {REMOVED}"),
            (_SHAPED, "passwords and tokens", lambda _: REMOVED),
        ):
            text = self._counted(pattern, kind, put, text)
        if self._emails:
            text = _PUSHER.sub(self._pusher, text)
        if self._named:
            text = self._counted(self._named, "names", lambda found: self._aliases[found[0]], text)
        if self._emails:
            text = self._counted(_EMAIL, "names", lambda found: self._alias("person", found[0]), text)
        if self._addresses:
            text = self._counted(_ADDRESS, "names", lambda found: self._alias("host", found[0]), text)
        return text

    def _counted(self, pattern: re.Pattern[str], kind: str, put: Callable[[re.Match[str]], str], text: str) -> str:
        def replaced(found: re.Match[str]) -> str:
            made = put(found)
            if made != found[0]:
                self.removed[kind] += 1
            return made

        return pattern.sub(replaced, text)

    def _pusher(self, found: re.Match[str]) -> str:
        name = found[1] or found[2].strip("'\"")
        return found[0].replace(name, self._aliases.get(name, name))

    def _call(self, kind: str, names: Iterable[str]) -> None:
        for name in names:
            self._alias(kind, name)

    def _alias(self, kind: str, name: str) -> str:
        known = self._aliases.get(name)
        if known is None:
            number = len({alias for alias in self._aliases.values() if alias.startswith(kind)}) + 1
            known = f"{kind}-{number}"
            # As JSON has it, and as other text has it.
            for form in (name, json.dumps(name)[1:-1], _unescaped(name)):
                self._aliases.setdefault(form, known)
        return known


def _unescaped(name: str) -> str:
    try:
        return str(json.loads(f'"{name}"'))
    except ValueError:
        return name


def _people(text: str) -> Iterator[str]:
    for found in _PUSHER.finditer(text):
        name = found[1] or found[2].strip("'\"")
        if name not in _NOBODY:
            yield name
    yield from (name for name in _HOME.findall(text) if name not in _NOBODY)


def _hosts(text: str) -> Iterator[str]:
    for found in _URL_HOST.finditer(text):
        name = (found[1] or found[2]).strip("[]")
        if name not in ("localhost", "::1") and not name.startswith("127."):
            yield name


def _assigned(found: re.Match[str]) -> str:
    """A name that sounds like a secret, and its value. That of a file or of piehole's own tokens is none."""
    name, quote = found["name"], found["quote"] or ""
    value = found["quoted"] or found["bare"]
    is_word = found["sign"].isspace() and not name.startswith("--")  # "the token is …" is no assignment
    if is_word or name.lower().endswith(("file", "path")) or value.lower() in _PLAIN:
        return found[0]
    return f"{name}{found['sign']}{quote}{REMOVED}{quote}"
