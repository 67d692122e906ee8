"""The Azure Retail Prices API: every kind of row that the price list has for a size, with its filters, pages and throttling."""

import re
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime, timedelta
from typing import Any, Final
from urllib.parse import parse_qsl, urlencode

from multicompute.testing.faults import Fault, FaultKind
from multicompute.testing.local.fault_injection import FaultInjector, retry_header
from multicompute.testing.local.server import Request, Response, json_response
from multicompute_azure.local import hardware
from multicompute_azure.local.arm import Json
from multicompute_azure.local.hardware import Size

PATH: Final = "/api/retail/prices"
OPERATION: Final = "retailPrices.list"
# learn.microsoft.com/rest/api/cost-management/retail-prices/azure-retail-prices: the fields of a filter, and the operators eq and ne with
# strings; `contains` and `startswith` too. Anything else is a 400.
_CLAUSE: Final = re.compile(r"\s*(\w+)\s+(eq|ne)\s+'((?:[^']|'')*)'\s*", re.IGNORECASE)
_FUNCTION: Final = re.compile(
    r"\s*(contains|startswith)\((\w+),\s*'((?:[^']|'')*)'\)\s*(?:eq\s+(true|false))?\s*", re.IGNORECASE
)
# The filter says priceType, the row says type.
_FIELDS: Final = {
    name.lower(): name
    for name in (
        "armRegionName", "location", "meterId", "meterName", "productName", "productId", "skuId", "skuName", "serviceName",
        "serviceId", "serviceFamily", "armSkuName",
    )
} | {"pricetype": "type"}  # fmt: skip
_BEGAN: Final = "2023-01-01T00:00:00Z"

Prices = Mapping[tuple[str, str, str], float]
"""(region, size, purchase) -> a price that differs from the packaged table."""


class RetailPrices:
    """The application that serves the price list; it asks for no credentials.

    Attributes:
        page_size: The number of rows on a page; Azure's has 1,000 or fewer.
    """

    def __init__(self, injector: FaultInjector, prices: Callable[[], Prices], now: Callable[[], datetime]) -> None:
        """Serve the packaged prices, except those in `prices`; `now` returns the time of the cloud's clock."""
        self._injector = injector
        self._prices = prices
        self._now = now
        self.page_size = 1000

    def __call__(self, request: Request) -> Response | None:
        """Answer a request."""
        query = dict(parse_qsl(request.query))
        text = query.get("$filter", "")
        fields: dict[str, object] = {
            "region": _named(text, "armRegionName"),
            "size": _named(text, "armSkuName"),
            "filter": text,
        }
        return self._injector.answer(OPERATION, fields, answer=lambda: self._answer(request, query), refuse=_refusal)

    def _answer(self, request: Request, query: Mapping[str, str]) -> Response:
        if request.method != "GET" or request.path != PATH:
            return Response(404)
        tests = _tests(query.get("$filter", ""))
        skip = query.get("$skip", "0")
        if tests is None or not skip.isdigit():
            return _error(400, "Invalid OData parameters supplied")
        found = [row for row in self._rows(query.get("$filter", "")) if all(test(row) for test in tests)]
        page = found[int(skip) : int(skip) + self.page_size]
        document: Json = {
            "BillingCurrency": "USD",
            "CustomerEntityId": "Default",
            "CustomerEntityType": "Retail",
            "Items": page,
            "NextPageLink": None,
            "Count": len(page),
        }
        if int(skip) + len(page) < len(found):
            rest = {**query, "$skip": str(int(skip) + len(page))}
            document["NextPageLink"] = f"http://{request.headers.get('host', '')}{PATH}?{urlencode(rest)}"
        return json_response(200, document)

    def _rows(self, text: str) -> Iterator[Json]:
        """Yield the rows of all sizes, or only those that an `eq` in the filter can be about."""
        region, name = _named(text, "armRegionName"), _named(text, "armSkuName")
        for size in hardware.sizes().values():
            if name and size.name.lower() != name.lower():
                continue
            for place in {**size.prices, **size.spot_prices}:
                if not region or place == region.lower():
                    yield from self._of(size, place)

    def _of(self, size: Size, region: str) -> Iterator[Json]:
        changed = self._prices()
        plain = changed.get((region, size.name, "on_demand"), size.prices.get(region, 0.0))
        spot = changed.get((region, size.name, "spot"), size.spot_prices.get(region, 0.0))
        yield from _rows(size, region, plain, spot, self._now())


