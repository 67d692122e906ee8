"""Prices from the packaged offer tables, some of them estimates, for the local price list and spot price history."""

import csv
import functools
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from importlib.resources import files
from typing import Any

# For instance types without a spot price in the tables: without a price the local cloud would have no spot capacity.
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


def product(instance_type: str, region: str) -> dict[str, Any] | None:
    """Return a product of the price list with its on-demand term, or None if the tables have no price."""
    hourly = price(instance_type, region, "on_demand")
    if hourly is None:
        return None
    dimension = {
        "unit": "Hrs",
        "description": f"${hourly} per On Demand Linux {instance_type} Instance Hour",
        "pricePerUnit": {"USD": f"{hourly:.10f}"},
    }
    return {
        "product": {
            "productFamily": "Compute Instance",
            "sku": f"{instance_type}.{region}",
            "attributes": {
                "instanceType": instance_type,
                "regionCode": region,
                "operatingSystem": "Linux",
                "tenancy": "Shared",
                "preInstalledSw": "NA",
                "capacitystatus": "Used",
                "licenseModel": "No License required",
                "marketoption": "OnDemand",
                "servicecode": "AmazonEC2",
            },
        },
        "serviceCode": "AmazonEC2",
        "terms": {"OnDemand": {"term": {"priceDimensions": {"dimension": dimension}, "termAttributes": {}}}},
        "version": "local",
    }


Change = tuple[datetime, float]
# "You can view the Spot price history for the last 90 days", EC2 user guide.
_HISTORY = timedelta(days=90)


def spot_price(instance_type: str, region: str, changes: Sequence[Change], now: datetime) -> float:
    """Return the spot price of a type at a time, by the changes in a zone."""
    so_far = [amount for at, amount in changes if at <= now]
    return so_far[-1] if so_far else price(instance_type, region, "spot") or _NO_SPOT_PRICE


def spot_history(
    instance_type: str, zone: str, region: str, changes: Sequence[Change], *, since: datetime, until: datetime
) -> list[dict[str, Any]]:
    """Return the changes of a spot price in an interval, newest first, and the one before it, whose price holds at its start.

    https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_DescribeSpotPriceHistory.html: "When you specify a start and end time,
    the operation returns the prices of the instance types within that time range. It also returns the last price change before the
    start time, which is the effective price as of the start time."
    """
    first = (until - _HISTORY, price(instance_type, region, "spot") or _NO_SPOT_PRICE)
    known = sorted([first, *(change for change in changes if change[0] <= until)])
    before = [change for change in known if change[0] <= since]
    return [
        {
            "AvailabilityZone": zone,
            "InstanceType": instance_type,
            "ProductDescription": "Linux/UNIX",
            "SpotPrice": f"{amount:.6f}",
            "Timestamp": at,
        }
        for at, amount in sorted([*before[-1:], *(change for change in known if change[0] > since)], reverse=True)
    ]
