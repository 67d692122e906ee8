"""What a run's page shows: the plan that a cluster was chosen from, and what it has cost."""

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
from multicompute.units import format_instant, format_usd

_SHOWN: Final = 20
_UNREACHABLE: Final = (httpx.HTTPError, PrefectException, OSError)
"""What the server may answer. A page that can't be written must not end the work, nor keep a cluster from being ended."""


@dataclass(frozen=True, slots=True)
class PlanPage:
    """The first candidates as a table; no argument of the request that may hold a secret is in it."""

    rows: list[dict[str, Any]]
    title: str

    def show(self) -> None:
        """`ashow` for code that runs in no event loop."""
        run_coro_as_sync(self.ashow())

    async def ashow(self) -> None:
        """Put it on the run's page."""
        try:
            await acreate_table_artifact(self.rows, key="multicompute-plan", description=self.title)
        except _UNREACHABLE as error:
            _note(error)


def plan_page(wanted: Mapping[str, Any]) -> PlanPage | None:
    """The plan for a request as it is now, None where there is none: the request itself says why."""
    try:
        plan = Cluster.plan(**wanted)
    except MulticomputeError:
        return None
    left_out = sum(rejection.count for rejection in plan.rejected.values())
    title = f"{wanted['name']}: {len(plan.candidates)} candidates, cheapest first; {left_out} offers left out"
    return PlanPage([candidate.to_dict() for candidate in plan.candidates[:_SHOWN]], title)


def cost_page(cluster: Cluster) -> str:
    """What a cluster has cost so far, as Markdown."""
    spec = cluster.spec
    rows = {
        "state": cluster.state.value,
        "asked for": f"{spec.gpus or ''} x {', '.join(spec.type)}",
        "where": " ".join(filter(None, (cluster.provider, cluster.zone or cluster.region))) or "nowhere",
        "since": format_instant(cluster.created_at),
        "cost": format_usd(cluster.accrued_cost),
    }
    lines = "".join(f"| {key} | {value.replace('|', '/')} |\n" for key, value in rows.items())
    return f"## {cluster.name}\n\n| | |\n| --- | --- |\n{lines}"


async def ashow_cost(cluster: Cluster) -> None:
    """Put a cluster's cost on the run's page and into its log."""
    get_run_logger().info("%s: %s, %s", cluster.name, cluster.state.value, format_usd(cluster.accrued_cost))
    try:
        await acreate_markdown_artifact(cost_page(cluster), key="multicompute-cost")
    except _UNREACHABLE as error:
        _note(error)


def show_cost(cluster: Cluster) -> None:
    """`ashow_cost` for code that runs in no event loop."""
    run_coro_as_sync(ashow_cost(cluster))


def _note(error: Exception) -> None:
    get_run_logger().warning("Prefect's server did not take an artifact: %s", error)
