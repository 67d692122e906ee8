"""Offers: an instance type or TPU slice type in one zone, with its price."""

from dataclasses import dataclass, replace
from datetime import date, datetime
from typing import Literal

Purchase = Literal["on_demand", "spot", "flex_start", "reserved"]
PriceBasis = Literal["list", "estimate"]


@dataclass(frozen=True, slots=True)
class InstanceType:
    """An instance type of one provider, or a TPU slice type, which is always bought complete.

    Attributes:
        provider: The provider's name, such as "aws".
        name: The vendor's name, such as "p5.48xlarge" or "v5p-128".
        accelerator: The canonical name of its accelerators, such as "h100"; "" if it has none.
        accelerators: Accelerators per node; below 1 for a fraction of one, 0 for none. For a slice, its chips.
        accelerator_memory_gib: Memory per accelerator.
        vcpus, memory_gib: Per node; for a slice, per host.
        hosts: How many machines one unit consists of: the number of hosts for a slice, otherwise 1.
        network_gbps: Sustained Ethernet rate.
        fabric: The RDMA fabric between nodes ("efa", "infiniband", ...); "" if it has none.
        arch: "x86_64" or "arm64".
        network_cards: Network cards on the fabric, each with one interface; 0 if it has none.
        attached: Whether the accelerators are attached to a general machine type and not built in.
        retired: Whether the vendor no longer sells it, or not to new accounts. Plans omit it unless it is named.
    """

    provider: str
    name: str
    accelerator: str = ""
    accelerators: float = 0.0
    accelerator_memory_gib: float = 0.0
    vcpus: int = 0
    memory_gib: float = 0.0
    hosts: int = 1
    network_gbps: float = 0.0
    fabric: str = ""
    arch: str = "x86_64"
    network_cards: int = 0
    attached: bool = False
    retired: bool = False


@dataclass(frozen=True, slots=True)
class AppliedDiscount:
    """A discount on the price of some or all nodes of a part.

    Attributes:
        text: What matched, for people.
        list_hourly_cost: The price per node-hour without it.
        percent: The share of the list price that it takes off; None if it sets a price instead.
        hourly_cost: The price per node-hour that it sets; None if it takes off a share.
        covered: To how many nodes of the part it applies.
        nodes: How many nodes the part has.
    """

    text: str
    list_hourly_cost: float
    percent: float | None = None
    hourly_cost: float | None = None
    covered: int = 1
    nodes: int = 1

    @property
    def net(self) -> float:
        """The mean price of the nodes: those that are not covered cost the list price."""
        unit = self._unit_price
        if self.covered >= self.nodes:
            return unit
        return (self.covered * unit + (self.nodes - self.covered) * self.list_hourly_cost) / self.nodes

    @property
    def _unit_price(self) -> float:
        if self.hourly_cost is not None:
            return round(self.hourly_cost, 6)
        return max(round(self.list_hourly_cost * (100 - (self.percent or 0.0)) / 100, 6), 0.0)

    def net_of(self, list_hourly_cost: float) -> float:
        """Return the mean price at another list price."""
        return replace(self, list_hourly_cost=list_hourly_cost).net

    def on(self, quote: "Quote") -> "Quote":
        """Return a quote at the list price with this discount."""
        applied = replace(self, list_hourly_cost=quote.hourly_cost)
        return Quote(applied.net, quote.as_of, quote.source, quote.basis, applied)

    def list_limit(self, limit: float) -> float | None:
        """Return the highest list price at which the mean price is within a limit; None if every list price is."""
        rest = self.nodes - self.covered
        if self.hourly_cost is not None:
            return max(limit * self.nodes - self.covered * self.hourly_cost, 0.0) / rest if rest else None
        share = (self.covered * (100 - (self.percent or 0.0)) / 100 + rest) / self.nodes
        return limit / share if share > 0 else None


@dataclass(frozen=True, slots=True)
class Quote:
    """A price per node-hour in USD, with its date and source.

    Attributes:
        basis: "list" for a published price, "estimate" for a derived one.
        discount: The configured discount in the price; None if it has none.
    """

    hourly_cost: float
    as_of: date
    source: str
    basis: PriceBasis = "list"
    discount: AppliedDiscount | None = None

    @property
    def list_hourly_cost(self) -> float:
        """The price without a discount."""
        return self.discount.list_hourly_cost if self.discount is not None else self.hourly_cost

    def at_list(self) -> "Quote":
        """Return the quote without a discount."""
        return replace(self, hourly_cost=self.list_hourly_cost, discount=None) if self.discount is not None else self


@dataclass(frozen=True, slots=True)
class Region:
    """A region of one provider.

    Attributes:
        provider, name: Such as "aws" and "eu-central-1".
        residency: Where data stays, in lower case: "eu" for the member states, otherwise the country ("us", "uk", ...).
        country: The ISO 3166 code, in upper case.
        partition: "aws", "aws-us-gov", ...; any but the provider's main partition needs a separate account.
    """

    provider: str
    name: str
    residency: str
    country: str = ""
    partition: str = ""


@dataclass(frozen=True, slots=True)
class Offer:
    """An instance type in a zone, with a purchase type and a price.

    `zone` is "" if the cloud does not publish which zones of the region sell the type.
    """

    instance: InstanceType
    region: str
    zone: str
    purchase: Purchase
    quote: Quote

    @property
    def provider(self) -> str:
        """The provider's name."""
        return self.instance.provider

    @property
    def instance_type(self) -> str:
        """The vendor's name of the instance type."""
        return self.instance.name

    @property
    def hourly_cost(self) -> float:
        """USD per node-hour."""
        return self.quote.hourly_cost

    def at_list(self) -> "Offer":
        """Return the offer at its price without a discount, which is the one that its cloud knows."""
        return replace(self, quote=self.quote.at_list()) if self.quote.discount is not None else self


@dataclass(frozen=True, slots=True)
class Listing:
    """A line of an offer table: offers that differ only in the zone.

    `zones` is empty if the cloud does not publish which zones of the region sell the type. That is one offer with the
    zone "". `machines` is how many there are of the user's own; None for a cloud, which does not say.
    """

    instance: InstanceType
    region: Region
    purchase: Purchase
    quote: Quote
    zones: tuple[str, ...] = ()
    machines: int | None = None

    @property
    def offers(self) -> tuple[Offer, ...]:
        """The offers of this line, in the order of `zones`."""
        zones = self.zones or ("",)
        return tuple(Offer(self.instance, self.region.name, zone, self.purchase, self.quote) for zone in zones)


@dataclass(frozen=True, slots=True)
class Part:
    """A number of nodes of one offer.

    Attributes:
        reservation: The id of the reservation that they are launched into.
        ends_at: When the cloud itself terminates them at the latest; None if it does not. Until the launch, this is known
            of reservations only.
    """

    offer: Offer
    nodes: int
    reservation: str | None = None
    ends_at: datetime | None = None

    @property
    def machines(self) -> int:
        """The number of machines: a slice counts as one unit in `nodes` and consists of its hosts."""
        return self.nodes * self.offer.instance.hosts
