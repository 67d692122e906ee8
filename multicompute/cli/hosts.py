"""`hosts`: lists the machines of the user's own."""

import argparse
from typing import TYPE_CHECKING, Final

from multicompute.cli.output import write_message, write_table, wrote
from multicompute.cli.tables import explain, output_arguments
from multicompute.text import Narrowing
from multicompute.units import format_instant, format_usd

if TYPE_CHECKING:
    from multicompute.hosts import HostStatus

FAILED: Final = 1
"""The status if a machine fails the check."""
_COLUMNS: Final = ("host", "site", "type", ">price/h", "state", "cluster", "reason")
_NARROWING: Final = Narrowing(drop=("price/h", "site"), prose="reason")


def hosts_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `hosts`."""
    explain(
        parser,
        "Without --check, no machine is asked: states are those of the ledger. A machine that fails the check is set aside for a\n"
        "while, and the exit status is 1; one that passes can be leased again.",
    )
    parser.add_argument("--check", action="store_true", help="log in to each machine and check it, as before a launch")
    parser.add_argument(
        "--forget",
        metavar="HOST",
        help="first delete the lease, the host key and the state of a machine that is gone for good or was rebuilt",
    )
    output_arguments(parser)


def hosts(options: argparse.Namespace) -> int:
    """Print the machines."""
    from multicompute.engine.hosts import forget_host, list_hosts
    from multicompute.session import open_session

    session = open_session()
    if options.forget:
        forget_host(session, options.forget)
    found = list_hosts(session, check=options.check)
    if not wrote(options, [host.to_dict() for host in found]):
        write_table(_COLUMNS, [_row(host) for host in found], narrowing=_NARROWING, wide=options.wide)
    failed = [host.id for host in found if host.has_failed]
    if failed:
        write_message(f"{len(failed)} of {len(found)} machines failed the check: {', '.join(failed[:5])}")
    return FAILED if failed else 0


def _row(host: "HostStatus") -> tuple[str, ...]:
    state = (
        f"{host.state} until {format_instant(host.until)}" if host.state == "set aside" and host.until else host.state
    )
    return (
        host.id,
        host.region,
        host.instance_type,
        format_usd(host.hourly_cost),
        state,
        host.cluster,
        host.reason,
    )
