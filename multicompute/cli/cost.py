"""`cost`: what clusters have cost, and what live ones are expected to cost; calls no cloud."""

import argparse
import csv
import sys
from decimal import Decimal
from typing import TYPE_CHECKING, Final

from multicompute.cli.output import RIGHT, write_json, write_message, write_table
from multicompute.errors import SpecError
from multicompute.text import bar

if TYPE_CHECKING:
    from collections.abc import Sequence

    from multicompute.cost.forecast import Forecast
    from multicompute.cost.report import CostReport

_WIDTH: Final = 12
_FORM: Final = "figures rounded half to even to 6 digits"


def cost_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `cost`."""
    parser.add_argument(
        "name", metavar="NAME", nargs="?", help="only this cluster; every cluster in the ledger if omitted"
    )
    parser.add_argument(
        "--since", metavar="DURATION", help='how far to look back, such as "30d"; to the start of the ledger if omitted'
    )
    parser.add_argument(
        "--by",
        metavar="GROUP",
        default="cluster",
        help="group by cluster (the default), owner, cloud, day or tag:KEY",
    )
    parser.add_argument(
        "--timezone",
        metavar="ZONE",
        help='with --by day, the time zone of the days, such as "Europe/Berlin"; UTC if omitted, as on the bills of the clouds',
    )
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help=f"print one JSON document to stdout, {_FORM}")
    form.add_argument("--csv", action="store_true", help=f"print the rows as CSV with a header, {_FORM}")


def cost(options: argparse.Namespace) -> int:
    """Print a cost report."""
    from multicompute.cost.report import report
    from multicompute.session import open_session

    if options.timezone is not None and options.by != "day":
        raise SpecError(f"--timezone {options.timezone}: only --by day has days")
    found = report(open_session(), since=options.since, by=options.by, name=options.name, timezone=options.timezone)
    if options.json:
        write_json(found.to_dict())
    elif options.csv:
        _write_csv(found)
    else:
        _write_tables(found)
    return 0


def _write_csv(report: "CostReport") -> None:
    lines = csv.writer(sys.stdout, lineterminator="\n")
    zone = (("timezone", report.timezone),) if report.timezone else ()
    lines.writerow((report.by, "node_hours", "accelerator_hours", "cost_usd", *(header for header, _ in zone)))
    for row in report.rows:
        group, *figures = row.to_dict().values()
        lines.writerow((group, *(f"{figure:.6f}" for figure in figures), *(name for _, name in zone)))


def _write_tables(report: "CostReport") -> None:
    from multicompute.cost.text import nothing_spent, row_cells, row_headers, share

    if not report.rows:
        write_message(f"{nothing_spent(report)}, according to the ledger; no cloud was asked")
        return
    group, *figures = row_headers(report)
    lines = [(*row_cells(row, report.total), _bar(share(row, report.total))) for row in report.rows]
    last = (*row_cells(report.total, report.total), "")
    write_table(
        (group, *(f"{RIGHT}{figure}" for figure in figures), ""), [*lines, last], styles=[*[""] * len(lines), "bold"]
    )
    if report.forecasts:
        print()
        _write_forecasts(report.forecasts)
    for forecast in report.forecasts:
        if forecast.warning:
            write_message(forecast.warning)
    if report.forecasts:
        write_message(
            "no cloud was asked: nodes count as running since the last refresh; `multicompute ls --live` asks"
        )


def _write_forecasts(forecasts: "Sequence[Forecast]") -> None:
    from multicompute.cost.text import FORECAST_HEADERS, forecast_cells

    name, *figures, expiry = FORECAST_HEADERS
    columns = (name, *(f"{RIGHT}{figure}" for figure in figures), expiry)
    write_table(columns, [forecast_cells(forecast) for forecast in forecasts])


def _bar(share: Decimal) -> str:
    """Return a share as a bar, of blocks if the terminal can draw them."""
    return bar(float(share), _WIDTH, blocks=sys.stdout.isatty() and "utf" in (sys.stdout.encoding or "").lower())
