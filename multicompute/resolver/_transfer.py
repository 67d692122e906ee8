"""The list prices of transferring data between regions and clouds, and what the data of a request costs to transfer."""

import csv
import functools
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from multicompute.errors import CatalogError, SpecError
from multicompute.resolver._regions import RegionKey, unknown_place

if TYPE_CHECKING:
    from multicompute.catalog import Catalog
    from multicompute.spec import ClusterSpec

TABLE: Final = Path(__file__).parents[1] / "data" / "egress.csv"
"""The packaged table. The vendors' units are binary: a "GB" of a bill is a GiB, and a "TB" has 1,024 of them."""
COLUMNS: Final = ("provider", "origin", "destination", "above_gib", "usd_per_gib", "as_of", "basis", "source")

_AREAS: Final[Mapping[str, str]] = {
    **dict.fromkeys(("US", "CA"), "na"),
    **dict.fromkeys(("BR", "CL"), "sa"),
    **dict.fromkeys(("AT", "BE", "CH", "DE", "DK", "ES", "FI", "FR", "GB", "IE", "IT", "NL", "NO", "PL", "SE"), "eu"),
    **dict.fromkeys(("HK", "ID", "IN", "JP", "KR", "MY", "SG", "TH", "TW"), "as"),
    **dict.fromkeys(("AU", "NZ"), "oc"),
    **dict.fromkeys(("AE", "BH", "IL", "QA", "SA"), "me"),
    "ZA": "af",
}
"""Country -> the area by which vendors price. Mexico is missing: the vendors do not agree on where it belongs."""

Route = tuple[str, str, str]
"""Provider, origin (a region or an area), and destination: a region, an area, "other" for other regions, or "internet"."""


class Tier(NamedTuple):
    """A price of the amount above a size.

    Attributes:
        above: GiB in one month.
        price: USD per GiB; None if it is not known.
        as_of: The date of the price.
        is_estimate: Whether the price was not read again at the vendor's.
    """

    above: float
    price: float | None
    as_of: str
    is_estimate: bool


@functools.cache
def egress_prices(path: Path = TABLE) -> Mapping[Route, tuple[Tier, ...]]:
    """Read the table: the tiers of each route, the lowest first.

    Raises:
        CatalogError: The table can't be read.
    """
    found: dict[Route, list[Tier]] = {}
    try:
        with open(path, encoding="utf-8", newline="") as file:
            reader = csv.reader(file, strict=True)
            if tuple(next(reader, ())) != COLUMNS:
                raise CatalogError(f"{path}: the columns must be {','.join(COLUMNS)}")
            for provider, origin, destination, above, price, as_of, basis, _ in reader:
                tier = Tier(float(above), float(price) if price else None, as_of, basis == "estimate")
                found.setdefault((provider, origin, destination), []).append(tier)
    except (OSError, ValueError, csv.Error) as error:
        raise CatalogError(f"{path}: can't be read: {error}", hint="install multicompute again") from error
    return {route: tuple(sorted(tiers)) for route, tiers in found.items()}


class Transfers:
    """The cost of transferring the data of a request to each region, once, in USD.

    A transfer costs nothing within a region. The tiers count from zero for each region that has data, as if nothing else were
    sent from there in that month.
    """

    def __init__(self, spec: "ClusterSpec", catalog: "Catalog") -> None:
        """Add up the data by region.

        Raises:
            SpecError: A place is no region of the catalog.
        """
        self._countries = {(region.provider, region.name): region.country for region in catalog.regions()}
        self._sizes: dict[RegionKey, float] = {}
        self._costs: dict[RegionKey, float | None] = {}
        for item in spec.data:
            origin = self._region(item.place, catalog)
            self._sizes[origin] = self._sizes.get(origin, 0.0) + item.size_gib

    def _region(self, place: str, catalog: "Catalog") -> RegionKey:
        provider, colon, name = place.casefold().partition(":")
        if not colon:
            found = [f"{cloud}:{region}" for cloud, region in self._countries if region.casefold() == provider]
            hint = f"write {' or '.join(found)}" if found else 'write a provider and a region, "PROVIDER:REGION"'
            raise SpecError(f"data: {place!r}: names no cloud; {hint}", argument="data", hint=hint)
        for key in self._countries:
            if key[0].casefold() == provider and key[1].casefold() == name:
                return key
        raise unknown_place(place, catalog, argument="data")

    def cost(self, region: RegionKey) -> float | None:
        """Return what it costs in USD to have all data in a region; None if a price is not known."""
        if region not in self._costs:
            parts = [self._part(origin, region, size) for origin, size in self._sizes.items()]
            known = [part for part in parts if part is not None]
            self._costs[region] = round(sum(known), 6) if len(known) == len(parts) else None
        return self._costs[region]

    def total(self, regions: Iterable[RegionKey]) -> float | None:
        """Return what it costs to have all data in each of these regions; None if a price is not known."""
        costs = [self.cost(region) for region in dict.fromkeys(regions)]
        known = [cost for cost in costs if cost is not None]
        return round(sum(known), 6) if len(known) == len(costs) else None

    def _part(self, origin: RegionKey, region: RegionKey, size: float) -> float | None:
        return 0.0 if origin == region else tiered(self.tiers(origin, region), size)

    def tiers(self, origin: RegionKey, region: RegionKey) -> Sequence[Tier]:
        """Return the prices of a route, those of the most exact row; () if there are none."""
        prices, area = egress_prices(), self._area(region)
        # Data that leaves a cloud costs the same whatever cloud it goes to.
        is_same = origin[0] == region[0]
        destinations = [region[1], area, "other"] if is_same else [f"internet:{area}", "internet"]
        for start in (origin[1], self._area(origin)):
            for destination in destinations:
                if tiers := prices.get((origin[0], start, destination)):
                    return tiers
        return ()

    def _area(self, region: RegionKey) -> str:
        # Upper case never is an area, so a region without one matches no row.
        return _AREAS.get(self._countries.get(region, ""), "NONE")

    def note(self, region: RegionKey, *, of_job: bool = False) -> str:
        """Return what a reader should know about the transfer prices to a region; of a job, they are in the budget."""
        tiers = [tier for origin in self._sizes if origin != region for tier in self.tiers(origin, region)]
        if self.cost(region) is None:
            return "the price of transferring the data to the first candidate is not known"
        if not tiers:
            return "the data is in the region of the first candidate, so its transfer costs nothing"
        oldest = min(tier.as_of for tier in tiers if tier.as_of)
        guess = ", some of them not confirmed" if any(tier.is_estimate for tier in tiers) else ""
        without = "max_hourly" if of_job else "budget, max_hourly"
        return (
            f"the transfer of the data is priced at list egress prices (the oldest of {oldest}{guess}); it is not part of "
            f"{without} or the cost report"
        )


def tiered(tiers: Sequence[Tier], size: float) -> float | None:
    """Return what a size in GiB costs, each tier at its own price; None if a price is not known."""
    if not tiers:
        return None
    cost = 0.0
    for tier, end in zip(tiers, [*(tier.above for tier in tiers[1:]), float("inf")], strict=True):
        amount = min(size, end) - tier.above
        if amount > 0:
            if tier.price is None:
                return None
            cost += amount * tier.price
    return cost
