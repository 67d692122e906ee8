"""`watch`: one cluster, drawn again and again until it ends or somebody has seen enough."""

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final

from multicompute.cli.status import one_line
from multicompute.errors import MulticomputeError, SpecError
from multicompute.units import parse_duration

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

    from multicompute.cluster import Cluster
    from multicompute.node import Sample
    from multicompute.session import Session

_INTERVAL: Final = "10s"
_SHORTEST: Final = timedelta(seconds=1)
_MEASURE_EVERY: Final = timedelta(minutes=1)
"""Clouds measure by the minute at best, and some bill each figure that is read."""
_WINDOW: Final = "15m"
_BESIDE_NODES: Final = 14
"""Lines that are not of nodes: what stands above, the last events, a note, and the prompt."""


def watch_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME", help="name of the cluster")
    parser.add_argument("--once", action="store_true", help="draw it once, for logs")
    parser.add_argument(
        "--interval", metavar="DURATION", default=_INTERVAL, help=f"how often to look, {_INTERVAL} by default"
    )
    parser.epilog = (
        "Ctrl-C ends the view, with exit status 0, and leaves its last state on the screen and the cluster as it is;\n"
        "the view also ends when the cluster does. What no cloud measures is shown as -.\n\n" + (parser.epilog or "")
    )


def watch(options: argparse.Namespace) -> int:
    from multicompute.cluster import Cluster
    from multicompute.engine.operation.cancellation import Cancellation, cancel_on_signals
    from multicompute.session import open_session

    interval = parse_duration(options.interval, what="--interval")
    if interval < _SHORTEST:
        raise SpecError(f"--interval {options.interval}: must be a second or more")
    cluster, session, cancellation = Cluster.get(options.name), open_session(), Cancellation()
    eye = _Eye(session, cluster)
    try:
        with cancel_on_signals(cancellation), _screen() as (console, show):
            show(eye.look(console))
            while not options.once and cluster.state.is_live:
                cancellation.sleep(session.clock, interval)
                show(eye.look(console))
    except KeyboardInterrupt:
        # The way in which this command is meant to end: nothing was cut off.
        pass
    return 0


class _Eye:
    """Looks at a cluster, and remembers what was last measured."""

    def __init__(self, session: "Session", cluster: "Cluster") -> None:
        self._session = session
        self._cluster = cluster
        self._samples: Sequence[Sample] = ()
        self._measured_at: datetime | None = None
        self._blind = ""

    def look(self, console: "Console") -> "Text":
        """The cluster as it is now; as it was at the last look, and said so, where its cloud can't be asked."""
        from multicompute.monitor.view import NODES, facts, view

        now = self._session.clock.now()
        blind = self._asked(self._cluster.refresh)
        if self._measured_at is None or now >= self._measured_at + _MEASURE_EVERY:
            self._measured_at = now
            self._blind = self._asked(self._measure)
        note = blind or self._blind
        room = max(console.height - _BESIDE_NODES, 1) if console.is_terminal else NODES
        return view(
            facts(self._session, self._cluster.id),
            self._samples,
            self._cluster.events(),
            self._session.clock.now(),
            width=console.width,
            nodes=min(NODES, room),
            note=f"as of the last look, for now it can't be asked: {note}" if note else "",
            blocks=console.is_terminal and console.encoding.startswith("utf"),
        )

    def _measure(self) -> None:
        self._samples = self._cluster.metrics(_WINDOW)

    @staticmethod
    def _asked(question: Callable[[], object]) -> str:
        """Why the question has no answer, "" where it has one."""
        try:
            question()
        except MulticomputeError as error:
            return one_line(error)
        return ""


@contextmanager
def _screen() -> "Iterator[tuple[Console, Callable[[Text], None]]]":
    """Where to draw: in place on a terminal, one drawing under the other elsewhere."""
    from rich.console import Console

    console = Console(file=sys.stdout, highlight=False)
    if not console.is_terminal:
        yield console, lambda drawing: console.print(drawing, "", sep="\n")
        return
    from rich.live import Live

    # Not the alternate screen: what was seen last stays, and a terminal multiplexer keeps its scrollback.
    with Live(console=console, auto_refresh=False, screen=False, vertical_overflow="crop") as live:
        yield console, lambda drawing: live.update(drawing, refresh=True)
