"""The cost of a gang by which it ranks: its price, the transfer of data, and the work that interruptions lose."""

from collections.abc import Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from multicompute.errors import SpecError
from multicompute.offer import Offer, Part
from multicompute.resolver._catalog_index import Row
from multicompute.resolver._regions import RegionKey
from multicompute.resolver._transfer import Transfers

if TYPE_CHECKING:
    from multicompute.catalog import Catalog
    from multicompute.price_feed import Interruption
    from multicompute.spec import ClusterSpec

_PERIODS: Final = {"hour": 1.0, "month": 730.0}
"""The hours of a period; vendors count a month as 730."""
UNKNOWN_RATE: Final = (0.2 + 1.0) / 2 / 730
"""Interruptions per hour of a spot node whose rate is not published: the highest range of AWS's Spot Advisor, above 20 % in a month.
Without a rate, a place must not rank before one that publishes a good rate."""


def interruptions_per_hour(rate: "Interruption | None") -> float:
    """Return how often a spot node is interrupted: the middle of the published range, divided by the hours of its period."""
    return UNKNOWN_RATE if rate is None else (rate.low + rate.high) / 2 / _PERIODS[rate.period]


def published_rate(catalog: "Catalog", row: Row) -> "Interruption | None":
    """Return how often spot nodes of a line are interrupted; None if its vendor does not publish it, or if they are not spot."""
    if row.purchase != "spot":
        return None
    provider, region = row.region_key
    return catalog.interruptions(row.instance.accelerator).get((provider, row.instance.name, region))


class Costs:
    """Computes by which cost gangs rank.

    Attributes:
        hours: For how long the cluster is expected to run; None if that is not known.
        transfers: The prices of the data transfer; None if the spec has no data.
        is_plain: Whether gangs rank by their price per hour alone.
    """

    def __init__(self, spec: "ClusterSpec", catalog: "Catalog", ttl: timedelta | None) -> None:
        """Read the data, the hours and the weight of interruptions from a spec.

        Raises:
            SpecError: A place is unknown, or there is data and no time to compare its transfer with.
        """
        self._catalog = catalog
        self._lost_hours = spec.interruption_cost_hours
        self.hours = spec.hours if spec.hours is not None else ttl / timedelta(hours=1) if ttl is not None else None
        self.is_plain = not (spec.data or spec.hours is not None or self._lost_hours)
        self.transfers = Transfers(spec, catalog) if spec.data else None
        self._is_total = bool(spec.data) or spec.hours is not None
        if spec.data and self.hours is None:
            hint = "write for how long it is expected to run, such as hours=200"
            raise SpecError(f"data: the cluster has no ttl; {hint}", argument="data", hint=hint)

    def has_transfer(self, region: RegionKey) -> bool:
        """Return whether the price of transferring the data to a region is known."""
        return self.transfers is None or self.transfers.cost(region) is not None

    def of_row(self, row: Row, nodes: int, hourly_cost: float) -> float:
        """Return the cost by which some nodes of a line rank."""
        if self.is_plain:
            return hourly_cost
        transfer = (self.transfers.cost(row.region_key) or 0.0) if self.transfers is not None else 0.0
        lost = 0.0
        if self._lost_hours and row.purchase == "spot":
            rate = self._rate(row.instance.accelerator, (*row.region_key, row.instance.name))
            lost = nodes * row.price * self._lost_hours * interruptions_per_hour(rate)
        return self._ranked(hourly_cost, lost, transfer)

    def of_parts(self, parts: Sequence[Part], hourly_cost: float) -> float:
        """Return the cost by which a gang of these parts ranks. A transfer at an unknown price counts as 0."""
        if self.is_plain:
            return hourly_cost
        return self._ranked(hourly_cost, self.lost(parts), self.transfer(parts) or 0.0)

    def _ranked(self, hourly_cost: float, lost: float, transfer: float) -> float:
        cost = hourly_cost + lost
        return round(cost * (self.hours or 0.0) + transfer if self._is_total else cost, 6)

    def transfer(self, parts: Sequence[Part]) -> float | None:
        """Return what it costs to transfer the data to all regions of a gang; None if a price is not known."""
        if self.transfers is None:
            return 0.0
        return self.transfers.total((part.offer.provider, part.offer.region) for part in parts)

    def lost(self, parts: Sequence[Part]) -> float:
        """Return the expected cost of lost work in USD per hour: interruptions per hour x hours lost x price."""
        if not self._lost_hours:
            return 0.0
        return sum(
            part.nodes * part.offer.quote.hourly_cost * self._lost_hours * interruptions_per_hour(self.rate(part.offer))
            for part in parts
            if part.offer.purchase == "spot"
        )

    def rate(self, offer: Offer) -> "Interruption | None":
        """Return how often nodes of an offer are interrupted; None if it is not spot, or if nothing is published."""
        if offer.purchase != "spot":
            return None
        return self._rate(offer.instance.accelerator, (offer.provider, offer.region, offer.instance_type))

    def _rate(self, accelerator: str, key: tuple[str, str, str]) -> "Interruption | None":
        provider, region, name = key
        return self._catalog.interruptions(accelerator).get((provider, name, region))
