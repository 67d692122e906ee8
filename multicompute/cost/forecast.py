"""Forecasts what live clusters will have cost when they end."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal

from multicompute.cost.billing import EXACT, cost_of, hourly_cost_of, per_hour, rounded, seconds
from multicompute.cost.budget import budget_of
from multicompute.ledger.records import ClusterRecord, NodeRecord
from multicompute.node import ClusterState
from multicompute.units import format_instant, format_usd

Account = tuple[ClusterRecord, Sequence[NodeRecord]]
"""A cluster and every node that it has had."""


@dataclass(frozen=True, slots=True)
class Forecast:
    """The future cost of a cluster, if it stays as it is until its end.

    Attributes:
        cluster, id: Name and id of the cluster.
        hourly_cost: USD per hour for the live nodes.
        accrued: USD so far, since the cluster began.
        budget: USD at which it is terminated; None for no limit.
        budget_at: When its cost reaches the budget, if it is not terminated before; None for never.
        ends_at: Its expiry or `budget_at`, whichever is first; None for no end.
        remaining: USD from now until the end; None if there is no end.
    """

    cluster: str
    id: str
    hourly_cost: Decimal
    accrued: Decimal
    budget: Decimal | None
    budget_at: datetime | None
    ends_at: datetime | None
    remaining: Decimal | None

    @property
    def total(self) -> Decimal | None:
        """USD at its end; None if there is no end."""
        return None if self.remaining is None else EXACT.add(self.accrued, self.remaining)

    @property
    def warning(self) -> str:
        """A warning if the cluster spends its budget before its expiry, else ""."""
        if self.budget is None or self.budget_at is None or self.budget_at != self.ends_at:
            return ""
        budget = format_usd(float(self.budget))
        if self.accrued >= self.budget:
            return f"{self.cluster} has spent its budget of {budget}; `multicompute reap` terminates it"
        return f"{self.cluster} reaches its budget of {budget} at {format_instant(self.budget_at)}"

    def to_dict(self) -> dict[str, object]:
        """Return the JSON form, rounded half to even to 6 digits."""
        return {
            "cluster": self.cluster,
            "id": self.id,
            "hourly_usd": rounded(self.hourly_cost),
            "accrued_usd": rounded(self.accrued),
            "budget_usd": None if self.budget is None else rounded(self.budget),
            "budget_at": format_instant(self.budget_at) if self.budget_at else None,
            "ends_at": format_instant(self.ends_at) if self.ends_at else None,
            "to_come_usd": None if self.remaining is None else rounded(self.remaining),
            "in_all_usd": None if self.total is None else rounded(self.total),
        }


def forecasts(accounts: Iterable[Account], *, minimums: Mapping[str, timedelta], now: datetime) -> tuple[Forecast, ...]:
    """Return a forecast for each live cluster that is not terminating, in their order."""
    return tuple(
        _forecast(cluster, nodes, minimums, now)
        for cluster, nodes in accounts
        if cluster.state.is_live and cluster.state is not ClusterState.TERMINATING
    )


def _forecast(
    cluster: ClusterRecord, nodes: Sequence[NodeRecord], minimums: Mapping[str, timedelta], now: datetime
) -> Forecast:
    accrued, hourly = cost_of(nodes, minimums=minimums, now=now), hourly_cost_of(nodes)
    budget = budget_of(cluster)
    budget_at = _budget_at(budget, accrued, hourly, now)
    ends = [end for end in (cluster.expires_at, budget_at) if end is not None]
    # A cluster that is past its end is terminated by the next reap.
    ends_at = max(min(ends), now) if ends else None
    remaining = None if ends_at is None else per_hour(EXACT.multiply(hourly, seconds(ends_at - now)))
    return Forecast(cluster.name, cluster.id, hourly, accrued, budget, budget_at, ends_at, remaining)


def _budget_at(budget: Decimal | None, accrued: Decimal, hourly: Decimal, now: datetime) -> datetime | None:
    if budget is None or (not hourly and accrued < budget):
        return None
    if accrued >= budget:
        return now
    try:
        return now + timedelta(hours=float(EXACT.divide(EXACT.subtract(budget, accrued), hourly)))
    except OverflowError:
        return None
