"""Renders a cost report: the cells of its tables, and HTML for notebooks."""

from decimal import Decimal
from typing import TYPE_CHECKING, Final

from multicompute.markup import html_list, html_paragraph, html_table
from multicompute.units import format_instant

if TYPE_CHECKING:
    from multicompute.cost.forecast import Forecast
    from multicompute.cost.report import CostReport, CostRow

FORECAST_HEADERS: Final = ("running", "$/h", "so far", "forecast", "total", "expires")
_RIGHT: Final = frozenset({1, 2, 3, 4})
"""The right-aligned columns of both tables: those with figures."""
_AS_OF_LAST_REFRESH: Final = (
    "no cloud was asked: nodes count as running since the last refresh; `multicompute ls --live` asks"
)


def row_headers(report: "CostReport") -> tuple[str, ...]:
    """Return the headers of the cells of `row_cells`."""
    group = f"day ({report.timezone})" if report.timezone else report.by.removeprefix("tag:")
    return (group, "node-h", "acc-h", "cost", "share")


def row_cells(row: "CostRow", total: "CostRow") -> tuple[str, ...]:
    """Return the cells of a row: its group, hours, cost and share of the total."""
    hours = (f"{row.node_hours:,.1f}", f"{row.accelerator_hours:,.1f}")
    return ("-" if row.group is None else row.group, *hours, _usd(row.cost), f"{share(row, total):.1%}")


def share(row: "CostRow", total: "CostRow") -> Decimal:
    """Return the share of a row in the total, from 0 to 1."""
    return row.spent / total.spent if total.spent else Decimal(0)


def forecast_cells(forecast: "Forecast") -> tuple[str, ...]:
    """Return the cells under `FORECAST_HEADERS`."""
    return (
        forecast.cluster,
        f"{forecast.hourly_cost:,.2f}",
        _usd(forecast.accrued),
        _usd(forecast.remaining),
        _usd(forecast.total),
        format_instant(forecast.ends_at) if forecast.ends_at else "never",
    )


def nothing_spent(report: "CostReport") -> str:
    """Return the sentence for a report without rows."""
    return "nothing was spent" + (f" since {format_instant(report.since)}" if report.since else "")


def remarks(report: "CostReport") -> list[str]:
    """Return the warnings of the forecasts, and how sure the costs of live clusters are."""
    warnings = [forecast.warning for forecast in report.forecasts if forecast.warning]
    return [*warnings, _AS_OF_LAST_REFRESH] if report.forecasts else warnings


def render_html(report: "CostReport") -> str:
    """Return the report as HTML, with the same tables as `multicompute cost`."""
    if not report.rows:
        return html_paragraph(nothing_spent(report))
    since = f"from {format_instant(report.since)} " if report.since else ""
    title = f"cost {since}to {format_instant(report.until)}"
    rows = [row_cells(row, report.total) for row in report.rows]
    total = row_cells(report.total, report.total)
    blocks = [html_table(title, row_headers(report), rows, right=_RIGHT, total=total)]
    if report.forecasts:
        lines = [forecast_cells(forecast) for forecast in report.forecasts]
        blocks.append(html_table("forecast", FORECAST_HEADERS, lines, right=_RIGHT))
    blocks.append(html_list(remarks(report)))
    return "".join(blocks)


def _usd(amount: Decimal | None) -> str:
    """Return an amount to the cent, rounded half to even; "-" for None."""
    return "-" if amount is None else f"${amount:,.2f}"
