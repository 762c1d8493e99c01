"""Print the completion of piehole's commands, options, refs, sites and groups for a shell: bash, zsh or fish.

pip and pipx install it below share/ of the environment, where shells find it if that is /usr or /usr/local. Elsewhere, load it when the
shell starts:

  bash  echo 'source <(piehole completion bash)' >>~/.bashrc
  zsh   echo 'source <(piehole completion zsh)' >>~/.zshrc (after compinit)
  fish  piehole completion fish >~/.config/fish/completions/piehole.fish

Refs and kept tips are read from the repository, sites and groups from etcd, which has half a second to answer.
"""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeAlias

from piehole.cli import common
from piehole.cli.parser import COMMANDS
from piehole.cli.printing import shown

if TYPE_CHECKING:
    from piehole.cli.arguments import CommandParser

EXAMPLES: Final = (
    ("piehole completion bash", "print it, to be read with `source`"),
    ("piehole completion fish", "print it for fish"),
)

Candidates: TypeAlias = Iterable[tuple[str, str]]  # what may be typed, and what it means

# The scripts only ask, so that what is completed is always what the parsers take. No ref's name contains "//". A library would be slower:
# argcomplete takes 15 ms to import beside argparse and needs the parsers of all commands, shtab 55 ms and no name that is read.
_SETTINGS: Final = {"copies": ("majority", "all"), "copiesElse": ("refuse", "warn"), "head": ()}
FILES: Final = "//files"
FOLDERS: Final = "//folders"
SCRIPTS: Final = {
    "bash": r"""# bash completion of piehole
_piehole() {
    local line=${COMP_LINE:0:COMP_POINT} current=${COMP_WORDS[COMP_CWORD]} value meaning before
    COMPREPLY=()
    # Readline replaces only what follows the last of COMP_WORDBREAKS, such as "=".
    [[ $current == [=:] ]] && current=
    before=${line##*[[:space:]]}
    before=${before%"$current"}
    while IFS=$'\t' read -r value meaning; do
        case $value in
        //files) compopt -o filenames; mapfile -t COMPREPLY < <(compgen -f -- "$current") ;;
        //folders) compopt -o filenames; mapfile -t COMPREPLY < <(compgen -d -- "$current") ;;
        *) printf -v value %q "${value#"$before"}"; COMPREPLY+=("$value") ;;
        esac
    done < <("$1" completion bash --line "$line" 2>/dev/null)
}
complete -F _piehole piehole
""",
    "zsh": r"""#compdef piehole
# zsh completion of piehole
_piehole() {
    local line value
    local -a found
    for line in "${(@f)$("${words[1]}" completion zsh --words "${(@Q)words[1,CURRENT-1]}" "${(Q)PREFIX}" 2>/dev/null)}"; do
        value=${line%%$'\t'*}
        case $value in
        //files) _files ;;
        //folders) _files -/ ;;
        ?*) found+=("${value//:/\\:}:${line#*$'\t'}") ;;
        esac
    done
    (( $#found )) && _describe piehole found
}
if [[ $funcstack[1] == _piehole ]]; then _piehole "$@"; else compdef _piehole piehole; fi
""",
    "fish": r"""# fish completion of piehole
function __piehole_candidates
    set -l words (commandline -opc)
    set -l current (commandline -ct)
    for line in ($words[1] completion fish --words $words "$current" 2>/dev/null)
        switch $line
            case '//files*'
                __fish_complete_path "$current"
            case '//folders*'
                __fish_complete_directories "$current"
            case '*'
                echo -- $line
        end
    end
end
complete -c piehole -f -a '(__piehole_candidates)'
""",
}


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("shell", choices=tuple(SCRIPTS), metavar="SHELL", help="bash, zsh or fish")
    parser.add_argument("--line", help=argparse.SUPPRESS)
    parser.add_argument("--words", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)


def run(args: argparse.Namespace) -> int:
    if args.line is None and args.words is None:
        print(SCRIPTS[args.shell], end="")
        return 0
    words = args.words if args.line is None else _split(args.line)
    for value, meaning in candidates(words):
        # A name that a terminal would obey is typed, or left alone.
        if shown(value) == value:
            print(f"{value}\t{shown(meaning)}")
    return 0


def _split(line: str) -> list[str]:
    try:
        words = shlex.split(line)
    except ValueError:  # in an open quotation
        words = line.split()
    return words if line == line.rstrip() else [*words, ""]


