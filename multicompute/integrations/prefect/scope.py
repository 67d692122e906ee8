"""Requests clusters for the current flow or task, and the context manager that terminates them after its block."""

import asyncio
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Unpack

from multicompute.cluster import Cluster
from multicompute.cluster_requests import RequestArguments
from multicompute.errors import ClusterNotFound, SpecError
from multicompute.integrations.prefect.block import Configuration, aload, configured, load
from multicompute.integrations.prefect.records import ashow_cost, plan_page, show_cost
from multicompute.integrations.prefect.runs import request_arguments
from multicompute.node import ClusterState


def cluster(
    gpus: int | None = None,
    type: str | Sequence[str] = (),
    *,
    config: Configuration = None,
    **arguments: Unpack[RequestArguments],
) -> "ClusterScope":
    """Return a context manager that requests a cluster and terminates it, for use inside a flow or a task.

    It works with `with` and `async with`. The tags of the cluster name the flow, the flow run and the task. Its events go to
    the log of the run, and its plan and cost are artifacts of the run. The name depends on the run and the request, so a flow
    run that is started again after a crash gets the cluster that it had.

    Args:
        gpus: The total number of accelerators.
        type: An accelerator, TPU slice type or instance type; a list means any of them.
        config: A `Multicompute` block or the name of one; by default the configuration of the machine that runs the flow.
        **arguments: The other arguments of `Cluster.request`.

    Raises:
        MissingContextError: On entry, outside of flows and tasks.
        SpecError: On entry by `with` in an event loop, which it would block.
        MulticomputeError: On entry, any error of `Cluster.request`.

    Example:
        >>> @flow
        ... def train() -> None:
        ...     with cluster(gpus=64, type="h100", ttl="12h") as fleet:
        ...         print(fleet.head.private_ip)
    """
    return ClusterScope(gpus, type, config, arguments)


class ClusterScope:
    """A context manager that requests a cluster on entry and terminates it on exit; made by `cluster`."""

    def __init__(
        self, gpus: int | None, type: str | Sequence[str], config: Configuration, arguments: Mapping[str, Any]
    ) -> None:
        """Keep the arguments of the request, which is made on entry."""
        self._arguments = (gpus, type, arguments)
        self._config = config
        self._cluster: Cluster | None = None

    def __enter__(self) -> Cluster:
        """Request the cluster and return it when it is ready."""
        refuse_event_loop("`with cluster(...)`", instead="`async with cluster(...)`")
        gpus, type, arguments = self._arguments
        with configured(load(self._config)):
            self._cluster = obtain(request_arguments(gpus, type, arguments))
        return self._cluster.__enter__()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Terminate the cluster and record its cost."""
        assert self._cluster is not None
        self._cluster.__exit__(kind, error, trace)
        show_cost(self._cluster)

    async def __aenter__(self) -> Cluster:
        """Request the cluster without blocking the event loop."""
        gpus, type, arguments = self._arguments
        with configured(await aload(self._config)):
            self._cluster = await aobtain(request_arguments(gpus, type, arguments))
        return await self._cluster.__aenter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Terminate the cluster without blocking the event loop, and record its cost."""
        assert self._cluster is not None
        await self._cluster.__aexit__(kind, error, trace)
        await ashow_cost(self._cluster)


def obtain(wanted: Mapping[str, Any]) -> Cluster:
    """Publish the plan and request the cluster. Nothing that could fail runs after the request."""
    if page := plan_page(wanted):
        page.show()
    _finish_teardown(wanted["name"])
    return Cluster.request(**wanted)


async def aobtain(wanted: Mapping[str, Any]) -> Cluster:
    """Do the same as `obtain`, for code in an event loop."""
    if page := await asyncio.to_thread(plan_page, wanted):
        await page.ashow()
    await asyncio.to_thread(_finish_teardown, wanted["name"])
    return await Cluster.arequest(**wanted)


def refuse_event_loop(what: str, *, instead: str) -> None:
    """Refuse a blocking call in a thread with a running event loop.

    Args:
        what: The call, for the message.
        instead: The call to use in an event loop.

    Raises:
        SpecError: An event loop runs in this thread.
    """
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return
    raise SpecError(f"{what} would block the event loop", hint=f"write {instead}")


def _finish_teardown(name: str) -> None:
    """Finish the teardown of an earlier try's cluster, whose name is not free before that."""
    try:
        earlier = Cluster.get(name)
    except ClusterNotFound:
        return
    if earlier.state is ClusterState.TERMINATING:
        earlier.terminate()
