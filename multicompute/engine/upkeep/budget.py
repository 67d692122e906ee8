"""Log how much of the budget of a cluster is spent, and refuse operations that would spend more than all of it."""

from multicompute.cost.billing import accrued
from multicompute.cost.budget import budget_of, passed_marks, spent_budget
from multicompute.errors import BudgetError
from multicompute.ledger import ClusterRecord
from multicompute.node import Event
from multicompute.session import Session
from multicompute.units import format_usd


def log_budget_marks(session: Session, record: ClusterRecord) -> list[Event]:
    """Store an event for each mark of its budget that a cluster has passed, once per mark.

    Any number of processes may call this at any time. It terminates nothing.

    Returns:
        The events that were stored, for the callback.
    """
    budget = budget_of(record)
    if budget is None or record.state.has_ended:
        return []
    marks = passed_marks(budget, accrued(session, record.id))
    if not marks:
        return []
    # Most calls find nothing new, and must not cost a transaction.
    logged = {event.data.get("percent") for event in session.ledger.events(record.id) if event.kind == "budget"}
    now, limit = session.clock.now(), format_usd(float(budget))
    events = [
        Event(now, "budget", f"{mark} % of the budget of {limit} is spent", record.id, {"percent": mark})
        for mark in marks
        if mark not in logged
    ]
    return [event for event in events if session.ledger.append_once(event)]


def log_all_budget_marks(session: Session) -> None:
    """Call `log_budget_marks` for every live cluster."""
    for record in session.ledger.clusters():
        log_budget_marks(session, record)


def require_budget(session: Session, record: ClusterRecord, what: str) -> None:
    """Raise if a cluster has spent its budget and so can't be `what`, such as "extended".

    Raises:
        BudgetError: its budget is spent.
    """
    budget = spent_budget(session, record)
    if budget is not None:
        raise BudgetError(
            f"{record.name}: can't be {what}: its budget of {format_usd(float(budget))} is spent",
            provider=record.provider,
            region=record.region,
            hint="`multicompute reap` terminates it; request a new cluster with a larger budget",
        )
