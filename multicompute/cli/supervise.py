"""`supervise`: rounds over every cluster of the ledger, until it is told to stop."""

import argparse
import logging
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from multicompute.cli.output import tell
from multicompute.errors import SpecError
from multicompute.units import format_duration, parse_duration

if TYPE_CHECKING:
    from multicompute.monitor.supervise import Round

NOT_THROUGH: Final = 1
_INTERVAL: Final = "60s"
_SHORTEST: Final = timedelta(seconds=1)


def supervise_arguments(parser: argparse.ArgumentParser) -> None:
    from multicompute.monitor.exporter import DEFAULT_ADDRESS

    parser.add_argument(
        "--interval",
        metavar="DURATION",
        default=_INTERVAL,
        help=f"how long to wait between rounds, {_INTERVAL} by default",
    )
    parser.add_argument(
        "--metrics",
        metavar="ADDRESS",
        nargs="?",
        const=DEFAULT_ADDRESS,
        help=f"serve metrics for Prometheus here, at {DEFAULT_ADDRESS} when no address is given; accelerators are then measured everywhere",
    )
    parser.add_argument("--once", action="store_true", help="make one round, for cron")
    parser.epilog = (
        "Each round looks at every node, and ends what is over its ttl, budget or idle_timeout. Every tenth, and the\n"
        "first, also reconciles and looks for expired orphans. What is done is a line on stderr. Ctrl-C and SIGTERM end it after the\n"
        "step at hand, with exit status 0; a second one at once. With --once the status is 1 where something failed.\n\n"
        + (parser.epilog or "")
    )


def supervise(options: argparse.Namespace) -> int:
    from multicompute.engine.operation.cancellation import Cancellation, cancel_on_signals
    from multicompute.monitor.exporter import gauges, serve
    from multicompute.monitor.supervise import supervise as look_after
    from multicompute.session import open_session

    interval = parse_duration(options.interval, what="--interval")
    if interval < _SHORTEST:
        raise SpecError(f"--interval {options.interval}: must be a second or more")
    session, cancellation = open_session(), Cancellation()
    metrics = serve(options.metrics) if options.metrics else nullcontext()
    # From here on, before anything is said, a signal is a wish to stop in order.
    with cancel_on_signals(cancellation), _lines_on_stderr(), metrics as exporter:

        def show(last: "Round") -> None:
            if exporter is not None:
                exporter.update(gauges(session, last))

        if exporter is not None:
            tell(f"metrics are at http://{exporter.address}/metrics")
        if not options.once:
            tell(f"a round every {format_duration(interval)}; Ctrl-C stops it")
        last = look_after(
            session,
            interval=interval,
            rounds=1 if options.once else None,
            on_round=show if exporter is not None else None,
            cancellation=cancellation,
        )
    return NOT_THROUGH if options.once and last is not None and last.errors else 0


@contextmanager
def _lines_on_stderr() -> Iterator[None]:
    """Show what is logged: a line for each thing, with its time in UTC."""
    lines = logging.StreamHandler(sys.stderr)
    form = logging.Formatter("%(asctime)s %(message)s", datefmt="%Y-%m-%dT%H:%M:%SZ")
    form.converter = time.gmtime
    lines.setFormatter(form)
    logger = logging.getLogger("multicompute")
    level = logger.level
    logger.addHandler(lines)
    logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.removeHandler(lines)
        logger.setLevel(level)
