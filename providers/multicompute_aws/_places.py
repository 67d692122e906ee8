"""The zones of a region, the instance types that can be started in each, and their spot prices."""

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from multicompute.errors import CapacityError, InvalidRequestError
from multicompute.provider_kit.vendor_errors import Place
from multicompute_aws._availability import offerings, zones_of
from multicompute_aws._errors import translate_errors
from multicompute_aws._session import Clients

# Accounts with and without VPC got products of their own; aws/karpenter-provider-aws asks for both.
SPOT_PRODUCTS: Final = ("Linux/UNIX", "Linux/UNIX (Amazon VPC)")
# karpenter asks for 2,000 and has found no limit: pkg/providers/pricing/pricing.go.
_SPOT_PAGE: Final = 2000


@dataclass(frozen=True, slots=True)
class SpotPrices:
    """The spot prices of a region.

    Attributes:
        prices: Instance type -> zone -> USD per hour.
        unreadable: (Instance type, zone) -> what is wrong with its entry.
        entries: How many entries the history had.
    """

    prices: Mapping[str, Mapping[str, float]]
    unreadable: Mapping[tuple[str, str], str] = field(default_factory=dict)
    entries: int = 0


def startable(clients: Clients, place: Place, globs: Sequence[str]) -> Mapping[str, tuple[str, ...]]:
    """Return instance type -> the zones of a region that can start it, under the account's names.

    Zones are asked for by their ids, which are the same in all accounts. Local zones and wavelength zones that the account has opted
    into are listed under their region, and left out: they have prices of their own.
    """
    names = zones_of(clients, place)
    wanted = [{"Name": "instance-type", "Values": list(globs)}]
    kind = "availability-zone-id"
    listed = list(offerings(clients, place, wanted, kind=kind)) or list(offerings(clients, place, [], kind=kind))
    found: dict[str, set[str]] = defaultdict(set)
    for instance_type, location in listed:
        zone = location if location in names.values() else names.get(location)
        if zone is not None:
            found[instance_type].add(zone)
    return {name: tuple(sorted(sold)) for name, sold in sorted(found.items())}


def spot_prices(
    clients: Clients, place: Place, sold: Mapping[str, Collection[str]], now: datetime, *, zone: str = ""
) -> SpotPrices:
    """Return the spot prices in force of the types in `sold`, in the zones that can start them, or in one of these.

    The history goes on to list zones in which a type can no longer be started.
    """
    latest: dict[tuple[str, str], tuple[datetime, bool, Any]] = {}
    entries = 0
    for entry in _history(clients, place, sorted(sold), now, zone):
        entries += 1
        name, where = entry.get("InstanceType", ""), entry.get("AvailabilityZone", "")
        product = entry.get("ProductDescription")
        if product not in SPOT_PRODUCTS or where not in sold.get(name, ()) or entry.get("Timestamp") is None:
            continue
        # No order is promised, and an entry for each change since the start may come.
        key = (entry["Timestamp"], product == SPOT_PRODUCTS[0], entry.get("SpotPrice"))
        if (name, where) not in latest or key[:2] > latest[name, where][:2]:
            latest[name, where] = key
    return _prices(place, latest, entries)


def _prices(place: Place, latest: Mapping[tuple[str, str], tuple[datetime, bool, Any]], entries: int) -> SpotPrices:
    prices: dict[str, dict[str, float]] = defaultdict(dict)
    unreadable: dict[tuple[str, str], str] = {}
    for (name, zone), (_, _, said) in sorted(latest.items(), key=lambda item: item[0]):
        try:
            price = float(said)
        except (TypeError, ValueError):
            price = -1.0
        if not 0 <= price < float("inf"):
            unreadable[name, zone] = f"the spot price {said!r} of {name} in {zone} is not a price"
        elif price > 0:
            # A spot price of 0 has been seen, and means that there is none: https://github.com/LeanerCloud/AutoSpotting/issues/376
            prices[name][zone] = price
    return SpotPrices(prices, unreadable, entries)


def _history(
    clients: Clients, place: Place, types: Sequence[str], now: datetime, zone: str
) -> Sequence[Mapping[str, Any]]:
    """Return the entries of the spot price history that are in force.

    With a start of now each type, zone and product has one entry, "the last price change before the start time":
    https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_DescribeSpotPriceHistory.html
    """
    query: dict[str, Any] = {
        "ProductDescriptions": list(SPOT_PRODUCTS),
        "StartTime": now,
        "PaginationConfig": {"PageSize": _SPOT_PAGE},
        **({"AvailabilityZone": zone} if zone else {}),
    }
    try:
        return _entries(clients, place, {**query, "InstanceTypes": list(types)})
    except (InvalidRequestError, CapacityError):
        # One name that the region does not know is enough.
        return _entries(clients, place, query)


def _entries(clients: Clients, place: Place, query: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    with translate_errors("DescribeSpotPriceHistory", place):
        pages = clients.ec2(place.region).get_paginator("describe_spot_price_history").paginate(**query)
        return [entry for page in pages for entry in page.get("SpotPriceHistory", ())]


def described(clients: Clients, place: Place, names: Sequence[str]) -> Iterator[Mapping[str, Any]]:
    """Yield what EC2 says of instance types; by a filter, which passes over names that the region does not know."""
    wanted: Any = [{"Name": "instance-type", "Values": list(names)}]
    with translate_errors("DescribeInstanceTypes", place):
        paginator = clients.ec2(place.region).get_paginator("describe_instance_types")
        for page in paginator.paginate(Filters=wanted, PaginationConfig={"PageSize": 100}):
            yield from (item for item in page.get("InstanceTypes", ()) if item.get("InstanceType") in names)


def by_price(prices: Mapping[str, float]) -> list[tuple[float, tuple[str, ...]]]:
    """Return each price with the zones that have it, the cheapest first."""
    found: dict[float, list[str]] = defaultdict(list)
    for zone, price in sorted(prices.items()):
        found[price].append(zone)
    return [(price, tuple(zones)) for price, zones in sorted(found.items())]
