"""Extends the lease of a cluster: moves its expiry in the clouds and in the ledger."""

from datetime import datetime, timedelta
from functools import partial
from typing import Final

from multicompute.arguments import MAX_TTL
from multicompute.engine.operation.operation import Operation, working_on
from multicompute.engine.operation.regions import by_region
from multicompute.engine.provision.lifetime import earliest_end, end_reason, open_parts
from multicompute.engine.upkeep.budget import require_budget
from multicompute.errors import ClusterNotFound, MulticomputeError, SpecError
from multicompute.ledger import ClusterRecord
from multicompute.session import Session
from multicompute.units import format_duration

_POLL_INTERVAL: Final = timedelta(seconds=1)
_LEASE_TIMEOUT: Final = timedelta(minutes=1)
"""The longest wait for another process that works on the cluster."""


def extend(session: Session, cluster_id: str, by: timedelta) -> ClusterRecord:
    """Extend the lease of a cluster, in the cloud first: if this is interrupted, the ledger has the earlier expiry.

    Raises:
        SpecError: The cluster has no expiry, or would run for over a year from now, or longer than its cloud lets its nodes
            live.
        BudgetError: The cluster has spent its budget.
        ClusterNotFound: The cluster has ended or is ending, or another process works on it for a minute.
    """
    deadline = session.clock.now() + _LEASE_TIMEOUT
    while True:
        _later_expiry(session, session.ledger.cluster(cluster_id), by)
        with working_on(session, cluster_id) as op:
            if op is not None:
                return _move_expiry(op, by, _later_expiry(session, op.initial, by))
        if session.clock.now() >= deadline:
            name = session.ledger.cluster(cluster_id).name
            raise ClusterNotFound(f"{name}: another process works on it", hint="try again in a moment")
        session.clock.sleep(_POLL_INTERVAL)


def _later_expiry(session: Session, record: ClusterRecord, by: timedelta) -> datetime:
    """Return the expiry after an extension; raise if the cluster can't be extended."""
    if not record.state.is_up:
        raise ClusterNotFound(f"{record.name}: can't be extended: it is {record.state}")
    if record.expires_at is None:
        raise SpecError(f"{record.name}: has no expiry (ttl=None), so it can't be extended")
    require_budget(session, record, "extended")
    now = session.clock.now()
    later = max(record.expires_at, now) + by
    if later > now + MAX_TTL:
        raise SpecError(f"{record.name}: would run until {later:%Y-%m-%d}, over a year from now")
    parts = open_parts(session.ledger.attempts(record.id))
    latest = earliest_end(parts)
    if latest is not None and later > latest:
        raise SpecError(
            f"{record.name}: can't run until {later:%Y-%m-%d %H:%M} UTC: {end_reason(session, parts)}",
            hint=f"it can run until {latest:%Y-%m-%d %H:%M} UTC at the latest",
        )
    return later


def _move_expiry(op: Operation, by: timedelta, expires_at: datetime) -> ClusterRecord:
    _set_expiry_or_restore(op, expires_at)
    event = op.events.event("extended", f"extended by {format_duration(by)}, to {expires_at:%Y-%m-%d %H:%M} UTC")
    record = op.ledger.update_cluster(op.cluster_id, event, expires_at=expires_at)
    op.events.notify(event)
    if not record.state.is_up:
        raise ClusterNotFound(f"{record.name}: its termination was requested in the meantime: {record.reason}")
    return record


def _set_expiry_or_restore(op: Operation, expires_at: datetime) -> None:
    """Move the expiry in the clouds; if that fails halfway, restore it, so that all nodes end together."""
    try:
        _set_expiry(op, "extend", expires_at)
    except MulticomputeError as error:
        try:
            _set_expiry(op, "restore the expiry", op.initial.expires_at)
        except MulticomputeError as trouble:
            error.add_note(f"some nodes may have the later expiry, which could not be restored: {trouble.message}")
        raise


def _set_expiry(op: Operation, what: str, expires_at: datetime | None) -> None:
    for where in by_region(attempt for attempt in op.ledger.attempts(op.cluster_id) if attempt.is_open):
        provider = op.provider(where.provider)
        op.call(provider, what, partial(provider.set_expiry, op.selector(where), expires_at))
