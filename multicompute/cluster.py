"""The handle that users hold on a cluster; the engine does the work."""

import builtins
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, Generic, Literal, ParamSpec, Protocol, Self, TypeVar, overload

from multicompute.cluster_requests import ClusterRequests, plan
from multicompute.cluster_running import ClusterRunning, CopiesFiles
from multicompute.errors import ClusterNotFound, SpecError
from multicompute.node import ClusterState, Event, Node, Sample
from multicompute.session import Session, open_session
from multicompute.units import format_instant, parse_duration
from multicompute.validation import unknown_name

if TYPE_CHECKING:
    from types import TracebackType

    from multicompute.engine.operation.cancellation import Cancellation
    from multicompute.engine.operation.events import EventCallback
    from multicompute.ledger import ClusterRecord
    from multicompute.offer import Part
    from multicompute.pending import PendingCluster
    from multicompute.plan import Plan
    from multicompute.spec import ClusterSpec

P = ParamSpec("P")
T = TypeVar("T")
C_co = TypeVar("C_co", bound="Cluster", covariant=True)

_NODE_KEYS: Final = ("id", "rank", "state", "private_ip", "public_ip", "instance_type", "zone")
"""The attributes of a node that `to_dict` has."""


class _PlanOf(Generic[P]):
    """`Cluster.plan(...)`, which makes a plan, and `cluster.plan`, the plan that a cluster was made from."""

    def __init__(self, function: Callable[P, "Plan"]) -> None:
        self._function = function

    @overload
    def __get__(self, cluster: None, owner: type["Cluster"]) -> Callable[P, "Plan"]: ...

    @overload
    def __get__(self, cluster: "Cluster", owner: type["Cluster"]) -> "Plan": ...

    def __get__(self, cluster: "Cluster | None", owner: type["Cluster"]) -> "Callable[P, Plan] | Plan":
        return self._function if cluster is None else cluster._original_plan()


class _FindsByName(Protocol[C_co]):
    """The type of `Cluster.get`."""

    def __call__(self, name: str) -> C_co:
        """Return a cluster by its name."""


class _Get:
    """`Cluster.get(name)`, which finds a cluster, and `cluster.get(remote, local)`, which copies files from its nodes."""

    @overload
    def __get__(self, cluster: None, owner: type[C_co]) -> _FindsByName[C_co]: ...

    @overload
    def __get__(self, cluster: "Cluster", owner: type["Cluster"]) -> CopiesFiles: ...

    def __get__(self, cluster: "Cluster | None", owner: type["Cluster"]) -> "_FindsByName[Cluster] | CopiesFiles":
        return owner._find if cluster is None else cluster._get_files


