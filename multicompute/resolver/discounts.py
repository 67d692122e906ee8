"""Configured discounts: which offers they match, and what nodes cost with them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from multicompute.errors import SpecError
from multicompute.offer import AppliedDiscount, InstanceType, Part, Purchase, Quote
from multicompute.plan import exact_accelerators
from multicompute.resolver._catalog_index import Row
from multicompute.resolver._regions import places_matching, unknown_place
from multicompute.validation import did_you_mean

if TYPE_CHECKING:
    from multicompute.catalog import Catalog
    from multicompute.config import Discount


@dataclass(frozen=True)
class KnownDiscount:
    """A configured discount with its regions resolved.

    Attributes:
        position: Its position in the configuration.
        terms: As it is configured.
        regions: The regions that it holds in; None for all.
        note: What a reader should know, such as a glob that matches no instance type.
    """

    position: int
    terms: "Discount"
    regions: frozenset[str] | None = None
    note: str = ""

    def sells(self, instance: InstanceType) -> bool:
        """Return whether it is on the price of an instance type, in any region."""
        terms = self.terms
        return (
            instance.provider == terms.cloud
            and fnmatchcase(instance.name.casefold(), terms.instance_type.casefold())
            # A price per accelerator says nothing about a machine without one.
            and (terms.usd_per_accelerator_hour is None or instance.accelerators > 0)
        )

    def matches(self, instance: InstanceType, region: str, purchase: Purchase) -> bool:
        """Return whether it is on the price of an offer."""
        return (
            purchase == self.terms.purchase
            and (self.regions is None or region in self.regions)
            and self.sells(instance)
        )

    def applied(self, instance: InstanceType, list_hourly_cost: float, *, covered: int, nodes: int) -> AppliedDiscount:
        """Return the discount on a part of which it covers some nodes."""
        price = self.terms.hourly_usd
        if self.terms.usd_per_accelerator_hour is not None:
            numerator, denominator = exact_accelerators(instance.accelerators)
            price = self.terms.usd_per_accelerator_hour * numerator / denominator
        text = self.terms.text + (f", {covered} of {nodes} nodes" if covered < nodes else "")
        return AppliedDiscount(text, list_hourly_cost, self.terms.percent, price, covered, nodes)


def known_discounts(
    terms: "Sequence[Discount]", catalog: "Catalog", clouds: Sequence[str]
) -> tuple[KnownDiscount, ...]:
    """Return the configured discounts with their regions.

    Raises:
        SpecError: A cloud is not installed, or a region does not exist; `argument` is "discounts[N].KEY".
    """
    found = []
    for position, each in enumerate(terms):
        where = f"discounts[{position}]"
        if each.cloud not in clouds:
            hint = did_you_mean(each.cloud.casefold(), clouds) or f"installed clouds: {', '.join(clouds)}"
            raise SpecError(f"cloud={each.cloud!r}: no such cloud; {hint}", argument=f"{where}.cloud", hint=hint)
        regions = _regions(each, catalog, f"{where}.regions")
        found.append(KnownDiscount(position, each, regions, _type_note(each, catalog, where)))
    return tuple(found)


def _regions(terms: "Discount", catalog: "Catalog", argument: str) -> frozenset[str] | None:
    if not terms.regions:
        return None
    regions: set[str] = set()
    for pattern in terms.regions:
        named = pattern.casefold()
        named = named if named.startswith(f"{terms.cloud}:") else f"{terms.cloud}:{named}"
        matches = places_matching(catalog, named).regions
        if not matches:
            error = unknown_place(named, catalog, argument="regions")
            error.argument = argument
            raise error
        regions |= {region for _, region in matches}
    return frozenset(regions)


def _type_note(terms: "Discount", catalog: "Catalog", where: str) -> str:
    """Return a note if no instance type matches. It is no error: a vendor may have retired the type."""
    glob = terms.instance_type.casefold()
    names = catalog.instance_names() if glob != "*" and terms.cloud in catalog.providers else ()
    if not names or any(fnmatchcase(name.casefold(), glob) for name in names):
        return ""
    hint = did_you_mean(terms.instance_type, names)
    return f"{where}: instance_type={terms.instance_type!r} matches no instance type{f'; {hint}' if hint else ''}"


@dataclass(frozen=True)
class Discounts:
    """The discounts of a plan.

    Attributes:
        known: The configured discounts; the last that matches an offer holds.
        used: Position of a discount -> the nodes of live clusters that it covers already.
    """

    known: tuple[KnownDiscount, ...]
    used: Mapping[int, int] = field(default_factory=dict)

    def find(self, instance: InstanceType, region: str, purchase: Purchase) -> KnownDiscount | None:
        """Return the last discount on an offer, None if there is none."""
        return next((each for each in reversed(self.known) if each.matches(instance, region, purchase)), None)

    def concern(self, instance: InstanceType) -> bool:
        """Return whether any discount may be on the price of an instance type."""
        return any(each.sells(instance) for each in self.known)

    def row(self, row: Row, nodes: int) -> Row:
        """Return a line at the mean price of that many nodes."""
        discount = self.find(row.instance, row.region_key[1], row.purchase)
        if discount is None:
            return row
        return Row(row.listing, self._quote(discount, row.instance, row.listing.quote, nodes, self._free(discount)))

    def parts(self, parts: Sequence[Part]) -> tuple[Part, ...]:
        """Return the parts of a gang with discounts, which cover the first nodes of the gang."""
        found, free = [], dict[int, int | None]()
        for part in parts:
            offer = part.offer.at_list()
            discount = self.find(offer.instance, offer.region, offer.purchase)
            if discount is not None:
                left = free.setdefault(discount.position, self._free(discount))
                quote = self._quote(discount, offer.instance, offer.quote, part.nodes, left)
                offer = replace(offer, quote=quote)
                free[discount.position] = None if left is None else max(left - part.nodes, 0)
            found.append(replace(part, offer=offer))
        return tuple(found)

    def _free(self, discount: KnownDiscount) -> int | None:
        """Return how many nodes a discount still covers; None for all."""
        if discount.terms.nodes is None:
            return None
        return max(discount.terms.nodes - self.used.get(discount.position, 0), 0)

    def _quote(
        self, discount: KnownDiscount, instance: InstanceType, quote: Quote, nodes: int, free: int | None
    ) -> Quote:
        covered = nodes if free is None else min(nodes, free)
        if not covered:
            return quote
        return discount.applied(instance, quote.hourly_cost, covered=covered, nodes=nodes).on(quote)
