"""Explain a word that piehole has printed: what it means, how to see more, what to type, and what not to do.

WORD is the word after 'piehole:' in what a pusher sees (stale, no-quorum, …), or a state that `piehole status`, the status page or
a metric shows (behind, stuck, never seen, …). Without WORD, all are listed.

The text is that of the pages in docs/trouble, and needs neither etcd nor a repository.
"""

from __future__ import annotations

import argparse
import re

EXAMPLES = (
    ("piehole explain no-quorum", "what this word means, and what to do"),
    ("piehole explain", "all words that can be explained"),
)


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("words", metavar="WORD", nargs="*", help="a token or a state, as it was printed")


def run(args: argparse.Namespace) -> int:
    from piehole.cli.arguments import did_you_mean
    from piehole.cli.help_text import columns, listing
    from piehole.errors import UsageError
    from piehole.installed_files import trouble_index, trouble_pages

    pages = trouble_pages()
    if not args.words:
        rows = re.findall(r"^\| \[`?([^]`:]+)[`:]*\]\([\w-]+\.md\) \| (.*?) \|", trouble_index().read_text(), re.M)
        print(listing(list(dict(reversed(rows)).items())[::-1], 18, columns()))
        return 0
    wanted = _plain(" ".join(args.words))
    known = {_plain(word): page for page in pages for word in (page.name, *page.words)}
    if wanted not in known:
        raise UsageError(f"there is no page about {wanted!r}{did_you_mean(wanted, known)}. See `piehole explain`.")
    print(_text(known[wanted].path.read_text(), columns()))
    return 0


def _plain(word: str) -> str:
    return word.lower().replace("_", " ").replace("-", " ").strip(" :")


def _text(page: str, width: int) -> str:
    """The Markdown of a page, as a terminal shows it."""
    parts = re.split(r"^(```.*?^```)$", re.sub(r"^<!--.*-->\n", "", page, flags=re.M), flags=re.M | re.S)
    shown = [
        # What stands between fences is typed or printed, and stays as it is.
        "\n".join(f"  {line}" for line in part.splitlines()[1:-1]) if part.startswith("```") else _prose(part, width)
        for part in parts
    ]
    return "\n\n".join(part for part in shown if part)


def _prose(text: str, width: int) -> str:
    from piehole.cli.help_text import render

    text = re.sub(r"\[([^]]+)\]\([^)]+\)", r"\1", text)  # a link leads nowhere here
    text = re.sub(r"(?<=\S)\n *(?=[^\s|*#])", " ", text)
    text = re.sub(r"^\|.*\|\n\| ---.*\n", "", text, flags=re.M)
    text = re.sub(r"^\| (.*?) \| (.*?) \|$", r"  \1  \2", text, flags=re.M)
    text = re.sub(r"^\* ", "  *  ", text, flags=re.M)
    text = re.sub(r"^#+ (.*)$", lambda title: title[1].upper(), text, flags=re.M)
    return render(text.replace("**", ""), width)
