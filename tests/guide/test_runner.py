"""The runner sees what a page shows wrongly: each rule of ``tests.guide.markdown``, kept and broken."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.guide.markdown import PageError, differs_from_file, fences
from tests.guide.runner import Page, Place
from tests.servers.bed.hosts import is_gone
from tests.support.wait import until


@pytest.fixture
def run(tmp_path: Path) -> object:
    def run(text: str, **replaced: str) -> Page:
        path = tmp_path / "page.md"
        path.write_text(text)
        page = Page(path)
        place = Place(cwd=tmp_path, replaced=replaced)
        page.run({"$": place, "git@oslo$": place}, seconds=5)
        return page

    return run


def _console(*lines: str, above: str = "") -> str:
    return "\n".join(["# Page", "", above, "```console", *lines, "```", ""])


KEPT = {
    "output": _console("$ echo one; echo two", "one", "two"),
    "standard error": _console("$ echo no >&2", "no"),
    "state": _console("$ cd /usr; A=b", "$ echo $PWD $A", "/usr b"),
    "several places": _console("git@oslo$ A=1", "$ echo =$A", "=", "git@oslo$ echo =$A", "=1"),
    "backslash": _console("$ echo a \\", "    b", "a b"),
    "here-document": _console("$ cat > f <<'END'", "# $ x", "", "$ y", "END", "$ cat f", "…", "$ wc -l < f", "3"),
    "loop": _console("$ for n in 1 2; do", "    echo $n", "done", "1", "2"),
    "quoted text": _console("$ echo 'a", "b'", "a", "b"),
    "any text": _console("$ echo from 1a2b to 3c4d", "from … to …"),
    "any lines": _console("$ seq 9", "1", "…", "8", "9"),
    "no lines": _console("$ echo a", "…", "a", "…"),
    "nothing shown": _console("$ echo a"),
    "status": _console("$ true", "$ echo no; false", "no", above="<!-- exit 1 -->"),
    "progress": _console(r"$ printf 'Counting objects:  50%%\rCounting objects: 100%%, done.\nend\n'", "end"),
    "progress that is erased": _console(r"$ printf 'waiting, 50%%\r\033[Kend\nmore, 9%%\r\033[2K'", "end"),
    "colours": _console(r"$ printf '\033[1mbold\033[m\n'", "bold"),
    "terminal": _console("$ test -t 0 && test -t 1 && test -t 2 && tput cols", "100"),
    "question": _console("$ read -p 'Sure? [y/N] ' a; echo got $a", "Sure? [y/N] yes", "got yes"),
    "interrupt": _console("$ echo up; sleep 600", "up", "^C", "$ echo on", "on"),
    "jobs": _console("$ sleep 600 &", "$ kill %1; wait", "$ echo a", "a"),
    "indented": "* a list:\n\n  ```console\n  $ echo a\n  a\n  ```\n",
    "keeps running": _console("$ echo up; sleep 600", "up", above="<!-- terminal 2 -->\n<!-- keeps running -->")
    + _console("$ echo free", "free")
    + _console("^C", "$ echo back", "back", above="<!-- terminal 2 -->"),
}

BROKEN = {
    "other output": (_console("$ echo one", "two"), "page.md:5: $ echo one\nprinted something else"),
    "output that is not shown": (_console("$ echo one; echo two", "one"), "something else"),
    "output that is not there": (_console("$ echo one", "one", "two"), "\n- two"),
    "a failure": (_console("$ false"), "ended with status 1"),
    "a success": (_console("$ true", above="<!-- exit 1 -->"), "ended with status 0, not 1"),
    "a failure that is not the last": (_console("$ false", "$ false", above="<!-- exit 1 -->"), "ended with status 1"),
    "the end of the shell": (_console("$ exit 3"), "ended with status 3"),
    "a place that nobody knows": (_console("root@nowhere# true"), "knows no place 'root@nowhere#'"),
    "what is to be interrupted says nothing": (_console("$ echo up", "down", "^C"), "something else"),
}

RIDDLES = {
    "no prompt": (_console("echo one"), "begins with a prompt, not with 'echo one'"),
    "unfinished": (_console("$ for n in 1; do"), "the block ends in the middle"),
    "a comment that means nothing": (_console("$ true", above="<!-- exits 1 -->"), "knows no <!-- exits 1 -->"),
    "no end": ("```console\n$ true\n", "this fence has no end"),
    "empty": (_console(), "an empty console block"),
}


@pytest.mark.parametrize("text", KEPT.values(), ids=KEPT)
def test_a_page_that_shows_what_happens_passes(run, text: str) -> None:  # type: ignore[no-untyped-def]
    assert run(text).left == []


@pytest.mark.parametrize(("text", "said"), BROKEN.values(), ids=BROKEN)
def test_a_page_that_shows_something_else_fails_with_its_line(run, text: str, said: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(AssertionError) as fault:
        run(text)
    assert said in str(fault.value)


@pytest.mark.parametrize(("text", "said"), RIDDLES.values(), ids=RIDDLES)
def test_a_page_that_cannot_be_understood_fails(run, text: str, said: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(PageError) as fault:
        run(text)
    assert said in str(fault.value)


def test_a_command_that_does_not_end_fails_with_what_it_printed_and_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "page.md").write_text(_console("$ echo before; (sleep 600 & echo $! > pid; wait)"))
    with pytest.raises(AssertionError, match=r"(?s)still ran after 1 s.*before"):
        Page(tmp_path / "page.md").run({"$": Place(cwd=tmp_path)}, seconds=1)
    pid = int((tmp_path / "pid").read_text())
    until(lambda: is_gone(pid), what="what the command has begun is gone")


def test_words_are_replaced_in_what_is_typed_and_put_back_in_what_is_printed(tmp_path: Path) -> None:
    (tmp_path / "page.md").write_text(_console("$ echo /srv/git/a", "/srv/git/a"))
    place = Place(cwd=tmp_path, replaced={"/srv/git": "/elsewhere"})
    Page(tmp_path / "page.md").run({"$": place})
    assert place.typed("/srv/git/a") == "/elsewhere/a"


def test_sections_are_run_alone_and_what_is_left_is_known(tmp_path: Path) -> None:
    path = tmp_path / "page.md"
    path.write_text("## A\n\n```console\n$ echo a\na\n```\n\n## B\n\n```console\n$ echo b\nc\n```\n")
    page = Page(path)
    page.run({"$": Place()}, sections=["A"])
    assert [block.section for block in page.left] == ["B"]
    with pytest.raises(AssertionError, match="no commands below C"):
        Page(path, "A", "C")


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ("ETCD_AUTO_COMPACTION_MODE=periodic", ""),
        ("ETCD_NO_SUCH=1", "deploy/etcd.env has no such lines"),
    ],
)
def test_an_excerpt_stands_in_its_file(tmp_path: Path, lines: str, said: str) -> None:
    path = tmp_path / "page.md"
    path.write_text(f"<!-- deploy/etcd.env -->\n```ini\n{lines}\n```\n")
    (fence,) = fences(path)
    assert differs_from_file(fence) == said
