"""The packaged catalog with a spot price of its own for each zone, as a refresh writes it."""

from dataclasses import replace

from multicompute.catalog import Catalog
from multicompute.offer import Listing


class ZonePrices(Catalog):
    """A catalog whose spot prices differ between the zones of a region; the same zones as in the packaged tables have offers."""

    def listings(self, accelerator: str, *, provider: str | None = None) -> tuple[Listing, ...]:
        known: dict[tuple[str, str | None], tuple[Listing, ...]] = self.__dict__.setdefault("_split", {})
        key = (accelerator, provider)
        if key not in known:
            lines = super().listings(accelerator, provider=provider)
            known[key] = tuple(part for line in lines for part in _split(line))
        return known[key]


def _split(line: Listing) -> list[Listing]:
    if line.purchase != "spot" or len(line.zones) < 2:
        return [line]
    # Two zones share a price, and the last ones are cheaper than the first.
    prices = [line.quote.hourly_cost * (1 - 0.1 * (number // 2)) for number in range(len(line.zones))]
    groups: dict[float, list[str]] = {}
    for zone, price in zip(line.zones, prices, strict=True):
        groups.setdefault(round(price, 6), []).append(zone)
    return [
        replace(line, quote=replace(line.quote, hourly_cost=price), zones=tuple(zones))
        for price, zones in groups.items()
    ]
