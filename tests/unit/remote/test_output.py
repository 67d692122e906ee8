"""Output of many nodes: cut into lines, prefixed, bounded, and never waited for by the event loop."""

import io
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from multicompute.remote.output import Chunk, LineOutput, LineSplitter, OutputQueue, PrefixedOutput, Tail


def prefixed(*chunks: tuple[int, str, bytes]) -> tuple[str, str]:
    stdout, stderr = io.StringIO(), io.StringIO()
    output = PrefixedOutput(stdout, stderr)
    for rank, stream, data in chunks:
        output.write(rank, "stderr" if stream == "stderr" else "stdout", data)
    output.close()
    return stdout.getvalue(), stderr.getvalue()


def test_every_line_has_its_rank_in_front_and_goes_to_its_stream() -> None:
    assert prefixed((3, "stdout", b"a\nb\n"), (0, "stderr", b"c\n")) == ("[3] a\n[3] b\n", "[0] c\n")


def test_a_line_that_comes_in_pieces_is_written_once() -> None:
    assert prefixed((0, "stdout", b"one "), (1, "stdout", b"other\n"), (0, "stdout", b"line\n"))[0] == (
        "[1] other\n[0] one line\n"
    )


def test_a_last_line_without_a_newline_gets_one() -> None:
    assert prefixed((0, "stdout", b"a\nb"))[0] == "[0] a\n[0] b\n"


def test_a_character_that_is_cut_in_two_is_put_together() -> None:
    assert prefixed((0, "stdout", "é".encode()[:1]), (0, "stdout", "é".encode()[1:] + b"\n"))[0] == "[0] é\n"


def test_bytes_that_are_not_utf_8_are_replaced() -> None:
    assert prefixed((0, "stdout", b"\xff\n"))[0] == "[0] \N{REPLACEMENT CHARACTER}\n"


@pytest.mark.parametrize("text", [b"10%\r20%\r30%\n", b"10%\r20%\r\n30%\n"])
def test_the_states_of_a_progress_bar_are_lines(text: bytes) -> None:
    assert prefixed((0, "stdout", text))[0] == "[0] 10%\n[0] 20%\n[0] 30%\n"


def test_a_carriage_return_and_newline_that_are_cut_in_two_end_one_line() -> None:
    assert prefixed((0, "stdout", b"a\r"), (0, "stdout", b"\nb\n"))[0] == "[0] a\n[0] b\n"


def test_a_line_without_end_is_written_in_parts() -> None:
    splitter = LineSplitter()
    assert splitter.feed(b"x" * 70_000) == "x" * 70_000 + "\n"


@given(st.binary(max_size=60), st.lists(st.integers(1, 7), min_size=1, max_size=5))
def test_where_output_is_cut_makes_no_difference(data: bytes, sizes: list[int]) -> None:
    pieces, rest = [], data
    for size in sizes * 60:
        pieces.append(rest[:size])
        rest = rest[size:]
    splitter, whole = LineSplitter(), LineSplitter()
    assert "".join(map(splitter.feed, pieces)) + splitter.finish() == whole.feed(data) + whole.finish()


def test_a_function_is_called_for_each_line() -> None:
    lines: list[tuple[int, str, str]] = []
    output = LineOutput(lambda rank, stream, line: lines.append((rank, stream, line)))
    output.write(2, "stdout", b"a\n\nb")
    output.write(1, "stderr", b"c\n")
    output.close()
    assert lines == [(2, "stdout", "a"), (2, "stdout", ""), (1, "stderr", "c"), (2, "stdout", "b")]


def test_only_the_end_of_a_long_stream_is_kept() -> None:
    tail = Tail(1000)
    for number in range(1000):
        tail.add(b"%09d\n" % number)
    assert tail.text().endswith("000000999\n")
    assert 1000 <= len(tail.text()) <= 1010
    assert tail.dropped + len(tail.text()) == 10_000


def test_a_full_queue_says_so_and_asks_for_more_when_it_was_emptied() -> None:
    queue, resumed = OutputQueue(), threading.Event()
    queue.resume = resumed.set
    assert queue.put(Chunk(0, "stdout", b"x"))
    while queue.put(Chunk(0, "stdout", b"x" * 2**20)):
        pass
    taken = queue.take(0)
    assert taken is not None and len(taken) == 5
    assert resumed.is_set()


def test_a_closed_queue_is_emptied_first() -> None:
    queue = OutputQueue()
    queue.put(Chunk(0, "stdout", b"x"))
    queue.close()
    assert queue.take(0) == [(0, "stdout", b"x")]
    assert queue.take(0) is None


def test_an_empty_queue_is_waited_for_only_so_long() -> None:
    assert OutputQueue().take(0.01) == []
