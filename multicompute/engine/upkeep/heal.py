"""Replaces the nodes that a cluster has lost: at the same offers, with the same ranks, all or nothing."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from typing import Literal

from multicompute.engine.operation.cancellation import Cancellation, cancel_on_signals
from multicompute.engine.operation.operation import LeaseLost, Operation, TerminationRequested, working_on
from multicompute.engine.provision.description import expiry_text
from multicompute.engine.provision.launch import launch, open_attempt, parts_by_region
from multicompute.engine.provision.lifetime import earliest_end, end_reason, limited
from multicompute.engine.provision.records import node_records
from multicompute.engine.provision.rollback import roll_back
from multicompute.engine.provision.wait import wait_until_running
from multicompute.engine.upkeep.budget import require_budget
from multicompute.engine.upkeep.refresh import refresh_nodes
from multicompute.engine.upkeep.stopped import delete_nodes, start_stopped_nodes
from multicompute.errors import ClusterNotFound, MulticomputeError, ProviderError
from multicompute.ledger import AttemptRecord, ClusterRecord, NodeRecord
from multicompute.node import ClusterState, NodeState
from multicompute.offer import Part
from multicompute.session import Session
from multicompute.units import counted


def heal(
    session: Session,
    cluster_id: str,
    *,
    timeout: timedelta,
    cancellation: Cancellation | None = None,
    stopped: Literal["start", "replace"] = "start",
) -> ClusterRecord:
    """Start stopped nodes, and launch nodes in place of those that are gone. Nodes that run are not changed.

    With `stopped="replace"`, stopped nodes are replaced as well, and deleted when their replacements run.

    Returns:
        The cluster: READY, or still DEGRADED if nodes that run fail their cloud's checks.

    Raises:
        ClusterNotFound: The cluster is not up, or another process works on it.
        BudgetError: Nodes are gone, and the cluster has spent its budget.
        CapacityError, QuotaError, ...: The cloud has no such nodes there now; the cluster is as it was before.
        ProvisionTimeout: The new nodes did not run in time; the cluster is as it was before.
        ProviderError: Some hosts of a slice are gone, and slices are indivisible.
    """
    cancellation = cancellation or Cancellation()
    record = session.ledger.cluster(cluster_id)
    _require_up(record)
    with cancel_on_signals(cancellation), working_on(session, cluster_id, cancellation=cancellation) as op:
        if op is None:
            raise ClusterNotFound(f"{record.name}: another process works on it", hint="try again in a moment")
        _require_up(op.initial)
        op.deadline = session.clock.now() + timeout
        try:
            return _heal(op, stopped)
        except (TerminationRequested, LeaseLost) as error:
            raise ClusterNotFound(f"{record.name}: was terminated while it was being healed") from error


def roll_back_interrupted_repairs(op: Operation) -> None:
    """Roll back the repairs of a process that died before the new nodes had a rank, or before it deleted replaced nodes."""
    nodes = op.ledger.nodes(op.cluster_id)
    ranked = {node.token for node in nodes if node.rank >= 0}
    delete_nodes(op, [node for node in nodes if node.rank < 0 and node.ended_at is None and node.token in ranked])
    for attempt in op.ledger.attempts(op.cluster_id):
        if attempt.is_open and attempt.token not in ranked:
            text = "the process that was healing the cluster died"
            roll_back(op, attempt, ProviderError(text, provider=attempt.provider))


def _require_up(record: ClusterRecord) -> None:
    if not record.state.is_up:
        raise ClusterNotFound(f"{record.name}: can't be healed: it is {record.state}")


def _heal(op: Operation, stopped: Literal["start", "replace"]) -> ClusterRecord:
    roll_back_interrupted_repairs(op)
    record = refresh_nodes(op)
    if not record.state.is_up:
        raise ClusterNotFound(f"{record.name}: all its nodes are gone", hint="request it again")
    if stopped == "start":
        record = start_stopped_nodes(op)
    replaced = [node for node in op.ledger.nodes(op.cluster_id) if node.is_stopped and node.rank >= 0]
    lost = _lost_nodes(op.ledger.nodes(op.cluster_id))
    if not lost:
        return record
    require_budget(op.session, record, "healed")
    attempts: list[AttemptRecord] = []
    with _rollback_on_error(op, attempts):
        for parts in _limited(op, record, _replacement_parts(op, lost)):
            attempts.append(open_attempt(op, parts, is_repair=True))
            launch(op, attempts[-1], is_repeated=False)
        found = wait_until_running(op, attempts)
        fresh = [
            node
            for attempt, nodes in zip(attempts, found, strict=True)
            for node in node_records(attempt, nodes, at=attempt.opened_at, first_rank=0)
        ]
        _join(op, _ranked(lost, fresh), replaced)
    delete_nodes(op, replaced)
    return op.reload()


def _lost_nodes(nodes: Sequence[NodeRecord]) -> list[NodeRecord]:
    """Return, for each rank that no live node has, the last node that had it. A stopped node does not live."""
    live = {node.rank for node in nodes if node.ended_at is None and not node.is_stopped}
    gone = sorted((node for node in nodes if node.rank >= 0 and node.rank not in live), key=lambda n: n.started_at)
    return sorted({node.rank: node for node in gone}.values(), key=lambda node: node.rank)


def _replacement_parts(op: Operation, lost: Sequence[NodeRecord]) -> list[tuple[Part, ...]]:
    """Return the parts to launch in place of the lost nodes, grouped by region.

    Raises:
        ProviderError: Some hosts of a slice are gone and others are not.
    """
    attempts = {attempt.token: attempt for attempt in op.ledger.attempts(op.cluster_id)}
    machines: dict[Part, int] = {}
    for node in lost:
        part = _part_of(attempts[node.token], node)
        part = replace(part, nodes=1, ends_at=part.ends_at if part.reservation else None)
        machines[part] = machines.get(part, 0) + 1
    parts: list[Part] = []
    for part, count in machines.items():
        nodes, rest = divmod(count, part.machines)
        if rest:
            raise ProviderError(
                f"{part.offer.instance_type}: {count} of the {part.machines} hosts of a slice are gone, and slices are indivisible",
                provider=part.offer.provider,
                region=part.offer.region,
                hint="terminate the cluster and request it again",
            )
        parts.append(replace(part, nodes=nodes))
    return parts_by_region(parts)


def _limited(op: Operation, record: ClusterRecord, groups: Sequence[tuple[Part, ...]]) -> list[tuple[Part, ...]]:
    """Return the parts with the ends that their clouds set; log if one is earlier than the cluster's expiry."""
    found = [limited(op.session, parts, has_expiry=record.expires_at is not None) for parts in groups]
    parts = [part for group in found for part in group]
    end = earliest_end(parts)
    if end is not None and (record.expires_at is None or end < record.expires_at):
        what = f"the new nodes end at {end:%Y-%m-%d %H:%M} UTC, before the cluster, which runs"
        op.events.add("note", f"{what} {expiry_text(record.expires_at)}: {end_reason(op.session, parts)}")
    return found


