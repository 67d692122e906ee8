"""An operation on a cluster: its lease, its events, its cloud calls, and the check that it may continue."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TypeVar

from multicompute.clock import Clock
from multicompute.engine.operation.cancellation import Cancellation
from multicompute.engine.operation.events import EventCallback, EventLog
from multicompute.engine.operation.lease import Lease, hold_lease
from multicompute.engine.operation.regions import ProviderRegion
from multicompute.engine.operation.retry import call_with_retry
from multicompute.errors import AuthError, LedgerError, MulticomputeError, WrongAccountError
from multicompute.ledger import ClusterRecord, Ledger
from multicompute.node import ClusterState
from multicompute.offer import Offer, Quote
from multicompute.plan import AttemptReport
from multicompute.provider import Account, Availability, Provider, Quotas, Selector
from multicompute.session import Session
from multicompute.spec import ClusterSpec

T = TypeVar("T")


class TerminationRequested(Exception):
    """Another process requested the termination of the cluster during this operation; the text is the reason."""


class LeaseLost(Exception):
    """Another process has taken the cluster over, because this one did not renew its lease in time."""


@dataclass(slots=True)
class Operation:
    """An operation on a cluster, under its lease.

    Attributes:
        initial: The cluster as the ledger had it when the operation began; `reload` reads it again.
        spec: The request that the cluster was made from.
        deadline: When the operation has to be complete, None for no limit.
        reports: The attempts so far, for the error at the end.
        quotas: The quotas read so far.
        availability: (provider, region) -> what the account can use there, as far as it was read.
        quotes: Offer -> its price as confirmed by the cloud, None if the cloud gives none.
        unpriced: The providers whose prices could not be read.
        accounts: Provider -> the account that its credentials belong to, as read so far; None if it can't be read.
    """

    session: Session
    initial: ClusterRecord
    spec: ClusterSpec
    lease: Lease
    events: EventLog
    cancellation: Cancellation
    deadline: datetime | None = None
    reports: list[AttemptReport] = field(default_factory=list)
    quotas: dict[ProviderRegion, Quotas] = field(default_factory=dict)
    availability: dict[tuple[str, str], Availability] = field(default_factory=dict)
    quotes: dict[Offer, Quote | None] = field(default_factory=dict)
    unpriced: set[str] = field(default_factory=set)
    accounts: dict[str, Account | None] = field(default_factory=dict)

    @property
    def cluster_id(self) -> str:
        """The id of the cluster."""
        return self.initial.id

    @property
    def name(self) -> str:
        """The name of the cluster."""
        return self.initial.name

    @property
    def ledger(self) -> Ledger:
        """The ledger of the session."""
        return self.session.ledger

    @property
    def clock(self) -> Clock:
        """The clock of the session."""
        return self.session.clock

    def reload(self) -> ClusterRecord:
        """Return the cluster as the ledger has it now."""
        return self.ledger.cluster(self.cluster_id)

    def heartbeat(self) -> None:
        """Renew the lease at a safe point between two cloud calls, and raise if the operation must stop.

        Raises:
            LeaseLost: Another process took the cluster over.
            TerminationRequested: Another process requested the termination of the cluster.
            BaseException: What a signal or another thread requested.
        """
        self.cancellation.check()
        self.renew_lease()
        if (error := self._termination_error()) is not None:
            raise error

    def holds_lease(self) -> bool:
        """Renew the lease; return False if another process holds it."""
        try:
            return self.lease.acquire()
        except LedgerError:
            # No other process can have written to the ledger either. The next write that matters raises the error.
            return True

    def renew_lease(self) -> None:
        """Renew the lease.

        Raises:
            LeaseLost: Another process holds it.
        """
        if not self.holds_lease():
            raise LeaseLost

    def conflict_error(self) -> Exception:
        """Return why the ledger refused a write of this operation: the cluster is terminating, or the lease is lost."""
        self.renew_lease()
        return self._termination_error() or LeaseLost()

    def _termination_error(self) -> TerminationRequested | None:
        record = self.reload()
        if record.state.is_live and record.state is not ClusterState.TERMINATING:
            return None
        return TerminationRequested(record.reason)

    def call(self, provider: Provider, what: str, call: Callable[[], T], *, longest: timedelta | None = None) -> T:
        """Call a cloud with retry, logging each retry as an event; `what` names the call in it.

        Args:
            provider: The provider that `call` uses.
            what: The call in words.
            call: Calls the cloud once.
            longest: Give up instead of waiting longer than this in all.
        """

        def on_retry(error: MulticomputeError, seconds: float) -> None:
            self.renew_lease()
            message = f"{provider.name}: {what}: {error.code or error.message}; retry in {seconds:.1f} s"
            self.events.add("retry", message, code=error.code)

        return call_with_retry(
            call,
            provider=provider,
            clock=self.clock,
            cancellation=self.cancellation,
            on_retry=on_retry,
            longest=longest,
        )

    def provider(self, name: str) -> Provider:
        """Return a provider whose credentials belong to the account that holds the resources of the cluster.

        Raises:
            WrongAccountError: They belong to another account, where nothing of the cluster would be found.
        """
        provider = self.session.provider(name)
        for attempt in self.ledger.attempts(self.cluster_id):
            if attempt.is_open and attempt.provider == name and attempt.account is not None:
                self._require_account(provider, attempt.account)
        return provider

    def _require_account(self, provider: Provider, owner: Account) -> None:
        mine = self.call(provider, "read the account", lambda: provider.account)
        if not mine.is_same(owner):
            raise WrongAccountError(
                f"{self.name} is in {owner.label}, and these credentials belong to {mine.label}; nothing was changed",
                provider=provider.name,
                hint="use the credentials of that account",
            )

    def selector(self, where: ProviderRegion, *, token: str | None = None) -> Selector:
        """Return a selector of what the cluster has in a region: by its tags, and by what the ledger knows of it.

        Args:
            where: The region.
            token: Select one attempt only.
        """
        attempts = {
            attempt.token
            for attempt in self.ledger.attempts(self.cluster_id)
            if attempt.is_open and (attempt.provider, attempt.region) == where and token in (None, attempt.token)
        }
        known = (
            node.id
            for node in self.ledger.nodes(self.cluster_id)
            if node.ended_at is None and node.token in attempts and node.region == where.region
        )
        return Selector(
            region=where.region,
            cluster_id=self.cluster_id,
            token=token,
            known_ids=tuple(known),
            tokens=tuple(sorted(attempts)),
        )

    def account_of(self, name: str) -> Account | None:
        """Return the account that new resources of a provider will be in; None, with an event, if it can't be read.

        Raises:
            AuthError: The credentials are rejected.
        """
        if name not in self.accounts:
            provider = self.session.provider(name)
            try:
                self.accounts[name] = self.call(provider, "read the account", lambda: provider.account)
            except AuthError:
                raise
            except MulticomputeError as error:
                self.events.add("note", f"{name}: the account could not be read: {error.message}", code=error.code)
                self.accounts[name] = None
        return self.accounts[name]

    def sleep(self, duration: timedelta) -> None:
        """Sleep, unless the operation is cancelled."""
        self.cancellation.sleep(self.clock, duration)


@contextmanager
def working_on(
    session: Session,
    cluster_id: str,
    *,
    lease: Lease | None = None,
    cancellation: Cancellation | None = None,
    callback: EventCallback | None = None,
    for_teardown: bool = False,
) -> Iterator[Operation | None]:
    """Hold the lease of a cluster inside the block and yield an operation on it; None if another process holds the lease.

    The record is read under the lease: the previous holder may have changed or terminated the cluster. With `for_teardown`, a
    ledger that can't be written is no error.
    """
    with hold_lease(session, cluster_id, lease, for_teardown=for_teardown) as held:
        if held is None:
            yield None
            return
        record = session.ledger.cluster(cluster_id)
        yield Operation(
            session=session,
            initial=record,
            spec=ClusterSpec.of(record.spec),
            lease=held,
            events=EventLog(session.ledger, session.clock, cluster_id, callback, name=record.name),
            cancellation=cancellation or Cancellation(),
        )