def _rows(size: Size, region: str, plain: float, spot: float, now: datetime) -> Iterator[Json]:
    """Yield every kind of row that the list has for a size, in an order that helps nobody.

    The kinds, with their wording, are those that readers of the list have to tell apart: dstackai/gpuhunt (providers/azure.py),
    skypilot-org/skypilot (data_fetchers/fetch_azure.py), Azure/karpenter-provider-azure (pkg/providers/pricing), and the reference.
    """
    shape = size.name.removeprefix("Standard_").replace("_", " ")
    product = f"Virtual Machines {shape} Series"

    def row(price: float, suffix: str = "", **changes: object) -> Json:
        return {
            "currencyCode": "USD",
            "tierMinimumUnits": 0.0,
            "retailPrice": price,
            "unitPrice": price,
            "armRegionName": region,
            "location": region.upper(),
            "effectiveStartDate": _BEGAN,
            "meterId": f"{size.name}-{region}{suffix}".replace(" ", ""),
            "meterName": shape + suffix,
            "productId": "DZH318Z0",
            "skuId": "DZH318Z0/0001",
            "productName": product,
            "skuName": shape + suffix,
            "serviceName": "Virtual Machines",
            "serviceId": "DZH313Z7MMC8",
            "serviceFamily": "Compute",
            "unitOfMeasure": "1 Hour",
            "type": "Consumption",
            "isPrimaryMeterRegion": True,
            "armSkuName": size.name,
            **changes,
        }

    soon = (now + timedelta(days=10)).isoformat().replace("+00:00", "Z")
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
        yield row(round(plain * 8, 6), productName=f"{shape} Series Dedicated Host")
        yield row(round(plain * 0.5, 6), serviceName="Azure Machine Learning")
        yield row(round(plain * 0.7, 6), effectiveStartDate=soon)
        yield row(round(plain * 0.8, 6), tierMinimumUnits=1000.0)
        yield row(0.0, effectiveStartDate="2024-06-01T00:00:00Z")
        yield row(round(plain * 1.3, 6), effectiveStartDate="2020-01-01T00:00:00Z")
        # Some sizes have a row only with false here.
        yield row(plain, isPrimaryMeterRegion=False)
        yield row(plain, isPrimaryMeterRegion=False)
    if spot:
        yield row(round(spot * 2, 6), " Spot", productName=f"{product} Windows")
        yield row(spot, " Spot")


def _tests(text: str) -> list[Callable[[Mapping[str, Any]], bool]] | None:
    """Return the tests of a filter whose clauses are joined by `and`; None for one that the list does not understand."""
    found = []
    for part in re.split(r"\s+and\s+", text.strip(), flags=re.IGNORECASE) if text.strip() else ():
        test = _clause(part) or _function(part)
        if test is None:
            return None
        found.append(test)
    return found


def _clause(part: str) -> Callable[[Mapping[str, Any]], bool] | None:
    match = _CLAUSE.fullmatch(part)
    if match is None or match[1].lower() not in _FIELDS:
        return None
    name, value, is_equal = _FIELDS[match[1].lower()], match[3].replace("''", "'").lower(), match[2].lower() == "eq"
    # Before version 2023-01-01-preview values have no case.
    return lambda row: (str(row[name]).lower() == value) is is_equal


def _function(part: str) -> Callable[[Mapping[str, Any]], bool] | None:
    match = _FUNCTION.fullmatch(part)
    if match is None or match[2].lower() not in _FIELDS:
        return None
    name, value, wanted = _FIELDS[match[2].lower()], match[3].lower(), (match[4] or "true").lower() == "true"
    if match[1].lower() == "contains":
        return lambda row: (value in str(row[name]).lower()) is wanted
    return lambda row: str(row[name]).lower().startswith(value) is wanted


def _named(text: str, field: str) -> str:
    found = re.search(rf"\b{field}\s+eq\s+'([^']*)'", text, re.IGNORECASE)
    return found[1] if found else ""


def _refusal(fault: Fault) -> Response:
    if fault.kind is FaultKind.THROTTLE:
        return _error(429, "Too many requests. Please retry later.", retry_header(fault.retry_after))
    return _error(fault.status, fault.message or fault.code)


def _error(status: int, message: str, headers: Mapping[str, str] | None = None) -> Response:
    return json_response(status, {"Error": {"Code": str(status), "Message": message}}, headers or {})
