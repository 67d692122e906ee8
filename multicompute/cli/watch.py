"""`watch`: displays one cluster, refreshed periodically until it ends or Ctrl-C."""

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final

from multicompute.cli.coverage import NOT_ASKED
from multicompute.cli.output import write_message
from multicompute.cli.status import one_line
from multicompute.cli.tables import explain, interval_argument, interval_of, name_argument
from multicompute.errors import MulticomputeError

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

    from multicompute.cluster import Cluster
    from multicompute.node import Sample
    from multicompute.session import Session

_INTERVAL: Final = "10s"
_MEASURE_EVERY: Final = timedelta(minutes=1)
"""Clouds measure once a minute at best, and some bill each value that is read."""
_WINDOW: Final = "15m"
_OTHER_LINES: Final = 14
"""Lines other than those of nodes: the heading, the last events, a note and the prompt."""


def watch_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `watch`."""
    name_argument(parser)
    parser.add_argument("--once", action="store_true", help="print the view once and exit, for logs")
    interval_argument(parser, default=_INTERVAL, what="refreshes")
    explain(
        parser,
        "Ctrl-C closes the view with exit status 0; its last state stays on the screen, and the cluster is not changed.\n"
        "The view also closes when the cluster ends. Values that the cloud does not measure are shown as -. With --once the exit\n"
        "status is 6 if the cloud could not be asked.",
    )


def watch(options: argparse.Namespace) -> int:
    """Display a cluster until it ends or Ctrl-C."""
    from multicompute.cluster import Cluster
    from multicompute.engine.operation.cancellation import Cancellation, cancel_on_signals
    from multicompute.session import open_session

    interval = interval_of(options)
    cluster, session, cancellation = Cluster.get(options.name), open_session(), Cancellation()
    view = _View(session, cluster)
    try:
        with cancel_on_signals(cancellation), _screen() as (console, show):
            show(view.refresh(console))
            while not options.once and cluster.state.is_live:
                cancellation.sleep(session.clock, interval)
                show(view.refresh(console))
    except KeyboardInterrupt:
        # Ctrl-C is how users close the view: nothing was interrupted.
        return 0
    if not (options.once and view.error):
        return 0
    # The view cuts its lines off.
    write_message(f"multicompute: the cloud can't be asked now: {view.error}")
    return NOT_ASKED


class _View:
    """The view of one cluster, which remembers the last measurements.

    Attributes:
        error: Why the cluster could not be refreshed, "" if it was.
    """

    def __init__(self, session: "Session", cluster: "Cluster") -> None:
        self._session = session
        self._cluster = cluster
        self._samples: Sequence[Sample] = ()
        self._measured_at: datetime | None = None
        self._metrics_error = ""
        self.error = ""

    def refresh(self, console: "Console") -> "Text":
        """Return the cluster as it is now, or as of the last refresh, with a note, if its cloud can't be asked."""
        from multicompute.monitor.view import NODES, facts, view

        now = self._session.clock.now()
        self.error = self._error_of(self._cluster.refresh)
        if self._measured_at is None or now >= self._measured_at + _MEASURE_EVERY:
            self._measured_at = now
            self._metrics_error = self._error_of(self._measure)
        note = f"as of the last refresh; the cloud can't be asked now: {self.error}" if self.error else ""
        if self._metrics_error and not note:
            note = f"without new measurements; the cloud can't be asked now: {self._metrics_error}"
        room = max(console.height - _OTHER_LINES, 1) if console.is_terminal else NODES
        return view(
            facts(self._session, self._cluster.id),
            self._samples,
            self._cluster.events(),
            self._session.clock.now(),
            width=console.width,
            nodes=min(NODES, room),
            note=note,
            blocks=console.is_terminal and console.encoding.startswith("utf"),
        )

    def _measure(self) -> None:
        self._samples = self._cluster.metrics(_WINDOW)

    @staticmethod
    def _error_of(call: Callable[[], object]) -> str:
        """Make a call; return its error in one line, "" if there is none."""
        try:
            call()
        except MulticomputeError as error:
            return one_line(error)
        return ""


@contextmanager
def _screen() -> "Iterator[tuple[Console, Callable[[Text], None]]]":
    """Open the output: drawn in place on a terminal, printed one view after another elsewhere."""
    from rich.console import Console

    console = Console(file=sys.stdout, highlight=False)
    if not console.is_terminal:
        yield console, lambda drawing: console.print(drawing, "", sep="\n")
        return
    from rich.live import Live

    # Not the alternate screen: the last view stays visible, and a terminal multiplexer keeps its scrollback.
    with Live(console=console, auto_refresh=False, screen=False, vertical_overflow="crop") as live:
        yield console, lambda drawing: live.update(drawing, refresh=True)
