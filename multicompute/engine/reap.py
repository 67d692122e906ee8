"""Ends what has outlived its terms: expired clusters, spent budgets, teardowns that were cut off, expired orphans."""

from dataclasses import dataclass, field

from multicompute.engine.lifecycle import over_limit, terminate
from multicompute.engine.reconcile import Orphan, delete, find_orphans
from multicompute.engine.session import Session
from multicompute.errors import MulticomputeError
from multicompute.ledger import ClusterRecord
from multicompute.node import ClusterState


@dataclass(slots=True)
class ReapReport:
    """What was ended; with `dry_run` what would be.

    Attributes:
        terminated: names of clusters that are gone now.
        failed: name -> why it is not through; the next reap goes on.
        orphans: names of expired orphans that were deleted.
        notes: what could not be asked.
    """

    terminated: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    orphans: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def to_dict(self) -> dict[str, object]:
        """The JSON form that the command line prints."""
        return {"terminated": self.terminated, "failed": self.failed, "orphans": self.orphans, "notes": self.notes}


def reap(session: Session, *, dry_run: bool = False) -> ReapReport:
    """End every cluster of the ledger that is over its ttl or budget or half torn down, and every expired orphan of this owner.

    Safe to run in several processes at once, and again: one works on a cluster, the others pass it by.
    """
    report = ReapReport()
    for record in session.ledger.clusters():
        if why := _why(session, record):
            _end(session, record, why, report, dry_run=dry_run)
    for orphan in find_orphans(session, report.notes):
        if not orphan.is_known and _is_expired(session, orphan):
            if dry_run or delete(session, orphan, report.notes):
                report.orphans.append(orphan.name)
            else:
                report.failed[orphan.name] = "not gone yet"
    return report


def _why(session: Session, record: ClusterRecord) -> str:
    if record.state is ClusterState.TERMINATING:
        return record.reason or "by request"
    return over_limit(session, record)


def _end(session: Session, record: ClusterRecord, why: str, report: ReapReport, *, dry_run: bool) -> None:
    if not dry_run:
        try:
            terminate(session, record.id, reason=why)
        except MulticomputeError as error:
            report.failed[record.name] = str(error)
            return
    report.terminated.append(record.name)


def _is_expired(session: Session, orphan: Orphan) -> bool:
    """Whether the orphan's own tag says that its time is over."""
    tag = orphan.expires_at
    return tag.isdigit() and int(tag) <= session.clock.now().timestamp()
