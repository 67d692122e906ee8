"""Compares the ledger with the clouds: takes back what is known, ends what must not live, names what nobody knows (I3)."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Final

from multicompute.engine.attempts import is_whole, launch, make_ready
from multicompute.engine.interrupt import Stop
from multicompute.engine.lease import holding
from multicompute.engine.lifecycle import look
from multicompute.engine.operation import LostLease, Operation, Superseded
from multicompute.engine.session import Session
from multicompute.engine.teardown import end, step
from multicompute.errors import ClusterNotFound, MulticomputeError
from multicompute.ledger import AttemptRecord, AttemptState, ClusterRecord
from multicompute.node import ClusterState, Node, NodeState
from multicompute.provider import TAG_CLUSTER, TAG_EXPIRES_AT, TAG_ID, Provider, Resource, Selector

_POOL: Final = 8


@dataclass(frozen=True, slots=True)
class Orphan:
    """What carries our tags and belongs to no live cluster of the ledger."""

    provider: str
    cluster_id: str
    name: str
    resources: tuple[Resource, ...]
    is_known: bool

    @property
    def expires_at(self) -> str:
        """The expiry tag: epoch seconds, or "never"."""
        return next((tag for each in self.resources if (tag := each.tags.get(TAG_EXPIRES_AT))), "never")

    def to_dict(self) -> dict[str, object]:
        """In JSON terms."""
        regions = sorted({resource.region for resource in self.resources})
        return {
            "provider": self.provider,
            "id": self.cluster_id,
            "name": self.name,
            "regions": regions,
            "resources": [f"{resource.kind} {resource.id}" for resource in self.resources],
            "billable": any(resource.billable for resource in self.resources),
            "expires_at": self.expires_at,
        }


@dataclass(slots=True)
class ReconcileReport:
    """What was found, and what was done about it; with `dry_run` what would be.

    Attributes:
        adopted: names of clusters that were up although the ledger did not say so, and are READY now.
        terminated: names of clusters that were half made or half ended, and are gone now.
        orphans: what carries our tags and is in no ledger row that lives.
        in_doubt: names of clusters of which something may still appear: ask again after the consistency window.
        clusters: names of the live clusters, after all that.
        notes: what could not be asked.
    """

    adopted: list[str] = field(default_factory=list)
    terminated: list[str] = field(default_factory=list)
    orphans: list[Orphan] = field(default_factory=list)
    in_doubt: list[str] = field(default_factory=list)
    clusters: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def is_leak(self) -> bool:
        """Whether the clouds hold something that the ledger does not account for."""
        return bool(self.orphans or self.adopted or self.terminated or self.in_doubt)

    def to_dict(self) -> dict[str, object]:
        """The JSON form that the command line prints."""
        return {
            "adopted": self.adopted,
            "terminated": self.terminated,
            "orphans": [orphan.to_dict() for orphan in self.orphans],
            "in_doubt": self.in_doubt,
            "clusters": self.clusters,
            "notes": self.notes,
        }


def reconcile(session: Session, *, dry_run: bool = False) -> ReconcileReport:
    """Compare the ledger with every cloud that can be used here, and mend what differs.

    A cluster whose process died is taken back where its gang is complete, else torn down. Remains of clusters that have
    ended are deleted. What carries our tags and is in no ledger is only listed: another ledger may own it.
    """
    report = ReconcileReport()
    for record in session.ledger.clusters():
        try:
            _mend(session, record, report, dry_run=dry_run)
        except (LostLease, Superseded):
            report.notes.append(f"{record.name}: another process works on it")
        except MulticomputeError as error:
            report.notes.append(f"{record.name}: {error}")
    for orphan in find_orphans(session, report.notes):
        if not orphan.is_known:
            report.orphans.append(orphan)
            continue
        # The ledger says that this has ended: what is left of it is ours to delete.
        report.terminated.append(orphan.name)
        if not dry_run:
            delete(session, orphan, report.notes)
    report.clusters = [record.name for record in session.ledger.clusters()]
    return report


def _mend(session: Session, record: ClusterRecord, report: ReconcileReport, *, dry_run: bool) -> None:
    """Bring one live cluster of the ledger in line with its cloud."""
    with holding(session, record.id) as lease:
        record = session.ledger.cluster(record.id)
        if lease is None or not record.state.is_live:
            return
        op = Operation.on(session, record, lease, stop=Stop())
        if record.state in (ClusterState.READY, ClusterState.DEGRADED):
            if not dry_run and not look(op).state.is_live:
                report.terminated.append(record.name)
            return
        if record.state is ClusterState.TERMINATING:
            _finish(op, record, report, dry_run=dry_run)
            return
        _take_back(op, record, report, dry_run=dry_run)


def _finish(op: Operation, record: ClusterRecord, report: ReconcileReport, *, dry_run: bool) -> None:
    if any(_is_in_doubt(op, attempt) for attempt in op.ledger.attempts(record.id)):
        report.in_doubt.append(record.name)
        if not dry_run:
            _one_step(op)
        return
    report.terminated.append(record.name)
    if not dry_run:
        end(op, ClusterState.TERMINATED, record.reason or "its process died")


def _take_back(op: Operation, record: ClusterRecord, report: ReconcileReport, *, dry_run: bool) -> None:
    """A cluster whose process died while it was being made: READY where its gang is complete, else ended."""
    begun = [attempt for attempt in op.ledger.attempts(record.id) if attempt.is_open]
    seen = [_alive(op, attempt) for attempt in begun]
    is_complete = all(len(nodes) == attempt.nodes for attempt, nodes in zip(begun, seen, strict=True))
    if begun and is_complete and is_whole(op.spec, begun):
        if all(node.state is NodeState.RUNNING for nodes in seen for node in nodes):
            report.adopted.append(record.name)
            if not dry_run:
                make_ready(op, begun, seen)
        elif not dry_run:
            # Complete but still booting: written down by the same launch again, which buys nothing.
            for attempt in begun:
                if attempt.state is AttemptState.OPEN:
                    launch(op, attempt, is_repeated=True)
        return
    if any(_is_in_doubt(op, attempt) for attempt in begun):
        report.in_doubt.append(record.name)
        return
    report.terminated.append(record.name)
    if not dry_run:
        end(op, ClusterState.FAILED, "its process died before it was complete")


def _alive(op: Operation, attempt: AttemptRecord) -> list[Node]:
    provider = op.session.provider(attempt.provider)
    selector = Selector(region=attempt.region, cluster_id=op.cluster_id, token=attempt.token)
    nodes = op.ask(provider, "look for nodes", lambda: provider.nodes(selector))
    return [node for node in nodes if node.state in (NodeState.PENDING, NodeState.RUNNING)]


def _is_in_doubt(op: Operation, attempt: AttemptRecord) -> bool:
    """Whether something of a launch whose answer was never written down may still appear (I4)."""
    window = op.session.provider(attempt.provider).consistency_window
    return attempt.state is AttemptState.OPEN and op.clock.now() < attempt.opened_at + window


def _one_step(op: Operation) -> None:
    for attempt in op.ledger.attempts(op.cluster_id):
        if attempt.is_open:
            step(
                op,
                op.session.provider(attempt.provider),
                [attempt],
                Selector(region=attempt.region, cluster_id=op.cluster_id),
            )


def find_orphans(session: Session, notes: list[str]) -> list[Orphan]:
    """Everything of this owner, in every usable cloud, that no live cluster of the ledger owns."""
    usable = [name for name, why_not in session.usable.items() if why_not == "" and session.plugins[name].can_launch]
    if not usable:
        return []
    live = {record.id for record in session.ledger.clusters()}

    def look_at(name: str) -> tuple[str, tuple[Resource, ...]]:
        try:
            return name, session.provider(name).resources(Selector(owner=session.config.owner))
        except MulticomputeError as error:
            notes.append(f"{name}: could not be asked: {error}")
            return name, ()

    with ThreadPoolExecutor(min(_POOL, len(usable))) as pool:
        answers = list(pool.map(look_at, usable))
    # Read again: a cluster that was requested meanwhile is no orphan.
    live |= {record.id for record in session.ledger.clusters()}
    return [orphan for name, found in answers for orphan in _grouped(session, name, found, live)]


def _grouped(session: Session, provider: str, found: tuple[Resource, ...], live: set[str]) -> Iterator[Orphan]:
    groups: dict[str, list[Resource]] = {}
    for resource in found:
        groups.setdefault(resource.tags.get(TAG_ID, ""), []).append(resource)
    for cluster_id, resources in sorted(groups.items()):
        if cluster_id and cluster_id not in live:
            name = next((tag for each in resources if (tag := each.tags.get(TAG_CLUSTER))), cluster_id)
            yield Orphan(provider, cluster_id, name, tuple(resources), is_known=_is_known(session, cluster_id))


def _is_known(session: Session, cluster_id: str) -> bool:
    try:
        session.ledger.cluster(cluster_id)
    except ClusterNotFound:
        return False
    return True


def delete(session: Session, orphan: Orphan, notes: list[str]) -> bool:
    """Delete an orphan, as far as one step and its repetitions go; True when the cloud has nothing of it left."""
    provider = session.provider(orphan.provider)
    done = True
    for region in sorted({resource.region for resource in orphan.resources}):
        done &= _delete_in(session, provider, Selector(region=region, cluster_id=orphan.cluster_id), notes)
    return done


def _delete_in(session: Session, provider: Provider, selector: Selector, notes: list[str]) -> bool:
    waited, patience = provider.poll_interval * 0, provider.consistency_window
    while True:
        try:
            left = provider.terminate(selector)
        except MulticomputeError as error:
            notes.append(f"{provider.name} {selector.region}: {error}")
            return False
        if left.is_done or waited >= patience:
            return left.is_done
        session.clock.sleep(provider.poll_interval)
        waited += provider.poll_interval
