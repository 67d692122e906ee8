"""The progress of a refresh of prices, on a terminal and elsewhere."""

import io

from multicompute.progress import refresh_progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_on_a_terminal_there_is_a_bar_for_each_cloud() -> None:
    stream = Terminal()
    with refresh_progress(stream) as progress:
        for share in (0.2, 0.6):
            progress("north", share, "asking")
            progress("south", share / 2, "waiting for another refresh")
    text = stream.getvalue()
    assert all(word in text for word in ("north", "south", "%", "waiting for another refresh"))


def test_elsewhere_there_is_a_line_for_each_step_that_may_take_long() -> None:
    stream = io.StringIO()
    with refresh_progress(stream) as progress:
        for share, what in (
            (0, "reading the tables"),
            (0.1, "asking"),
            (0.5, "asking"),
            (0.9, "checking"),
            (1, "done"),
        ):
            progress("north", share, what)
    assert stream.getvalue() == "north: asking\n"
