"""The interface between the refresh of the offer tables and the price interfaces of a vendor.

The refresh decides what is asked, keeps what a vendor did not answer, checks everything, and replaces the tables. A feed only asks and
reads: it never guesses a price, and reports everything that it could not read.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from multicompute.offer import InstanceType, Purchase, Quote


@dataclass(frozen=True, slots=True)
class PricedType:
    """An instance type with the ways in which it can be bought.

    Attributes:
        instance: The instance type. For accelerators that are attached to a machine type there is one for each count.
        purchases: The possible ways to buy ("on_demand", "spot", "flex_start", "reserved"); empty if unrestricted.
        source: Where the shape comes from, such as "EC2 DescribeInstanceTypes".
    """

    instance: InstanceType
    purchases: frozenset[str] = frozenset()
    source: str = ""


@dataclass(frozen=True, slots=True)
class Price:
    """A price of an instance type in a region, or in some of its zones.

    Attributes:
        instance_type: The vendor's name.
        accelerators: Accelerators per node; together with the name, the key of the instance type.
        region: The name of the region.
        purchase: How it is bought.
        quote: USD per node-hour, the date of the query, and the source. A price that was added up from parts says so in its source.
        zones: The zones with this price, sorted; () if the cloud does not say which zones of the region sell it.
        accelerator: The canonical name of the accelerators, for those that are attached: one machine type can have the same number of
            different ones. "" if name and accelerators are unique.
    """

    instance_type: str
    accelerators: float
    region: str
    purchase: Purchase
    quote: Quote
    zones: tuple[str, ...] = ()
    accelerator: str = ""

    @property
    def key(self) -> "PriceKey":
        """The key of a price: everything that identifies it, apart from zones."""
        return self.instance_type, self.accelerator, self.accelerators, self.region, self.purchase


PriceKey = tuple[str, str, float, str, Purchase]
"""Instance type, accelerator (see `Price.accelerator`), accelerators, region and purchase."""


@dataclass(frozen=True, slots=True)
class Interruption:
    """The interruption rate of spot nodes of an instance type in a region, as the vendor publishes it.

    Attributes:
        low, high: The limits of the published range, as a share of the nodes: 0.05 is 5 %. `high` is 1.0 for "above 20 %".
        period: The time that the share refers to: "month" (AWS Spot Advisor) or "hour" (Azure eviction rates).
    """

    instance_type: str
    region: str
    low: float
    high: float
    period: str


@dataclass(frozen=True, slots=True)
class FailedRegion:
    """A region whose prices could not be read; its old prices stay. `region` is "" if no region could be asked."""

    region: str
    error: str


@dataclass(frozen=True, slots=True)
class PriceQuery:
    """The prices to fetch.

    Attributes:
        types: The instance types of the current tables whose prices are wanted.
        regions: The regions to ask, from the current tables.
        accelerators: The canonical names of the accelerators that are wanted, "" for types without any; None for all. Types that the
            tables do not have yet are wanted, too.
        zones: Region -> its zones in the current tables, for feeds that can't ask for them.
    """

    types: Sequence[PricedType]
    regions: Sequence[str]
    accelerators: Collection[str] | None = None
    zones: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class FoundPrices:
    """The answer of a price feed.

    Attributes:
        prices: The prices, at most one for each instance type, accelerators, region, purchase and zone.
        answered: The pairs of region and purchase that were read completely. A wanted type without a price in such a pair is no longer sold
            there. Prices of all other pairs stay as they were.
        incomplete: Prices of answered pairs that are not known: the vendor may still sell it, but a part of the price could not be read.
            They stay as they were.
        types: The shapes of instance types that the tables do not have, or have differently.
        interruptions: The rates of the regions and types that the vendor publishes; None if they were not asked for or could not be read.
        failed: The regions that could not be read, each with the error in one line.
        unreadable: What was wrong with rows that could not be read, with one example in the text -> the number of such rows.
        notes: One sentence for everything else that a user should know.
        calls: Operation ("GetProducts") -> the number of requests, repeated ones included.
    """

    prices: Sequence[Price]
    answered: frozenset[tuple[str, Purchase]]
    incomplete: frozenset[PriceKey] = frozenset()
    types: Sequence[PricedType] = ()
    interruptions: Sequence[Interruption] | None = None
    failed: Sequence[FailedRegion] = ()
    unreadable: Mapping[str, int] = field(default_factory=dict)
    notes: Sequence[str] = ()
    calls: Mapping[str, int] = field(default_factory=dict)


class PriceFeed(Protocol):
    """The price interfaces of one vendor. Both methods may be called from a thread other than the one that made the feed."""

    def fetch(self, query: PriceQuery, *, progress: Callable[[float], None]) -> FoundPrices:
        """Fetch today's prices.

        Args:
            query: The prices to fetch.
            progress: Called with the completed share, from 0 to 1, from any thread.

        Raises:
            MulticomputeError: Nothing could be read at all. A region that can't be read is in `FoundPrices.failed` instead.
        """
        ...

    def confirm(self, prices: Sequence[Price]) -> Sequence[Price]:
        """Ask again for prices that differ much from those of the tables, by another interface of the vendor where there is one.

        Returns:
            What the second query says of each price that it can answer, with the source of that query; others are missing.

        Raises:
            MulticomputeError: The second query failed.
        """
        ...
