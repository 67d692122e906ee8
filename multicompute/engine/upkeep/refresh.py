"""Refreshes clusters that are up: lists their nodes, and records which were lost or fail their cloud's checks."""

from collections.abc import Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import partial
from typing import Final

from multicompute.engine.operation.cancellation import Cancellation, cancel_on_signals
from multicompute.engine.operation.coverage import Coverage
from multicompute.engine.operation.operation import LeaseLost, Operation, TerminationRequested, working_on
from multicompute.engine.operation.regions import ProviderRegion, by_region, by_region_of
from multicompute.engine.operation.retry import call_provider
from multicompute.engine.teardown import tear_down
from multicompute.engine.upkeep.advance import advance
from multicompute.engine.upkeep.budget import log_all_budget_marks, log_budget_marks
from multicompute.engine.upkeep.spot_prices import follow_spot_prices, is_price_due
from multicompute.engine.upkeep.untagged import restore_tags
from multicompute.errors import ClusterNotFound, LedgerError, MulticomputeError, ProvisionTimeout
from multicompute.ledger import ClusterRecord, NodeRecord
from multicompute.node import ClusterState, Node, NodeState
from multicompute.provider import Capability, Selector
from multicompute.session import Session
from multicompute.units import counted, format_duration

_POOL: Final = 8
_POLL_INTERVAL: Final = timedelta(seconds=5)
"""The pause between two refreshes of a cluster that has no provider yet."""
_STOPPED: Final = (NodeState.STOPPING, NodeState.STOPPED, NodeState.PENDING)
"""States of a node that was stopped and does not run again yet."""
_NOT_WORKING: Final = (NodeState.IMPAIRED, *_STOPPED)
_NAMED_NODES: Final = 5
"""The highest number of nodes that an event names."""


def refresh(session: Session, cluster_id: str) -> ClusterRecord:
    """Refresh the nodes of a cluster: lost, stopped and impaired nodes make it DEGRADED, and a gang that is gone is closed.

    A cluster that is not up yet becomes READY if all its nodes run. Does nothing if another process works on the cluster.

    Returns:
        The cluster as the ledger has it afterwards.
    """
    record = session.ledger.cluster(cluster_id)
    if not (record.state.is_up or record.state.is_coming_up):
        return record
    with working_on(session, cluster_id) as op:
        if op is None:
            return session.ledger.cluster(cluster_id)
        if op.initial.state.is_coming_up:
            return advance(op)
        return refresh_nodes(op) if op.initial.state.is_up else op.initial


@dataclass(slots=True)
class RefreshReport:
    """The result of a refresh of all clusters.

    Attributes:
        changed: Names of the clusters that have changed.
        coverage: Which regions were asked.
        notes: What could not be recorded.
    """

    changed: list[str] = field(default_factory=list)
    coverage: Coverage = field(default_factory=Coverage)
    notes: list[str] = field(default_factory=list)


def refresh_all(session: Session) -> RefreshReport:
    """Refresh every cluster that is up or coming up, with one listing for each region that has live nodes, for all clusters in it.

    A cloud that lists all its regions at once is asked once. Only clusters that have changed are refreshed one by one.
    """
    report = RefreshReport()
    known = by_region_of(session.ledger.nodes_up(), lambda pair: pair[1])
    changed: dict[str, None] = {}
    with ThreadPoolExecutor(_POOL, thread_name_prefix="refresh") as pool:

        def submit(regions: Sequence[ProviderRegion]) -> tuple[Sequence[ProviderRegion], Future[tuple[Node, ...]]]:
            types = {node.instance_type for where in regions for _, node in known[where]}
            return regions, pool.submit(_list_nodes, session, regions, tuple(sorted(types)))

        pending = [submit(regions) for regions in _listings(session, known)]
        while pending:
            regions, answer = pending.pop(0)
            try:
                found = {node.id: node for node in answer.result()}
            except MulticomputeError as error:
                if len(regions) > 1:
                    # An error of one region must not hide what happened in the others.
                    pending += [submit([where]) for where in regions]
                else:
                    report.coverage.not_asked[str(regions[0])] = f"could not be listed: {error}"
                continue
            report.coverage.asked += [str(where) for where in regions]
            nodes = (pair for where in regions for pair in known[where])
            changed |= {
                cluster_id: None
                for cluster_id, node in nodes
                if _differs(node, found.get(node.id)) or is_price_due(session, node)
            }
    changed |= {record.id: None for record in session.ledger.clusters() if record.state.is_coming_up}
    for cluster_id in changed:
        _refresh_one(session, cluster_id, report)
    try:
        log_all_budget_marks(session)
    except LedgerError as error:
        report.notes.append(str(error))
    return report


