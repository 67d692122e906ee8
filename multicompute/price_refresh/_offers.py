"""The prices of a provider by instance type, place and purchase, each zone on its own; and the lines of tables that they make."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from multicompute.catalog.content import Entry, plain
from multicompute.price_feed import Price


class Key(NamedTuple):
    """An instance type in a region, sold in one way. `accelerators` is text, as in the tables."""

    shard: str
    instance_type: str
    accelerators: str
    region: str
    purchase: str

    @property
    def name(self) -> str:
        """The key in words."""
        return f"{self.instance_type} {self.region} {self.purchase}"


class Cell(NamedTuple):
    """A price with its date, basis and source, as text."""

    hourly_usd: str
    as_of: str
    basis: str
    source: str

    @property
    def cost(self) -> float:
        """USD per node-hour."""
        return float(self.hourly_usd)


Zones = Mapping[str, Cell]
"""Zone -> its price; the zone "" stands for all zones of a region whose zones are not known."""
Offers = dict[Key, Zones]


def offers_of(lines: Iterable[Entry]) -> Offers:
    """Return the prices in the lines of `offers.csv`."""
    found: dict[Key, dict[str, Cell]] = defaultdict(dict)
    for entry in lines:
        cells = entry.cells
        key = Key(entry.shard, *entry.key, cells["region"], cells["purchase"])
        cell = Cell(cells["hourly_usd"], cells["as_of"], cells["basis"], cells["source"])
        found[key] |= dict.fromkeys(cells["zones"].split(";"), cell)
    return dict(found)


def lines_of(offers: Mapping[Key, Zones]) -> list[Entry]:
    """Return the lines of `offers.csv`: one for all zones that have the same price."""
    found = []
    for key, zones in offers.items():
        for cell, names in grouped(zones).items():
            cells = {
                "instance_type": key.instance_type,
                "accelerators": key.accelerators,
                "region": key.region,
                "purchase": key.purchase,
                **cell._asdict(),
                "zones": ";".join(names),
            }
            found.append(Entry(key.shard, cells))
    return found


def grouped(zones: Zones) -> Mapping[Cell, tuple[str, ...]]:
    """Return the zones by their price."""
    found: dict[Cell, list[str]] = defaultdict(list)
    for zone, cell in sorted(zones.items()):
        found[cell].append(zone)
    return {cell: tuple(names) for cell, names in found.items()}


def cell_of(price: Price) -> Cell:
    """Return a price as the tables have it."""
    quote = price.quote
    return Cell(plain(quote.hourly_cost), quote.as_of.isoformat(), quote.basis, " ".join(quote.source.split()))


def old_cell(zones: Zones, zone: str) -> Cell | None:
    """Return the price that the tables had for a zone; of a region whose zones they do not know, that of the region."""
    if zone in zones or not zones:
        return zones.get(zone)
    if "" in zones:
        return zones[""]
    return min(zones.values(), key=lambda cell: cell.cost) if not zone else None