class Cluster(ClusterRequests, ClusterRunning):
    """Nodes with accelerators that are launched together and terminated together.

    A context manager: leaving the block terminates the cluster, also on an exception, Ctrl-C, SIGTERM and SIGHUP.

    Example:
        >>> with Cluster.request(gpus=64, type="h100", ttl="12h") as cluster:
        ...     print(cluster.head.private_ip, cluster.hourly_cost)
    """

    plan = _PlanOf(plan)
    get = _Get()

    def __init__(self, session: Session, record: "ClusterRecord", *, plan: "Plan | None" = None) -> None:
        """Wrap a record of the ledger; users call `request`, `get` or `list` instead."""
        from multicompute.engine.operation.cancellation import StopGuard

        self._session = session
        self._record = record
        self._plan = plan
        self._reports = {}
        self._guard = StopGuard(at_exit=self._terminate_at_exit)

    # Creating and finding. `request`, `arequest` and `aplan` are in ClusterRequests.

    @classmethod
    def _request(cls, spec: "ClusterSpec", cancellation: "Cancellation | None" = None) -> Self:
        from multicompute.engine.provision.request import request

        session = open_session()
        with _event_callback(spec) as callback:
            return cls(session, request(session, spec, callback=callback, cancellation=cancellation))

    @classmethod
    def _arequest(cls, spec: "ClusterSpec") -> "PendingCluster[Self]":
        # Imported here: most programs are synchronous.
        from multicompute.pending import PendingCluster

        return PendingCluster(
            _in_thread(lambda cancellation: cls._request(spec, cancellation), undo=lambda cluster: cluster.terminate())
        )

    @classmethod
    def _find(cls, name: str) -> Self:
        """Return the live cluster of this name, or else the last one that had it.

        Raises:
            ClusterNotFound: No cluster ever had this name.
        """
        session = open_session()
        if not session.has_ledger:
            raise ClusterNotFound(f"{name}: no cluster of this name", hint="`multicompute ls --all` lists all clusters")
        return cls(session, session.ledger.find(name))

    @classmethod
    def list(
        cls,
        *,
        state: ClusterState | str | None = None,
        tags: Mapping[str, str] | None = None,
        clouds: Sequence[str] | None = None,
        include_ended: bool = False,
    ) -> builtins.list[Self]:
        """Return the clusters in the ledger, oldest first.

        Args:
            state: Only clusters in this state, such as "READY". TERMINATED and FAILED imply `include_ended`.
            tags: Only clusters that have all of these tags.
            clouds: Only clusters of these providers, such as ["aws"].
            include_ended: Also clusters that have ended.

        Raises:
            SpecError: `state` is not the name of a state, or no provider has one of the names in `clouds`.
        """
        wanted = _state(state)
        session = open_session()
        for cloud in clouds or ():
            if cloud not in session.plugins:
                raise SpecError(unknown_name(cloud, list(session.plugins), what="cloud"))
        if not session.has_ledger:
            return []
        include_ended = include_ended or (wanted is not None and not wanted.is_live)
        found = (cls(session, record) for record in session.ledger.clusters(include_ended=include_ended))
        return [
            cluster
            for cluster in found
            if wanted in (None, cluster.state)
            and (clouds is None or cluster.provider in clouds)
            and all(cluster.tags.get(k) == v for k, v in (tags or {}).items())
        ]

    # Properties

    @property
    def id(self) -> str:
        """The id of the cluster, which every resource of it has in the tag `multicompute-id`."""
        return self._record.id

    @property
    def name(self) -> str:
        """The name of the cluster, unique among live clusters."""
        return self._record.name

    @property
    def state(self) -> ClusterState:
        """The state at the last refresh."""
        return self._record.state

    @property
    def reason(self) -> str:
        """The reason why the cluster has ended or is being terminated; "" otherwise."""
        return self._record.reason

    @property
    def blocked_on(self) -> str:
        """The reason why the last step of the teardown did not finish it; "" if the cluster is not TERMINATING."""
        if self.state is not ClusterState.TERMINATING:
            return ""
        from multicompute.engine.teardown import blocked_on

        return blocked_on(self.events())

    @property
    def spec(self) -> "ClusterSpec":
        """The request."""
        from multicompute.spec import ClusterSpec

        return ClusterSpec.of(self._record.spec)

    @property
    def provider(self) -> str | None:
        """The provider of the nodes, None before the first launch."""
        return self._record.provider

    @property
    def region(self) -> str | None:
        """The region of the nodes, None if there are several."""
        return self._record.region

    @property
    def zone(self) -> str | None:
        """The zone of the nodes, None if there are several."""
        return self._record.zone

    @property
    def nodes(self) -> tuple[Node, ...]:
        """The live nodes, by rank."""
        return tuple(record.as_node() for record in self._session.ledger.nodes(self.id) if record.ended_at is None)

    @property
    def head(self) -> Node:
        """The node of rank 0.

        Raises:
            ClusterNotFound: The cluster has no live node.
        """
        nodes = self.nodes
        if not nodes:
            raise ClusterNotFound(f"{self.name}: has no nodes: it is {self.state}")
        return nodes[0]

    @property
    def gpus(self) -> float:
        """Number of accelerators on the live nodes, which may be more than were requested."""
        return sum(node.accelerators for node in self.nodes)

    @property
    def hourly_cost(self) -> float:
        """USD per hour for the live nodes, at the prices at which they were bought."""
        return round(sum(node.hourly_cost for node in self.nodes), 6)

    @property
    def accrued_cost(self) -> float:
        """USD so far, by the second, at the prices at which the nodes were bought, and at least each cloud's minimum."""
        from multicompute.cost.billing import accrued, rounded

        return rounded(accrued(self._session, self.id))

    @property
    def created_at(self) -> datetime:
        """The time of the request, in UTC."""
        return self._record.created_at

    @property
    def expires_at(self) -> datetime | None:
        """The end of the lease, at which the cluster is terminated, in UTC; None for never.

        That is before the end of the ttl if a cloud terminates the nodes earlier.
        """
        return self._record.expires_at

    @property
    def tags(self) -> dict[str, str]:
        """The tags of the request. Resources have this package's own tags in addition."""
        # From the record and not from `spec`: listing clusters does not have to load pydantic.
        spec: Mapping[str, Any] = self._record.spec
        return dict(spec.get("tags") or {})

    def events(self) -> builtins.list[Event]:
        """Return the event log of the cluster, oldest first."""
        return self._session.ledger.events(self.id)

    # Operations

    def refresh(self) -> Self:
        """Read the nodes from the cloud and update the state.

        A cluster that was requested with `wait=False` becomes READY if all its nodes run. Nodes that are gone, or that fail their cloud's checks, make the cluster DEGRADED. A cluster without nodes is
        closed.
        """
        from multicompute.engine.upkeep.refresh import refresh

        self._record = refresh(self._session, self.id)
        return self

    def wait(
        self, timeout: str | timedelta | None = None, *, on_stop: Literal["terminate", "leave"] = "terminate"
    ) -> Self:
        """Wait until the cluster is READY, after a request with `wait=False`.

        Args:
            timeout: How long to wait, "30m" or a timedelta; the request's own timeout if omitted.
            on_stop: What to do with a cluster that is not READY when Ctrl-C, SIGTERM, SIGHUP or a cancelled task
                ends the wait: terminate it, or leave it for another process to continue.

        Raises:
            MulticomputeError: As for `request`.
        """
        from multicompute.engine.operation.cancellation import Cancellation

        return self._wait(timeout, Cancellation(detach=on_stop == "leave"))

    def _wait(self, timeout: str | timedelta | None, cancellation: "Cancellation") -> Self:
        from multicompute.engine.provision.request import bring_up

        limit = self._timeout(timeout)
        record = self._session.ledger.cluster(self.id)
        self._record = bring_up(self._session, record, timeout=limit, cancellation=cancellation)
        return self

    def wait_for(self, state: ClusterState | str, timeout: str | timedelta | None = None) -> Self:
        """Refresh repeatedly until the cluster is in the given state.

        Args:
            state: The name of the state, such as "degraded", in any case.
            timeout: How long to wait, "30m" or a timedelta; without limit if omitted.

        Raises:
            SpecError: `state` is not the name of a state.
            ClusterNotFound: The cluster has ended in another state.
            ProvisionTimeout: The cluster was not in that state within `timeout`.
        """
        return self._wait_for(state, timeout, None)

    def _wait_for(
        self, state: ClusterState | str, timeout: str | timedelta | None, cancellation: "Cancellation | None"
    ) -> Self:
        from multicompute.engine.upkeep.refresh import wait_for

        wanted = _state(state)
        assert wanted is not None
        limit = None if timeout is None else parse_duration(timeout, what="timeout")
        self._record = wait_for(self._session, self.id, wanted, timeout=limit, cancellation=cancellation)
        return self

    def heal(self, timeout: str | timedelta | None = None, *, stopped: Literal["start", "replace"] = "start") -> Self:
        """Start stopped nodes again, and replace those that are gone at the same offers and with the same ranks.

        Lost nodes are replaced all together or not at all. Other nodes are left as they are, also those that run but fail their cloud's checks.

        Args:
            timeout: How long to wait for the nodes, "30m" or a timedelta; the request's own timeout if omitted.
            stopped: What to do with stopped nodes: start them again, or replace them and delete them.

        Raises:
            CapacityError: The cloud has no such nodes there now. The cluster is unchanged.
            QuotaError: The account's quota does not allow the new nodes. The cluster is unchanged.
            ProvisionTimeout: The new nodes did not run within `timeout`. The cluster is unchanged.
            ProviderError: Some hosts of a slice are gone, and a slice can only be replaced completely; or the cloud can't
                start nodes again.
            ClusterNotFound: The cluster has ended, is being terminated, or was never READY.
        """
        return self._heal(timeout, stopped, None)

    def _heal(
        self,
        timeout: str | timedelta | None,
        stopped: Literal["start", "replace"],
        cancellation: "Cancellation | None",
    ) -> Self:
        from multicompute.engine.upkeep.heal import heal

        if stopped not in ("start", "replace"):
            raise SpecError(f"stopped={stopped!r}: must be 'start' or 'replace'")
        limit = self._timeout(timeout)
        self._record = heal(self._session, self.id, timeout=limit, cancellation=cancellation, stopped=stopped)
        return self

    def metrics(self, window: str | timedelta = "10m") -> builtins.list[Sample]:
        """Return what the cloud's monitoring measured on the live nodes, oldest first.

        Args:
            window: How far to look back, "10m" or a timedelta. Clouds publish samples some minutes late.

        Returns:
            Samples with time and unit. Values that a cloud does not measure are absent, never zero.

        Raises:
            MulticomputeError: A cloud can't be asked.
        """
        from multicompute.monitor.metrics import metrics

        return metrics(self._session, self.nodes, window=parse_duration(window, what="window"))

    def extend(self, by: str | timedelta) -> datetime:
        """Extend the lease.

        Args:
            by: How much to add, "90m", "2h" or a timedelta; more than zero.

        Returns:
            The new end of the lease, in UTC.

        Raises:
            SpecError: `by` is not a positive duration, the cluster has no end of its lease, or a cloud terminates its nodes
                earlier; the message names the latest possible time.
            ClusterNotFound: The cluster has ended or is being terminated.
        """
        from multicompute.engine.upkeep.extend import extend

        self._record = extend(self._session, self.id, parse_duration(by, what="by"))
        assert self._record.expires_at is not None
        return self._record.expires_at

    def terminate(self, *, wait: bool = True) -> Self:
        """Terminate all nodes and delete their dependent resources. A cluster that has ended is left as it is.

        Args:
            wait: Return once every cloud confirms that nothing is left; otherwise `reap` completes the teardown.

        Raises:
            ProviderError: Something is left after half an hour. The cluster stays TERMINATING, and `reap` continues.
        """
        from multicompute.engine.teardown import terminate

        self._record = terminate(self._session, self.id, wait=wait)
        return self

    # Async twins: the same work in a thread, so that the event loop is never blocked.

    async def arefresh(self) -> Self:
        """Do what `refresh` does without blocking the event loop."""
        return await _in_thread(lambda _: self.refresh())

    async def await_(
        self, timeout: str | timedelta | None = None, *, on_stop: Literal["terminate", "leave"] = "terminate"
    ) -> Self:
        """Do what `wait` does without blocking the event loop; `await` alone is a keyword of Python."""
        return await _in_thread(lambda cancellation: self._wait(timeout, cancellation), detach=on_stop == "leave")

    async def await_for(self, state: ClusterState | str, timeout: str | timedelta | None = None) -> Self:
        """Do what `wait_for` does without blocking the event loop."""
        return await _in_thread(lambda cancellation: self._wait_for(state, timeout, cancellation))

    async def aheal(
        self, timeout: str | timedelta | None = None, *, stopped: Literal["start", "replace"] = "start"
    ) -> Self:
        """Do what `heal` does without blocking the event loop."""
        return await _in_thread(lambda cancellation: self._heal(timeout, stopped, cancellation))

    async def ametrics(self, window: str | timedelta = "10m") -> builtins.list[Sample]:
        """Do what `metrics` does without blocking the event loop."""
        return await _in_thread(lambda _: self.metrics(window))

    async def aextend(self, by: str | timedelta) -> datetime:
        """Do what `extend` does without blocking the event loop."""
        return await _in_thread(lambda _: self.extend(by))

    async def aterminate(self, *, wait: bool = True) -> Self:
        """Do what `terminate` does without blocking the event loop."""
        return await _in_thread(lambda _: self.terminate(wait=wait))

    def __enter__(self) -> Self:
        """Let SIGTERM and SIGHUP leave the block in order, so that the cluster is terminated.

        Warns:
            RuntimeWarning: An event loop runs in this thread, which the end of the block would block for minutes.
        """
        if _is_in_event_loop():
            warnings.warn(
                f"{self.name}: `with` blocks the running event loop until the cluster is terminated; "
                "use `async with Cluster.arequest(...)`",
                RuntimeWarning,
                stacklevel=2,
            )
        self._guard.install()
        return self

    def __exit__(
        self, kind: "type[BaseException] | None", error: BaseException | None, trace: "TracebackType | None"
    ) -> None:
        """Terminate the cluster."""
        try:
            self._terminate_on_exit(error)
        finally:
            self._guard.uninstall()

    async def __aenter__(self) -> Self:
        """Let SIGTERM and SIGHUP leave the block in order, so that the cluster is terminated."""
        self._guard.install()
        return self

    async def __aexit__(
        self, kind: "type[BaseException] | None", error: BaseException | None, trace: "TracebackType | None"
    ) -> None:
        """Terminate the cluster without blocking the event loop."""
        try:
            await _in_thread(lambda _: self._terminate_on_exit(error))
        finally:
            self._guard.uninstall()

    def _terminate_on_exit(self, error: BaseException | None) -> None:
        from multicompute.engine.teardown import terminate_on_exit

        self._record = terminate_on_exit(self._session, self.id, error)

    def _terminate_at_exit(self) -> None:
        self._terminate_on_exit(SystemExit("the interpreter exits"))

    # Display

    @property
    def _accelerators(self) -> int | float | None:
        """Number of accelerators on the nodes, or that were launched or requested if there are no nodes; None if they have none."""
        # From the record and not from `spec`, as above.
        spec: Mapping[str, Any] = self._record.spec
        requested = spec.get("gpus") or 0
        launched = self._accelerators_of_attempts() if not self.gpus and (self.state.is_live or not requested) else 0
        # Three nodes with a third of an accelerator each have one: the tables round a third.
        amount = round(self.gpus or launched or requested, 2)
        return (int(amount) if amount == int(amount) else amount) or None

    def _accelerators_of_attempts(self) -> float:
        """Return the accelerators of a cluster whose nodes are not known yet, or have ended: of its last attempt."""
        return sum(part.nodes * part.offer.instance.accelerators for part in self._parts())

    def _types(self) -> Sequence[str]:
        """Return the types that were asked for, or those that were bought for a request that names none."""
        spec: Mapping[str, Any] = self._record.spec
        return spec.get("type") or list(
            dict.fromkeys(part.offer.instance.accelerator or part.offer.instance_type for part in self._parts())
        )

    def _parts(self) -> Sequence["Part"]:
        """Return what was launched, or what the last attempt was about."""
        attempts = self._session.ledger.attempts(self.id)
        groups = [attempt.parts for attempt in attempts if attempt.is_open] or [attempts[-1].parts] if attempts else []
        return [part for group in groups for part in group]

    def to_dict(self) -> dict[str, object]:
        """Return the JSON form that `multicompute show --json` prints."""
        # From the record and not from `spec`: listing clusters does not have to load pydantic.
        return {
            "id": self.id,
            "name": self.name,
            "state": self.state.value,
            "provider": self.provider,
            "region": self.region,
            "zone": self.zone,
            "gpus": self._accelerators,
            "type": self._types(),
            "nodes": [
                {key: getattr(node, key) for key in _NODE_KEYS} | {"state": node.state.value} for node in self.nodes
            ],
            "hourly_usd": self.hourly_cost,
            "accrued_usd": self.accrued_cost,
            "created_at": format_instant(self.created_at),
            "expires_at": format_instant(self.expires_at) if self.expires_at else None,
            "tags": self.tags,
        }

    def __repr__(self) -> str:
        """Return name, state and place."""
        where = f" in {self.provider} {self.zone or self.region}" if self.provider else ""
        return f"<Cluster {self.name} {self.state.value}{where}>"

    def __reduce__(self) -> tuple[Callable[..., "Cluster"], tuple[object, ...]]:
        """Pickle the cluster as a reference: its name and its id in the ledger, which the process that unpickles it must share."""
        return _referenced, (type(self), self.name, self.id)

    def _repr_html_(self) -> str:
        from multicompute.cluster_view import render_html

        return render_html(self)

    def _timeout(self, timeout: str | timedelta | None) -> timedelta:
        return self.spec.timeout if timeout is None else parse_duration(timeout, what="timeout")

    def _original_plan(self) -> "Plan":
        if self._plan is None:
            from multicompute.engine.planning import plan_for

            # The ledger does not keep plans: a cluster that was fetched by name has the plan as it would be now.
            self._plan = plan_for(self._session, self.spec, outages=())
        return self._plan


