"""Syncs a live cluster in the ledger with its tags in the clouds, after an older copy of the ledger was restored."""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import replace

from multicompute.engine.operation.operation import Operation
from multicompute.engine.operation.regions import by_region
from multicompute.engine.provision.description import describe_open, expiry_text
from multicompute.engine.recovery.adopt import expiry_instant, find_attempts
from multicompute.engine.recovery.inventory import expiry_of
from multicompute.ledger import ClusterRecord, NodeRecord
from multicompute.node import Event
from multicompute.provider import TAG_ATTEMPT, Resource, Selector
from multicompute.session import Session


def sync_expiry(
    session: Session, record: ClusterRecord, resources: Sequence[Resource], *, dry_run: bool = False
) -> str:
    """Adopt a later expiry of a cluster from its tags, since `extend` changes the cloud first.

    An earlier expiry is ignored: listings may lag, and the cloud terminates what has expired. While a node of the
    cluster may be missing from listings, nothing is changed: that node would keep its earlier expiry.

    Returns:
        What changed, "" for nothing.
    """
    if not resources or record.expires_at is None:
        return ""
    expires_at = expiry_instant(expiry_of(resources))
    if expires_at is None or expires_at <= record.expires_at or _may_miss_a_node(session, record, resources):
        return ""
    message = f"runs {expiry_text(expires_at)} by its tags; in the ledger, {expiry_text(record.expires_at)}"
    if not dry_run:
        if record.state.is_up:
            # The process that extended it may have died between two nodes: the others would keep the earlier expiry.
            opened = by_region(attempt for attempt in session.ledger.attempts(record.id) if attempt.is_open)
            for where in opened:
                selector = Selector(region=where.region, cluster_id=record.id)
                session.provider(where.provider).set_expiry(selector, expires_at)
        event = Event(session.clock.now(), "extended", message, record.id)
        session.ledger.update_cluster(record.id, event, expires_at=expires_at)
    return message


def _may_miss_a_node(session: Session, record: ClusterRecord, resources: Sequence[Resource]) -> bool:
    """Return whether a node of the cluster is not among the resources, perhaps because listings lag (I4)."""
    listed, now = {resource.id for resource in resources}, session.clock.now()
    return any(
        node.ended_at is None
        and node.id not in listed
        and now < node.started_at + session.provider(node.provider).consistency_window
        for node in session.ledger.nodes(record.id)
    )


def sync_attempts(op: Operation, resources: Sequence[Resource], *, dry_run: bool = False) -> bool:
    """Write the attempts of a live cluster into the ledger that have nodes and are missing there; return whether there are any."""
    known = op.ledger.attempts(op.cluster_id)
    tokens = {resource.tags.get(TAG_ATTEMPT) for resource in resources if resource.billable}
    if tokens <= {attempt.token for attempt in known}:
        return False
    providers = [resource.provider for resource in resources]
    attempts, nodes = find_attempts(op.session, op.cluster_id, providers, known=known)
    ranks = _free_ranks(op.ledger.nodes(op.cluster_id))
    nodes = tuple(replace(node, rank=next(ranks)) for node in nodes if node.ended_at is None)
    for attempt in attempts:
        members = [node for node in nodes if node.token == attempt.token]
        what = ", ".join(describe_open([attempt]))
        event = op.events.event("adopted", f"adopted: {what}, which this ledger did not have")
        is_repair = op.reload().state.is_up
        if not dry_run and op.ledger.open_attempt(attempt, event, is_repair=is_repair):
            op.ledger.record_launch(attempt, members, event)
            op.events.notify(event)
    return bool(attempts)


def _free_ranks(nodes: Sequence[NodeRecord]) -> Iterator[int]:
    """Yield the ranks of nodes that were lost, which others may have taken since, and then new ones."""
    ranks = {node.rank for node in nodes if node.rank >= 0}
    live = {node.rank for node in nodes if node.ended_at is None}
    yield from sorted(ranks - live)
    yield from itertools.count(max(ranks, default=-1) + 1)
