"""The hooks' line protocol on real sockets."""

from __future__ import annotations

import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path
from time import monotonic

import pytest

from piehole.fastpath import controller_socket
from tests.support.hook_socket import Line, stub
from tests.support.wait import until


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    one, other = socket.socketpair(socket.AF_UNIX)
    with one, other:
        yield one, other


@pytest.fixture
def git_dir(tmp_path: Path) -> Path:
    (tmp_path / "piehole").mkdir()
    return tmp_path


def soon() -> float:
    return monotonic() + 2


def test_messages_come_out_as_they_went_in(ends: tuple[socket.socket, socket.socket]) -> None:
    messages = [["one"], ["two", "with words", "\udcff\u2028"], ["three"]]
    ends[0].sendall(b"".join(controller_socket.pack(message) for message in messages))
    reader = controller_socket.Reader(ends[1])
    assert [reader.message(soon()) for _ in messages] == messages


def test_a_message_may_come_in_pieces(ends: tuple[socket.socket, socket.socket]) -> None:
    reader = controller_socket.Reader(ends[1])
    for piece in (b"on", b"e\n", b"two\n"):
        ends[0].sendall(piece)
        with pytest.raises(TimeoutError):
            controller_socket.Reader(ends[1]).message(monotonic() - 1)
    ends[0].sendall(b"\n")
    assert reader.message(soon()) == ["one", "two"]


@pytest.mark.parametrize("size", [1 << 16, 1 << 20])
def test_a_large_message_is_read_in_linear_time(ends: tuple[socket.socket, socket.socket], size: int) -> None:
    import threading

    sender = threading.Thread(target=ends[0].sendall, args=(controller_socket.pack(["x" * size, "y"]),))
    sender.start()
    assert [len(line) for line in controller_socket.Reader(ends[1]).message(monotonic() + 20)] == [size, 1]
    sender.join()


def test_a_closed_connection_and_a_passed_deadline_are_os_errors(ends: tuple[socket.socket, socket.socket]) -> None:
    with pytest.raises(TimeoutError):
        controller_socket.Reader(ends[1]).message(monotonic() + 0.05)
    ends[0].sendall(b"half a message\n")
    ends[0].close()
    with pytest.raises(ConnectionResetError):
        controller_socket.Reader(ends[1]).message(soon())


def test_a_message_that_never_ends_is_refused(ends: tuple[socket.socket, socket.socket]) -> None:
    ends[0].sendall(b"x" * 2000)
    with pytest.raises(ConnectionError, match="too long"):
        controller_socket.Reader(ends[1], 1000).message(soon())


def test_nobody_is_home_where_nobody_said_so(git_dir: Path) -> None:
    with pytest.raises(controller_socket.NoController) as nobody:
        controller_socket.ask(str(git_dir), ["admit"])
    assert not nobody.value.asked


@pytest.mark.parametrize("said", [["here 2 10"], ["hello"], [""], ["here 1"], ["here 1 soon"]])
def test_a_controller_of_another_kind_may_have_acted_on_the_question(git_dir: Path, said: list[str]) -> None:
    with stub(git_dir, lambda line: line.say(*said)), pytest.raises(controller_socket.NoController) as nobody:
        controller_socket.ask(str(git_dir), ["propose"])
    assert nobody.value.asked


def test_an_answer_is_waited_for_as_long_as_the_controller_said_less_a_share(git_dir: Path) -> None:
    def slow(line: Line) -> None:
        line.say("here 1 1")

    began = monotonic()
    with stub(git_dir, slow), pytest.raises(controller_socket.NoController) as nobody:
        controller_socket.ask(str(git_dir), ["propose"])
    assert nobody.value.asked
    assert controller_socket.CONTROLLER_SHARE <= monotonic() - began < controller_socket.CONTROLLER_SHARE + 2


def test_the_answer_comes_back(git_dir: Path) -> None:
    def answer(line: Line) -> None:
        line.say("here 1 5")
        line.say("again", *line.question)

    with stub(git_dir, answer):
        assert controller_socket.ask(str(git_dir), ["propose", "a", "b"]) == ["again", "propose", "a", "b"]


def test_a_connection_that_failed_asks_nothing_more(git_dir: Path) -> None:
    """A late answer would be taken for that of the next question."""
    failed: list[controller_socket.NoController] = []

    def late(line: Line) -> None:
        until(lambda: failed)
        line.say("here 1 5")
        line.say("answer to", *line.question)

    with stub(git_dir, late) as controller:
        connection = controller_socket.Connection(str(git_dir))
        for question in ("first", "second"):
            with pytest.raises(controller_socket.NoController) as nobody:
                connection.ask([question])
            failed.append(nobody.value)
        assert [one.asked for one in failed] == [True, False]
        assert [line.question for line in controller.lines] == [["first"]]


def test_half_a_question_is_not_continued_by_the_next_one(git_dir: Path) -> None:
    with tempfile.TemporaryDirectory() as folder, socket.socket(socket.AF_UNIX) as listener:
        listener.bind(f"{folder}/s")
        listener.listen()
        (git_dir / controller_socket.POINTER).write_text(f"{folder}/s")
        connection = controller_socket.Connection(str(git_dir))
        with listener.accept()[0] as other:
            other.settimeout(20)
            for question in ("long " * 1_000_000, "second"):
                with pytest.raises(controller_socket.NoController) as nobody:
                    connection.ask([question])
                assert not nobody.value.asked
            heard = b"".join(iter(lambda: other.recv(1 << 16), b""))
        assert heard
        assert b"second" not in heard
