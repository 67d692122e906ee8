"""The second query of prices that differ much from those of the tables.

On-demand prices: GetProducts again, for one instance type at a time. The bulk offer files are the other interface to the same list, and
a region's has every product of EC2, 450 MB for us-east-1 (mattrobinsonsre/terrapod issue 956): too much for a few prices. Spot prices: the
history again, for one zone at a time. The public `spot.js` has only the lowest price of a region, which can't confirm a zone's
(alexei-led/spotinfo, internal/spot/data.go).
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Final

from multicompute.errors import MulticomputeError
from multicompute.offer import Quote
from multicompute.price_feed import Price
from multicompute.provider_kit.calls import in_parallel
from multicompute.provider_kit.vendor_errors import Place
from multicompute_aws._feed_prices import PriceList
from multicompute_aws._places import by_price, spot_prices
from multicompute_aws._session import Clients

_AT_ONCE: Final = 8
_LIST_SOURCE: Final = "AWS price list, asked again"
_SPOT_SOURCE: Final = "AWS spot price history, asked again"


def confirm(clients: Clients, prices: Sequence[Price], *, now: datetime) -> list[Price]:
    """Return what the second query says of each price that it can answer.

    Raises:
        MulticomputeError: A query failed.
    """
    return [*_on_demand(clients, prices, now), *_spot(clients, prices, now)]


def _on_demand(clients: Clients, prices: Sequence[Price], now: datetime) -> Iterable[Price]:
    asked: dict[str, list[Price]] = defaultdict(list)
    for price in prices:
        if price.purchase == "on_demand":
            asked[price.instance_type].append(price)
    price_list = PriceList(clients, now)

    def ask(name: str) -> list[Price]:
        found = price_list.ask({price.region: [name] for price in asked[name]}, done=lambda _: None)
        if found.failed:
            raise next(iter(found.failed.values()))
        return [
            _again(price, found.prices[name, price.region], _LIST_SOURCE, now, price.zones)
            for price in asked[name]
            if (name, price.region) in found.prices
        ]

    return (price for answers in in_parallel(ask, sorted(asked), at_once=_AT_ONCE) for price in answers)


def _spot(clients: Clients, prices: Sequence[Price], now: datetime) -> Iterable[Price]:
    asked: dict[tuple[str, str], set[str]] = defaultdict(set)
    for price in prices:
        for zone in price.zones if price.purchase == "spot" else ():
            asked[price.region, zone].add(price.instance_type)

    def ask(where: tuple[str, str]) -> dict[tuple[str, str], float]:
        region, zone = where
        sold = {name: (zone,) for name in asked[where]}
        found = spot_prices(clients, Place("aws", region, zone), sold, now, zone=zone)
        if found.unreadable:
            raise MulticomputeError(f"aws {zone}: {next(iter(found.unreadable.values()))}", provider="aws")
        return {(name, zone): zones[zone] for name, zones in found.prices.items() if zone in zones}

    found = {key: cost for answer in in_parallel(ask, sorted(asked), at_once=_AT_ONCE) for key, cost in answer.items()}
    for price in prices:
        if price.purchase == "spot":
            costs = {
                zone: found[price.instance_type, zone] for zone in price.zones if (price.instance_type, zone) in found
            }
            for cost, zones in by_price(costs):
                yield _again(price, cost, _SPOT_SOURCE, now, zones)


def _again(price: Price, cost: float, source: str, now: datetime, zones: tuple[str, ...]) -> Price:
    quote = Quote(cost, now.date(), source)
    return Price(price.instance_type, price.accelerators, price.region, price.purchase, quote, zones)
