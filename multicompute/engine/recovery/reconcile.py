"""Compares the ledger with the clouds: takes back what is known, ends what must not live, names what nobody knows (I3)."""

from collections.abc import Collection, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Final

from multicompute.engine.operation.cancellation import Cancellation
from multicompute.engine.operation.lease import holding
from multicompute.engine.operation.operation import LostLease, Operation, TerminationRequested
from multicompute.engine.provision.attempt import is_whole, launch, make_ready
from multicompute.engine.recovery.adopt import adopt as take_over
from multicompute.engine.recovery.adopt import learn_attempts, sync_expiry
from multicompute.engine.recovery.inventory import Inventory, Orphan, choose, is_known, remove, take_inventory
from multicompute.engine.teardown import TeardownIncomplete, end, step
from multicompute.engine.upkeep.heal import drop_cut_off_repairs
from multicompute.engine.upkeep.refresh import look
from multicompute.errors import ClusterExists, MulticomputeError
from multicompute.ledger import AttemptRecord, AttemptState, ClusterRecord
from multicompute.node import ClusterState, Node, NodeState
from multicompute.provider import Resource, Selector
from multicompute.session import Session

_DIED: Final = "its process died before it was complete"


@dataclass(slots=True)
class ReconcileReport:
    """What was found, and what was done about it; with `dry_run` what would be.

    Attributes:
        adopted: names of clusters that were up although the ledger did not say so, and are in it now.
        terminated: names of clusters that were half made or half ended, or orphans that were to be, and are gone now.
        orphans: what carries our tags and is in no ledger row that lives.
        failed: the id of each orphan that was to be adopted or terminated and is not -> why.
        in_doubt: names of clusters of which something may still appear: ask again after the consistency window.
        clusters: names of the live clusters, after all that.
        notes: what could not be asked.
    """

    adopted: list[str] = field(default_factory=list)
    terminated: list[str] = field(default_factory=list)
    orphans: list[Orphan] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
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
            "failed": self.failed,
            "in_doubt": self.in_doubt,
            "clusters": self.clusters,
            "notes": self.notes,
        }


def reconcile(
    session: Session,
    *,
    dry_run: bool = False,
    adopt: Collection[str] = (),
    terminate: Collection[str] = (),
    wait: bool = True,
) -> ReconcileReport:
    """Compare the ledger with every cloud that can be used here, and mend what differs.

    A cluster whose process died is taken back where its gang is complete, else torn down. Remains of clusters that have
    ended are deleted. Where an older copy of the ledger was put back, state, nodes and end of life are brought in line with the
    clouds. What carries this owner's tags and is in no ledger is only listed, since another ledger may own it, unless it is named:

    Args:
        session: the ledger and the clouds.
        dry_run: only say what would be done.
        adopt: names or ids of orphans to write into the ledger, `orphans.EVERY` for all. What was once asked for is not known: an
            adopted cluster counts as what is there, and a request of its name that fits it gets it.
        terminate: names or ids of orphans to delete, with all that stands beside their machines, until the clouds show nothing.
        wait: go on with the end of a cluster until its clouds show nothing, for half an hour; else the next reap does.

    Raises:
        ClusterNotFound: a name or id is no orphan; nothing was done.
        SpecError: one is to be adopted and terminated, or the name of several is to be terminated; nothing was done.
    """
    report = ReconcileReport()
    seen = take_inventory(session, report.notes)
    unknown = [orphan for orphan in seen.orphans if not orphan.is_known]
    to_adopt, to_end = choose(unknown, adopt=adopt, terminate=terminate)
    records: Sequence[ClusterRecord] = session.ledger.clusters()
    # The deletes of all that has to end are sent before the first is waited for: what waits its turn costs money.
    for patient in (False, True) if wait else (False,):
        slow: list[ClusterRecord] = []
        for record in records:
            try:
                _mend(session, record, seen, report, dry_run=dry_run, wait=patient)
            except (LostLease, TerminationRequested):
                report.notes.append(f"{record.name}: another process works on it")
            except TeardownIncomplete as error:
                slow.append(record)
                if patient or not wait:
                    report.notes.append(f"{record.name}: is ending: {error.message}")
            except MulticomputeError as error:
                report.notes.append(f"{record.name}: {error}")
        records = slow
    # The ledger says that these have ended: what is left of them is ours to delete.
    remains = [orphan for orphan in seen.orphans if orphan.is_known]
    report.terminated += [orphan.name for orphan in remains]
    if not dry_run:
        report.notes += [f"{orphan.name}: not all of it is gone yet: {why}" for orphan, why in remove(session, remains)]
    report.orphans = [orphan for orphan in unknown if orphan.cluster_id not in to_adopt | to_end]
    _adopt(session, _clusters(unknown, to_adopt), report, dry_run=dry_run)
    _terminate(session, _clusters(unknown, to_end), report, dry_run=dry_run)
    report.clusters = [record.name for record in session.ledger.clusters()]
    return report


def _clusters(orphans: Collection[Orphan], ids: Collection[str]) -> list[list[Orphan]]:
    """The chosen orphans, cluster by cluster: one cluster may be in several clouds."""
    return [[each for each in orphans if each.cluster_id == one] for one in sorted(ids)]


def _adopt(session: Session, chosen: list[list[Orphan]], report: ReconcileReport, *, dry_run: bool) -> None:
    for orphans in chosen:
        name = orphans[0].name
        with holding(session, orphans[0].cluster_id) as lease:
            try:
                if lease is None:
                    raise ClusterExists(f"{name}: another process works on it")
                take_over(session, orphans, taken=report.adopted, dry_run=dry_run)
            except MulticomputeError as error:
                _refuse(report, orphans, str(error))
            else:
                report.adopted.append(name)


