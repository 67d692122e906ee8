"""Reaps: terminates expired and idle clusters, spent budgets and expired orphans, and continues interrupted teardowns."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final

from multicompute.cost.budget import spent_budget
from multicompute.engine.operation.cancellation import Cancellation, defer_signals
from multicompute.engine.operation.coverage import Coverage
from multicompute.engine.operation.operation import LeaseLost, working_on
from multicompute.engine.recovery.inventory import Inventory, Orphan, list_inventory
from multicompute.engine.recovery.removal import remove
from multicompute.engine.recovery.sync import sync_expiry
from multicompute.engine.teardown import BEFORE_TEARDOWN, tear_down
from multicompute.engine.upkeep.budget import log_budget_marks
from multicompute.errors import LedgerError, MulticomputeError, TeardownIncomplete
from multicompute.ledger import ClusterRecord
from multicompute.node import ClusterState
from multicompute.provider import Resource
from multicompute.session import Session
from multicompute.units import format_usd

_NONE: Final[Mapping[str, str]] = MappingProxyType({})
_COMING_UP: Final = tuple(state for state in BEFORE_TEARDOWN if not state.is_up)
_BUSY: Final = "another process works on it"


@dataclass(slots=True)
class ReapReport:
    """The clusters and orphans that were terminated, or would be with `dry_run`.

    Attributes:
        terminated: Names of clusters that have ended.
        failed: Name -> why its teardown is not complete; the next reap continues.
        orphans: Names of expired orphans that were deleted.
        not_due: Names of the other live clusters in the ledger, which no cloud was asked about.
        coverage: Which clouds were asked.
        notes: What another process works on.
    """

    terminated: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    orphans: list[str] = field(default_factory=list)
    not_due: list[str] = field(default_factory=list)
    coverage: Coverage = field(default_factory=Coverage)
    notes: list[str] = field(default_factory=list)

    def to_dict(self) -> dict[str, object]:
        """Return the JSON form that the command line prints."""
        return {
            "terminated": self.terminated,
            "failed": self.failed,
            "orphans": self.orphans,
            "not_due": self.not_due,
            **self.coverage.to_dict(),
            "notes": self.notes,
        }


def reap(session: Session, *, dry_run: bool = False, idle: Mapping[str, str] = _NONE, wait: bool = True) -> ReapReport:
    """Terminate every cluster over its ttl or budget, continue interrupted teardowns, and delete this owner's expired orphans.

    The deletes of all clusters are sent before the first one is waited for, since a cluster that waits its turn costs money.

    Several processes may reap at once: one works on a cluster, the others note that and skip it.

    Args:
        session: The ledger and the clouds.
        dry_run: Only report what would be done.
        idle: The id of each cluster that has been idle for too long -> the reason for its termination, if it is still READY.
        wait: Wait for each teardown for up to half an hour; else the next reap continues.
    """
    report = ReapReport()
    inventory = list_inventory(session, report.coverage)
    reaper = _Reaper(session, report, idle, dry_run)
    due = reaper.due(inventory)
    if dry_run:
        report.terminated = [record.name for record in due]
    else:
        reaper.terminate_all(due, wait=wait)
    expired = _expired_orphans(session, inventory)
    if expired and not dry_run:
        # The teardowns took their time: another ledger that knows these may have extended them.
        expired = _expired_orphans(session, list_inventory(session, Coverage()))
    left = [] if dry_run else remove(session, expired)
    report.failed |= {orphan.name: f"not deleted yet: {why}" for orphan, why in left}
    report.orphans = [orphan.name for orphan in expired if orphan.name not in report.failed]
    over = {*report.terminated, *report.failed}
    report.not_due = [record.name for record in session.ledger.clusters() if record.name not in over]
    return report


def over_limit(session: Session, record: ClusterRecord) -> str:
    """Return why a cluster must end by its own ttl or budget, "" if it need not."""
    if record.expires_at is not None and record.expires_at <= session.clock.now():
        return f"expired at {record.expires_at:%Y-%m-%d %H:%M} UTC"
    budget = spent_budget(session, record)
    return "" if budget is None else f"budget of {format_usd(float(budget))} reached"


@dataclass(frozen=True, slots=True)
class _Reaper:
    """Finds the clusters that must end, and terminates them."""

    session: Session
    report: ReapReport
    idle: Mapping[str, str]
    dry_run: bool

    def due(self, inventory: Inventory) -> Iterator[ClusterRecord]:
        """Yield the clusters that must end."""
        notes, ledger = self.report.notes, self.session.ledger
        for record in ledger.clusters():
            try:
                # A restored older copy of the ledger may not know that the cluster was extended.
                change = self._sync_expiry(record, inventory.clusters.get(record.id, ()))
            except (LeaseLost, MulticomputeError) as error:
                # By its tags it was extended, so it is not due; the next reap records that.
                notes.append(f"{record.name}: {_BUSY if isinstance(error, LeaseLost) else error}")
                continue
            try:
                if not self.dry_run:
                    log_budget_marks(self.session, record)
            except LedgerError as error:
                # A ledger that can't be written, on a full disk for example, must not keep machines running.
                notes.append(f"{record.name}: {error}")
            if not self._reason_to_terminate(ledger.cluster(record.id)):
                continue
            if self.dry_run and change:
                notes.append(f"{record.name}: {change}")
            else:
                yield record

    def _sync_expiry(self, record: ClusterRecord, resources: tuple[Resource, ...]) -> str:
        """Sync the expiry under the lease of the cluster (I7), since another process may be extending it.

        Raises:
            LeaseLost: Another process works on the cluster, which has a later expiry by its tags.
        """
        change = sync_expiry(self.session, record, resources, dry_run=True)
        if self.dry_run or not change:
            return change
        with working_on(self.session, record.id) as op:
            if op is None:
                raise LeaseLost
            return sync_expiry(self.session, op.initial, resources) if op.initial.state.is_live else ""

    def terminate_all(self, due: Iterable[ClusterRecord], *, wait: bool) -> None:
        """Send the deletes of all clusters, and then wait for each, if asked to."""
        tried = [(record, self._terminate(record, wait=False)) for record in due]
        for record, incomplete in tried:
            if incomplete is None:
                continue
            if not wait:
                self.report.notes.append(f"{record.name}: is terminating: {incomplete.message}")
            elif still_incomplete := self._terminate(record, wait=True):
                self.report.failed[record.name] = str(still_incomplete)

    def _reason_to_terminate(self, record: ClusterRecord) -> str:
        """Return why a cluster must end, "" if it need not."""
        if record.state is ClusterState.TERMINATING:
            return record.reason or "by request"
        if record.state.is_live and (limit := over_limit(self.session, record)):
            return limit
        return self.idle.get(record.id, "") if record.state is ClusterState.READY else ""

    def _terminate(self, record: ClusterRecord, *, wait: bool) -> TeardownIncomplete | None:
        """Terminate one cluster and report the result; return the error of a teardown that is not complete yet."""
        incomplete: TeardownIncomplete | None = None
        with defer_signals() as cancellation:
            try:
                self._terminate_if_due(record.id, cancellation, wait=wait)
            except TeardownIncomplete as error:
                incomplete = error
            except LeaseLost:
                self.report.notes.append(f"{record.name}: {_BUSY}")
            except MulticomputeError as error:
                self.report.failed[record.name] = str(error)
        return incomplete

    def _terminate_if_due(self, cluster_id: str, cancellation: Cancellation, *, wait: bool) -> None:
        with working_on(self.session, cluster_id, cancellation=cancellation, for_teardown=True) as op:
            # Checked again under the lease: another process may have extended or terminated the cluster since it was listed.
            record = op.initial if op is not None else self.session.ledger.cluster(cluster_id)
            reason = self._reason_to_terminate(record)
            if not reason:
                return
            if op is not None:
                tear_down(op, ClusterState.TERMINATED, reason, wait=wait)
                self.report.terminated.append(record.name)
                return
        # The process that brings a cluster up is asked to stop. One that is up is left alone: it may be being extended.
        self.session.ledger.request_termination(cluster_id, reason, states=_COMING_UP)
        self.report.notes.append(f"{record.name}: {_BUSY}")


def _expired_orphans(session: Session, inventory: Inventory) -> list[Orphan]:
    return [orphan for orphan in inventory.orphans if not orphan.is_known and _is_expired(session, orphan)]


def _is_expired(session: Session, orphan: Orphan) -> bool:
    """Return whether the expiry in the orphan's own tag has passed."""
    tag = orphan.expires_at
    return tag.isdigit() and int(tag) <= session.clock.now().timestamp()
