"""The handle: what users hold of a fleet. Thin; the engine does the work."""

import builtins
import sys
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self, Unpack, overload

from multicompute.engine.planning import plan_for, require_candidate
from multicompute.errors import ClusterNotFound, SpecError
from multicompute.node import ClusterState, Event, Node, Sample
from multicompute.plan import Plan
from multicompute.session import Session, open_session
from multicompute.spec import ClusterSpec, SpecArguments
from multicompute.units import format_instant, parse_duration

if TYPE_CHECKING:
    from types import TracebackType

    from multicompute.engine.operation.cancellation import Cancellation
    from multicompute.engine.operation.events import EventCallback
    from multicompute.ledger import ClusterRecord, NodeRecord


class _PlanOf:
    """`Cluster.plan(...)` makes a plan; `cluster.plan` is the one that a cluster was made from."""

    @overload
    def __get__(self, cluster: None, owner: type["Cluster"]) -> "_Planner": ...

    @overload
    def __get__(self, cluster: "Cluster", owner: type["Cluster"]) -> Plan: ...

    def __get__(self, cluster: "Cluster | None", owner: type["Cluster"]) -> "_Planner | Plan":
        return _Planner() if cluster is None else cluster._made_from()


class _Planner:
    """Plans without touching any cloud."""

    def __call__(
        self, gpus: int | None = None, type: str | Sequence[str] = (), **arguments: Unpack[SpecArguments]
    ) -> Plan:
        """The candidates for a request, cheapest first, and why everything else was left out; touches no cloud.

        Takes the arguments of `Cluster.request`.

        Raises:
            SpecError: an argument is unknown, not of its kind, or contradicts another.
            NoOfferError: nothing in the catalog meets the spec; carries the plan.
            CapacityError: what meets it is ruled out by remembered outages.
        """
        session = open_session()
        spec = _spec(gpus, type, arguments)
        plan = plan_for(session, spec)
        require_candidate(plan, lambda: plan_for(session, spec, outages=()))
        return plan


