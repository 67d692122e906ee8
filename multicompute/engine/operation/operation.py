"""What one piece of work on one cluster needs at hand, and the ways in which all of them talk to clouds and ledger."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TypeVar

from multicompute.clock import Clock
from multicompute.engine.operation.cancellation import Cancellation
from multicompute.engine.operation.events import EventCallback, EventLog
from multicompute.engine.operation.lease import Lease
from multicompute.engine.operation.retry import call_with_retry
from multicompute.errors import LedgerError, MulticomputeError
from multicompute.ledger import AttemptRecord, ClusterRecord, Ledger
from multicompute.node import ClusterState
from multicompute.plan import AttemptReport
from multicompute.provider import Provider, Quotas
from multicompute.session import Session
from multicompute.spec import ClusterSpec

T = TypeVar("T")


class TerminationRequested(Exception):
    """Somebody else has asked for the end of the cluster while this operation was at it; its text is why."""


class LostLease(Exception):
    """Somebody else works on the cluster now: this operation fell silent for too long, and must not touch it any more."""


@dataclass(slots=True)
class Operation:
    """One piece of work on one cluster, under its lease.

    Attributes:
        reports: what was tried so far, for the error at the end.
        deadline: when the work has to be done, None for no limit.
        quotas: what was read of them, by provider and region.
    """

    session: Session
    cluster_id: str
    spec: ClusterSpec
    lease: Lease
    story: EventLog
    stop: Cancellation
    deadline: datetime | None = None
    reports: list[AttemptReport] = field(default_factory=list)
    quotas: dict[tuple[str, str], Quotas] = field(default_factory=dict)

    @classmethod
    def on(
        cls,
        session: Session,
        record: ClusterRecord,
        lease: Lease,
        *,
        stop: Cancellation,
        watch: EventCallback | None = None,
    ) -> "Operation":
        """Work on the cluster of this record."""
        return cls(
            session=session,
            cluster_id=record.id,
            spec=ClusterSpec.of(record.spec),
            lease=lease,
            story=EventLog(session.ledger, session.clock, record.id, watch),
            stop=stop,
        )

    @property
    def ledger(self) -> Ledger:
        return self.session.ledger

    @property
    def clock(self) -> Clock:
        return self.session.clock

    def record(self) -> ClusterRecord:
        """The cluster as the ledger has it now."""
        return self.ledger.cluster(self.cluster_id)

    def heartbeat(self) -> None:
        """A safe point between two calls: renews the lease, and meets whoever wants this to stop.

        Raises:
            LostLease: somebody else took the cluster over.
            TerminationRequested: somebody else wants its end.
            BaseException: what a signal or another thread asked for.
        """
        self.stop.check()
        self.keep()
        record = self.record()
        if record.state is ClusterState.TERMINATING or not record.state.is_live:
            raise TerminationRequested(record.reason)

    def keep(self) -> None:
        """Renew the lease.

        Raises:
            LostLease: somebody else has it.
        """
        try:
            is_held = self.lease.take()
        except LedgerError:
            # Nobody else can have written there either; what is to be written next will say so where it matters.
            return
        if not is_held:
            raise LostLease

    def conflict_error(self) -> Exception:
        """Why the ledger refused what this operation wanted to write: somebody wants the end, or has taken the cluster over."""
        self.keep()
        record = self.record()
        is_ending = record.state is ClusterState.TERMINATING or not record.state.is_live
        return TerminationRequested(record.reason) if is_ending else LostLease()

    def ask(self, provider: Provider, what: str, call: Callable[[], T]) -> T:
        """Call a cloud, patiently; `what` names the call in the story."""

        def on_retry(error: MulticomputeError, seconds: float) -> None:
            self.keep()
            message = f"{provider.name}: {what}: {error.code or error.message}; again in {seconds:.1f} s"
            self.story.add("retry", message, code=error.code)

        return call_with_retry(call, clock=self.clock, stop=self.stop, base=provider.poll_interval, on_retry=on_retry)

    def pause(self, duration: timedelta) -> None:
        """Wait a while between two looks."""
        self.stop.sleep(self.clock, duration)


def report_of(attempt: AttemptRecord, outcome: str, *, code: str | None = None, message: str = "") -> AttemptReport:
    """What one try came to, in a line."""
    offer = attempt.parts[0].offer
    return AttemptReport(
        provider=offer.provider,
        region=offer.region,
        zone=offer.zone,
        instance_type=offer.instance_type,
        purchase=offer.purchase,
        nodes=attempt.nodes,
        outcome=outcome,
        code=code,
        message=message,
    )