def _listings(session: Session, regions: Iterable[ProviderRegion]) -> list[list[ProviderRegion]]:
    """Return the regions grouped by the listing that covers them."""
    listings: dict[ProviderRegion, list[ProviderRegion]] = {}
    for where in regions:
        try:
            is_global = Capability.GLOBAL_LISTING in session.provider(where.provider).capabilities
        except MulticomputeError:
            # The listing itself reports this error.
            is_global = False
        listings.setdefault(where._replace(region="") if is_global else where, []).append(where)
    return list(listings.values())


def _list_nodes(session: Session, regions: Sequence[ProviderRegion], types: tuple[str, ...]) -> tuple[Node, ...]:
    # Of any owner: a ledger that a team shares has clusters of several.
    region = regions[0].region if len(regions) == 1 else None
    selector = Selector(region=region, instance_types=types, with_health=True)
    return call_provider(session, regions[0].provider, lambda provider: provider.nodes(selector))


def _differs(node: NodeRecord, found: Node | None) -> bool:
    if found is None:
        return True
    known = node.as_node()
    return (found.state, found.is_billed, found.private_ip, found.public_ip) != (
        known.state,
        known.is_billed,
        known.private_ip,
        known.public_ip,
    )


def _refresh_one(session: Session, cluster_id: str, report: RefreshReport) -> None:
    record = session.ledger.cluster(cluster_id)
    try:
        refreshed = refresh(session, cluster_id)
        if record.state.is_coming_up and refreshed.state is record.state:
            return
    except (LeaseLost, TerminationRequested):
        # The process that took the cluster over also refreshes it.
        return
    except LedgerError as error:
        report.notes.append(f"{record.name}: {error}")
    except MulticomputeError as error:
        report.coverage.not_asked[record.name] = str(error)
    else:
        report.changed.append(record.name)


def refresh_nodes(op: Operation) -> ClusterRecord:
    """Refresh the nodes of a cluster that is up, under its lease, and return its record."""
    records = op.ledger.nodes(op.cluster_id)
    # A node without a rank belongs to a repair that is in progress or was interrupted, and is no part of the gang.
    live = [node for node in records if node.ended_at is None and node.rank >= 0]
    found: dict[str, Node] = {}
    for where, nodes in by_region(live).items():
        provider = op.provider(where.provider)
        types = tuple(sorted({node.instance_type for node in nodes}))
        selector = replace(op.selector(where), instance_types=types, with_health=True)
        listed = op.call(provider, "list nodes", partial(provider.nodes, selector))
        restore_tags(op, provider, where, [node for node in listed if not node.is_tagged])
        found |= {node.id: node for node in listed}
    now = op.clock.now()
    updated = follow_spot_prices(op, [observed_record(op, node, found.get(node.id), now) for node in live])
    if all(node.ended_at is not None for node in updated):
        tear_down(op, ClusterState.TERMINATED, "all its nodes are gone")
        return op.reload()
    if updated != live:
        is_complete = len(live) == len({node.rank for node in records if node.rank >= 0})
        _record_changes(op, live, updated, found, is_complete=is_complete)
    log_budget_marks(op.session, op.reload())
    return op.reload()


