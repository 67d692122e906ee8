"""Prices from the packaged offer tables, some of them estimates, for the local price list and spot price history."""

import csv
import functools
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from importlib.resources import files
from typing import Any

# The products of the history, and what they cost of the price of Linux. Accounts without EC2-Classic have no entries for VPCs.
_PRODUCTS = {"Linux/UNIX": 1.0, "Red Hat Enterprise Linux": 1.05, "SUSE Linux": 1.1, "Windows": 1.5}
# For instance types without a spot price in the tables: a part of the on-demand price, or without one, this price. Without a price the
# local cloud would have no spot capacity.
_SPOT_SHARE = 0.4
_NO_SPOT_PRICE = 1.0


@functools.cache
def _shards() -> Mapping[str, str]:
    """Return instance type -> the folder of its table."""
    return {row["instance_type"]: row["shard"] for row in _rows("index.csv")}


@functools.cache
def _prices(shard: str) -> Mapping[tuple[str, str, str], float]:
    """Return (instance type, region, purchase) -> USD per hour."""
    return {
        (row["instance_type"], row["region"], row["purchase"]): float(row["hourly_usd"])
        for row in _rows(f"{shard}/offers.csv")
    }


def _rows(name: str) -> list[dict[str, str]]:
    table = files("multicompute_aws").joinpath("data").joinpath(name)
    if not table.is_file():
        return []
    return list(csv.DictReader(table.read_text(encoding="utf-8").splitlines()))


def price(instance_type: str, region: str, purchase: str) -> float | None:
    """Return the price in USD per hour, or None if the tables have none."""
    shard = _shards().get(instance_type)
    return _prices(shard).get((instance_type, region, purchase)) if shard else None


def priced_types() -> Sequence[str]:
    """Return the names of the instance types in the tables."""
    return sorted(_shards())


Change = tuple[datetime, float]
# "You can view the Spot price history for the last 90 days", EC2 user guide.
_HISTORY = timedelta(days=90)


def spot_price(instance_type: str, region: str, changes: Sequence[Change], now: datetime) -> float:
    """Return the spot price of a type at a time, by the changes in a zone."""
    so_far = [amount for at, amount in changes if at <= now]
    return so_far[-1] if so_far else _first_spot_price(instance_type, region)


def has_spot_price(instance_type: str, region: str) -> bool:
    """Return whether the tables have a price; the history lists no other types, unless a test has set a price."""
    return any(price(instance_type, region, purchase) is not None for purchase in ("spot", "on_demand"))


def _first_spot_price(instance_type: str, region: str) -> float:
    """Return the spot price before the first change."""
    found = price(instance_type, region, "spot")
    if found is None:
        found = (price(instance_type, region, "on_demand") or _NO_SPOT_PRICE / _SPOT_SHARE) * _SPOT_SHARE
    return found


def spot_history(
    instance_type: str,
    zone: tuple[str, str],
    region: str,
    changes: Sequence[Change],
    *,
    products: Sequence[str],
    since: datetime,
    until: datetime,
) -> list[dict[str, Any]]:
    """Return the changes of a spot price in an interval, newest first, and the one before it, whose price holds at its start.

    Args:
        instance_type: The instance type.
        zone: The name and the id of the zone.
        region: The region.
        changes: The changes that a test has made.
        products: The products that are asked for, empty for all.
        since: The start of the interval.
        until: Its end.

    https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_DescribeSpotPriceHistory.html: "When you specify a start and end time,
    the operation returns the prices of the instance types within that time range. It also returns the last price change before the
    start time, which is the effective price as of the start time."
    """
    first = (until - _HISTORY, _first_spot_price(instance_type, region))
    known = sorted([first, *(change for change in changes if change[0] <= until)])
    before = [change for change in known if change[0] <= since]
    chosen = {name: factor for name, factor in _PRODUCTS.items() if not products or name in products}
    return [
        {
            "AvailabilityZone": zone[0],
            "AvailabilityZoneId": zone[1],
            "InstanceType": instance_type,
            "ProductDescription": name,
            "SpotPrice": f"{amount * factor:.6f}",
            "Timestamp": at,
        }
        for at, amount in sorted([*before[-1:], *(change for change in known if change[0] > since)], reverse=True)
        for name, factor in chosen.items()
    ]