def _part_of(attempt: AttemptRecord, node: NodeRecord) -> Part:
    """Return the part that the node was bought as, by type, zone and price."""

    def likeness(part: Part) -> tuple[bool, bool, bool]:
        offer = part.offer
        is_price = abs(offer.hourly_cost / offer.instance.hosts - node.first_hourly_cost) < 1e-9
        return offer.instance_type == node.instance_type, offer.zone in ("", node.zone), is_price

    return max(attempt.parts, key=likeness)


def _ranked(lost: Sequence[NodeRecord], fresh: Sequence[NodeRecord]) -> list[NodeRecord]:
    """Return the new nodes with the ranks of the lost ones, each in place of a node of its own type and zone."""
    unranked = list(fresh)
    ranked = []
    for node in lost:
        twins = (new for new in unranked if (new.instance_type, new.zone) == (node.instance_type, node.zone))
        new = next(twins, unranked[0])
        unranked.remove(new)
        ranked.append(replace(new, rank=node.rank))
    return ranked


def _join(op: Operation, nodes: Sequence[NodeRecord], replaced: Sequence[NodeRecord]) -> None:
    """Record the new nodes with their ranks: the gang is complete again, and stopped nodes that were replaced are not in it."""
    others = [
        node
        for node in op.ledger.nodes(op.cluster_id)
        if node.ended_at is None and node.rank >= 0 and not node.is_stopped
    ]
    all_run = all(node.state == NodeState.RUNNING for node in others)
    names = ", ".join(f"{node.id} (rank {node.rank})" for node in nodes[:5])
    event = op.events.event(
        "healed", f"healed: {counted(len(nodes), 'node')} replaced: {names}", nodes=[node.id for node in nodes]
    )
    state = ClusterState.READY if all_run else ClusterState.DEGRADED
    unranked = [replace(node, rank=-1) for node in replaced]
    if not op.ledger.record_refresh(op.cluster_id, [*nodes, *unranked], event, state=state):
        raise op.conflict_error()
    op.events.notify(event)


@contextmanager
def _rollback_on_error(op: Operation, attempts: Sequence[AttemptRecord]) -> Iterator[None]:
    """Roll back the attempts if the block raises anything, so that the cluster is as it was before."""
    try:
        yield
    except LeaseLost:
        raise
    except BaseException as error:
        op.cancellation.shield()
        op.events.ignore_callback_errors()
        cause = error if isinstance(error, MulticomputeError) else ProviderError(f"stopped: {error!r:.200}")
        for attempt in attempts:
            current = op.ledger.attempt(attempt.token)
            if current is not None and current.is_open:
                _roll_back_or_note(op, current, cause, error)
        if isinstance(error, MulticomputeError):
            error.attempts = error.attempts or tuple(op.reports)
        raise


def _roll_back_or_note(op: Operation, attempt: AttemptRecord, cause: MulticomputeError, error: BaseException) -> None:
    try:
        roll_back(op, attempt, cause)
    except MulticomputeError as trouble:
        # The caller needs the first error; `reconcile` and the next heal continue the rollback.
        error.add_note(f"what was launched is not gone yet: {trouble}")
