"""Shows a person how a request fares: a bar and one line per event in a terminal, plain lines elsewhere."""

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import TextIO

from multicompute.node import Event

_TICK_SECONDS = 0.25

_STYLES = {
    "capacity": "yellow",
    "quota": "yellow",
    "retry": "yellow",
    "degraded": "yellow",
    "ready": "green",
    "terminated": "green",
    "failed": "red",
}


def terminal_progress(stream: TextIO | None = None) -> AbstractContextManager[Callable[[Event], None]]:
    """A callback that shows events on `stream`, for as long as the `with` lasts.

    Args:
        stream: where to show them; stderr when left out, so that stdout stays the result's.

    Returns:
        A context manager that gives the callback; it may be called from any thread. Where the stream is a terminal a bar
        counts the nodes that are ready (`nodes_ready` of `nodes` in the event's data) under one line per event; elsewhere
        there are only the lines.

    Example:
        >>> with terminal_progress() as progress:
        ...     cluster = Cluster.request(gpus=8, type="h100", progress=progress)
    """
    stream = sys.stderr if stream is None else stream
    return _bar(stream) if stream.isatty() else _lines(stream)


@contextmanager
def _lines(stream: TextIO) -> Iterator[Callable[[Event], None]]:
    def show(event: Event) -> None:
        if _is_news(event):
            # One write per line: lines of several threads must not run into each other.
            stream.write(f"{event.at:%H:%M:%S} {event.message}\n")
            stream.flush()

    yield show


@contextmanager
def _bar(stream: TextIO) -> Iterator[Callable[[Event], None]]:
    # 0.1 s to import: only for a terminal.
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
    from rich.text import Text

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("nodes ready"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=Console(file=stream), transient=True, auto_refresh=False) as bar:
        task = bar.add_task("requested", total=None)

        def show(event: Event) -> None:
            if _is_news(event):
                line = Text.assemble((f"{event.at:%H:%M:%S} ", "dim"), (event.message, _STYLES.get(event.kind, "")))
                bar.console.print(line)
            bar.update(
                task, description=event.kind, total=_count(event, "nodes"), completed=_ready(event), refresh=True
            )

        with _ticking(bar.refresh):
            yield show


@contextmanager
def _ticking(tick: Callable[[], None]) -> Iterator[None]:
    """Let the clock in the bar move between events. Rich's own thread for this is not waited for when the bar ends."""
    over = threading.Event()

    def run() -> None:
        while not over.wait(_TICK_SECONDS):
            tick()

    thread = threading.Thread(target=run, name="multicompute-progress", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def _is_news(event: Event) -> bool:
    """Whether the event is a line of its own; a changed number of nodes only moves the bar."""
    return event.kind != "waiting" or "nodes_ready" not in event.data


def _ready(event: Event) -> int | None:
    """How many nodes are ready now; None, which leaves the bar as it is, where the event does not say."""
    if event.kind == "attempt":
        return 0
    return _count(event, "nodes" if event.kind == "ready" else "nodes_ready")


def _count(event: Event, key: str) -> int | None:
    count = event.data.get(key)
    return count if isinstance(count, int) else None