async def _in_thread(
    work: "Callable[[Cancellation], T]", *, detach: bool = False, undo: "Callable[[T], object] | None" = None
) -> T:
    """Return the result of `work` without blocking the event loop; if the task is cancelled, the work is cancelled too."""
    # Imported here: asyncio takes 20 ms, and most programs call the synchronous methods.
    from multicompute.engine.operation.cancellation import Cancellation
    from multicompute.engine.operation.threads import in_thread

    cancellation = Cancellation(detach=detach)
    return await in_thread(lambda: work(cancellation), cancellation=cancellation, undo=undo)


def _is_in_event_loop() -> bool:
    """Return whether code of this thread runs in an event loop that it should not block.

    A notebook runs every cell in one, and waits for the cell as it should.
    """
    # Not imported: if nothing has imported it, no loop runs.
    asyncio = sys.modules.get("asyncio")
    return asyncio is not None and asyncio._get_running_loop() is not None and "ipykernel" not in sys.modules


def _referenced(kind: type[Cluster], name: str, cluster_id: str) -> Cluster:
    """Return the cluster that a pickled reference names.

    Raises:
        ClusterNotFound: It is not in the ledger of this process; a newer cluster of the same name is another one.
    """
    try:
        return kind.get(cluster_id)
    except ClusterNotFound:
        raise ClusterNotFound(
            f"{name}: the cluster of this reference is not in the ledger of this process",
            hint="processes share clusters if they share the ledger: set `state` in the configuration, or MULTICOMPUTE_STATE",
        ) from None


def _state(state: ClusterState | str | None) -> ClusterState | None:
    if state is None:
        return None
    try:
        return ClusterState(state.upper())
    except ValueError:
        known = ", ".join(ClusterState)
        raise SpecError(f"state={state!r}: no such state; the states are {known}") from None


def _event_callback(spec: "ClusterSpec") -> "AbstractContextManager[EventCallback | None]":
    """Return what receives events: the caller's function, or a progress bar if there is a terminal to show it on."""
    if callable(spec.progress):
        return nullcontext(spec.progress)
    if spec.progress is False or (spec.progress is None and not sys.stderr.isatty()):
        return nullcontext(None)
    from multicompute.progress import terminal_progress

    return terminal_progress()
