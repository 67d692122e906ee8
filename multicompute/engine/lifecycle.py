"""What is done with a cluster that is up: look at it, extend it, end it."""

import logging
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from typing import Final

from multicompute.engine.interrupt import Stop, on_signals
from multicompute.engine.lease import holding
from multicompute.engine.operation import LostLease, Operation
from multicompute.engine.session import Session
from multicompute.engine.story import Watcher
from multicompute.engine.teardown import PATIENCE, begin, end, places, step
from multicompute.errors import ClusterNotFound, MulticomputeError, ProviderError, SpecError
from multicompute.ledger import ClusterRecord, NodeRecord
from multicompute.node import ClusterState, Node, NodeState
from multicompute.provider import Selector
from multicompute.spec import MAX_TTL
from multicompute.units import format_duration

_log = logging.getLogger("multicompute")
_LOOK: Final = timedelta(seconds=1)
_UP: Final = (ClusterState.READY, ClusterState.DEGRADED)


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
                op = Operation.on(session, record, lease, stop=stop, watch=watch) if lease is not None else None
                if op is not None:
                    if not wait:
                        begin(op, reason)
                        return _first_step(op)
                    op = _end_unless_lost(op, record.reason or reason)
            if op is None:
                _tell_holder(session, record, reason)
                if not wait:
                    break
                if session.clock.now() >= deadline:
                    raise ProviderError(f"{record.name}: the process that works on it did not end it in {PATIENCE}")
                stop.sleep(session.clock, _LOOK)
        stop.lower()
    return session.ledger.cluster(cluster_id)


def _end_unless_lost(op: Operation, reason: str) -> Operation | None:
    try:
        end(op, ClusterState.TERMINATED, reason)
    except LostLease:
        return None
    return op


def _tell_holder(session: Session, record: ClusterRecord, reason: str) -> None:
    """Let whoever works on the cluster find, at the next safe point, that it is to end."""
    if record.state is not ClusterState.TERMINATING:
        session.ledger.update_cluster(record.id, state=ClusterState.TERMINATING, reason=reason)


def _first_step(op: Operation) -> ClusterRecord:
    """Send the deletes and don't wait; `reap` or another `terminate` sees to the rest."""
    attempts = op.ledger.attempts(op.cluster_id)
    for name, region in places(attempts):
        mine = [each for each in attempts if each.is_open and (each.provider, each.region) == (name, region)]
        step(op, op.session.provider(name), mine, Selector(region=region, cluster_id=op.cluster_id))
    return op.record()


def extend(session: Session, cluster_id: str, by: timedelta, *, watch: Watcher | None = None) -> ClusterRecord:
    """Move the end of a cluster's life, in the cloud first: when this is cut off between the two, it ends at the old time.

    Raises:
        SpecError: it has no end of life, or would live for over a year from now.
        ClusterNotFound: it has ended or is ending.
    """
    record = session.ledger.cluster(cluster_id)
    if record.state not in _UP:
        raise ClusterNotFound(f"{record.name}: can't be extended: it is {record.state}")
    if record.expires_at is None:
        raise SpecError(f"{record.name}: has no end of life (ttl=None), so there is nothing to extend")
    now = session.clock.now()
    later = max(record.expires_at, now) + by
    if later > now + MAX_TTL:
        raise SpecError(f"{record.name}: would live until {later:%Y-%m-%d}, over a year from now")
    with holding(session, cluster_id) as lease:
        if lease is None:
            raise ClusterNotFound(f"{record.name}: another process works on it", hint="try again in a moment")
        op = Operation.on(session, record, lease, stop=Stop(), watch=watch)
        for name, region in places([each for each in op.ledger.attempts(cluster_id) if each.is_open]):
            provider = session.provider(name)
            selector = Selector(region=region, cluster_id=cluster_id)
            op.ask(provider, "extend", partial(provider.set_expiry, selector, later))
        line = op.story.line("extended", f"extended by {format_duration(by)}, to {later:%Y-%m-%d %H:%M} UTC")
        record = op.ledger.update_cluster(cluster_id, line, expires_at=later)
        op.story.tell(line)
    return record


def refresh(session: Session, cluster_id: str, *, watch: Watcher | None = None) -> ClusterRecord:
    """Look at a cluster's nodes: missing ones make it DEGRADED, and a gang that is gone is closed.

    Where another process works on the cluster its own looks count, and nothing is asked here.
    """
    record = session.ledger.cluster(cluster_id)
    if record.state not in _UP:
        return record
    with holding(session, cluster_id) as lease:
        if lease is None:
            return record
        op = Operation.on(session, record, lease, stop=Stop(), watch=watch)
        return look(op)


def look(op: Operation) -> ClusterRecord:
    """One look at the nodes of a cluster that is up, under its lease."""
    live = [node for node in op.ledger.nodes(op.cluster_id) if node.ended_at is None]
    seen: dict[str, Node] = {}
    for name, region in dict.fromkeys((node.provider, node.region) for node in live):
        provider = op.session.provider(name)
        selector = Selector(region=region, cluster_id=op.cluster_id)
        found = op.ask(provider, "look at the nodes", partial(provider.nodes, selector))
        seen |= {node.id: node for node in found}
    now = op.clock.now()
    known = [_seen_now(op, node, seen.get(node.id), now) for node in live]
    lost = [node for node in known if node.ended_at is not None]
    if len(lost) == len(known):
        end(op, ClusterState.TERMINATED, "all its nodes are gone")
    elif lost:
        reasons = {seen[node.id].reason for node in lost if node.id in seen} - {None}
        names = ", ".join(f"{node.id} (rank {node.rank})" for node in lost[:5])
        why = f": {'; '.join(sorted(map(str, reasons)))}" if reasons else ""
        line = op.story.line("degraded", f"{len(lost)} of {len(known)} nodes are gone: {names}{why}")
        op.ledger.put_nodes(op.cluster_id, known, line, state=ClusterState.DEGRADED)
        op.story.tell(line)
    elif known != live:
        op.ledger.put_nodes(op.cluster_id, known)
    return op.record()


def _seen_now(op: Operation, node: NodeRecord, found: Node | None, now: datetime) -> NodeRecord:
    """The record of a node after a look; one that does not show is gone only after the consistency window (I4)."""
    window = op.session.provider(node.provider).consistency_window
    if found is None:
        is_gone = now >= node.started_at + window
        return replace(node, state=NodeState.GONE, ended_at=now) if is_gone else node
    ended = now if found.state in (NodeState.GONE, NodeState.STOPPED, NodeState.STOPPING) else None
    return replace(node, state=found.state, private_ip=found.private_ip, public_ip=found.public_ip, ended_at=ended)


def accrued(session: Session, cluster_id: str) -> float:
    """What a cluster has cost so far in USD, by the second, at the prices at which its nodes were bought."""
    now = session.clock.now()
    return sum(
        node.hourly_cost * ((node.ended_at or now) - node.started_at).total_seconds() / 3600
        for node in session.ledger.nodes(cluster_id)
    )


def over_limit(session: Session, record: ClusterRecord) -> str:
    """Why a cluster has to end by its own terms, "" where it need not."""
    if record.expires_at is not None and record.expires_at <= session.clock.now():
        return f"expired at {record.expires_at:%Y-%m-%d %H:%M} UTC"
    budget = record.spec.get("budget")
    if isinstance(budget, (int, float)) and accrued(session, record.id) >= budget:
        return f"budget of ${budget:,.2f} reached"
    return ""


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
