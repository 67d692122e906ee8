"""Shows a cost report to people: the cells of its tables, and HTML for notebooks."""

from decimal import Decimal
from typing import TYPE_CHECKING, Final

from multicompute.markup import html_list, html_paragraph, html_table
from multicompute.units import format_instant

if TYPE_CHECKING:
    from multicompute.cost.forecast import Forecast
    from multicompute.cost.report import CostReport, CostRow

FORECAST_HEADERS: Final = ("lives", "$/h", "so far", "to come", "in all", "ends")
_RIGHT: Final = frozenset({1, 2, 3, 4})
"""The columns with figures, in both tables."""


def row_headers(report: "CostReport") -> tuple[str, ...]:
    """What stands above the cells of `row_cells`."""
    return (report.by.removeprefix("tag:"), "node-h", "accelerator-h", "cost", "share")


def row_cells(row: "CostRow", total: "CostRow") -> tuple[str, ...]:
    """What a row is of, its hours, and its cost and share."""
    hours = (f"{row.node_hours:,.1f}", f"{row.accelerator_hours:,.1f}")
    return ("-" if row.group is None else row.group, *hours, _usd(row.cost), f"{share(row, total):.1%}")


def share(row: "CostRow", total: "CostRow") -> Decimal:
    """How much of the total a row is, from 0 to 1."""
    return row.spent / total.spent if total.spent else Decimal(0)


def forecast_cells(forecast: "Forecast") -> tuple[str, ...]:
    """The cells under `FORECAST_HEADERS`."""
    return (
        forecast.cluster,
        f"{forecast.hourly_cost:,.2f}",
        _usd(forecast.accrued),
        _usd(forecast.to_come),
        _usd(forecast.in_all),
        format_instant(forecast.ends_at) if forecast.ends_at else "never",
    )


def nothing_spent(report: "CostReport") -> str:
    """The sentence for a report without rows."""
    return "nothing was spent" + (f" since {format_instant(report.since)}" if report.since else "")


def render_html(report: "CostReport") -> str:
    """The report as HTML: what `multicompute cost` prints."""
    if not report.rows:
        return html_paragraph(nothing_spent(report))
    since = f"from {format_instant(report.since)} " if report.since else ""
    rows = [row_cells(row, report.total) for row in report.rows]
    total = row_cells(report.total, report.total)
    blocks = [
        html_table(
            f"cost {since}to {format_instant(report.until)}", row_headers(report), rows, right=_RIGHT, total=total
        )
    ]
    if report.forecasts:
        lines = [forecast_cells(forecast) for forecast in report.forecasts]
        blocks.append(html_table("forecast", FORECAST_HEADERS, lines, right=_RIGHT))
    blocks.append(html_list([forecast.warning for forecast in report.forecasts if forecast.warning]))
    return "".join(blocks)


def _usd(amount: Decimal | None) -> str:
    """To the cent, half to even; no end has no amount."""
    return "-" if amount is None else f"${amount:,.2f}"
