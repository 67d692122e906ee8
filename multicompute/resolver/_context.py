"""The facts that the resolver uses in addition to the spec and the catalog."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import cached_property
from typing import Final

from multicompute.offer import InstanceType, Offer, Purchase
from multicompute.plan import Outage
from multicompute.provider import Availability, LifetimeLimit, Reservation

MAX_PRICE_AGE: Final = timedelta(days=30)
MAX_SPOT_PRICE_AGE: Final = timedelta(days=1)
"""Older prices are marked as stale."""


@dataclass(frozen=True)
class ResolveContext:
    """The arguments of `resolve` other than spec and catalog, and what follows from them."""

    now: datetime
    configured: Mapping[str, str]
    outages: Sequence[Outage]
    reservations: Sequence[Reservation]
    only: Mapping[str, Collection[str]]
    lifetime_limits: Mapping[str, Sequence[LifetimeLimit]]
    default_ttl: timedelta | None
    tag_problems: Mapping[str, str]
    availability: Mapping[tuple[str, str], Availability]
    fabric_limits: Mapping[str, Mapping[str, int]]
    image_required: Mapping[str, Sequence[str]]
    ceiling: float | None

    @cached_property
    def today(self) -> date:
        """The date of `now` in UTC."""
        return self.now.astimezone(UTC).date()

    @cached_property
    def zone_ids(self) -> Mapping[str, str]:
        """Zone id in lower case ("use1-az4") -> the zone's name in the account, for the ids that are known."""
        known = (found.zones or {} for found in self.availability.values())
        return {zone.casefold(): name for zones in known for zone, name in zones.items()}

    @cached_property
    def unusable(self) -> frozenset[str]:
        """The providers that can't be used."""
        return frozenset(provider for provider, why in self.configured.items() if why)

    @cached_property
    def fresh_since(self) -> Mapping[Purchase, date]:
        """Purchase type -> the date since which its prices are fresh."""
        fresh = self.today - MAX_PRICE_AGE
        return {"on_demand": fresh, "flex_start": fresh, "reserved": fresh, "spot": self.today - MAX_SPOT_PRICE_AGE}

    def has_fabric(self, instance: InstanceType, nodes: int) -> bool:
        """Return whether that many nodes of an instance type can share a fabric."""
        most = self.fabric_limits.get(instance.provider, {}).get(instance.fabric, nodes)
        return bool(instance.fabric) and nodes <= most

    def is_stale(self, offer: Offer) -> bool:
        """Return whether the price of an offer is older than allowed."""
        return offer.quote.as_of < self.fresh_since[offer.purchase]
