"""What a cloud sells: an instance type or TPU slice type in one zone, and its price."""

from dataclasses import dataclass
from datetime import date
from typing import Literal

Purchase = Literal["on_demand", "spot", "flex_start", "reserved"]
PriceBasis = Literal["list", "estimate"]


@dataclass(frozen=True, slots=True)
class InstanceType:
    """A machine shape of one provider; for TPUs a slice type, which is bought whole.

    Attributes:
        provider: the provider's name, "aws".
        name: the vendor's name, "p5.48xlarge" or "v5p-128".
        accelerator: canonical name ("h100"), or "" where it has none.
        accelerators: accelerators per node; below 1 for a fraction of one, 0 for none. For a slice: its chips.
        accelerator_memory_gib: per accelerator.
        vcpus, memory_gib: per machine (for a slice: per host).
        hosts: machines that one node consists of: 1, for a slice the number of its hosts.
        network_gbps: sustained Ethernet rate.
        fabric: the RDMA-class fabric between nodes ("efa", "infiniband", ...), or "".
        arch: "x86_64" or "arm64".
        network_cards: interfaces on the fabric, one for each network card; 0 where it has none.
        attached: whether the accelerators are attached to a general machine type rather than built in.
        retired: out of sale or closed to new accounts; left out of plans unless named.
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
    """A price per node-hour with its date and source; `basis` tells a list price from a derived one."""

    hourly_cost: float
    as_of: date
    source: str
    basis: PriceBasis = "list"


@dataclass(frozen=True, slots=True)
class Region:
    """A region of one provider.

    Attributes:
        provider, name: "aws", "eu-central-1".
        residency: where data stays, lower case: "eu" for the member states, else the country ("us", "uk", "ch", ...).
        country: ISO 3166 code, upper case.
        partition: "aws", "aws-us-gov", ...; other than the provider's main one needs a separate account.
    """

    provider: str
    name: str
    residency: str
    country: str = ""
    partition: str = ""


@dataclass(frozen=True, slots=True)
class Offer:
    """One instance type in one zone, bought in one way, at one price.

    `zone` is "" where the cloud does not say which zones of the region sell it.
    """

    instance: InstanceType
    region: str
    zone: str
    purchase: Purchase
    quote: Quote

    @property
    def provider(self) -> str:
        return self.instance.provider

    @property
    def instance_type(self) -> str:
        return self.instance.name

    @property
    def hourly_cost(self) -> float:
        """USD per node-hour."""
        return self.quote.hourly_cost


@dataclass(frozen=True, slots=True)
class Listing:
    """One line of an offer table: offers that differ in nothing but the zone.

    `zones` is empty where the cloud does not say which zones of the region sell it; that is one offer, of zone "".
    """

    instance: InstanceType
    region: Region
    purchase: Purchase
    quote: Quote
    zones: tuple[str, ...] = ()

    @property
    def offers(self) -> tuple[Offer, ...]:
        """The offers of this line, in the order of their zones."""
        zones = self.zones or ("",)
        return tuple(Offer(self.instance, self.region.name, zone, self.purchase, self.quote) for zone in zones)


@dataclass(frozen=True, slots=True)
class Part:
    """A number of nodes of one offer; `reservation` is the id of the capacity they are taken from."""

    offer: Offer
    nodes: int
    reservation: str | None = None

    @property
    def machines(self) -> int:
        """How many machines that is: a slice is bought as one and consists of its hosts."""
        return self.nodes * self.offer.instance.hosts
