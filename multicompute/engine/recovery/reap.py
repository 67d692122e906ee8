"""Ends what has outlived its terms: expired clusters, spent budgets, teardowns that were cut off, expired orphans."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final

from multicompute.cost.budget import check_budget, spent_budget
from multicompute.engine.operation.cancellation import Cancellation, on_signals
from multicompute.engine.operation.lease import holding
from multicompute.engine.operation.operation import LostLease, Operation
from multicompute.engine.recovery.adopt import sync_expiry
from multicompute.engine.recovery.inventory import Inventory, Orphan, remove, take_inventory
from multicompute.engine.teardown import TeardownIncomplete, end
from multicompute.errors import LedgerError, MulticomputeError
from multicompute.ledger import ClusterRecord
from multicompute.node import ClusterState
from multicompute.session import Session
from multicompute.units import format_usd

_NONE: Final[Mapping[str, str]] = MappingProxyType({})


@dataclass(slots=True)
class ReapReport:
    """What was ended; with `dry_run` what would be.

    Attributes:
        terminated: names of clusters that are gone now.
        failed: name -> why it is not through; the next reap goes on.
        orphans: names of expired orphans that were deleted.
        notes: what could not be asked, and on what another process works.
    """

    terminated: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    orphans: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def to_dict(self) -> dict[str, object]:
        """The JSON form that the command line prints."""
        return {"terminated": self.terminated, "failed": self.failed, "orphans": self.orphans, "notes": self.notes}


def reap(session: Session, *, dry_run: bool = False, idle: Mapping[str, str] = _NONE, wait: bool = True) -> ReapReport:
    """End every cluster of the ledger that is over its ttl or budget or half torn down, and every expired orphan of this owner.

    The deletes of all of them are sent before the first is waited for: what waits its turn costs money.

    Safe to run in several processes at once, and again: one works on a cluster, the others pass it by and note that.

    Args:
        session: the ledger and the clouds.
        dry_run: only say what would be done.
        idle: the id of each cluster that has been idle for too long -> why it has to end, if it is still READY.
        wait: go on until every cloud has said that nothing is left, for half an hour each; else the next reap does.
    """
    report = ReapReport()
    seen = take_inventory(session, report.notes)
    due = _due(session, seen, report, idle, dry_run=dry_run)
    if dry_run:
        report.terminated = [record.name for record in due]
    else:
        _end_all(session, due, report, idle, wait=wait)
    expired = _expired(session, seen)
    if expired and not dry_run:
        # Ending clusters takes its time: whoever knows these may have extended them meanwhile.
        expired = _expired(session, take_inventory(session, []))
    left = [] if dry_run else remove(session, expired)
    report.failed |= {orphan.name: f"not gone yet: {why}" for orphan, why in left}
    report.orphans = [orphan.name for orphan in expired if orphan.name not in report.failed]
    return report


def _due(
    session: Session, seen: Inventory, report: ReapReport, idle: Mapping[str, str], *, dry_run: bool
) -> Iterator[ClusterRecord]:
    """The clusters that have to end."""
    for record in session.ledger.clusters():
        try:
            # An older copy of the ledger may not know that the cluster was extended.
            is_later = sync_expiry(session, record, seen.clusters.get(record.id, ()), dry_run=dry_run)
        except MulticomputeError as error:
            # By its tags it was, so that it is not due; the next reap writes it down.
            report.notes.append(f"{record.name}: {error}")
            continue
        try:
            if not dry_run:
                check_budget(session, record)
        except LedgerError as error:
            # What can't be written, on a full disk say, must not keep machines running.
            report.notes.append(f"{record.name}: {error}")
        if not _why(session, session.ledger.cluster(record.id), idle):
            continue
        if dry_run and is_later:
            report.notes.append(f"{record.name}: {is_later}")
        else:
            yield record


def _end_all(
    session: Session, due: Iterable[ClusterRecord], report: ReapReport, idle: Mapping[str, str], *, wait: bool
) -> None:
    tried = [(record, _end(session, record, report, idle, wait=False)) for record in due]
    for record, trouble in tried:
        if trouble is None:
            continue
        if not wait:
            report.notes.append(f"{record.name}: is ending: {trouble.message}")
        elif late := _end(session, record, report, idle, wait=True):
            report.failed[record.name] = str(late)


def _why(session: Session, record: ClusterRecord, idle: Mapping[str, str]) -> str:
    """Why a cluster has to end, "" where it need not."""
    if record.state is ClusterState.TERMINATING:
        return record.reason or "by request"
    if record.state.is_live and (limit := over_limit(session, record)):
        return limit
    return idle.get(record.id, "") if record.state is ClusterState.READY else ""


def _end(
    session: Session, record: ClusterRecord, report: ReapReport, idle: Mapping[str, str], *, wait: bool
) -> TeardownIncomplete | None:
    """End one, and write down what came of it; returns what its clouds are not through with."""
    trouble: TeardownIncomplete | None = None
    stop = Cancellation()
    stop.shield()
    with on_signals(stop):
        try:
            _end_if_due(session, record.id, stop, report, idle, wait=wait)
        except TeardownIncomplete as slow:
            trouble = slow
        except LostLease:
            report.notes.append(f"{record.name}: another process works on it")
        except MulticomputeError as error:
            report.failed[record.name] = str(error)
        stop.lower()
    return trouble


def _end_if_due(
    session: Session, cluster_id: str, stop: Cancellation, report: ReapReport, idle: Mapping[str, str], *, wait: bool
) -> None:
    with holding(session, cluster_id) as lease:
        # Again, under the lease: since it was listed it may have been extended, or ended by another process.
        record = session.ledger.cluster(cluster_id)
        why = _why(session, record, idle)
        if not why:
            return
        if lease is not None:
            end(Operation.on(session, record, lease, stop=stop), ClusterState.TERMINATED, why, wait=wait)
            report.terminated.append(record.name)
            return
    # One that is being made is told. One that is up is left alone: it may be about to be extended.
    session.ledger.request_termination(cluster_id, why, states=(ClusterState.REQUESTED, ClusterState.PROVISIONING))
    report.notes.append(f"{record.name}: another process works on it")


def _expired(session: Session, seen: Inventory) -> list[Orphan]:
    return [orphan for orphan in seen.orphans if not orphan.is_known and _is_expired(session, orphan)]


def _is_expired(session: Session, orphan: Orphan) -> bool:
    """Whether the orphan's own tag says that its time is over."""
    tag = orphan.expires_at
    return tag.isdigit() and int(tag) <= session.clock.now().timestamp()


def over_limit(session: Session, record: ClusterRecord) -> str:
    """Why a cluster has to end by its own terms, "" where it need not."""
    if record.expires_at is not None and record.expires_at <= session.clock.now():
        return f"expired at {record.expires_at:%Y-%m-%d %H:%M} UTC"
    budget = spent_budget(session, record)
    return "" if budget is None else f"budget of {format_usd(float(budget))} reached"