def candidates(words: Sequence[str]) -> Candidates:
    """What may stand for the last word.

    :param words: a command line, the name of the program first
    """
    *given, current = words[1:] or [""]
    folder = ""
    while given[:1] == ["-C"]:  # it may come first, as with git
        if len(given) == 1:
            return [(FOLDERS, "")]
        folder, given = str(Path(folder, given[1])), given[2:]
    if given[:1] == ["help"]:
        given = []
    if not given:
        names = [(one.name, one.help) for one in COMMANDS.values()]
        return _beginning(current, [*names, ("--help", "list the commands"), ("--version", "show the version")])
    command = COMMANDS.get(given[0])
    if command is None:
        return ()
    line = _Line(command.parser(), folder)
    for word in given[1:]:
        line.take(word)
    return _beginning(current, line.what_may_follow(current))


def _beginning(current: str, found: Candidates) -> Iterator[tuple[str, str]]:
    hidden = not current.startswith("-")  # options are offered where one is begun
    for value, meaning in found:
        if value in (FILES, FOLDERS) or (value.startswith(current) and not (hidden and value.startswith("-"))):
            yield value, meaning


class _Line:
    """How far a command line has been read."""

    def __init__(self, parser: CommandParser, folder: str) -> None:
        self._folder = folder
        self._etcd: list[str] = []
        self._enter(parser)

    def _enter(self, parser: CommandParser) -> None:
        self._parser = parser
        self._option: argparse.Action | None = None  # which takes the next word
        self._places = [action for action in parser.shown if not action.option_strings]
        self._values: list[str] = []

    def take(self, word: str) -> None:
        if word.startswith("-") and word != "-":
            name, equals, value = word.partition("=")
            self._option = self._parser.option(name)
            if equals:
                self._took(value)
        elif self._option is not None:
            self._took(word)
        elif self._places and self._places[0].nargs == argparse.PARSER:
            if word in self._parser.actions:
                self._enter(self._parser.actions[word])
        else:
            self._values.append(word)
            if self._places and self._places[0].nargs in (None, "?"):
                del self._places[0]

    def _took(self, word: str) -> None:
        """A value of the option."""
        option = self._option
        if option is not None and option.dest == "directory":
            self._folder = word
        if option is not None and option.dest == "etcd":
            self._etcd += common.split([word])
        if option is None or option.nargs is None:
            self._option = None

    def what_may_follow(self, current: str) -> Candidates:
        name, equals, value = current.partition("=")
        if current.startswith("-") and equals:
            option = self._parser.option(name)
            found = self._of(option, value) if option else ()
            return ((f"{name}={one}" if one not in (FILES, FOLDERS) else one, meaning) for one, meaning in found)
        if current.startswith("-"):
            return ((one, action.help or "") for action in self._parser.shown for one in action.option_strings)
        if self._option is not None:
            return self._of(self._option, current)
        return self._of(self._places[0], current) if self._places else ()

    def _of(self, action: argparse.Action, begun: str) -> Candidates:
        """The values of an option or an argument."""
        if action.nargs == argparse.PARSER:
            return ((name, parser.summary) for name, parser in self._parser.actions.items())
        if action.choices is not None:
            return ((str(one), "") for one in action.choices)
        from piehole.commands import completion

        folder = Path(self._folder or ".")
        match action.metavar:
            case "REF":
                return ((ref, "") for ref in completion.refs(folder, begun))
            case "SITE":
                return ((site, "") for site in completion.sites(folder, self._etcd))
            case "GROUP":
                return ((group, "") for group in completion.groups(self._etcd))
            case "OID" if self._parser.prog.startswith("piehole kept"):
                return completion.tips(folder)
            case "NAME" if self._parser.prog == "piehole config":
                from piehole.repository.settings import SETTINGS

                return ((name, "") for name in SETTINGS)
            case "SETTING":
                return ((setting, "") for setting in _SETTINGS)
            case "VALUE" if self._values[-1] == "head":
                return ((ref, "") for ref in completion.refs(folder, "refs/") if ref.startswith("refs/heads/"))
            case "VALUE":
                return ((value, "") for value in _SETTINGS.get(self._values[-1], ()))
            case "DIR" | "REPO":
                return [(FOLDERS, "")]
            case "FILE" | "PATH":
                return [(FILES, "")]
            case _:
                return ()
