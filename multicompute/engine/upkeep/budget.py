"""Logs how much of a budget is spent, and refuses operations on clusters that have spent theirs."""

from multicompute.cost.billing import accrued
from multicompute.cost.budget import budget_of, passed_marks, spent_budget
from multicompute.errors import BudgetError
from multicompute.ledger import ClusterRecord
from multicompute.node import Event
from multicompute.session import Session
from multicompute.units import format_usd


def log_budget_marks(session: Session, record: ClusterRecord) -> None:
    """Store an event for each mark of its budget that a cluster has passed, once per mark.

    Any number of processes may call this at any time. It terminates nothing.
    """
    budget = budget_of(record)
    marks = [] if budget is None or record.state.has_ended else passed_marks(budget, accrued(session, record.id))
    if budget is None or not marks:
        return
    # Most calls find nothing new, and must not cost a transaction.
    logged = {event.data.get("percent") for event in session.ledger.events(record.id) if event.kind == "budget"}
    now, limit = session.clock.now(), format_usd(float(budget))
    for mark in marks:
        if mark not in logged:
            message = f"{mark} % of the budget of {limit} is spent"
            session.ledger.append_once(Event(now, "budget", message, record.id, {"percent": mark}))


def log_all_budget_marks(session: Session) -> None:
    """Call `log_budget_marks` for every live cluster."""
    for record in session.ledger.clusters():
        log_budget_marks(session, record)


def require_budget(session: Session, record: ClusterRecord, what: str) -> None:
    """Raise if a cluster has spent its budget and so can't be `what`, such as "extended".

    Raises:
        BudgetError: Its budget is spent.
    """
    budget = spent_budget(session, record)
    if budget is not None:
        raise BudgetError(
            f"{record.name}: can't be {what}: its budget of {format_usd(float(budget))} is spent",
            provider=record.provider,
            region=record.region,
            hint="`multicompute reap` terminates it; request a new cluster with a larger budget",
        )
