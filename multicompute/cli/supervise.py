"""`supervise`: checks every cluster of the ledger periodically, until it is stopped."""

import argparse
import logging
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from typing import TYPE_CHECKING, Final

from multicompute.cli.coverage import NOT_ASKED
from multicompute.cli.logs import log_lines
from multicompute.cli.output import write_message
from multicompute.cli.tables import explain, interval_argument, interval_of
from multicompute.errors import SpecError
from multicompute.units import format_duration

if TYPE_CHECKING:
    from multicompute.monitor.exporter import Exporter
    from multicompute.monitor.supervise import Round

INCOMPLETE: Final = 1
_INTERVAL: Final = "60s"


def supervise_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `supervise`."""
    from multicompute.monitor.exporter import DEFAULT_ADDRESS

    interval_argument(parser, default=_INTERVAL, what="rounds")
    parser.add_argument(
        "--metrics",
        metavar="ADDRESS",
        nargs="?",
        const=DEFAULT_ADDRESS,
        help=f"serve Prometheus metrics at this address, {DEFAULT_ADDRESS} if none is given; also measures every accelerator",
    )
    parser.add_argument("--once", action="store_true", help="run one round and exit, for cron")
    explain(
        parser,
        "Each round refreshes every node, and terminates clusters that exceed their ttl, budget or idle_timeout. The first\n"
        "and every tenth round also reconciles and terminates expired orphans. Every action is logged as a line on stderr.\n"
        "Ctrl-C, SIGTERM and SIGHUP stop it after the current step, with exit status 0; a second one stops it immediately.\n"
        "With --once the exit status is 6 if a cloud could not be asked, and 1 if something else failed.",
    )


def supervise(options: argparse.Namespace) -> int:
    """Run rounds until stopped."""
    from multicompute.engine.operation.cancellation import Cancellation, cancel_on_signals
    from multicompute.monitor.exporter import gauges
    from multicompute.monitor.supervise import supervise as run_rounds
    from multicompute.session import open_session

    interval = interval_of(options)
    session, cancellation = open_session(), Cancellation()
    metrics = _serve(options.metrics) if options.metrics else nullcontext()
    # From here on, before the first message, a signal requests an orderly stop.
    with cancel_on_signals(cancellation), _log(options), metrics as exporter:

        def show(last: "Round") -> None:
            if exporter is not None:
                exporter.update(gauges(session, last))

        if exporter is not None:
            write_message(f"serving metrics at http://{exporter.address}/metrics")
        if not options.once:
            write_message(f"running a round every {format_duration(interval)}; Ctrl-C stops")
        last = run_rounds(
            session,
            interval=interval,
            rounds=1 if options.once else None,
            on_round=show if exporter is not None else None,
            cancellation=cancellation,
        )
    if not options.once or last is None:
        return 0
    return NOT_ASKED if last.not_asked else INCOMPLETE if last.errors else 0


@contextmanager
def _serve(address: str) -> "Iterator[Exporter]":
    """Serve metrics inside the block; errors about the address name the option."""
    from multicompute.monitor.exporter import serve

    with ExitStack() as stack:
        try:
            exporter = stack.enter_context(serve(address))
        except SpecError as error:
            error.message = error.message.replace(f"metrics={address!r}", f"--metrics {address}")
            raise
        yield exporter


def _log(options: argparse.Namespace) -> AbstractContextManager[None]:
    # With --verbose, the records are printed already. Without it, an event would repeat the line of the action.
    return nullcontext() if options.verbose or options.debug else log_lines(logging.INFO, with_events=False)
