"""Gets clusters for the flow or task that runs here, and the context manager that ends them with its block."""

import asyncio
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Unpack

from multicompute.cluster import Cluster
from multicompute.cluster_requests import RequestArguments
from multicompute.errors import ClusterNotFound, SpecError
from multicompute.integrations.prefect.block import Configuration, aload, configured, load
from multicompute.integrations.prefect.records import ashow_cost, plan_page, show_cost
from multicompute.integrations.prefect.runs import asked_for
from multicompute.node import ClusterState


def cluster(
    gpus: int | None = None,
    type: str | Sequence[str] = (),
    *,
    config: Configuration = None,
    **arguments: Unpack[RequestArguments],
) -> "Lent":
    """A cluster for as long as the `with` or `async with` lasts, inside a flow or a task.

    It carries flow, flow run and task in its tags, and its events go to the run's log; plan and cost are artifacts of the run. Its name
    comes from the run and the request: a flow run that is begun again after a crash gets the cluster that it had.

    Args:
        gpus: accelerators in all.
        type: accelerator, TPU slice or instance type; a list means any of these.
        config: a `Multicompute` block, or the name of one; without it the configuration of the machine that runs the flow.
        **arguments: as `Cluster.request`.

    Raises:
        MissingContextError: entered outside of flows and tasks.
        SpecError: entered by `with` in an event loop, which would be blocked; or as `Cluster.request`, like all else.

    Example:
        >>> @flow
        ... def train() -> None:
        ...     with cluster(gpus=64, type="h100", ttl="12h") as fleet:
        ...         print(fleet.head.private_ip)
    """
    return Lent(gpus, type, config, arguments)


class Lent:
    """What `cluster` gives: enter it to have the cluster, leave it to end it."""

    def __init__(
        self, gpus: int | None, type: str | Sequence[str], config: Configuration, arguments: Mapping[str, Any]
    ) -> None:
        """Made by `cluster`."""
        self._wish = (gpus, type, arguments)
        self._config = config
        self._cluster: Cluster | None = None

    def __enter__(self) -> Cluster:
        refuse_event_loop("`with cluster(...)`", instead="`async with cluster(...)`")
        gpus, type, arguments = self._wish
        with configured(load(self._config)):
            self._cluster = obtain(asked_for(gpus, type, arguments))
        return self._cluster.__enter__()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._cluster is not None
        self._cluster.__exit__(kind, error, trace)
        show_cost(self._cluster)

    async def __aenter__(self) -> Cluster:
        gpus, type, arguments = self._wish
        with configured(await aload(self._config)):
            self._cluster = await aobtain(asked_for(gpus, type, arguments))
        return await self._cluster.__aenter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._cluster is not None
        await self._cluster.__aexit__(kind, error, trace)
        await ashow_cost(self._cluster)


def obtain(wanted: Mapping[str, Any]) -> Cluster:
    """Show the plan and get the cluster. Nothing stands between its coming up and the return that could fail."""
    if page := plan_page(wanted):
        page.show()
    _see_off(wanted["name"])
    return Cluster.request(**wanted)


async def aobtain(wanted: Mapping[str, Any]) -> Cluster:
    """`obtain` for code that runs in an event loop."""
    if page := await asyncio.to_thread(plan_page, wanted):
        await page.ashow()
    await asyncio.to_thread(_see_off, wanted["name"])
    return await Cluster.arequest(**wanted)


def refuse_event_loop(what: str, *, instead: str) -> None:
    """Refuse to wait for clouds where an event loop runs, since all else in it would wait too.

    Raises:
        SpecError: there is one in this thread.
    """
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return
    raise SpecError(f"{what} would block the event loop", hint=f"write {instead}")


def _see_off(name: str) -> None:
    """See the end of one that an earlier try had, and that is being torn down: its name is not free before."""
    try:
        earlier = Cluster.get(name)
    except ClusterNotFound:
        return
    if earlier.state is ClusterState.TERMINATING:
        earlier.terminate()
