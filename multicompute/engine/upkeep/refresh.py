"""Looks at the nodes of clusters that are up, and writes down what has become of them."""

from collections.abc import Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import partial
from typing import Final

from multicompute.cost.budget import check_budget, check_budgets
from multicompute.engine.operation.cancellation import Cancellation, on_signals
from multicompute.engine.operation.events import EventCallback
from multicompute.engine.operation.lease import holding
from multicompute.engine.operation.operation import LostLease, Operation
from multicompute.engine.operation.retry import call_with_retry
from multicompute.engine.teardown import end
from multicompute.errors import ClusterNotFound, MulticomputeError, ProvisionTimeout
from multicompute.ledger import ClusterRecord, NodeRecord
from multicompute.node import ClusterState, Node, NodeState
from multicompute.provider import Capability, Selector
from multicompute.session import Session

_POOL: Final = 8
_PACE: Final = timedelta(seconds=5)
_NAMED: Final = 5
"""So many nodes are named in a line of the story."""

Place = tuple[str, str]
"""A provider and a region."""


def refresh(session: Session, cluster_id: str, *, watch: EventCallback | None = None) -> ClusterRecord:
    """Look at a cluster's nodes: lost and impaired ones make it DEGRADED, and a gang that is gone is closed.

    Where another process works on the cluster its own looks count, and nothing is asked here.
    """
    record = session.ledger.cluster(cluster_id)
    if not record.state.is_up:
        return record
    with holding(session, cluster_id) as lease:
        # Again, under the lease: who had it until now may have ended the cluster.
        record = session.ledger.cluster(cluster_id)
        if lease is None or not record.state.is_up:
            return record
        return look(Operation.on(session, record, lease, stop=Cancellation(), watch=watch))


@dataclass(slots=True)
class RefreshReport:
    """What a look at every cluster came to.

    Attributes:
        changed: names of the clusters of which something had changed.
        notes: what could not be asked.
    """

    changed: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def refresh_all(session: Session) -> RefreshReport:
    """Look at every cluster that is up: a listing for each region with live nodes, however many clusters it holds.

    A cloud that lists all its regions at once is asked once. Only clusters of which something has changed are worked on one by one.
    """
    report = RefreshReport()
    known: dict[Place, list[tuple[str, NodeRecord]]] = {}
    for cluster_id, node in session.ledger.nodes_up():
        known.setdefault((node.provider, node.region), []).append((cluster_id, node))
    changed: dict[str, None] = {}
    with ThreadPoolExecutor(_POOL, thread_name_prefix="look") as pool:

        def ask(places: Sequence[Place]) -> tuple[Sequence[Place], Future[tuple[Node, ...]]]:
            types = {node.instance_type for place in places for _, node in known[place]}
            return places, pool.submit(_listed, session, places, tuple(sorted(types)))

        asked = [ask(places) for places in _listings(session, known)]
        while asked:
            places, answer = asked.pop(0)
            try:
                found = {node.id: node for node in answer.result()}
            except MulticomputeError as error:
                if len(places) > 1:
                    # Trouble of one region must not hide what has become of the others.
                    asked += [ask([place]) for place in places]
                else:
                    report.notes.append(f"{' '.join(places[0])}: could not be asked: {error}")
                continue
            nodes = (each for place in places for each in known[place])
            changed |= {cluster_id: None for cluster_id, node in nodes if _differs(node, found.get(node.id))}
    for cluster_id in changed:
        _refresh_one(session, cluster_id, report)
    check_budgets(session)
    return report


def _listings(session: Session, places: Iterable[Place]) -> list[list[Place]]:
    """The places, those together that one listing tells of."""
    listings: dict[Place, list[Place]] = {}
    for name, region in places:
        try:
            is_global = Capability.GLOBAL_LISTING in session.provider(name).capabilities
        except MulticomputeError:
            # Said where it is asked.
            is_global = False
        listings.setdefault((name, "" if is_global else region), []).append((name, region))
    return list(listings.values())


def _listed(session: Session, places: Sequence[Place], types: tuple[str, ...]) -> tuple[Node, ...]:
    name, region = places[0]
    provider = session.provider(name)
    # Of any owner: a ledger that a team shares has clusters of several.
    selector = Selector(region=region if len(places) == 1 else None, instance_types=types, with_health=True)
    return call_with_retry(
        lambda: provider.nodes(selector),
        clock=session.clock,
        stop=Cancellation(),
        base=provider.poll_interval,
        on_retry=lambda error, seconds: None,
    )


def _differs(node: NodeRecord, found: Node | None) -> bool:
    return found is None or (found.state, found.private_ip, found.public_ip) != (
        node.state,
        node.private_ip,
        node.public_ip,
    )


def _refresh_one(session: Session, cluster_id: str, report: RefreshReport) -> None:
    record = session.ledger.cluster(cluster_id)
    try:
        refresh(session, cluster_id)
    except LostLease:
        # Whoever has it now looks, too.
        return
    except MulticomputeError as error:
        report.notes.append(f"{record.name}: {error}")
    else:
        report.changed.append(record.name)


