"""The artifacts of a run: the plan that its cluster was chosen from, and the cost."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import httpx
from prefect.artifacts import acreate_markdown_artifact, acreate_table_artifact
from prefect.exceptions import PrefectException
from prefect.logging import get_run_logger
from prefect.utilities.asyncutils import run_coro_as_sync

from multicompute.cluster import Cluster
from multicompute.errors import MulticomputeError
from multicompute.plan_text import requested
from multicompute.units import counted, format_instant, format_usd

_SHOWN: Final = 20
_SERVER_ERRORS: Final = (httpx.HTTPError, PrefectException, OSError)
"""The errors of the server. A failed artifact must neither fail the flow nor prevent a teardown."""


@dataclass(frozen=True, slots=True)
class PlanPage:
    """The first candidates as a table, without arguments of the request that may contain secrets."""

    rows: list[dict[str, Any]]
    title: str

    def show(self) -> None:
        """Do the same as `ashow`, for code outside of an event loop."""
        run_coro_as_sync(self.ashow())

    async def ashow(self) -> None:
        """Publish the table as an artifact of the run."""
        try:
            await acreate_table_artifact(self.rows, key="multicompute-plan", description=self.title)
        except _SERVER_ERRORS as error:
            _log(error)


def plan_page(wanted: Mapping[str, Any]) -> PlanPage | None:
    """Return the plan for a request, or None if planning fails; the request itself raises the error."""
    try:
        plan = Cluster.plan(**wanted)
    except MulticomputeError:
        return None
    rejected = sum(rejection.count for rejection in plan.rejected.values())
    title = f"{wanted['name']}: {counted(len(plan.candidates), 'candidate')}, cheapest first; {counted(rejected, 'offer')} rejected"
    return PlanPage([candidate.to_dict() for candidate in plan.candidates[:_SHOWN]], title)


def cost_page(cluster: Cluster) -> str:
    """Return what a cluster has cost so far, as Markdown."""
    spec = cluster.spec
    rows = {
        "state": cluster.state.value,
        "requested": requested(spec),
        "where": " ".join(filter(None, (cluster.provider, cluster.zone or cluster.region))) or "nowhere",
        "since": format_instant(cluster.created_at),
        "cost": format_usd(cluster.accrued_cost),
    }
    lines = "".join(f"| {key} | {value.replace('|', '/')} |\n" for key, value in rows.items())
    return f"## {cluster.name}\n\n| | |\n| --- | --- |\n{lines}"


async def ashow_cost(cluster: Cluster) -> None:
    """Publish a cluster's cost as an artifact of the run, and log it."""
    get_run_logger().info("%s: %s, %s", cluster.name, cluster.state.value, format_usd(cluster.accrued_cost))
    try:
        await acreate_markdown_artifact(cost_page(cluster), key="multicompute-cost")
    except _SERVER_ERRORS as error:
        _log(error)


def show_cost(cluster: Cluster) -> None:
    """Do the same as `ashow_cost`, for code outside of an event loop."""
    run_coro_as_sync(ashow_cost(cluster))


def _log(error: Exception) -> None:
    get_run_logger().warning("Prefect's server did not take an artifact: %s", error)
