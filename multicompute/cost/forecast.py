"""Forecasts: what the clusters that live will have cost when they end."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal

from multicompute.cost.billing import EXACT, billed, exact, per_hour, rounded, seconds, spent
from multicompute.cost.budget import budget_of
from multicompute.ledger.records import ClusterRecord, NodeRecord
from multicompute.node import ClusterState
from multicompute.units import format_instant, format_usd

Account = tuple[ClusterRecord, Sequence[NodeRecord]]
"""A cluster and every node that it has had."""


@dataclass(frozen=True, slots=True)
class Forecast:
    """What a cluster will come to, when it goes on as it is now until its end.

    Attributes:
        hourly_cost: USD per hour for the nodes that live.
        accrued: USD so far, over its whole life.
        budget: USD at which it is terminated, None for none.
        budget_at: when that will be, if nothing ends it before; None for never.
        ends_at: the end of its life or of its budget, whichever is first; None for no end.
        to_come: USD from now until then; None where there is no end.
    """

    cluster: str
    id: str
    hourly_cost: Decimal
    accrued: Decimal
    budget: Decimal | None
    budget_at: datetime | None
    ends_at: datetime | None
    to_come: Decimal | None

    @property
    def in_all(self) -> Decimal | None:
        """USD at its end, None where there is no end."""
        return None if self.to_come is None else EXACT.add(self.accrued, self.to_come)

    @property
    def warning(self) -> str:
        """A sentence where the budget, and not the end of its life, is what will end it; else ""."""
        if self.budget is None or self.budget_at is None or self.budget_at != self.ends_at:
            return ""
        if self.accrued >= self.budget:
            return (
                f"{self.cluster} has spent its budget of {format_usd(float(self.budget))}; `multicompute reap` ends it"
            )
        return (
            f"{self.cluster} reaches its budget of {format_usd(float(self.budget))} at {format_instant(self.budget_at)}"
        )

    def to_dict(self) -> dict[str, object]:
        """The JSON form, rounded half to even to 6 digits."""
        return {
            "cluster": self.cluster,
            "id": self.id,
            "hourly_usd": rounded(self.hourly_cost),
            "accrued_usd": rounded(self.accrued),
            "budget_usd": None if self.budget is None else rounded(self.budget),
            "budget_at": format_instant(self.budget_at) if self.budget_at else None,
            "ends_at": format_instant(self.ends_at) if self.ends_at else None,
            "to_come_usd": None if self.to_come is None else rounded(self.to_come),
            "in_all_usd": None if self.in_all is None else rounded(self.in_all),
        }


def forecasts(accounts: Iterable[Account], *, minimums: Mapping[str, timedelta], now: datetime) -> tuple[Forecast, ...]:
    """One for each cluster that lives and is not ending already, in their order."""
    return tuple(
        _forecast(cluster, nodes, minimums, now)
        for cluster, nodes in accounts
        if cluster.state.is_live and cluster.state is not ClusterState.TERMINATING
    )


def _forecast(
    cluster: ClusterRecord, nodes: Sequence[NodeRecord], minimums: Mapping[str, timedelta], now: datetime
) -> Forecast:
    amount = hourly = Decimal(0)
    for node in nodes:
        time = billed(node, minimum=minimums.get(node.provider, timedelta(0)), now=now)
        amount = EXACT.add(amount, spent(node.hourly_cost, time))
        if node.ended_at is None:
            hourly = EXACT.add(hourly, exact(node.hourly_cost))
    accrued, budget = per_hour(amount), budget_of(cluster)
    budget_at = _budget_at(budget, accrued, hourly, now)
    ends = [end for end in (cluster.expires_at, budget_at) if end is not None]
    # What is over its end already is ended by whoever looks next.
    ends_at = max(min(ends), now) if ends else None
    to_come = None if ends_at is None else per_hour(EXACT.multiply(hourly, seconds(ends_at - now)))
    return Forecast(cluster.name, cluster.id, hourly, accrued, budget, budget_at, ends_at, to_come)


def _budget_at(budget: Decimal | None, accrued: Decimal, hourly: Decimal, now: datetime) -> datetime | None:
    if budget is None or (not hourly and accrued < budget):
        return None
    if accrued >= budget:
        return now
    try:
        return now + timedelta(hours=float(EXACT.divide(EXACT.subtract(budget, accrued), hourly)))
    except OverflowError:
        return None
