"""Replaces the nodes that a cluster has lost: in the same place, with the same ranks, all or nothing."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta

from multicompute.engine.operation.cancellation import Cancellation, on_signals
from multicompute.engine.operation.events import EventCallback
from multicompute.engine.operation.lease import holding
from multicompute.engine.operation.operation import LostLease, Operation, TerminationRequested
from multicompute.engine.provision.attempt import await_running, give_up, launch, node_records, open_attempt
from multicompute.engine.upkeep.refresh import look
from multicompute.errors import ClusterNotFound, MulticomputeError, ProviderError
from multicompute.ledger import AttemptRecord, ClusterRecord, NodeRecord
from multicompute.node import ClusterState, NodeState
from multicompute.offer import Part
from multicompute.session import Session


def heal(
    session: Session,
    cluster_id: str,
    *,
    timeout: timedelta,
    watch: EventCallback | None = None,
    stop: Cancellation | None = None,
) -> ClusterRecord:
    """Launch nodes in place of those that are gone, at the same offers; those that live are not touched.

    Returns:
        The cluster: READY, or still DEGRADED where nodes that run fail their cloud's checks.

    Raises:
        ClusterNotFound: it has ended, or is ending, or is not up yet, or another process works on it.
        CapacityError, QuotaError, ...: the cloud has no such nodes there now; the cluster is as it was before.
        ProvisionTimeout: they did not come to run in time; the cluster is as it was before.
        ProviderError: it can't be healed, since part of a slice is gone, and slices are bought whole.
    """
    stop = stop or Cancellation()
    record = session.ledger.cluster(cluster_id)
    if not record.state.is_up:
        raise ClusterNotFound(f"{record.name}: can't be healed: it is {record.state}")
    with on_signals(stop), holding(session, cluster_id) as lease:
        if lease is None:
            raise ClusterNotFound(f"{record.name}: another process works on it", hint="try again in a moment")
        # Again, under the lease: who had it until now may have ended the cluster.
        record = session.ledger.cluster(cluster_id)
        if not record.state.is_up:
            raise ClusterNotFound(f"{record.name}: can't be healed: it is {record.state}")
        op = Operation.on(session, record, lease, stop=stop, watch=watch)
        op.deadline = session.clock.now() + timeout
        try:
            return _heal(op)
        except (TerminationRequested, LostLease) as error:
            raise ClusterNotFound(f"{record.name}: was ended while it was being healed") from error


def drop_cut_off_repairs(op: Operation) -> None:
    """Terminate what a repair launched whose process died before its nodes had a rank."""
    ranked = {node.token for node in op.ledger.nodes(op.cluster_id) if node.rank >= 0}
    for attempt in op.ledger.attempts(op.cluster_id):
        if attempt.is_open and attempt.token not in ranked:
            give_up(
                op, attempt, ProviderError("the process that was healing the cluster died", provider=attempt.provider)
            )


def _heal(op: Operation) -> ClusterRecord:
    drop_cut_off_repairs(op)
    record = look(op)
    if not record.state.is_up:
        raise ClusterNotFound(f"{record.name}: all its nodes are gone", hint="request it again")
    lost = _lost(op.ledger.nodes(op.cluster_id))
    if not lost:
        return record
    attempts: list[AttemptRecord] = []
    with _taken_back(op, attempts):
        for parts in _parts(op, lost):
            attempts.append(open_attempt(op, parts, is_repair=True))
            launch(op, attempts[-1], is_repeated=False)
        seen = await_running(op, attempts)
        fresh = [
            node
            for attempt, nodes in zip(attempts, seen, strict=True)
            for node in node_records(attempt, nodes, at=attempt.opened_at, first_rank=0)
        ]
        _join(op, _ranked(lost, fresh))
    return op.record()


def _lost(nodes: Sequence[NodeRecord]) -> list[NodeRecord]:
    """For each rank that no living node has, the last node that had it."""
    alive = {node.rank for node in nodes if node.ended_at is None}
    gone = sorted((node for node in nodes if node.rank >= 0 and node.rank not in alive), key=lambda n: n.started_at)
    return sorted({node.rank: node for node in gone}.values(), key=lambda node: node.rank)


def _parts(op: Operation, lost: Sequence[NodeRecord]) -> list[tuple[Part, ...]]:
    """What to launch in place of the lost nodes: for each region, as many of each part as are missing of it.

    Raises:
        ProviderError: some hosts of a slice are gone and others are not.
    """
    attempts = {attempt.token: attempt for attempt in op.ledger.attempts(op.cluster_id)}
    machines: dict[Part, int] = {}
    for node in lost:
        part = replace(_part_of(attempts[node.token], node), nodes=1)
        machines[part] = machines.get(part, 0) + 1
    regions: dict[tuple[str, str], list[Part]] = {}
    for part, count in machines.items():
        slices, rest = divmod(count, part.machines)
        if rest:
            raise ProviderError(
                f"{part.offer.instance_type}: {count} of the {part.machines} hosts of a slice are gone, and slices are bought whole",
                provider=part.offer.provider,
                region=part.offer.region,
                hint="end the cluster and request it again",
            )
        regions.setdefault((part.offer.provider, part.offer.region), []).append(replace(part, nodes=slices))
    return [tuple(parts) for parts in regions.values()]


def _part_of(attempt: AttemptRecord, node: NodeRecord) -> Part:
    """What the node was bought as: by type, zone and price."""

    def likeness(part: Part) -> tuple[bool, bool, bool]:
        offer = part.offer
        is_price = abs(offer.hourly_cost / offer.instance.hosts - node.hourly_cost) < 1e-9
        return offer.instance_type == node.instance_type, offer.zone in ("", node.zone), is_price

    return max(attempt.parts, key=likeness)


def _ranked(lost: Sequence[NodeRecord], fresh: Sequence[NodeRecord]) -> list[NodeRecord]:
    """The new nodes with the ranks of the lost ones, each in the place of one of its own type and zone."""
    waiting = list(fresh)
    ranked = []
    for node in lost:
        twin = next(
            (new for new in waiting if (new.instance_type, new.zone) == (node.instance_type, node.zone)), waiting[0]
        )
        waiting.remove(twin)
        ranked.append(replace(twin, rank=node.rank))
    return ranked


def _join(op: Operation, nodes: Sequence[NodeRecord]) -> None:
    """Write down that the gang is complete again."""
    others = [node for node in op.ledger.nodes(op.cluster_id) if node.ended_at is None and node.rank >= 0]
    is_well = all(node.state == NodeState.RUNNING for node in others)
    names = ", ".join(f"{node.id} (rank {node.rank})" for node in nodes[:5])
    line = op.story.line("healed", f"healed: {len(nodes)} nodes replaced: {names}", nodes=[node.id for node in nodes])
    state = ClusterState.READY if is_well else ClusterState.DEGRADED
    if not op.ledger.record_refresh(op.cluster_id, nodes, line, state=state):
        raise op.conflict_error()
    op.story.tell(line)


@contextmanager
def _taken_back(op: Operation, attempts: Sequence[AttemptRecord]) -> Iterator[None]:
    """Terminate what was launched when the block raises, whatever it is: the cluster is then as it was before."""
    try:
        yield
    except LostLease:
        raise
    except BaseException as error:
        op.stop.shield()
        op.story.calm()
        cause = error if isinstance(error, MulticomputeError) else ProviderError(f"stopped: {error!r:.200}")
        for attempt in attempts:
            now = op.ledger.attempt(attempt.token)
            if now is not None and now.is_open:
                _give_up(op, now, cause, error)
        if isinstance(error, MulticomputeError):
            error.attempts = error.attempts or tuple(op.reports)
        raise


def _give_up(op: Operation, attempt: AttemptRecord, cause: MulticomputeError, error: BaseException) -> None:
    try:
        give_up(op, attempt, cause)
    except MulticomputeError as trouble:
        # What went wrong first is what the caller has to know; `reconcile` and the next heal go on here.
        error.add_note(f"what was launched is not gone yet: {trouble}")
