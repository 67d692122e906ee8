"""Rows of the Azure price list for one machine."""

from typing import Any


def row(**changes: Any) -> dict[str, Any]:
    """Return a row for a machine on demand with some fields changed, or left out by `...`."""
    found = {
        "currencyCode": "USD",
        "tierMinimumUnits": 0.0,
        "retailPrice": 3.673,
        "unitPrice": 3.673,
        "armRegionName": "eastus",
        "location": "US East",
        "effectiveStartDate": "2023-08-01T00:00:00Z",
        "meterId": "meter-1",
        "meterName": "NC24ads A100 v4",
        "productId": "DZH318Z08NRP",
        "skuId": "DZH318Z08NRP/0008",
        "productName": "Virtual Machines NCadsA100v4 Series",
        "skuName": "NC24ads A100 v4",
        "serviceName": "Virtual Machines",
        "serviceId": "DZH313Z7MMC8",
        "serviceFamily": "Compute",
        "unitOfMeasure": "1 Hour",
        "type": "Consumption",
        "isPrimaryMeterRegion": True,
        "armSkuName": "Standard_NC24ads_A100_v4",
    }
    return {name: value for name, value in (found | changes).items() if value is not ...}


def spot(**changes: Any) -> dict[str, Any]:
    """Return a row for the same machine as spot."""
    names = {"skuName": "NC24ads A100 v4 Spot", "meterName": "NC24ads A100 v4 Spot"}
    return row(**({**names, "retailPrice": 0.97} | changes))
