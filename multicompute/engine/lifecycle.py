"""What is done with a cluster that is up: look at it, extend it, end it."""

import logging
from datetime import datetime, timedelta
from functools import partial
from typing import Final

from multicompute.engine.budget import spent_budget
from multicompute.engine.interrupt import Stop, on_signals
from multicompute.engine.lease import holding
from multicompute.engine.look import UP
from multicompute.engine.operation import LostLease, Operation
from multicompute.engine.session import Session
from multicompute.engine.story import Watcher
from multicompute.engine.teardown import PATIENCE, StillThere, end, places
from multicompute.errors import ClusterNotFound, MulticomputeError, ProviderError, SpecError
from multicompute.ledger import ClusterRecord
from multicompute.node import ClusterState
from multicompute.provider import Selector
from multicompute.spec import MAX_TTL
from multicompute.units import format_duration, format_usd

_log = logging.getLogger("multicompute")
_LOOK: Final = timedelta(seconds=1)
_WAIT: Final = timedelta(minutes=1)
_NOT_ENDING: Final = (ClusterState.REQUESTED, ClusterState.PROVISIONING, *UP)


def terminate(
    session: Session,
    cluster_id: str,
    *,
    reason: str = "by request",
    wait: bool = True,
    watch: Watcher | None = None,
) -> ClusterRecord:
    """End a cluster; with `wait` returns when every cloud has said that nothing of it is left.

    What has ended already is left as it is. Where another process works on it, that one is told to end it, and waited for.

    Raises:
        ProviderError: something is left after half an hour; the cluster stays TERMINATING, and `reap` goes on.
        MulticomputeError: a cloud can't be asked; the same holds.
    """
    deadline = session.clock.now() + PATIENCE
    stop = Stop()
    stop.shield()
    with on_signals(stop):
        while (record := session.ledger.cluster(cluster_id)).state.is_live:
            with holding(session, cluster_id) as lease:
                # Again, under the lease: who had it until now may have ended the cluster.
                record = session.ledger.cluster(cluster_id)
                op = Operation.on(session, record, lease, stop=stop, watch=watch) if lease is not None else None
                if op is not None and record.state.is_live:
                    op = _end_unless_lost(op, record.reason or reason, wait=wait)
            if op is None:
                session.ledger.ask_to_end(cluster_id, reason, states=_NOT_ENDING)
            if not wait:
                break
            if op is None:
                if session.clock.now() >= deadline:
                    raise ProviderError(f"{record.name}: the process that works on it did not end it in {PATIENCE}")
                stop.sleep(session.clock, _LOOK)
        stop.lower()
    return session.ledger.cluster(cluster_id)


def _end_unless_lost(op: Operation, reason: str, *, wait: bool) -> Operation | None:
    try:
        end(op, ClusterState.TERMINATED, reason, wait=wait)
    except LostLease:
        return None
    except StillThere:
        if wait:
            raise
    return op


def extend(session: Session, cluster_id: str, by: timedelta, *, watch: Watcher | None = None) -> ClusterRecord:
    """Move the end of a cluster's life, in the cloud first: when this is cut off between the two, it ends at the old time.

    Where another process works on the cluster, that one is waited for, for a minute.

    Raises:
        SpecError: it has no end of life, or would live for over a year from now.
        ClusterNotFound: it has ended or is ending, or another process works on it all the time.
    """
    deadline = session.clock.now() + _WAIT
    while True:
        _later(session, session.ledger.cluster(cluster_id), by)
        with holding(session, cluster_id) as lease:
            if lease is not None:
                # Again, under the lease: it may have been ended, or extended, by whoever had it until now.
                record = session.ledger.cluster(cluster_id)
                op = Operation.on(session, record, lease, stop=Stop(), watch=watch)
                return _move_end(op, by, _later(session, record, by))
        if session.clock.now() >= deadline:
            name = session.ledger.cluster(cluster_id).name
            raise ClusterNotFound(f"{name}: another process works on it", hint="try again in a moment")
        session.clock.sleep(_LOOK)


def _later(session: Session, record: ClusterRecord, by: timedelta) -> datetime:
    """The end of life that an extension by `by` leads to."""
    if record.state not in UP:
        raise ClusterNotFound(f"{record.name}: can't be extended: it is {record.state}")
    if record.expires_at is None:
        raise SpecError(f"{record.name}: has no end of life (ttl=None), so there is nothing to extend")
    now = session.clock.now()
    later = max(record.expires_at, now) + by
    if later > now + MAX_TTL:
        raise SpecError(f"{record.name}: would live until {later:%Y-%m-%d}, over a year from now")
    return later


def _move_end(op: Operation, by: timedelta, later: datetime) -> ClusterRecord:
    _write_end(op, op.record().expires_at, later)
    line = op.story.line("extended", f"extended by {format_duration(by)}, to {later:%Y-%m-%d %H:%M} UTC")
    record = op.ledger.update_cluster(op.cluster_id, line, expires_at=later)
    op.story.tell(line)
    if record.state not in UP:
        raise ClusterNotFound(f"{record.name}: its end was asked for meanwhile: {record.reason}")
    return record


def _write_end(op: Operation, now: datetime | None, later: datetime) -> None:
    """Move the end in the clouds; where that fails half way, put it back, so that all nodes end together."""
    try:
        _set_expiry(op, "extend", later)
    except MulticomputeError as error:
        try:
            _set_expiry(op, "put the end back", now)
        except MulticomputeError as trouble:
            error.add_note(
                f"some nodes may have the later end already, and it could not be put back: {trouble.message}"
            )
        raise


def _set_expiry(op: Operation, what: str, expires_at: datetime | None) -> None:
    for name, region in places([each for each in op.ledger.attempts(op.cluster_id) if each.is_open]):
        provider = op.session.provider(name)
        selector = Selector(region=region, cluster_id=op.cluster_id)
        op.ask(provider, what, partial(provider.set_expiry, selector, expires_at))


def over_limit(session: Session, record: ClusterRecord) -> str:
    """Why a cluster has to end by its own terms, "" where it need not."""
    if record.expires_at is not None and record.expires_at <= session.clock.now():
        return f"expired at {record.expires_at:%Y-%m-%d %H:%M} UTC"
    budget = spent_budget(session, record)
    return "" if budget is None else f"budget of {format_usd(float(budget))} reached"


def leave(session: Session, cluster_id: str, error: BaseException | None) -> ClusterRecord:
    """End a cluster whose `with` block was left; an exception is named, and stays the one that goes on."""
    record = session.ledger.cluster(cluster_id)
    if not record.state.is_live:
        return record
    reason = "its with block was left" if error is None else f"its with block was left by {error!r:.200}"
    try:
        record = terminate(session, cluster_id, reason=reason)
    except MulticomputeError as trouble:
        _log.error("%s is TERMINATING, something of it may live: %s", record.name, trouble)
        if error is None:
            raise
        error.add_note(f"{record.name} is not torn down yet: {trouble}")
        return session.ledger.cluster(cluster_id)
    if error is not None:
        _log.warning("%s: torn down after %r, nothing of it is left", record.name, type(error).__name__)
    return record
