"""Watches budgets: a line in a cluster's story when half of it, most of it and all of it is spent."""

from decimal import Decimal
from typing import TYPE_CHECKING, Final

from multicompute.cost.billing import EXACT, accrued, exact
from multicompute.node import Event
from multicompute.units import format_usd

if TYPE_CHECKING:
    from multicompute.ledger import ClusterRecord
    from multicompute.session import Session

MARKS: Final = (50, 80, 100)
"""Percents of a budget that are told, each once."""


def budget_of(record: "ClusterRecord") -> Decimal | None:
    """The budget that a cluster was requested with, in USD; None for none."""
    budget = record.spec.get("budget")
    return exact(budget) if isinstance(budget, (int, float)) else None


def spent_budget(session: "Session", record: "ClusterRecord") -> Decimal | None:
    """The budget of a cluster that has cost as much and has to end; None where there is none or something is left of it."""
    budget = budget_of(record)
    return budget if budget is not None and accrued(session, record.id) >= budget else None


def check_budget(session: "Session", record: "ClusterRecord") -> list[Event]:
    """Write a line for every mark that a cluster has passed and that its story does not have yet; ends nothing.

    Safe to call at every look and from several processes: each mark is written once.

    Returns:
        The lines that were written, for whoever watches.
    """
    budget = budget_of(record)
    if budget is None or not record.state.is_live:
        return []
    cost = accrued(session, record.id)
    passed = [mark for mark in MARKS if cost >= EXACT.multiply(budget, Decimal(mark).scaleb(-2))]
    # Most looks find nothing new, and must not pay for a transaction.
    told = (
        {event.data.get("percent") for event in session.ledger.events(record.id) if event.kind == "budget"}
        if passed
        else {}
    )
    lines = [_line(session, record, mark, budget) for mark in passed if mark not in told]
    return [line for line in lines if session.ledger.append_once(line)]


def check_budgets(session: "Session") -> None:
    """`check_budget` for every cluster that lives."""
    for record in session.ledger.clusters():
        check_budget(session, record)


def _line(session: "Session", record: "ClusterRecord", mark: int, budget: Decimal) -> Event:
    message = f"{mark} % of the budget of {format_usd(float(budget))} is spent"
    return Event(session.clock.now(), "budget", message, record.id, {"percent": mark})
