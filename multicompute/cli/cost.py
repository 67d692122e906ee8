"""`cost`: what clusters have cost, and what live ones are expected to cost; calls no cloud."""

import argparse
import sys
from decimal import Decimal
from typing import TYPE_CHECKING, Final

from multicompute.cli.output import RIGHT, write_message, write_table, wrote
from multicompute.cli.tables import explain, output_arguments
from multicompute.errors import SpecError
from multicompute.text import Narrowing, bar

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from multicompute.cost.forecast import Forecast
    from multicompute.cost.report import CostReport

_WIDTH: Final = 12
_FIGURES: Final = ("node_hours", "accelerator_hours", "cost_usd")
_NARROWING: Final = Narrowing(drop=("", "node-h", "acc-h", "share"))
_FORECAST_NARROWING: Final = Narrowing(drop=("expires", "total", "so far", "forecast"))
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
    output_arguments(parser, csv=True)
    explain(parser, f"JSON and CSV have {_FORM}.")


def cost(options: argparse.Namespace) -> int:
    """Print a cost report."""
    from multicompute.cost.report import report
    from multicompute.session import open_session

    if options.timezone is not None and options.by != "day":
        raise SpecError(f"--timezone {options.timezone}: only --by day has days")
    found = report(open_session(), since=options.since, by=options.by, name=options.name, timezone=options.timezone)
    header = (found.by, *_FIGURES, *(("timezone",) if found.timezone else ()))
    if not wrote(options, found.to_dict(), list(_records(found)), header=header):
        _write_tables(found, wide=options.wide)
    return 0


def _records(report: "CostReport") -> "Iterator[dict[str, object]]":
    for row in report.rows:
        group, *figures = row.to_dict().values()
        yield {
            report.by: group,
            **{name: f"{figure:.6f}" for name, figure in zip(_FIGURES, figures, strict=True)},
            **({"timezone": report.timezone} if report.timezone else {}),
        }


def _write_tables(report: "CostReport", *, wide: bool) -> None:
    from multicompute.cost.text import nothing_spent, remarks, row_cells, row_headers, share

    if not report.rows:
        write_message(f"{nothing_spent(report)}, according to the ledger; no cloud was asked")
        return
    group, *figures = row_headers(report)
    lines = [(*row_cells(row, report.total), _bar(share(row, report.total))) for row in report.rows]
    last = (*row_cells(report.total, report.total), "")
    columns = (group, *(f"{RIGHT}{figure}" for figure in figures), "")
    write_table(columns, [*lines, last], narrowing=_NARROWING, wide=wide, styles=[*[""] * len(lines), "bold"])
    if report.forecasts:
        print()
        _write_forecasts(report.forecasts, wide=wide)
    for remark in remarks(report):
        write_message(remark)


def _write_forecasts(forecasts: "Sequence[Forecast]", *, wide: bool) -> None:
    from multicompute.cost.text import FORECAST_HEADERS, forecast_cells

    name, *figures, expiry = FORECAST_HEADERS
    columns = (name, *(f"{RIGHT}{figure}" for figure in figures), expiry)
    cells = [forecast_cells(forecast) for forecast in forecasts]
    write_table(columns, cells, narrowing=_FORECAST_NARROWING, wide=wide)


def _bar(share: Decimal) -> str:
    """Return a share as a bar, of blocks if the terminal can draw them."""
    return bar(float(share), _WIDTH, blocks=sys.stdout.isatty() and "utf" in (sys.stdout.encoding or "").lower())
