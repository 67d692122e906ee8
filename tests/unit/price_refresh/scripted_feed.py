"""A cloud whose price interface answers what a test says, and small tables of it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path

from multicompute.clock import Clock
from multicompute.errors import ProviderError
from multicompute.offer import InstanceType, Purchase, Quote
from multicompute.price_feed import (
    FailedRegion,
    FoundPrices,
    Interruption,
    Price,
    PricedType,
    PriceFeed,
    PriceKey,
    PriceQuery,
)
from multicompute.provider import Provider, Settings
from multicompute.testing.fake.session import FakePlugin

TYPES = (
    "instance_type,accelerators,accelerator_memory_gib,vcpus,memory_gib,hosts,network_gbps,fabric,arch,network_cards,"
    "attached,retired,purchases,source\n"
)
OFFERS = "instance_type,accelerators,region,purchase,hourly_usd,as_of,basis,source,zones\n"
TABLES = {
    "regions.csv": "region,residency,country,partition\neast,us,US,\nsecret,us,US,gov\nwest,eu,DE,\n",
    "sources.csv": "key,source\nold,a list of last year\n",
    "zones.csv": "region,zones\neast,east-a;east-b\nwest,west-a\n",
    "index.csv": "instance_type,shard\nbox,cpu\nbig,h100\nhuge,h100\nnode,l4\nnode,t4\n",
    "shards.csv": "shard,types,lines,offers,oldest,newest\ncpu,1,2,2,2026-01-01,2026-01-01\nh100,2,6,8,2026-01-01,2026-01-01\n"
    "l4,1,1,1,2026-01-01,2026-01-01\nt4,1,1,1,2026-01-01,2026-01-01\n",
    "cpu/types.csv": TYPES + "box,0,,4,16,1,10,,x86_64,,false,false,,old\n",
    "cpu/offers.csv": OFFERS
    + "box,0,east,on_demand,0.2,2026-01-01,list,old,\nbox,0,west,on_demand,0.3,2026-01-01,list,old,\n",
    "h100/types.csv": TYPES
    + "big,8,80,192,2048,1,3200,efa,x86_64,32,false,false,,old\nhuge,8,80,192,4096,1,3200,efa,x86_64,32,false,false,,old\n",
    "h100/offers.csv": OFFERS
    + "big,8,east,on_demand,80,2026-01-01,list,old,east-a;east-b\nbig,8,east,spot,30,2026-01-01,list,old,east-a;east-b\n"
    + "big,8,west,on_demand,90,2026-01-01,list,old,\nbig,8,west,spot,40,2026-01-01,list,old,\n"
    + "huge,8,east,on_demand,100,2026-01-01,list,old,\nhuge,8,west,on_demand,110,2026-01-01,list,old,\n",
    "l4/types.csv": TYPES + "node,1,24,8,32,1,,,x86_64,,true,false,,old\n",
    "l4/offers.csv": OFFERS + "node,1,east,on_demand,0.8,2026-01-01,list,old,\n",
    "t4/types.csv": TYPES + "node,1,16,8,32,1,,,x86_64,,true,false,,old\n",
    "t4/offers.csv": OFFERS + "node,1,east,on_demand,0.5,2026-01-01,list,old,\n",
}
"""`node` has one L4 or one T4, so its name and number of accelerators do not tell which."""

Sold = tuple[str, str, str, Purchase]
"""Instance type, accelerator, region and purchase."""


def write_tables(folder: Path, files: Mapping[str, str] = TABLES) -> Path:
    """Write tables and return their folder."""
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return folder


@dataclass
class ScriptedFeed:
    """A feed that sells what is in `sold`, and fails as a test says.

    Attributes:
        sold: Instance type, accelerator, region and purchase -> zone or "" -> USD per node-hour.
        second: The same for the second query, where its answer is another one; None as a price means that it has none.
        failed: Regions that can't be read.
        empty: Pairs of region and purchase that are answered without a price.
        error: Raised instead of an answer.
        confirm_error: Raised instead of an answer of the second query.
        before_answer: Called before each answer.
        queries, confirmed: What was asked.
    """

    clock: Clock
    sold: dict[Sold, dict[str, float]] = field(default_factory=dict)
    second: dict[Sold, dict[str, float | None]] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    empty: set[tuple[str, Purchase]] = field(default_factory=set)
    types: list[PricedType] = field(default_factory=list)
    extra: list[Price] = field(default_factory=list)
    incomplete: set[PriceKey] = field(default_factory=set)
    interruptions: list[Interruption] | None = None
    unreadable: dict[str, int] = field(default_factory=dict)
    error: BaseException | None = None
    confirm_error: ProviderError | None = None
    before_answer: Callable[[], None] = lambda: None
    queries: list[PriceQuery] = field(default_factory=list)
    confirmed: list[Sequence[Price]] = field(default_factory=list)

    def fetch(self, query: PriceQuery, *, progress: Callable[[float], None]) -> FoundPrices:
        self.queries.append(query)
        progress(0.5)
        self.before_answer()
        if self.error is not None:
            raise self.error
        purchases: tuple[Purchase, ...] = ("on_demand", "spot")
        regions = [region for region in query.regions if region not in self.failed]
        pairs = frozenset((region, purchase) for region in regions for purchase in purchases)
        prices = [
            self.price(key, zone, cost)
            for key, zones in self.sold.items()
            for zone, cost in zones.items()
            if (key[2], key[3]) in pairs - self.empty
        ]
        progress(1.0)
        return FoundPrices(
            prices=[*prices, *self.extra],
            answered=pairs,
            incomplete=frozenset(self.incomplete),
            types=self.types,
            interruptions=self.interruptions,
            failed=[FailedRegion(name, error) for name, error in self.failed.items() if name in query.regions],
            unreadable=self.unreadable,
            calls={"ListPrices": len(regions)},
        )

    def confirm(self, prices: Sequence[Price]) -> Sequence[Price]:
        self.confirmed.append(prices)
        if self.confirm_error is not None:
            raise self.confirm_error
        answers: list[Price] = []
        for price in prices:
            key = (price.instance_type, price.accelerator, price.region, price.purchase)
            for zone in price.zones or ("",):
                cost = self.second.get(key, {}).get(zone, self.sold[key].get(zone, self.sold[key].get("")))
                if cost is not None:
                    answers.append(self.price(key, zone, cost))
        return answers

    def price(self, key: Sold, zone: str, cost: float, **changes: object) -> Price:
        name, accelerator, region, purchase = key
        count = {"big": 8, "huge": 8, "node": 1, "new": 4}.get(name, 0)
        quote = Quote(cost, self.today, "the price list")
        return Price(name, count, region, purchase, quote, (zone,) if zone else (), accelerator)

    @property
    def today(self) -> date:
        return self.clock.now().date()

    def sell_as_in_the_tables(self) -> None:
        """Sell everything at the price that it has in `TABLES`."""
        for name, text in TABLES.items():
            if name.endswith("offers.csv"):
                shard = name.partition("/")[0]
                for row in text.splitlines()[1:]:
                    kind, _, region, purchase, cost, _, _, _, zones = row.split(",")
                    accelerator = "" if shard == "cpu" else shard
                    key = (kind, accelerator, region, purchase)
                    self.sold[key] = dict.fromkeys(zones.split(";"), float(cost))  # type: ignore[index]


class FeedPlugin(FakePlugin):
    """The plug-in of a fake cloud with a price feed; None for a cloud that can't be asked."""

    def __init__(self, name: str, tables: Path, provider: Provider, feed: PriceFeed | BaseException | None) -> None:
        super().__init__(name, tables=tables, provider=provider)
        self.feed = feed

    def open_price_feed(self, settings: Settings) -> PriceFeed | None:
        if isinstance(self.feed, BaseException):
            raise self.feed
        return self.feed


def new_type(name: str = "new", accelerator: str = "l4", **changes: object) -> PricedType:
    """Return an instance type with four L4 that the tables do not have."""
    values: dict[str, object] = {"accelerators": 4, "accelerator_memory_gib": 24, "vcpus": 32, "memory_gib": 128}
    instance = InstanceType("north", name, accelerator, **(values | changes))  # type: ignore[arg-type]
    return PricedType(instance, source="the list of types")
