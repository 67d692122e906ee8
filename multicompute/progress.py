"""Shows the progress of a request: a bar and one line per event on a terminal, plain lines elsewhere."""

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from typing import Any, TextIO, cast

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
    """Return a context manager for a callback that shows events on `stream`.

    Args:
        stream: Where to show them; stderr if omitted, so that stdout holds only the result.

    Returns:
        A context manager whose value is the callback, which may be called from any thread. On a terminal, a bar under
        the lines counts the nodes that are ready (`nodes_ready` of `nodes` in the event's data).

    Example:
        >>> with terminal_progress() as progress:
        ...     cluster = Cluster.request(gpus=8, type="h100", progress=progress)
    """
    stream = cast("TextIO", _OptionalOutput(sys.stderr if stream is None else stream))
    return _bar(stream) if stream.isatty() else _lines(stream)


class _OptionalOutput:
    """A stream whose output is dropped once it can't be written: a closed terminal must not end what it shows."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        try:
            return self._stream.write(text)
        except (OSError, ValueError):
            # EIO: the terminal was closed. EPIPE: the reader of a pipe ended. ValueError: the stream itself was closed.
            return len(text)

    def flush(self) -> None:
        with suppress(OSError, ValueError):
            self._stream.flush()


@contextmanager
def _lines(stream: TextIO) -> Iterator[Callable[[Event], None]]:
    def show(event: Event) -> None:
        if _has_line(event):
            # One write per line, so that the lines of several threads do not mix.
            stream.write(f"{event.at:%H:%M:%S} {event.message}\n")
            stream.flush()

    yield show


@contextmanager
def _bar(stream: TextIO) -> Iterator[Callable[[Event], None]]:
    # Imported here: it takes 0.1 s, and only a terminal needs it.
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
            if _has_line(event):
                line = Text.assemble((f"{event.at:%H:%M:%S} ", "dim"), (event.message, _STYLES.get(event.kind, "")))
                bar.console.print(line)
            bar.update(
                task, description=event.kind, total=_count(event, "nodes"), completed=_ready(event), refresh=True
            )

        with _ticking(bar.refresh):
            yield show


@contextmanager
def _ticking(tick: Callable[[], None]) -> Iterator[None]:
    """Update the clock in the bar between events. Rich's own thread for this is not joined when the bar closes."""
    done = threading.Event()

    def run() -> None:
        while not done.wait(_TICK_SECONDS):
            tick()

    thread = threading.Thread(target=run, name="multicompute-progress", daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def _has_line(event: Event) -> bool:
    """Return whether the event has a line of its own; a changed number of nodes only moves the bar."""
    return event.kind != "waiting" or "nodes_ready" not in event.data


def _ready(event: Event) -> int | None:
    """Return how many nodes are ready; None, which leaves the bar as it is, if the event has no number."""
    if event.kind == "attempt":
        return 0
    return _count(event, "nodes" if event.kind == "ready" else "nodes_ready")


def _count(event: Event, key: str) -> int | None:
    count = event.data.get(key)
    return count if isinstance(count, int) else None
