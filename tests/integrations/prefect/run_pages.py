"""Reads the artifacts and the log of a flow run from Prefect's server."""

import asyncio
from typing import Any
from uuid import UUID

from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterFlowRunId, LogFilter, LogFilterFlowRunId
from prefect.context import FlowRunContext
from prefect.logging.handlers import APILogWorker
from prefect.utilities.asyncutils import run_coro_as_sync


def run_id() -> str:
    context = FlowRunContext.get()
    assert context is not None and context.flow_run is not None
    return str(context.flow_run.id)


async def _page(flow_run: str) -> tuple[dict[str, Any], str]:
    """Return the artifacts of a flow run by key, and its log."""
    async with get_client() as client:
        artifacts = await client.read_artifacts(
            artifact_filter=ArtifactFilter(flow_run_id=ArtifactFilterFlowRunId(any_=[UUID(flow_run)]))
        )
        logs = await client.read_logs(LogFilter(flow_run_id=LogFilterFlowRunId(any_=[UUID(flow_run)])))
        return {str(each.key): each for each in artifacts}, "\n".join(log.message for log in logs)


def page(flow_run: str) -> tuple[dict[str, Any], str]:
    run_coro_as_sync(_drain_logs())
    return asyncio.run(_page(flow_run))


async def _drain_logs() -> None:
    drained = APILogWorker.instance().drain()
    assert not isinstance(drained, bool)
    await drained
