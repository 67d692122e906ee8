"""`outages`: lists what requests do not try for now, and forgets it."""

import argparse
from typing import TYPE_CHECKING, Final

from multicompute.cli.output import RIGHT, write_message, write_table, wrote
from multicompute.cli.tables import explain, output_arguments
from multicompute.text import Narrowing
from multicompute.units import format_instant

if TYPE_CHECKING:
    from multicompute.plan import Outage

_COLUMNS: Final = ("place", "instance type", "purchase", f"{RIGHT}nodes", "reason", "until")
_KEYS: Final = ("provider", "place", "instance_type", "purchase", "nodes", "reason", "until")
_NARROWING: Final = Narrowing(drop=("nodes", "purchase", "reason"), shorten=("instance type",))


def outages_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `outages`."""
    explain(
        parser,
        "After a failed launch, requests do not try the same place again for a while. A lack of capacity is remembered for 5\n"
        "minutes, and twice as long each time it recurs, up to 2 hours; a lack of quota for 15 minutes, up to a day; a region\n"
        "without access for an hour, up to a day; a type that a place does not sell for a day. No cloud is asked.",
    )
    parser.add_argument(
        "--clear",
        nargs="?",
        const="",
        metavar="PLACE",
        help="forget the outages of this cloud, region or zone, or all if none is given",
    )
    output_arguments(parser)


def outages(options: argparse.Namespace) -> int:
    """Print the remembered outages, or those that were forgotten."""
    from multicompute.engine.outages import active_outages, clear_outages
    from multicompute.session import open_session

    session = open_session()
    clears = options.clear is not None
    found = clear_outages(session, options.clear) if clears else active_outages(session)
    if wrote(options, [outage.to_dict() for outage in found], header=_KEYS):
        return 0
    if found:
        write_table(_COLUMNS, [_row(outage) for outage in found], narrowing=_NARROWING, wide=options.wide)
    where = f" in {options.clear}" if options.clear else ""
    if clears:
        write_message(f"forgotten: {len(found)} outage{'' if len(found) == 1 else 's'}{where}")
    elif not found:
        write_message("no remembered outages; no cloud was asked")
    return 0


def _row(outage: "Outage") -> tuple[str, ...]:
    return (
        f"{outage.provider} {outage.place}".strip(),
        outage.instance_type,
        outage.purchase.replace("_", " "),
        "any" if outage.nodes == 1 else f"{outage.nodes}+",
        outage.reason,
        format_instant(outage.until),
    )