def _terminate(session: Session, chosen: list[list[Orphan]], report: ReconcileReport, *, dry_run: bool) -> None:
    """Delete what was chosen, all of it side by side."""
    with ExitStack() as stack:
        mine: list[list[Orphan]] = []
        for orphans in chosen:
            lease = stack.enter_context(holding(session, orphans[0].cluster_id))
            if lease is None or is_known(session, orphans[0].cluster_id):
                _refuse(report, orphans, f"{orphans[0].name}: another process works on it")
            else:
                mine.append(orphans)
        parts = [orphan for orphans in mine for orphan in orphans]
        left = [] if dry_run else remove(session, parts, thoroughly=True)
    for orphans in mine:
        trouble = [why for orphan, why in left if orphan.cluster_id == orphans[0].cluster_id]
        if trouble:
            _refuse(report, orphans, f"{orphans[0].name}: not all of it is gone: {'; '.join(trouble)}")
        else:
            report.terminated.append(orphans[0].name)


def _refuse(report: ReconcileReport, orphans: list[Orphan], why: str) -> None:
    report.failed[orphans[0].cluster_id] = why
    report.orphans += orphans


def _mend(
    session: Session, record: ClusterRecord, seen: Inventory, report: ReconcileReport, *, dry_run: bool, wait: bool
) -> None:
    """Bring one live cluster of the ledger in line with its cloud."""
    with holding(session, record.id) as lease:
        record = session.ledger.cluster(record.id)
        if lease is None or not record.state.is_live:
            return
        op = Operation.on(session, record, lease, stop=Cancellation())
        there = seen.clusters.get(record.id, ())
        if later := sync_expiry(session, record, there, dry_run=dry_run):
            report.notes.append(f"{record.name}: {later}")
        if record.state is ClusterState.TERMINATING:
            _finish(op, record, report, dry_run=dry_run, wait=wait)
        elif record.state.is_up:
            if not dry_run and not _look(op, there, report).state.is_live:
                report.terminated.append(record.name)
        elif learn_attempts(op, there, dry_run=dry_run) and dry_run:
            report.adopted.append(record.name)
        else:
            _take_back(op, record, report, dry_run=dry_run, wait=wait)


def _look(op: Operation, there: Sequence[Resource], report: ReconcileReport) -> ClusterRecord:
    """Look at a cluster that is up, and at nodes of it that this ledger has never heard of."""
    drop_cut_off_repairs(op)
    record = look(op)
    if not record.state.is_up:
        return record
    if learn_attempts(op, there):
        report.adopted.append(record.name)
    nodes = [node for node in op.ledger.nodes(op.cluster_id) if node.rank >= 0]
    alive = [node for node in nodes if node.ended_at is None]
    is_whole = len(alive) == len({node.rank for node in nodes})
    if record.state is ClusterState.DEGRADED and is_whole and all(node.state == NodeState.RUNNING for node in alive):
        # One that was adopted while it booted, or whose lost nodes had been replaced already.
        line = op.story.line("ready", f"ready: all {len(alive)} nodes run")
        if op.ledger.record_refresh(op.cluster_id, alive, line, state=ClusterState.READY):
            op.story.tell(line)
    return op.record()


def _finish(op: Operation, record: ClusterRecord, report: ReconcileReport, *, dry_run: bool, wait: bool) -> None:
    if any(_is_in_doubt(op, attempt) for attempt in op.ledger.attempts(record.id)):
        report.in_doubt.append(record.name)
        if not dry_run:
            _one_step(op)
        return
    if not dry_run:
        state = ClusterState.FAILED if record.reason == _DIED else ClusterState.TERMINATED
        end(op, state, record.reason or "its process died", wait=wait)
    report.terminated.append(record.name)


def _take_back(op: Operation, record: ClusterRecord, report: ReconcileReport, *, dry_run: bool, wait: bool) -> None:
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
    if any(_may_still_show(op, attempt) for attempt in begun):
        report.in_doubt.append(record.name)
        return
    if not dry_run:
        end(op, ClusterState.FAILED, _DIED, wait=wait)
    report.terminated.append(record.name)


def _alive(op: Operation, attempt: AttemptRecord) -> list[Node]:
    provider = op.session.provider(attempt.provider)
    selector = Selector(region=attempt.region, cluster_id=op.cluster_id, token=attempt.token)
    nodes = op.ask(provider, "look for nodes", lambda: provider.nodes(selector))
    return [node for node in nodes if node.state in (NodeState.PENDING, NodeState.RUNNING)]


def _is_in_doubt(op: Operation, attempt: AttemptRecord) -> bool:
    """Whether something of a launch whose answer was never written down may still appear (I4)."""
    window = op.session.provider(attempt.provider).consistency_window
    return attempt.state is AttemptState.OPEN and op.clock.now() < attempt.opened_at + window


def _may_still_show(op: Operation, attempt: AttemptRecord) -> bool:
    """Whether nodes of an attempt that were launched may be missing from listings yet."""
    return (
        attempt.is_open
        and op.clock.now() < attempt.opened_at + op.session.provider(attempt.provider).consistency_window
    )


def _one_step(op: Operation) -> None:
    for attempt in op.ledger.attempts(op.cluster_id):
        if attempt.is_open:
            step(
                op,
                op.session.provider(attempt.provider),
                [attempt],
                Selector(region=attempt.region, cluster_id=op.cluster_id),
            )
