"""Compares the cost of a cluster with its budget."""

from decimal import Decimal
from typing import TYPE_CHECKING, Final

from multicompute.cost.billing import EXACT, accrued, exact

if TYPE_CHECKING:
    from multicompute.ledger import ClusterRecord
    from multicompute.session import Session

MARKS: Final = (50, 80, 100)
"""The percentages of a budget at which an event is logged, once each."""


def budget_of(record: "ClusterRecord") -> Decimal | None:
    """Return the budget that a cluster was requested with, in USD; None if it has none."""
    budget = record.spec.get("budget")
    return exact(budget) if isinstance(budget, (int, float)) else None


def spent_budget(session: "Session", record: "ClusterRecord") -> Decimal | None:
    """Return the budget of a cluster that has spent all of it; None if it has no budget, or has some left."""
    budget = budget_of(record)
    return budget if budget is not None and accrued(session, record.id) >= budget else None


def passed_marks(budget: Decimal, cost: Decimal) -> list[int]:
    """Return the marks that a cost has reached."""
    return [mark for mark in MARKS if cost >= EXACT.multiply(budget, Decimal(mark).scaleb(-2))]
