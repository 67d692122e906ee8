"""Hooks that end what a flow run leaves, however it ended; after a crash they run in the process that watches over the flow's own."""

import asyncio
from typing import Any, Final, ParamSpec, TypeVar
from uuid import UUID

from prefect import Flow
from prefect.client.orchestration import PrefectClient, get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterParentFlowRunId
from prefect.client.schemas.objects import FlowRun, State
from prefect.logging.loggers import flow_run_logger

from multicompute.cluster import Cluster
from multicompute.integrations.prefect.block import Configuration, aload, configured
from multicompute.integrations.prefect.runs import FLOW_RUN_TAG
from multicompute.units import format_usd

P = ParamSpec("P")
R = TypeVar("R")
_PAGE: Final = 200


def ends_its_clusters(flow: Flow[P, R], *, config: Configuration = None) -> Flow[P, R]:
    """Let no cluster outlive a run of this flow: completed, failed, cancelled or crashed.

    Clusters are found in the ledger by the tags of the run and of its subflows' runs. After a crash or a cancellation the hooks run in the
    process that started the flow's own (a worker, or `serve`), which has to reach the same ledger.

    Args:
        flow: is changed, and returned.
        config: as for the requests.

    Example:
        >>> @ends_its_clusters
        ... @flow
        ... def train() -> None: ...
    """

    async def terminate_its_clusters(flow: Flow[P, R], flow_run: FlowRun, state: State[Any]) -> None:
        await _terminate(flow, flow_run, state, config)

    for register in (flow.on_completion, flow.on_failure, flow.on_cancellation, flow.on_crashed):
        register(terminate_its_clusters)
    return flow


async def terminate_clusters(flow: Flow[Any, Any], flow_run: FlowRun, state: State[Any]) -> None:
    """A hook for single events of a flow, such as `on_crashed`; `ends_its_clusters` sets it for all that end it.

    Raises:
        ExceptionGroup: some could not be ended; all were tried, and `multicompute reap` goes on.
    """
    await _terminate(flow, flow_run, state, None)


async def _terminate(flow: Flow[Any, Any], flow_run: FlowRun, state: State[Any], config: Configuration) -> None:
    logger = flow_run_logger(flow_run, flow)

    async def end(cluster: Cluster) -> None:
        logger.warning("%s: still %s; its flow run is %s: ending it", cluster.name, cluster.state.value, state.name)
        await cluster.aterminate()
        logger.info("%s: %s, %s", cluster.name, cluster.state.value, format_usd(cluster.accrued_cost))

    with configured(await aload(config)):
        left = await asyncio.to_thread(_left, [flow_run.id, *await _subflow_runs(flow_run.id)])
        answers = await asyncio.gather(*map(end, left), return_exceptions=True)
    if errors := [answer for answer in answers if isinstance(answer, BaseException)]:
        raise BaseExceptionGroup(f"{len(errors)} of {len(left)} clusters are not ended yet", errors)


def _left(runs: list[UUID]) -> list[Cluster]:
    wanted = {str(run) for run in runs}
    return [cluster for cluster in Cluster.list() if cluster.tags.get(FLOW_RUN_TAG) in wanted]


async def _subflow_runs(flow_run: UUID) -> list[UUID]:
    """The runs of subflows, and of theirs: when the process was killed, nobody has run their hooks."""
    found: list[UUID] = []
    async with get_client() as client:
        layer = [flow_run]
        while layer:
            layer = await _children(client, layer)
            found += layer
    return found


async def _children(client: PrefectClient, parents: list[UUID]) -> list[UUID]:
    children: list[UUID] = []
    of_these = FlowRunFilter(parent_flow_run_id=FlowRunFilterParentFlowRunId(any_=parents))
    while True:
        page = await client.read_flow_runs(flow_run_filter=of_these, limit=_PAGE, offset=len(children))
        children += [run.id for run in page]
        if len(page) < _PAGE:
            return children