class Cluster:
    """A fleet of accelerators: machines that came up together and end together.

    A context manager: leaving the block terminates it, also on an exception, Ctrl-C and SIGTERM.

    Example:
        >>> with Cluster.request(gpus=64, type="h100", ttl="12h") as cluster:
        ...     print(cluster.head.private_ip, cluster.hourly_cost)
    """

    plan: ClassVar = _PlanOf()

    def __init__(self, session: Session, record: "ClusterRecord", *, plan: Plan | None = None) -> None:
        """Made by `request`, `get` and `list`."""
        from multicompute.engine.operation.cancellation import TermGuard

        self._session = session
        self._record = record
        self._plan = plan
        self._guard = TermGuard()

    # Making and finding

    @classmethod
    def request(
        cls, gpus: int | None = None, type: str | Sequence[str] = (), **arguments: Unpack[SpecArguments]
    ) -> Self:
        """Get a cluster, all of it or nothing: tries candidate after candidate, cheapest first, in every cloud that is configured.

        The same request with the same `name` again returns the same cluster. Blocks until READY unless `wait=False`.

        Args:
            gpus: accelerators in all.
            type: accelerator ("h100"), TPU slice ("v5p-128") or exact instance type; a list means any of these.
            **arguments: every other field of `ClusterSpec`, which says what it means.

        Raises:
            SpecError: an argument is unknown, not of its kind, or contradicts another; nothing was sent to any cloud.
            NoOfferError: nothing in the catalog meets the spec.
            ClusterExists: a live cluster of that name was requested otherwise.
            CapacityError, QuotaError: no candidate could be had; says what was tried. Nothing is left running.
            AuthError, AccessDeniedError, InvalidRequestError, ProviderError: a cloud refused. Nothing is left running.
            ProvisionTimeout: not ready within `timeout`. Nothing is left running.
            LedgerError: the ledger can't be written; nothing is launched that can't be written down first.
        """
        return cls._request(_spec(gpus, type, arguments), None)

    @classmethod
    async def arequest(
        cls, gpus: int | None = None, type: str | Sequence[str] = (), **arguments: Unpack[SpecArguments]
    ) -> Self:
        """`request` for code that runs in an event loop; a cancelled task tears down what it began."""
        from multicompute.engine.operation.cancellation import Cancellation
        from multicompute.engine.operation.threads import in_thread

        stop = Cancellation()
        spec = _spec(gpus, type, arguments)
        return await in_thread(lambda: cls._request(spec, stop), stop=stop, undo=lambda cluster: cluster.terminate())

    @classmethod
    def _request(cls, spec: ClusterSpec, stop: "Cancellation | None") -> Self:
        from multicompute.engine.provision.request import request

        session = open_session()
        with _watcher(spec) as watch:
            return cls(session, request(session, spec, watch=watch, stop=stop))

    @classmethod
    def get(cls, name: str) -> Self:
        """The live cluster of this name, else the last one that had it.

        Raises:
            ClusterNotFound: there was never one.
        """
        session = open_session()
        if not session.has_ledger:
            raise ClusterNotFound(
                f"{name}: no cluster of this name", hint="`multicompute ls --all` lists what there is"
            )
        return cls(session, session.ledger.find(name))

    @classmethod
    def list(
        cls,
        *,
        state: ClusterState | str | None = None,
        tags: Mapping[str, str] | None = None,
        include_ended: bool = False,
    ) -> builtins.list[Self]:
        """The clusters in the ledger, oldest first.

        Args:
            state: only those in this state ("READY", ...); the ended states are looked for, too.
            tags: only those with all of these tags.
            include_ended: also those that have ended.

        Raises:
            SpecError: no state is called like that.
        """
        wanted = _state(state)
        session = open_session()
        if not session.has_ledger:
            return []
        include_ended = include_ended or (wanted is not None and not wanted.is_live)
        found = (cls(session, record) for record in session.ledger.clusters(include_ended=include_ended))
        return [
            cluster
            for cluster in found
            if wanted in (None, cluster.state) and all(cluster.tags.get(k) == v for k, v in (tags or {}).items())
        ]

    # What it is

    @property
    def id(self) -> str:
        """The cluster's own id, in the tag multicompute-id of all that belongs to it."""
        return self._record.id

    @property
    def name(self) -> str:
        return self._record.name

    @property
    def state(self) -> ClusterState:
        """The state at the last look: `refresh` looks again."""
        return self._record.state

    @property
    def reason(self) -> str:
        """Why it has ended or is ending, "" while it lives."""
        return self._record.reason

    @property
    def blocked_on(self) -> str:
        """What its teardown waits for or failed at when it was last tried, "" where it is not being torn down."""
        from multicompute.engine.teardown import blocked_on

        return blocked_on(self.events()) if self.state is ClusterState.TERMINATING else ""

    @property
    def spec(self) -> ClusterSpec:
        """What was asked for."""
        return ClusterSpec.of(self._record.spec)

    @property
    def provider(self) -> str | None:
        return self._record.provider

    @property
    def region(self) -> str | None:
        return self._record.region

    @property
    def zone(self) -> str | None:
        """The zone, None where the nodes are in several."""
        return self._record.zone

    @property
    def nodes(self) -> tuple[Node, ...]:
        """The nodes that live, by rank."""
        return tuple(record.as_node() for record in self._nodes() if record.ended_at is None)

    @property
    def head(self) -> Node:
        """The node of rank 0.

        Raises:
            ClusterNotFound: it has no nodes (yet, or any more).
        """
        nodes = self.nodes
        if not nodes:
            raise ClusterNotFound(f"{self.name}: has no nodes: it is {self.state}")
        return nodes[0]

    @property
    def gpus(self) -> float:
        """Accelerators on the nodes that live, surplus included."""
        return sum(node.accelerators for node in self.nodes)

    @property
    def hourly_cost(self) -> float:
        """USD per hour for the nodes that live, at the prices at which they were bought."""
        return round(sum(node.hourly_cost for node in self.nodes), 6)

    @property
    def accrued_cost(self) -> float:
        """USD so far, by the second, at the prices at which the nodes were bought; none is billed for less than its cloud's minimum."""
        from multicompute.cost.billing import accrued, rounded

        return rounded(accrued(self._session, self.id))

    @property
    def created_at(self) -> datetime:
        return self._record.created_at

    @property
    def expires_at(self) -> datetime | None:
        """Hard end of life in UTC, None for none."""
        return self._record.expires_at

    @property
    def tags(self) -> dict[str, str]:
        """The user's tags; ours come in addition to them."""
        return dict(self.spec.tags)

    def events(self) -> builtins.list[Event]:
        """The cluster's story so far, oldest line first."""
        return self._session.ledger.events(self.id)

    # What it does

    def refresh(self) -> Self:
        """Look at the nodes: lost ones, and those that fail their cloud's checks, make it DEGRADED; a gang that is gone is closed."""
        from multicompute.engine.upkeep.refresh import refresh

        self._record = refresh(self._session, self.id)
        return self

    def wait(
        self, timeout: str | timedelta | None = None, *, on_stop: Literal["terminate", "leave"] = "terminate"
    ) -> Self:
        """Wait until READY, where it was requested with `wait=False`.

        Args:
            timeout: "30m" or a timedelta; the request's own when left out.
            on_stop: what becomes of a cluster that is not READY yet when Ctrl-C, SIGTERM or a cancelled task ends the
                waiting: it is torn down, or left as it is, for another process to go on with.

        Raises:
            MulticomputeError: as `request` does.
        """
        from multicompute.engine.operation.cancellation import Cancellation

        return self._wait(timeout, Cancellation(leaves=on_stop == "leave"))

    def _wait(self, timeout: str | timedelta | None, stop: "Cancellation") -> Self:
        from multicompute.engine.provision.request import bring_up

        limit = self.spec.timeout if timeout is None else parse_duration(timeout, what="timeout")
        self._record = bring_up(self._session, self._session.ledger.cluster(self.id), timeout=limit, stop=stop)
        return self

    def wait_for(self, state: ClusterState | str, timeout: str | timedelta | None = None) -> Self:
        """Look at the nodes again and again until the cluster is in a state, such as "degraded".

        Args:
            state: the name of the state, in any case.
            timeout: how long to look, "30m" or a timedelta; for ever when left out.

        Raises:
            SpecError: no state is called like that.
            ClusterNotFound: it has ended, in another state than the one that is waited for.
            ProvisionTimeout: it was not in that state in time.
        """
        return self._wait_for(state, timeout, None)

    def _wait_for(
        self, state: ClusterState | str, timeout: str | timedelta | None, stop: "Cancellation | None"
    ) -> Self:
        from multicompute.engine.upkeep.refresh import wait_for

        wanted = _state(state)
        assert wanted is not None
        limit = None if timeout is None else parse_duration(timeout, what="timeout")
        self._record = wait_for(self._session, self.id, wanted, timeout=limit, stop=stop)
        return self

    def heal(self, timeout: str | timedelta | None = None) -> Self:
        """Replace the nodes that are gone: at the same offers, with the same ranks, all of them or none; the others are not touched.

        Nodes that run and only fail their cloud's checks are not replaced.

        Args:
            timeout: "30m" or a timedelta; the request's own when left out.

        Raises:
            CapacityError, QuotaError, ...: the cloud has no such nodes there now; the cluster is as it was before.
            ProvisionTimeout: they did not come to run in time; the cluster is as it was before.
            ProviderError: some hosts of a slice are gone: slices are bought whole.
            ClusterNotFound: it has ended, or is ending, or is not up yet.
        """
        return self._heal(timeout, None)

    def _heal(self, timeout: str | timedelta | None, stop: "Cancellation | None") -> Self:
        from multicompute.engine.upkeep.heal import heal

        limit = self.spec.timeout if timeout is None else parse_duration(timeout, what="timeout")
        self._record = heal(self._session, self.id, timeout=limit, stop=stop)
        return self

    def metrics(self, window: str | timedelta = "10m") -> builtins.list[Sample]:
        """What the cloud's monitoring has measured of the nodes that live, oldest first; clouds lag by some minutes.

        Args:
            window: how far to look back, "10m" or a timedelta.

        Returns:
            Samples with time and unit. What a cloud does not measure is absent, and never a zero.

        Raises:
            MulticomputeError: a cloud can't be asked.
        """
        from multicompute.monitor.metrics import metrics

        return metrics(self._session, self.nodes, window=parse_duration(window, what="window"))

    def extend(self, by: str | timedelta) -> datetime:
        """Move the end of the lease.

        Args:
            by: how much later, "90m", "2h" or a timedelta; more than zero.

        Returns:
            The new end of life, in UTC.

        Raises:
            SpecError: `by` is not a positive duration, or the cluster has no end of life.
            ClusterNotFound: it has ended or is ending.
        """
        from multicompute.engine.upkeep.extend import extend

        self._record = extend(self._session, self.id, parse_duration(by, what="by"))
        assert self._record.expires_at is not None
        return self._record.expires_at

    def terminate(self, *, wait: bool = True) -> Self:
        """End it: every machine, and what was made beside them. What has ended already is left as it is.

        Args:
            wait: return only when every cloud has said that nothing is left; else `reap` sees to the rest.

        Raises:
            ProviderError: something is left after half an hour; the cluster stays TERMINATING, and `reap` goes on.
        """
        from multicompute.engine.teardown import terminate

        self._record = terminate(self._session, self.id, wait=wait)
        return self

    # The async twins: the same work in a thread, so that the loop is never blocked.

    async def arefresh(self) -> Self:
        """`refresh` for code that runs in an event loop."""
        from multicompute.engine.operation.threads import in_thread

        return await in_thread(self.refresh)

    async def await_(
        self, timeout: str | timedelta | None = None, *, on_stop: Literal["terminate", "leave"] = "terminate"
    ) -> Self:
        """`wait` for code that runs in an event loop; `await` itself is a word of the language."""
        from multicompute.engine.operation.cancellation import Cancellation
        from multicompute.engine.operation.threads import in_thread

        stop = Cancellation(leaves=on_stop == "leave")
        return await in_thread(lambda: self._wait(timeout, stop), stop=stop)

    async def await_for(self, state: ClusterState | str, timeout: str | timedelta | None = None) -> Self:
        """`wait_for` for code that runs in an event loop."""
        from multicompute.engine.operation.cancellation import Cancellation
        from multicompute.engine.operation.threads import in_thread

        stop = Cancellation()
        return await in_thread(lambda: self._wait_for(state, timeout, stop), stop=stop)

    async def aheal(self, timeout: str | timedelta | None = None) -> Self:
        """`heal` for code that runs in an event loop."""
        from multicompute.engine.operation.cancellation import Cancellation
        from multicompute.engine.operation.threads import in_thread

        stop = Cancellation()
        return await in_thread(lambda: self._heal(timeout, stop), stop=stop)

    async def ametrics(self, window: str | timedelta = "10m") -> builtins.list[Sample]:
        """`metrics` for code that runs in an event loop."""
        from multicompute.engine.operation.threads import in_thread

        return await in_thread(lambda: self.metrics(window))

    async def aextend(self, by: str | timedelta) -> datetime:
        """`extend` for code that runs in an event loop."""
        from multicompute.engine.operation.threads import in_thread

        return await in_thread(lambda: self.extend(by))

    async def aterminate(self, *, wait: bool = True) -> Self:
        """`terminate` for code that runs in an event loop."""
        from multicompute.engine.operation.threads import in_thread

        return await in_thread(lambda: self.terminate(wait=wait))

    def __enter__(self) -> Self:
        self._guard.up()
        return self

    def __exit__(
        self, kind: "type[BaseException] | None", error: BaseException | None, trace: "TracebackType | None"
    ) -> None:
        try:
            self._leave(error)
        finally:
            self._guard.down()

    async def __aenter__(self) -> Self:
        self._guard.up()
        return self

    async def __aexit__(
        self, kind: "type[BaseException] | None", error: BaseException | None, trace: "TracebackType | None"
    ) -> None:
        from multicompute.engine.operation.threads import in_thread

        try:
            await in_thread(lambda: self._leave(error))
        finally:
            self._guard.down()

    def _leave(self, error: BaseException | None) -> None:
        from multicompute.engine.teardown import leave

        self._record = leave(self._session, self.id, error)

    # How it shows

    def to_dict(self) -> dict[str, object]:
        """The JSON form that `multicompute show --json` prints."""
        nodes = self.nodes
        return {
            "id": self.id,
            "name": self.name,
            "state": self.state.value,
            "provider": self.provider,
            "region": self.region,
            "zone": self.zone,
            "gpus": self.spec.gpus,
            "type": list(self.spec.type),
            "nodes": [_node_dict(node) for node in nodes],
            "hourly_usd": self.hourly_cost,
            "accrued_usd": self.accrued_cost,
            "created_at": format_instant(self.created_at),
            "expires_at": format_instant(self.expires_at) if self.expires_at else None,
            "tags": self.tags,
        }

    def __repr__(self) -> str:
        where = f" in {self.provider} {self.zone or self.region}" if self.provider else ""
        return f"<Cluster {self.name} {self.state.value}{where}>"

    def _repr_html_(self) -> str:
        from multicompute.cluster_view import render_html

        return render_html(self)

    def _nodes(self) -> "builtins.list[NodeRecord]":
        return self._session.ledger.nodes(self.id)

    def _made_from(self) -> Plan:
        if self._plan is None:
            # Not kept in the ledger: for a cluster that was fetched by name, the plan as it would be now.
            self._plan = plan_for(self._session, self.spec, outages=())
        return self._plan


def _spec(gpus: int | None, type: str | Sequence[str], arguments: Mapping[str, Any]) -> ClusterSpec:
    return ClusterSpec.of({"gpus": gpus, "type": type, **arguments})


def _state(state: ClusterState | str | None) -> ClusterState | None:
    if state is None:
        return None
    try:
        return ClusterState(state.upper())
    except ValueError:
        known = ", ".join(ClusterState)
        raise SpecError(f"state={state!r}: no such state; there are {known}") from None


def _watcher(spec: ClusterSpec) -> "AbstractContextManager[EventCallback | None]":
    """Who is told of events: the caller's function, or a progress bar where there is a terminal to show it on."""
    if callable(spec.progress):
        return nullcontext(spec.progress)
    if spec.progress is False or (spec.progress is None and not sys.stderr.isatty()):
        return nullcontext(None)
    from multicompute.progress import terminal_progress

    return terminal_progress()


def _node_dict(node: Node) -> dict[str, object]:
    return {
        "id": node.id,
        "rank": node.rank,
        "state": node.state.value,
        "private_ip": node.private_ip,
        "public_ip": node.public_ip,
        "instance_type": node.instance_type,
        "zone": node.zone,
    }
