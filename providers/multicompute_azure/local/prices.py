"""The Azure Retail Prices API: versions, filters, currencies, pages and throttling."""

import re
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from typing import Final
from urllib.parse import parse_qsl, quote, urlencode

from multicompute.testing.faults import Fault, FaultKind
from multicompute.testing.local.fault_injection import FaultInjector, retry_header
from multicompute.testing.local.server import Request, Response, json_response
from multicompute_azure.local import hardware, price_filters
from multicompute_azure.local.arm import Json
from multicompute_azure.local.hardware import Size
from multicompute_azure.local.price_rows import EARLY_ACCESS, rows_of

PATH: Final = "/api/retail/prices"
OPERATION: Final = "retailPrices.list"
_DEFAULT: Final = "2021-10-01-preview"
_PREVIEW: Final = "2023-01-01-preview"
_VERSIONS: Final = (_DEFAULT, _PREVIEW)
# Other currencies than USD are for reference.
_RATES: Final = {"USD": 1.0, "EUR": 0.86, "GBP": 0.75}
_KEPT: Final = 16

Prices = Mapping[tuple[str, str, str], float]
"""(region, size, purchase) -> a price that differs from the packaged table; 0 ends the sale."""


class RetailPrices:
    """The application that serves the price list; it asks for no credentials.

    Attributes:
        page_size: The number of rows on a page; Azure's has 1,000 or fewer.
    """

    def __init__(
        self,
        injector: FaultInjector,
        prices: Callable[[], Prices],
        now: Callable[[], datetime],
        sizes: Callable[[], Mapping[str, Size]] = hardware.sizes,
    ) -> None:
        """Serve the packaged prices of `sizes`, except those in `prices`; `now` returns the time of the cloud's clock."""
        self._injector = injector
        self._prices = prices
        self._now = now
        self._sizes = sizes
        self._found: dict[object, list[Json]] = {}
        self.page_size = 1000

    def __call__(self, request: Request) -> Response | None:
        """Answer a request."""
        query = dict(parse_qsl(request.query))
        text = query.get("$filter", "")
        fields: dict[str, object] = {
            "region": _named(text, "armRegionName"),
            "size": _named(text, "armSkuName"),
            "filter": text,
            "version": query.get("api-version", ""),
            "skip": query.get("$skip", "0"),
        }
        return self._injector.answer(OPERATION, fields, answer=lambda: self._answer(request, query), refuse=_refusal)

    def _answer(self, request: Request, query: Mapping[str, str]) -> Response:
        if request.method != "GET" or request.path != PATH:
            return Response(404)
        skip, currency = query.get("$skip", "0"), query.get("currencyCode", "USD").strip("'")
        if not skip.isdigit() or currency not in _RATES or query.get("api-version", _DEFAULT) not in _VERSIONS:
            return _error(400, "Invalid OData parameters supplied")
        try:
            found = self._matching(query, currency)
        except ValueError:
            return _error(400, "Invalid OData parameters supplied")
        page = found[int(skip) : int(skip) + self.page_size]
        document: Json = {
            "BillingCurrency": currency,
            "CustomerEntityId": "Default",
            "CustomerEntityType": "Retail",
            "Items": page,
            "NextPageLink": None,
            "Count": len(page),
        }
        if int(skip) + len(page) < len(found):
            rest = {**query, "$skip": str(int(skip) + len(page))}
            options = urlencode(rest, quote_via=quote)
            document["NextPageLink"] = f"http://{request.headers.get('host', '')}{PATH}?{options}"
        return json_response(200, document)

    def _matching(self, query: Mapping[str, str], currency: str) -> list[Json]:
        """Return the rows that a query asks for; those of the last queries are kept, because each of their pages needs all."""
        text, version = query.get("$filter", ""), query.get("api-version", _DEFAULT)
        is_primary = query.get("meterRegion", "").strip("'").lower() == "primary"
        changed, now = dict(self._prices()), self._now()
        key = (text, version, is_primary, currency, now.date(), tuple(sorted(changed.items())), len(self._sizes()))
        found = self._found.get(key)
        if found is None:
            test = price_filters.parse(text, has_case=version == _PREVIEW)
            found = [
                _converted(row, version, currency)
                for row in self._rows(text, changed, now)
                if test(row) and (row["isPrimaryMeterRegion"] or not is_primary)
            ]
            self._found = {**dict(list(self._found.items())[1 - _KEPT :]), key: found}
        return found

    def _rows(self, text: str, changed: Prices, now: datetime) -> Iterator[Json]:
        """Yield the rows of all sizes, or only those that an `eq` in the filter can be about."""
        is_plain = not re.search(r"\bor\b", text, re.IGNORECASE)
        region, name = (_named(text, field) if is_plain else "" for field in ("armRegionName", "armSkuName"))
        for size in self._sizes().values():
            if name and size.name.lower() != name.lower():
                continue
            places = {**size.prices, **size.spot_prices}
            for place in places:
                if not region or place == region.lower():
                    yield from _of(size, place, changed, now)
            if places and (not region or region.lower() == EARLY_ACCESS):
                yield from rows_of(size.name, EARLY_ACCESS, 0.01, 0.001, now)


def _of(size: Size, region: str, changed: Prices, now: datetime) -> Iterator[Json]:
    packaged = (size.prices.get(region, 0.0), size.spot_prices.get(region, 0.0))
    plain, spot = (
        changed.get((region, size.name, purchase), price)
        for purchase, price in zip(("on_demand", "spot"), packaged, strict=True)
    )
    was = (packaged[0] if plain != packaged[0] else 0.0, packaged[1] if spot != packaged[1] else 0.0)
    yield from rows_of(size.name, region, plain, spot, now, was=was)


def _converted(row: Json, version: str, currency: str) -> Json:
    if version != _PREVIEW:
        row = {name: value for name, value in row.items() if name != "savingsPlan"}
    if currency == "USD":
        return row
    price = round(row["retailPrice"] * _RATES[currency], 6)
    return {**row, "currencyCode": currency, "retailPrice": price, "unitPrice": price}


def _named(text: str, field: str) -> str:
    found = re.search(rf"\b{field}\s+eq\s+'([^']*)'", text, re.IGNORECASE)
    return found[1] if found else ""


def _refusal(fault: Fault) -> Response:
    if fault.kind is FaultKind.THROTTLE:
        return _error(429, "Too many requests. Please retry later.", retry_header(fault.retry_after))
    return _error(fault.status, fault.message or fault.code, retry_header(fault.retry_after))


def _error(status: int, message: str, headers: Mapping[str, str] | None = None) -> Response:
    return json_response(status, {"Error": {"Code": str(status), "Message": message}}, headers or {})
