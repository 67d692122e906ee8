"""The catalog's lines for one accelerator, grouped by shape and sorted by price: what depends on nothing but the catalog."""

import functools
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Self

from multicompute import accelerators
from multicompute.offer import InstanceType, Listing, Offer, Purchase
from multicompute.plan import exact_accelerators
from multicompute.plan_text import PURCHASE_WORDS

if TYPE_CHECKING:
    from multicompute.catalog import Catalog


class Row:
    """One line of an offer table, with what the resolver asks of it again and again at hand."""

    __slots__ = ("as_of", "instance", "is_estimate", "listing", "place", "price", "purchase", "unit_price", "zones")

    def __init__(self, listing: Listing) -> None:
        numerator, denominator = exact_accelerators(listing.instance.accelerators)
        self.listing = listing
        self.instance = listing.instance
        self.purchase: Purchase = listing.purchase
        self.price = listing.quote.hourly_cost
        self.unit_price = round(self.price * denominator / numerator, 6) if numerator else 0.0
        self.as_of = listing.quote.as_of
        self.is_estimate = listing.quote.basis == "estimate"
        self.place = (listing.instance.provider, listing.region.name)
        self.zones = tuple(sorted(listing.zones)) or ("",)

    def offer(self, zone: str) -> Offer:
        return Offer(self.instance, self.place[1], zone, self.purchase, self.listing.quote)

    def describe(self, zone: str) -> str:
        """The offer in one line; the whole line of the table when `zone` is empty."""
        provider, region = self.place
        price = f"${self.price:,.2f}/h"
        each = f", ${self.unit_price:,.2f} per accelerator" if self.unit_price else ""
        return f"{provider} {zone or region} {self.instance.name} {PURCHASE_WORDS[self.purchase]}, {price}{each}"


class Rows(tuple[Row, ...]):
    """Lines together with the number of their offers."""

    offer_count: int

    def __new__(cls, rows: Iterable[Row]) -> Self:
        made = super().__new__(cls, rows)
        made.offer_count = sum(len(row.zones) for row in made)
        return made


class Shape:
    """One instance type with all its lines, by the way of buying."""

    __slots__ = ("by_purchase", "instance", "is_linked", "key", "memory_gib", "per_node", "rows")

    def __init__(self, instance: InstanceType, rows: Sequence[Row]) -> None:
        accelerator = accelerators.get(instance.accelerator)
        self.instance = instance
        self.key = instance.name.casefold()
        self.is_linked = accelerator is not None and accelerator.linked
        self.per_node = exact_accelerators(instance.accelerators)
        self.memory_gib = usable_memory(instance)
        self.rows = Rows(sorted(rows, key=lambda row: (row.price, row.place)))
        grouped: dict[Purchase, list[Row]] = {}
        for row in self.rows:
            grouped.setdefault(row.purchase, []).append(row)
        self.by_purchase = tuple((purchase, Rows(group)) for purchase, group in sorted(grouped.items()))


class CatalogIndex:
    """All shapes with one accelerator."""

    __slots__ = ("offer_count", "shapes")

    def __init__(self, shapes: Sequence[Shape]) -> None:
        self.shapes = tuple(shapes)
        self.offer_count = sum(shape.rows.offer_count for shape in shapes)


@functools.lru_cache(maxsize=256)
def catalog_index(catalog: "Catalog", accelerator: str) -> CatalogIndex:
    """The shelf of `accelerator`, "" for machines without one; kept, since a catalog never changes."""
    grouped: dict[InstanceType, list[Row]] = {}
    for listing in catalog.listings(accelerator):
        grouped.setdefault(listing.instance, []).append(Row(listing))
    shapes = sorted(grouped.items(), key=lambda item: (item[0].provider, item[0].name, item[0].accelerators))
    return CatalogIndex([Shape(instance, rows) for instance, rows in shapes])


def usable_memory(instance: InstanceType) -> float:
    """Memory per accelerator in GiB.

    Clouds report a little less than the nominal size of a whole accelerator (22.35 of 24 GiB), and some report the
    whole's size for a part of one: the larger figure counts for whole ones, the smaller for parts.
    """
    reported = instance.accelerator_memory_gib
    accelerator = accelerators.get(instance.accelerator)
    nominal = accelerator.memory_gib if accelerator else reported
    if 0 < instance.accelerators < 1:
        return min(reported, instance.accelerators * nominal)
    return max(reported, nominal) if instance.accelerators else 0.0