def observed_record(op: Operation, node: NodeRecord, found: Node | None, now: datetime) -> NodeRecord:
    """Return the updated record of a node; one that is not listed is gone only after the consistency window (I4)."""
    if found is None:
        is_gone = now >= node.started_at + op.session.provider(node.provider).consistency_window
        return node.observed(NodeState.GONE, at=now, is_lost=True) if is_gone else node
    node = replace(node, private_ip=found.private_ip, public_ip=found.public_ip)
    return node.observed(found.state, at=now, is_lost=found.is_lost, is_billed=found.is_billed)


def _record_changes(
    op: Operation,
    before: Sequence[NodeRecord],
    after: Sequence[NodeRecord],
    found: dict[str, Node],
    *,
    is_complete: bool,
) -> None:
    """Write the updated nodes and the state that follows into the ledger, with an event for each kind of change."""
    changes = [(old, new) for old, new in zip(before, after, strict=True) if old.state != new.state]
    lost = [new for _, new in changes if new.ended_at is not None]
    impaired = [new for _, new in changes if new.state == NodeState.IMPAIRED]
    recovered = [new for old, new in changes if old.state == NodeState.IMPAIRED and new.state == NodeState.RUNNING]
    stopped = [new for _, new in changes if new.is_stopped]
    started = [new for old, new in changes if new.stops and new.state == NodeState.RUNNING and old.state in _STOPPED]
    size = len(before)
    news = [
        ("degraded", f"{len(lost)} of {size} nodes are gone", lost),
        ("degraded", f"{len(impaired)} of {size} nodes fail their cloud's checks", impaired),
        ("degraded", f"{len(stopped)} of {size} nodes are stopped", stopped),
        ("recovered", f"{counted(len(recovered), 'node')} passed the cloud's checks again", recovered),
        ("recovered", f"{len(started)} stopped nodes run again", started),
    ]
    events = [
        op.events.event(kind, f"{what}: {_names(nodes, found)}", nodes=[node.id for node in nodes])
        for kind, what, nodes in news
        if nodes
    ]
    is_degraded = not is_complete or any(node.ended_at or node.state in _NOT_WORKING for node in after)
    state = ClusterState.DEGRADED if is_degraded else ClusterState.READY
    if not events:
        op.ledger.put_nodes(op.cluster_id, after)
    for event in events:
        if not op.ledger.record_refresh(op.cluster_id, after, event, state=state):
            # Its teardown has begun in the meantime; that process lists the nodes itself.
            return
        op.events.notify(event)


def _names(nodes: Sequence[NodeRecord], found: dict[str, Node]) -> str:
    """Return the names of the nodes, and the reason if the cloud gives one: "i-1 (rank 3): preempted"."""
    names = ", ".join(f"{node.id} (rank {node.rank})" for node in nodes[:_NAMED_NODES])
    more = f" and {len(nodes) - _NAMED_NODES} more" if len(nodes) > _NAMED_NODES else ""
    reasons: Iterable[str | None] = {found[node.id].reason for node in nodes if node.id in found}
    why = "; ".join(sorted(reason for reason in reasons if reason))
    return f"{names}{more}" + (f": {why}" if why else "")


def wait_for(
    session: Session,
    cluster_id: str,
    state: ClusterState,
    *,
    timeout: timedelta | None,
    cancellation: Cancellation | None = None,
) -> ClusterRecord:
    """Refresh a cluster until it is in `state`.

    Raises:
        ClusterNotFound: It has ended, in another state.
        ProvisionTimeout: It was not in that state in time.
    """
    cancellation = cancellation or Cancellation()
    deadline = None if timeout is None else session.clock.now() + timeout
    with cancel_on_signals(cancellation):
        while (record := refresh(session, cluster_id)).state is not state:
            if record.state.has_ended:
                raise ClusterNotFound(f"{record.name}: {record.state}: {record.reason}")
            if deadline is not None and timeout is not None and session.clock.now() >= deadline:
                text = f"{record.name}: still {record.state}, and not {state}, after {format_duration(timeout)}"
                raise ProvisionTimeout(text)
            interval = session.provider(record.provider).poll_interval if record.provider else _POLL_INTERVAL
            cancellation.sleep(session.clock, interval)
    return record
