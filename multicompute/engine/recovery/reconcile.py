"""Reconciles the ledger with the clouds: brings up known clusters, terminates incomplete ones, and lists orphans (I3)."""

from collections.abc import Collection, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from typing import Final

from multicompute.engine.operation.coverage import Coverage
from multicompute.engine.operation.lease import hold_lease
from multicompute.engine.operation.operation import LeaseLost, Operation, TerminationRequested, working_on
from multicompute.engine.operation.regions import ProviderRegion, by_region
from multicompute.engine.provision.launch import launch
from multicompute.engine.provision.records import is_complete_gang
from multicompute.engine.provision.wait import make_ready
from multicompute.engine.recovery.adopt import adopt as adopt_orphans
from multicompute.engine.recovery.inventory import Inventory, Orphan, choose, is_known, list_inventory
from multicompute.engine.recovery.removal import remove
from multicompute.engine.recovery.sync import sync_attempts, sync_expiry
from multicompute.engine.teardown import tear_down, terminate_step
from multicompute.engine.upkeep.heal import roll_back_interrupted_repairs
from multicompute.engine.upkeep.refresh import observed_record, refresh_nodes
from multicompute.errors import ClusterExists, LedgerError, MulticomputeError, TeardownIncomplete, WrongAccountError
from multicompute.ledger import AttemptRecord, AttemptState, ClusterRecord
from multicompute.node import ClusterState, Node, NodeState
from multicompute.provider import Resource
from multicompute.session import Session

_PROCESS_DIED: Final = "its process died before it was complete"


