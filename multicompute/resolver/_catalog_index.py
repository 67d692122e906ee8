"""The catalog's lines for one accelerator, grouped by instance type and sorted by price."""

import functools
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Self

from multicompute import accelerators
from multicompute.offer import InstanceType, Listing, Offer, Purchase
from multicompute.plan import exact_accelerators
from multicompute.plan_text import PURCHASE_WORDS

if TYPE_CHECKING:
    from multicompute.catalog import Catalog


class Row:
    """A line of an offer table, with the values that the resolver reads most often."""

    __slots__ = (
        "as_of",
        "instance",
        "is_estimate",
        "listing",
        "price",
        "purchase",
        "region_key",
        "unit_price",
        "zones",
    )

    def __init__(self, listing: Listing) -> None:
        numerator, denominator = exact_accelerators(listing.instance.accelerators)
        self.listing = listing
        self.instance = listing.instance
        self.purchase: Purchase = listing.purchase
        self.price = listing.quote.hourly_cost
        self.unit_price = round(self.price * denominator / numerator, 6) if numerator else 0.0
        self.as_of = listing.quote.as_of
        self.is_estimate = listing.quote.basis == "estimate"
        self.region_key = (listing.instance.provider, listing.region.name)
        self.zones = tuple(sorted(listing.zones)) or ("",)

    def offer(self, zone: str) -> Offer:
        """Return the offer in one zone of this line."""
        return Offer(self.instance, self.region_key[1], zone, self.purchase, self.listing.quote)

    def describe(self, zone: str) -> str:
        """Describe the offer on one line, or the complete line of the table if `zone` is empty."""
        provider, region = self.region_key
        price = f"${self.price:,.2f}/h"
        each = f", ${self.unit_price:,.2f} per accelerator" if self.unit_price else ""
        return f"{provider} {zone or region} {self.instance.name} {PURCHASE_WORDS[self.purchase]}, {price}{each}"


class Rows(tuple[Row, ...]):
    """Lines of offer tables, with the number of their offers, and the regions of which they have one line."""

    offer_count: int
    single_regions: frozenset[tuple[str, str]]

    def __new__(cls, rows: Iterable[Row]) -> Self:
        made = super().__new__(cls, rows)
        made.offer_count = sum(len(row.zones) for row in made)
        counts = Counter(row.region_key for row in made)
        made.single_regions = frozenset(key for key, count in counts.items() if count == 1)
        return made


class Shape:
    """An instance type with its lines, grouped by purchase type."""

    __slots__ = ("by_purchase", "instance", "is_linked", "key", "memory_gib", "per_node", "rows")

    def __init__(self, instance: InstanceType, rows: Sequence[Row]) -> None:
        accelerator = accelerators.get(instance.accelerator)
        self.instance = instance
        self.key = instance.name.casefold()
        self.is_linked = accelerator is not None and accelerator.linked
        self.per_node = exact_accelerators(instance.accelerators)
        self.memory_gib = usable_memory(instance)
        self.rows = Rows(sorted(rows, key=lambda row: (row.price, row.region_key)))
        grouped: dict[Purchase, list[Row]] = {}
        for row in self.rows:
            grouped.setdefault(row.purchase, []).append(row)
        self.by_purchase = tuple((purchase, Rows(group)) for purchase, group in sorted(grouped.items()))


class CatalogIndex:
    """All instance types with one accelerator."""

    __slots__ = ("offer_count", "shapes")

    def __init__(self, shapes: Sequence[Shape]) -> None:
        self.shapes = tuple(shapes)
        self.offer_count = sum(shape.rows.offer_count for shape in shapes)


@functools.lru_cache(maxsize=256)
def catalog_index(catalog: "Catalog", accelerator: str) -> CatalogIndex:
    """Return the index of `accelerator`; "" for types without one. It is cached, since a catalog never changes."""
    grouped: dict[InstanceType, list[Row]] = {}
    for listing in catalog.listings(accelerator):
        grouped.setdefault(listing.instance, []).append(Row(listing))
    shapes = sorted(grouped.items(), key=lambda item: (item[0].provider, item[0].name, item[0].accelerators))
    return CatalogIndex([Shape(instance, rows) for instance, rows in shapes])


def usable_memory(instance: InstanceType) -> float:
    """Return the memory per accelerator in GiB.

    For a complete accelerator, clouds report a little less than the nominal size (22.35 of 24 GiB), so the larger figure
    counts. For a fraction, some clouds report the size of the complete accelerator, so the smaller figure counts.
    """
    reported = instance.accelerator_memory_gib
    accelerator = accelerators.get(instance.accelerator)
    nominal = accelerator.memory_gib if accelerator else reported
    if 0 < instance.accelerators < 1:
        return min(reported, instance.accelerators * nominal)
    return max(reported, nominal) if instance.accelerators else 0.0
