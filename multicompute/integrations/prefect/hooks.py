"""Hooks that terminate the clusters that a flow run leaves. After a crash, they run in the process that started the run."""

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
    """Terminate the remaining clusters of each run of this flow, whether it completes, fails, is cancelled or crashes.

    The hooks find the clusters in the ledger, by the tags of the run and of its subflow runs. After a crash or a cancellation
    they run in the process that started the run (a worker, or `serve`), which needs access to the same ledger.

    Args:
        flow: The flow, which is changed and returned.
        config: The same as for the requests.

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
    """Terminate the remaining clusters of a flow run; a hook for a single event, such as `on_crashed`.

    Raises:
        ExceptionGroup: Some clusters could not be terminated. All were tried, and `multicompute reap` tries again.
    """
    await _terminate(flow, flow_run, state, None)


async def _terminate(flow: Flow[Any, Any], flow_run: FlowRun, state: State[Any], config: Configuration) -> None:
    logger = flow_run_logger(flow_run, flow)

    async def terminate(cluster: Cluster) -> None:
        logger.warning("%s: terminating it; its flow run is %s", cluster.name, state.name)
        await cluster.aterminate()
        logger.info("%s: %s, %s", cluster.name, cluster.state.value, format_usd(cluster.accrued_cost))

    with configured(await aload(config)):
        clusters = await asyncio.to_thread(_remaining_clusters, [flow_run.id, *await _subflow_runs(flow_run.id)])
        answers = await asyncio.gather(*map(terminate, clusters), return_exceptions=True)
    if errors := [answer for answer in answers if isinstance(answer, BaseException)]:
        raise BaseExceptionGroup(f"{len(errors)} of {len(clusters)} clusters could not be terminated", errors)


def _remaining_clusters(runs: list[UUID]) -> list[Cluster]:
    wanted = {str(run) for run in runs}
    return [cluster for cluster in Cluster.list() if cluster.tags.get(FLOW_RUN_TAG) in wanted]


async def _subflow_runs(flow_run: UUID) -> list[UUID]:
    """Return the runs of subflows at all levels. If the process was killed, their own hooks did not run."""
    found: list[UUID] = []
    async with get_client() as client:
        parents = [flow_run]
        while parents:
            parents = await _children(client, parents)
            found += parents
    return found


async def _children(client: PrefectClient, parents: list[UUID]) -> list[UUID]:
    children: list[UUID] = []
    of_these = FlowRunFilter(parent_flow_run_id=FlowRunFilterParentFlowRunId(any_=parents))
    while True:
        page = await client.read_flow_runs(flow_run_filter=of_these, limit=_PAGE, offset=len(children))
        children += [run.id for run in page]
        if len(page) < _PAGE:
            return children