@dataclass(slots=True)
class ReconcileReport:
    """The findings of a reconcile, and its actions, which `dry_run` only reports.

    Attributes:
        adopted: Names of running clusters that were brought up or written into the ledger now.
        terminated: Names of incomplete clusters, and of chosen orphans, that have ended.
        orphans: Resources with our tags that belong to no live cluster of the ledger.
        failed: The id of each orphan that should have been adopted or terminated and was not -> why.
        in_doubt: Names of clusters whose nodes may still appear: reconcile again after the consistency window.
        skipped: Names of clusters in accounts that these credentials do not belong to -> whose they are.
        unknown: Names of live clusters in the ledger that no cloud was asked about, or that it gave no answer on -> why.
        clusters: Names of the live clusters afterwards, as far as their clouds were asked.
        coverage: Which clouds were asked.
        notes: What differs, and what another process works on.
    """

    adopted: list[str] = field(default_factory=list)
    terminated: list[str] = field(default_factory=list)
    orphans: list[Orphan] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    in_doubt: list[str] = field(default_factory=list)
    skipped: dict[str, str] = field(default_factory=dict)
    unknown: dict[str, str] = field(default_factory=dict)
    coverage: Coverage = field(default_factory=Coverage)
    clusters: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def is_leak(self) -> bool:
        """Return whether the clouds hold something that the ledger does not account for."""
        return bool(self.orphans or self.adopted or self.terminated or self.in_doubt)

    @property
    def is_complete(self) -> bool:
        """Return whether the clouds have answered for every live cluster in the ledger."""
        return self.coverage.is_complete and not self.skipped and not self.unknown

    def to_dict(self) -> dict[str, object]:
        """Return the JSON form that the command line prints."""
        return {
            "adopted": self.adopted,
            "terminated": self.terminated,
            "orphans": [orphan.to_dict() for orphan in self.orphans],
            "failed": self.failed,
            "in_doubt": self.in_doubt,
            "skipped": self.skipped,
            "unknown": self.unknown,
            "clusters": self.clusters,
            **self.coverage.to_dict(),
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
    """Compare the ledger with every cloud that can be used here, and fix what differs.

    A cluster whose process died becomes READY if its gang is complete, else it is torn down. Resources of clusters that have
    ended are deleted. If an older copy of the ledger was restored, state, nodes and expiry of its clusters are brought in
    line with the clouds. Orphans are only listed, since another ledger may own them, unless they are named here.

    Args:
        session: The ledger and the clouds.
        dry_run: Only report what would be done.
        adopt: Names or ids of orphans to write into the ledger, `EVERY` for all. The original request is unknown: an adopted
            cluster counts as requested as it is, and a request of its name that fits it returns it.
        terminate: Names or ids of orphans to delete, with all their resources, until the clouds show nothing.
        wait: Wait for each teardown for up to half an hour; else the next reap continues.

    Raises:
        ClusterNotFound: A name or id belongs to no orphan; nothing was done.
        SpecError: An orphan is in both, or several orphans have a name in `terminate`; nothing was done.
    """
    report = ReconcileReport()
    inventory = list_inventory(session, report.coverage)
    unknown = [orphan for orphan in inventory.orphans if not orphan.is_known]
    to_adopt, to_terminate = choose(unknown, adopt=adopt, terminate=terminate)
    _reconcile_clusters(session, inventory, report, dry_run=dry_run, wait=wait)
    # By the ledger these have ended, so what is left of them is ours to delete.
    remains = [orphan for orphan in inventory.orphans if orphan.is_known]
    report.terminated += [orphan.name for orphan in remains]
    if not dry_run:
        left = remove(session, remains)
        report.notes += [f"{orphan.name}: not deleted completely yet: {why}" for orphan, why in left]
    report.orphans = [orphan for orphan in unknown if orphan.cluster_id not in to_adopt | to_terminate]
    _adopt(session, _grouped(unknown, to_adopt), report, dry_run=dry_run)
    _terminate(session, _grouped(unknown, to_terminate), report, dry_run=dry_run)
    unconfirmed = {*report.skipped, *report.unknown}
    report.clusters = [record.name for record in session.ledger.clusters() if record.name not in unconfirmed]
    return report


def _reconcile_clusters(
    session: Session, inventory: Inventory, report: ReconcileReport, *, dry_run: bool, wait: bool
) -> None:
    """Bring every live cluster of the ledger in line with its clouds.

    The deletes of all teardowns are sent before the first one is waited for, since a cluster that waits its turn costs money.
    """
    records: Sequence[ClusterRecord] = session.ledger.clusters()
    for waits in (False, True) if wait else (False,):
        incomplete: list[ClusterRecord] = []
        for record in records:
            try:
                _reconcile_cluster(session, record, inventory, report, dry_run=dry_run, wait=waits)
            except (LeaseLost, TerminationRequested):
                report.notes.append(f"{record.name}: another process works on it")
            except TeardownIncomplete as error:
                incomplete.append(record)
                if waits or not wait:
                    report.notes.append(f"{record.name}: is terminating: {error.message}")
            except WrongAccountError as error:
                report.skipped[record.name] = str(error)
            except LedgerError as error:
                report.notes.append(f"{record.name}: {error}")
            except MulticomputeError as error:
                report.unknown[record.name] = str(error)
        records = incomplete


def _grouped(orphans: Collection[Orphan], ids: Collection[str]) -> list[list[Orphan]]:
    """Return the chosen orphans grouped by cluster: one cluster may be in several clouds."""
    return [[each for each in orphans if each.cluster_id == one] for one in sorted(ids)]


def _adopt(session: Session, chosen: list[list[Orphan]], report: ReconcileReport, *, dry_run: bool) -> None:
    for orphans in chosen:
        name = orphans[0].name
        with hold_lease(session, orphans[0].cluster_id) as lease:
            try:
                if lease is None:
                    raise ClusterExists(f"{name}: another process works on it")
                adopt_orphans(session, orphans, taken=report.adopted, dry_run=dry_run)
            except MulticomputeError as error:
                _report_failure(report, orphans, str(error))
            else:
                report.adopted.append(name)


def _terminate(session: Session, chosen: list[list[Orphan]], report: ReconcileReport, *, dry_run: bool) -> None:
    """Delete the chosen orphans, all of them concurrently."""
    with ExitStack() as stack:
        mine: list[list[Orphan]] = []
        for orphans in chosen:
            lease = stack.enter_context(hold_lease(session, orphans[0].cluster_id, for_teardown=True))
            if lease is None or is_known(session, orphans[0].cluster_id):
                _report_failure(report, orphans, f"{orphans[0].name}: another process works on it")
            else:
                mine.append(orphans)
        parts = [orphan for orphans in mine for orphan in orphans]
        left = [] if dry_run else remove(session, parts, thoroughly=True)
    for orphans in mine:
        problems = [why for orphan, why in left if orphan.cluster_id == orphans[0].cluster_id]
        if problems:
            _report_failure(report, orphans, f"{orphans[0].name}: not deleted completely: {'; '.join(problems)}")
        else:
            report.terminated.append(orphans[0].name)


def _report_failure(report: ReconcileReport, orphans: list[Orphan], why: str) -> None:
    report.failed[orphans[0].cluster_id] = why
    report.orphans += orphans


def _reconcile_cluster(
    session: Session, record: ClusterRecord, inventory: Inventory, report: ReconcileReport, *, dry_run: bool, wait: bool
) -> None:
    """Bring one live cluster of the ledger in line with its clouds."""
    with working_on(session, record.id, for_teardown=record.state is ClusterState.TERMINATING) as op:
        if op is None or op.initial.state.has_ended:
            return
        for provider in {attempt.provider for attempt in op.ledger.attempts(record.id) if attempt.is_open}:
            op.provider(provider)
        resources = inventory.clusters.get(record.id, ())
        if change := sync_expiry(session, op.initial, resources, dry_run=dry_run):
            report.notes.append(f"{op.name}: {change}")
        if op.initial.state is ClusterState.TERMINATING:
            _continue_teardown(op, report, dry_run=dry_run, wait=wait)
        elif op.initial.state.is_up:
            if _is_gone(op) if dry_run else _refresh(op, resources, report).state.has_ended:
                report.terminated.append(op.name)
        elif sync_attempts(op, resources, dry_run=dry_run) and dry_run:
            report.adopted.append(op.name)
        else:
            _take_back(op, report, dry_run=dry_run, wait=wait)


def _is_gone(op: Operation) -> bool:
    """Return whether all nodes of a cluster that is up are gone, so that a refresh would close it; change nothing."""
    nodes = [node for node in op.ledger.nodes(op.cluster_id) if node.ended_at is None and node.rank >= 0]
    listed: dict[str, Node] = {}
    for where in by_region(nodes):
        provider, selector = op.provider(where.provider), op.selector(where)
        listed |= {node.id: node for node in op.call(provider, "list nodes", partial(provider.nodes, selector))}
    now = op.clock.now()
    return all(observed_record(op, node, listed.get(node.id), now).ended_at is not None for node in nodes)


def _refresh(op: Operation, resources: Sequence[Resource], report: ReconcileReport) -> ClusterRecord:
    """Refresh a cluster that is up, including nodes that this ledger does not have, and return its record."""
    roll_back_interrupted_repairs(op)
    record = refresh_nodes(op)
    if not record.state.is_up:
        return record
    if sync_attempts(op, resources):
        report.adopted.append(op.name)
    nodes = [node for node in op.ledger.nodes(op.cluster_id) if node.rank >= 0]
    live = [node for node in nodes if node.ended_at is None]
    is_complete = len(live) == len({node.rank for node in nodes})
    if record.state is ClusterState.DEGRADED and is_complete and all(node.state == NodeState.RUNNING for node in live):
        # It was adopted while it booted, or its lost nodes had been replaced already.
        event = op.events.event("ready", f"ready: all {len(live)} nodes run")
        if op.ledger.record_refresh(op.cluster_id, live, event, state=ClusterState.READY):
            op.events.notify(event)
    return op.reload()


def _continue_teardown(op: Operation, report: ReconcileReport, *, dry_run: bool, wait: bool) -> None:
    opened = [attempt for attempt in op.ledger.attempts(op.cluster_id) if attempt.is_open]
    if any(attempt.state is AttemptState.OPEN and _is_recent(op, attempt) for attempt in opened):
        report.in_doubt.append(op.name)
        for attempt in () if dry_run else opened:
            selector = op.selector(ProviderRegion(attempt.provider, attempt.region))
            terminate_step(op, op.provider(attempt.provider), [attempt], selector)
        return
    if not dry_run:
        state = ClusterState.FAILED if op.initial.reason == _PROCESS_DIED else ClusterState.TERMINATED
        tear_down(op, state, op.initial.reason or "its process died", wait=wait)
    report.terminated.append(op.name)


def _take_back(op: Operation, report: ReconcileReport, *, dry_run: bool, wait: bool) -> None:
    """Make a cluster READY whose process died while it came up, if its gang is complete; else tear it down."""
    opened = [attempt for attempt in op.ledger.attempts(op.cluster_id) if attempt.is_open]
    found = [_live_nodes(op, attempt) for attempt in opened]
    has_all_nodes = all(len(nodes) == attempt.nodes for attempt, nodes in zip(opened, found, strict=True))
    if opened and has_all_nodes and is_complete_gang(op.spec, opened):
        if all(node.state is NodeState.RUNNING for nodes in found for node in nodes):
            report.adopted.append(op.name)
            if not dry_run:
                make_ready(op, opened, found)
        elif not dry_run:
            # Complete but still booting: the same launch again records the nodes, and buys nothing.
            for attempt in opened:
                if attempt.state is AttemptState.OPEN:
                    launch(op, attempt, is_repeated=True)
        return
    if any(_is_recent(op, attempt) for attempt in opened):
        report.in_doubt.append(op.name)
        return
    if not dry_run:
        tear_down(op, ClusterState.FAILED, _PROCESS_DIED, wait=wait)
    report.terminated.append(op.name)


def _live_nodes(op: Operation, attempt: AttemptRecord) -> list[Node]:
    provider = op.provider(attempt.provider)
    nodes = op.call(provider, "list nodes", lambda: provider.nodes(attempt.selector))
    return [node for node in nodes if node.state in (NodeState.PENDING, NodeState.RUNNING)]


def _is_recent(op: Operation, attempt: AttemptRecord) -> bool:
    """Return whether nodes of an attempt may be missing from listings (I4)."""
    window = op.session.provider(attempt.provider).consistency_window
    return op.clock.now() < attempt.opened_at + window
