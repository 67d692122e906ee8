"""What is done with a cluster that is up: look at it, extend it, end it."""

import logging
from datetime import datetime, timedelta
from functools import partial
from typing import Final

from multicompute.arguments import MAX_TTL
from multicompute.engine.operation.cancellation import Cancellation
from multicompute.engine.operation.events import EventCallback
from multicompute.engine.operation.lease import holding
from multicompute.engine.operation.operation import Operation
from multicompute.engine.teardown import places
from multicompute.errors import ClusterNotFound, MulticomputeError, SpecError
from multicompute.ledger import ClusterRecord
from multicompute.provider import Selector
from multicompute.session import Session
from multicompute.units import format_duration

_log = logging.getLogger("multicompute")
_LOOK: Final = timedelta(seconds=1)
_WAIT: Final = timedelta(minutes=1)


def extend(session: Session, cluster_id: str, by: timedelta, *, watch: EventCallback | None = None) -> ClusterRecord:
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
                op = Operation.on(session, record, lease, stop=Cancellation(), watch=watch)
                return _move_end(op, by, _later(session, record, by))
        if session.clock.now() >= deadline:
            name = session.ledger.cluster(cluster_id).name
            raise ClusterNotFound(f"{name}: another process works on it", hint="try again in a moment")
        session.clock.sleep(_LOOK)


def _later(session: Session, record: ClusterRecord, by: timedelta) -> datetime:
    """The end of life that an extension by `by` leads to."""
    if not record.state.is_up:
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
    if not record.state.is_up:
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
