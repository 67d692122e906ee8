"""The rows of the local price list: every kind that the Retail Prices API has for a size, with dates of their own.

The kinds, with their wording, are those that readers of the list have to tell apart: dstackai/gpuhunt (providers/azure.py),
skypilot-org/skypilot (data_fetchers/fetch_azure.py), Azure/karpenter-provider-azure (pkg/providers/pricing), and the reference.
"""

import functools
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Final, Protocol

from multicompute_azure.local.arm import Json

# Readers leave this region out.
EARLY_ACCESS: Final = "eastus2euap"
_BEGAN: Final = "2023-01-01T00:00:00Z"
_CHANGED: Final = "2024-03-01T00:00:00Z"
_LATER: Final = "2024-06-01T00:00:00Z"
_SOON: Final = timedelta(days=10)


class _Row(Protocol):
    def __call__(self, price: float, suffix: str = "", **changes: object) -> Json: ...


def rows_of(
    size: str, region: str, plain: float, spot: float, now: datetime, *, was: tuple[float, float] = (0.0, 0.0)
) -> Iterator[Json]:
    """Yield all rows of a size in a region, in an order that helps nobody.

    Args:
        size: The size.
        region: The region.
        plain: The price on demand in USD per hour; 0 for none.
        spot: The price as spot; 0 for none.
        now: The time: some rows begin later.
        was: Both prices before they changed; 0 where they have not changed.
    """
    shape = _shape(size)
    product = f"Virtual Machines {shape} Series"

    row = functools.partial(_row, size, region)
    soon = (now + _SOON).isoformat().replace("+00:00", "Z")
    if plain:
        yield row(round(plain * 1.9, 6), productName=f"{product} Windows")
        yield row(round(plain * 1.8, 6), productName=f"Virtual Machines {shape} Srs Win")
        yield row(round(plain * 0.2, 6), " Low Priority")
        yield row(round(plain * 0.9, 6), type="DevTestConsumption")
        # A reservation's price is for its whole term, though the unit says an hour.
        for years, share in ((1, 0.6), (3, 0.4)):
            total = round(plain * share * 8760 * years, 2)
            yield row(total, type="Reservation", reservationTerm=f"{years} Year{'s' if years > 1 else ''}")
        yield row(round(plain * 1.1, 6), productName=f"{shape} Series Cloud Services")
        yield row(round(plain * 1.1, 6), productName=f"{shape} CloudServices")
        yield row(round(plain * 8, 6), productName=f"{shape} Series Dedicated Host")
        yield row(round(plain * 0.5, 6), serviceName="Azure Machine Learning")
        yield row(round(plain * 0.4, 6), armSkuName="")
        yield row(round(plain * 0.7, 6), effectiveStartDate=soon)
        yield row(round(plain * 0.8, 6), tierMinimumUnits=1000.0)
        yield row(0.0, effectiveStartDate=_LATER)
        yield row(round(plain * 1.3, 6), effectiveStartDate="2020-01-01T00:00:00Z")
        yield from _held(row, plain, was[0], product)
    if spot:
        yield row(round(spot * 2, 6), " Spot", productName=f"{product} Windows")
        yield row(round(spot * 0.5, 6), " Spot", effectiveStartDate=soon)
        if was[1]:
            yield row(was[1], " Spot")
        yield row(spot, " Spot", effectiveStartDate=_CHANGED if was[1] else _BEGAN)


def _held(row: _Row, plain: float, was: float, product: str) -> Iterator[Json]:
    """Yield the rows that are true: some sizes have them only without the mark of the primary region, and some of them twice."""
    # A savings plan is part of the row that it is for, and has prices of its own.
    plans = [
        {"term": f"{years} Year{'s' if years > 1 else ''}", "unitPrice": cost, "retailPrice": cost}
        for years, cost in ((1, round(plain * 0.7, 6)), (3, round(plain * 0.5, 6)))
    ]
    if was:
        yield row(was, isPrimaryMeterRegion=False)
    found = row(
        plain,
        isPrimaryMeterRegion=False,
        productName=f"{product} Linux",
        effectiveStartDate=_CHANGED if was else _BEGAN,
        savingsPlan=plans,
    )
    # ARM's own lists differ in the case of regions (EastUS).
    yield found
    yield {**found, "armRegionName": str(found["armRegionName"]).title()}
    yield found


def _row(size: str, region: str, price: float, suffix: str = "", **changes: object) -> Json:
    shape = _shape(size)
    return {
        "currencyCode": "USD",
        "tierMinimumUnits": 0.0,
        "retailPrice": price,
        "unitPrice": price,
        "armRegionName": region,
        "location": region.upper(),
        "effectiveStartDate": _BEGAN,
        "meterId": f"{size}-{region}{suffix}".replace(" ", ""),
        "meterName": shape + suffix,
        "productId": "DZH318Z0",
        "skuId": f"DZH318Z0/{size}{suffix}".replace(" ", ""),
        "productName": f"Virtual Machines {shape} Series",
        "skuName": shape + suffix,
        "serviceName": "Virtual Machines",
        "serviceId": "DZH313Z7MMC8",
        "serviceFamily": "Compute",
        "unitOfMeasure": "1 Hour",
        "type": "Consumption",
        "isPrimaryMeterRegion": True,
        "armSkuName": size,
        **changes,
    }


def _shape(size: str) -> str:
    return size.removeprefix("Standard_").replace("_", " ")