def look(op: Operation) -> ClusterRecord:
    """One look at the nodes of a cluster that is up, under its lease."""
    records = op.ledger.nodes(op.cluster_id)
    # Without a rank: of a repair that is under way or was cut off, and no part of the gang.
    live = [node for node in records if node.ended_at is None and node.rank >= 0]
    seen: dict[str, Node] = {}
    for name, region in dict.fromkeys((node.provider, node.region) for node in live):
        provider = op.session.provider(name)
        types = {node.instance_type for node in live if (node.provider, node.region) == (name, region)}
        selector = Selector(
            region=region, cluster_id=op.cluster_id, instance_types=tuple(sorted(types)), with_health=True
        )
        found = op.ask(provider, "look at the nodes", partial(provider.nodes, selector))
        seen |= {node.id: node for node in found}
    now = op.clock.now()
    known = [_seen_now(op, node, seen.get(node.id), now) for node in live]
    if all(node.ended_at is not None for node in known):
        end(op, ClusterState.TERMINATED, "all its nodes are gone")
        return op.record()
    if known != live:
        _settle(op, live, known, seen, is_whole=len(live) == len({node.rank for node in records if node.rank >= 0}))
    for line in check_budget(op.session, op.record()):
        op.story.tell(line)
    return op.record()


def _settle(
    op: Operation, before: Sequence[NodeRecord], after: Sequence[NodeRecord], seen: dict[str, Node], *, is_whole: bool
) -> None:
    """Write down what a look has found, with a line for each thing that happened."""
    changes = [(old, new) for old, new in zip(before, after, strict=True) if old.state != new.state]
    lost = [new for _, new in changes if new.ended_at is not None]
    impaired = [new for _, new in changes if new.state == NodeState.IMPAIRED]
    sound = [new for old, new in changes if old.state == NodeState.IMPAIRED and new.state == NodeState.RUNNING]
    size = len(before)
    news = [
        ("degraded", f"{len(lost)} of {size} nodes are gone", lost),
        ("degraded", f"{len(impaired)} of {size} nodes fail their cloud's checks", impaired),
        ("recovered", f"{len(sound)} nodes pass their cloud's checks again", sound),
    ]
    is_well = is_whole and not any(node.ended_at or node.state == NodeState.IMPAIRED for node in after)
    lines = [
        op.story.line(kind, f"{what}: {_named(nodes, seen)}", nodes=[node.id for node in nodes])
        for kind, what, nodes in news
        if nodes
    ]
    if not lines:
        op.ledger.put_nodes(op.cluster_id, after)
    for line in lines:
        if not op.ledger.record_refresh(
            op.cluster_id, after, line, state=ClusterState.READY if is_well else ClusterState.DEGRADED
        ):
            # Its end has begun meanwhile: whoever wants that looks for itself.
            return
        op.story.tell(line)


def _named(nodes: Sequence[NodeRecord], seen: dict[str, Node]) -> str:
    """Which nodes, and why as far as the cloud says so: "i-1 (rank 3)"."""
    names = ", ".join(f"{node.id} (rank {node.rank})" for node in nodes[:_NAMED])
    more = f" and {len(nodes) - _NAMED} more" if len(nodes) > _NAMED else ""
    reasons: Iterable[str | None] = {seen[node.id].reason for node in nodes if node.id in seen}
    why = "; ".join(sorted(reason for reason in reasons if reason))
    return f"{names}{more}" + (f": {why}" if why else "")


def _seen_now(op: Operation, node: NodeRecord, found: Node | None, now: datetime) -> NodeRecord:
    """The record of a node after a look; one that does not show is gone only after the consistency window (I4)."""
    window = op.session.provider(node.provider).consistency_window
    if found is None:
        is_gone = now >= node.started_at + window
        return replace(node, state=NodeState.GONE, ended_at=now) if is_gone else node
    ended = now if found.state.has_ended else None
    return replace(node, state=found.state, private_ip=found.private_ip, public_ip=found.public_ip, ended_at=ended)


def wait_for(
    session: Session,
    cluster_id: str,
    state: ClusterState,
    *,
    timeout: timedelta | None,
    stop: Cancellation | None = None,
) -> ClusterRecord:
    """Look again and again until the cluster is in `state`.

    Raises:
        ClusterNotFound: it has ended, in another state.
        ProvisionTimeout: it was not in that state in time.
    """
    stop = stop or Cancellation()
    deadline = None if timeout is None else session.clock.now() + timeout
    with on_signals(stop):
        while (record := refresh(session, cluster_id)).state is not state:
            if not record.state.is_live:
                raise ClusterNotFound(f"{record.name}: {record.state}: {record.reason}")
            if deadline is not None and session.clock.now() >= deadline:
                raise ProvisionTimeout(f"{record.name}: still {record.state}, and not {state}, after {timeout}")
            pace = session.provider(record.provider).poll_interval if record.provider else _PACE
            stop.sleep(session.clock, pace)
    return record
