"""Offers: an instance type or TPU slice type in one zone, with its price."""

from dataclasses import dataclass
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
class Quote:
    """A price per node-hour in USD, with its date and source.

    Attributes:
        basis: "list" for a published price, "estimate" for a derived one.
    """

    hourly_cost: float
    as_of: date
    source: str
    basis: PriceBasis = "list"


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


@dataclass(frozen=True, slots=True)
class Listing:
    """A line of an offer table: offers that differ only in the zone.

    `zones` is empty if the cloud does not publish which zones of the region sell the type. That is one offer with the
    zone "".
    """

    instance: InstanceType
    region: Region
    purchase: Purchase
    quote: Quote
    zones: tuple[str, ...] = ()

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
