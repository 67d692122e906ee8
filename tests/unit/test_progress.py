"""The progress of a request, on a terminal and elsewhere."""

import io
import threading
from datetime import UTC, datetime

import pytest

from multicompute.node import Event
from multicompute.progress import terminal_progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def event(kind: str, message: str, **data: object) -> Event:
    return Event(datetime(2026, 11, 24, 9, 30, 5, tzinfo=UTC), kind, message, "c-1", data)


EVENTS = [
    event("attempt", "aws us-east-1a: 8 x p5.48xlarge", nodes=8),
    event("capacity", "aws us-east-1a: no capacity [InsufficientInstanceCapacity]"),
    event("waiting", "3 of 8 run", nodes=8, nodes_ready=3),
    event("ready", "all 8 run", nodes=8, nodes_ready=8),
]


def test_without_a_terminal_events_are_lines_and_counts_are_not() -> None:
    stream = io.StringIO()
    with terminal_progress(stream) as show:
        for each in EVENTS:
            show(each)
    assert stream.getvalue().splitlines() == [
        "09:30:05 aws us-east-1a: 8 x p5.48xlarge",
        "09:30:05 aws us-east-1a: no capacity [InsufficientInstanceCapacity]",
        "09:30:05 all 8 run",
    ]


def test_on_a_terminal_a_bar_under_the_lines_counts_the_nodes() -> None:
    stream = Terminal()
    threads = threading.active_count()
    with terminal_progress(stream) as show:
        for each in EVENTS[:3]:
            show(each)
    assert threading.active_count() == threads
    shown = stream.getvalue()
    assert "[InsufficientInstanceCapacity]" in shown
    assert "3/8" in shown
    assert "3 of 8 run" not in shown


def test_a_new_round_over_all_candidates_is_a_line() -> None:
    stream = io.StringIO()
    with terminal_progress(stream) as show:
        show(event("waiting", "no capacity in any candidate: trying all again in 1 min"))
    assert "trying all again" in stream.getvalue()


def test_a_gang_that_is_ready_fills_the_bar_and_a_new_attempt_empties_it() -> None:
    stream = Terminal()
    with terminal_progress(stream) as show:
        show(EVENTS[3])
        assert "8/8" in stream.getvalue()
        show(EVENTS[0])
    assert "0/8" in stream.getvalue()


def test_an_exception_restores_the_terminal() -> None:
    stream = Terminal()
    with pytest.raises(KeyboardInterrupt), terminal_progress(stream) as show:
        show(EVENTS[0])
        raise KeyboardInterrupt
    # The bar hides the cursor; it is shown again.
    assert stream.getvalue().rstrip("\x1b[2K\r").rfind("\x1b[?25h") > stream.getvalue().rfind("\x1b[?25l")


def test_a_count_that_is_none_moves_nothing() -> None:
    stream = Terminal()
    with terminal_progress(stream) as show:
        show(event("note", "odd", nodes="many", nodes_ready=None))
    assert "odd" in stream.getvalue()
