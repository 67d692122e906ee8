"""Waits until launched attempts run, and records that the gang is complete."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from multicompute.engine.operation.operation import Operation
from multicompute.engine.provision.description import describe, event_data, expiry_text
from multicompute.engine.provision.records import node_records
from multicompute.errors import CapacityError, InvalidRequestError, MulticomputeError, ProvisionTimeout, QuotaError
from multicompute.ledger import AttemptRecord, NodeRecord
from multicompute.node import Cause, Node, NodeState
from multicompute.provider import attempt_timeout_of
from multicompute.units import format_duration, format_usd

_LOSS_ERRORS: dict[Cause, type[QuotaError | InvalidRequestError]] = {
    "quota": QuotaError,
    "request": InvalidRequestError,
}


def wait_until_running(op: Operation, attempts: Sequence[AttemptRecord]) -> list[tuple[Node, ...]]:
    """Wait until every node of the launched attempts runs, and return the nodes of each attempt.

    Raises:
        TerminationRequested: Another process requested the termination of the cluster.
        LeaseLost: Another process took the cluster over.
        CapacityError: Nodes were lost, or did not run within the attempt timeout.
        QuotaError, InvalidRequestError: Nodes were lost, and the cloud names this cause.
        ProvisionTimeout: The deadline of the operation has passed.
    """
    wanted = sum(attempt.nodes for attempt in attempts)
    poll_interval = max(op.session.provider(attempt.provider).poll_interval for attempt in attempts)
    started = op.clock.now()
    last_running = -1
    last_reasons: set[str] = set()
    while True:
        op.heartbeat()
        found = [_list_nodes(op, attempt) for attempt in attempts]
        nodes = [node for group in found for node in group]
        running = sum(node.state is NodeState.RUNNING for node in nodes)
        if running == wanted:
            return found
        reasons = {node.reason for node in nodes if node.state is NodeState.PENDING and node.reason}
        if reasons != last_reasons:
            # The reasons of pending nodes, if the cloud gives any: they wait in its queue, for example.
            last_reasons = reasons
            op.events.add("queued", f"{describe(attempts[0])}: {'; '.join(sorted(reasons)) or 'left the queue'}")
        if running != last_running:
            last_running = running
            text = f"{running} of {wanted} nodes run"
            op.events.notify(op.events.event("waiting", text, nodes_ready=running, nodes=wanted))
        _check_time(op, attempts, started, f"{running} of {wanted} nodes ran")
        op.sleep(poll_interval)


def make_ready(op: Operation, attempts: Sequence[AttemptRecord], found: Sequence[Sequence[Node]]) -> None:
    """Record that the gang is complete. Ranks follow the order of the attempts, then of the provider's answer.

    Raises:
        TerminationRequested: Another process requested the termination of the cluster.
        LeaseLost: Another process took the cluster over.
    """
    op.renew_lease()
    records: list[NodeRecord] = []
    for attempt, nodes in zip(attempts, found, strict=True):
        records += node_records(attempt, nodes, at=attempt.opened_at, first_rank=len(records))
    cost = format_usd(sum(node.hourly_cost for node in records))
    what = " and ".join(describe(attempt) for attempt in attempts)
    until = expiry_text(op.reload().expires_at)
    event = op.events.event("ready", f"ready: {what}, {cost}/h, {until}", **event_data(attempts[0]))
    zone = records[0].zone if len({node.zone for node in records}) == 1 else None
    if not op.ledger.make_ready(op.cluster_id, records, event, zone=zone):
        raise op.conflict_error()
    op.events.notify(event)


def _list_nodes(op: Operation, attempt: AttemptRecord) -> tuple[Node, ...]:
    """Return the nodes of an attempt; raise if some were lost."""
    provider = op.provider(attempt.provider)
    selector = replace(
        attempt.selector,
        node_ids=tuple(node.id for node in op.ledger.nodes(op.cluster_id) if node.token == attempt.token),
        instance_types=tuple(sorted({part.offer.instance_type for part in attempt.parts})),
    )
    nodes = op.call(provider, "list nodes", lambda: provider.nodes(selector))
    lost = [node for node in nodes if node.state not in (NodeState.PENDING, NodeState.RUNNING)]
    if lost or len(nodes) > attempt.nodes:
        raise _loss_error(attempt, lost)
    return nodes


def _loss_error(attempt: AttemptRecord, lost: Sequence[Node]) -> MulticomputeError:
    """Return the error for nodes that ended before they ran: a lack of capacity, unless the cloud names another cause."""
    if not lost:
        return CapacityError("more nodes have the attempt's token than were launched", provider=attempt.provider)
    node = lost[0]
    code, _, message = (node.reason or "").rpartition(": ")
    return _LOSS_ERRORS.get(node.cause, CapacityError)(
        f"{len(lost)} of {attempt.nodes} nodes ended before they ran: {message or 'the cloud gives no reason'}",
        provider=attempt.provider,
        region=attempt.region,
        zone=node.zone,
        instance_type=node.instance_type,
        code=code or None,
        scope="type" if node.cause == "request" else "zone",
    )


def _timeout_of(op: Operation, attempt: AttemptRecord) -> timedelta:
    types = {part.offer.instance_type for part in attempt.parts}
    return attempt_timeout_of(op.session.provider(attempt.provider), types)


def _check_time(op: Operation, attempts: Sequence[AttemptRecord], started: datetime, progress: str) -> None:
    now = op.clock.now()
    last = attempts[-1]
    if op.deadline is not None and now >= op.deadline:
        text = f"not ready by {op.deadline:%H:%M:%S} UTC: {progress}"
        raise ProvisionTimeout(text, provider=last.provider, region=last.region)
    limit = op.spec.attempt_timeout or max(_timeout_of(op, each) for each in attempts)
    # Counted from the first poll of this process: an attempt that was taken over may have been opened long ago.
    if now >= started + limit:
        offer = last.parts[0].offer
        raise CapacityError(
            f"{progress} after {format_duration(limit)}, which counts as a lack of capacity",
            provider=offer.provider,
            region=offer.region,
            zone=offer.zone or None,
            instance_type=offer.instance_type,
            scope="zone",
        )
