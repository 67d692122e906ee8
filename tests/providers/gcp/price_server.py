"""A server of SKUs that a test writes down one by one, and a feed that reads them."""

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from urllib.parse import parse_qs

from multicompute.offer import InstanceType
from multicompute.price_feed import FoundPrices, Price, PricedType, PriceQuery
from multicompute.provider import Settings
from multicompute.testing.local.server import Request, Response, Server, json_response
from multicompute_gcp import plugin
from multicompute_gcp.prices._feed import GcpPriceFeed

IOWA = "us-central1"
KEY = "AIzaMarkedKeyOfTheTests"
A2 = PricedType(InstanceType("gcp", "a2-highgpu-1g", "a100", 1, 40.0, vcpus=12, memory_gib=85))
A2_80 = PricedType(InstanceType("gcp", "a2-ultragpu-1g", "a100-80gb", 1, 80.0, vcpus=12, memory_gib=170))
A3 = PricedType(
    InstanceType("gcp", "a3-highgpu-8g", "h100", 8, 80.0, vcpus=208, memory_gib=1872),
    frozenset({"on_demand", "spot", "flex_start", "reserved"}),
)
A3_MEGA = PricedType(InstanceType("gcp", "a3-megagpu-8g", "h100", 8, 80.0, vcpus=208, memory_gib=1872))
A3_ULTRA = PricedType(
    InstanceType("gcp", "a3-ultragpu-8g", "h200", 8, 141.0, vcpus=224, memory_gib=2952), frozenset({"spot"})
)
A4 = PricedType(
    InstanceType("gcp", "a4-highgpu-8g", "b200", 8, 180.0, vcpus=224, memory_gib=3968),
    frozenset({"flex_start", "reserved", "spot"}),
)
G2 = PricedType(InstanceType("gcp", "g2-standard-4", "l4", 1, 24.0, vcpus=4, memory_gib=16))
G4 = PricedType(InstanceType("gcp", "g4-standard-48", "rtx-pro-6000", 1, 96.0, vcpus=48, memory_gib=180))
T4 = PricedType(
    InstanceType("gcp", "n1-standard-4", "t4", 1, 16.0, vcpus=4, memory_gib=15, attached=True),
    frozenset({"on_demand", "spot"}),
)


def cpu(name: str, vcpus: int, memory_gib: float) -> PricedType:
    return PricedType(InstanceType("gcp", name, vcpus=vcpus, memory_gib=memory_gib), frozenset({"on_demand", "spot"}))


def tpu(name: str, generation: str, chips: int, hosts: int = 1) -> PricedType:
    return PricedType(InstanceType("gcp", name, f"tpu-{generation}", chips, 16.0, vcpus=24, memory_gib=48, hosts=hosts))


def sku(
    description: str,
    usd: str | tuple[object, object] = "1",
    *,
    unit: str = "",
    regions: Sequence[str] = (IOWA,),
    tiers: Sequence[tuple[float, str]] = (),
    usage: str = "OnDemand",
    sku_id: str = "",
    **info: Any,
) -> dict[str, Any]:
    """Return a SKU as the API has it; `usd` is a decimal number, or units and nanos."""
    text = description.lower()
    unit = unit or ("GiBy.h" if " ram" in text else "GiBy.mo" if "local ss" in text or "local storage" in text else "h")
    rates = [_tier(start, price) for start, price in tiers] or [_tier(0, usd)]
    return {
        "name": f"services/S/skus/{sku_id or description}",
        "skuId": sku_id or description,
        "description": description,
        "category": {"resourceFamily": "Compute", "resourceGroup": "GPU", "usageType": usage},
        "serviceRegions": list(regions),
        "pricingInfo": [{"pricingExpression": {"usageUnit": unit, "tieredRates": rates}, **info}],
        "geoTaxonomy": {"type": "REGIONAL" if len(regions) == 1 else "MULTI_REGIONAL", "regions": list(regions)},
    }


def _tier(start: float, usd: str | tuple[object, object]) -> dict[str, Any]:
    if isinstance(usd, str):
        whole, _, rest = usd.partition(".")
        usd = whole, int(f"{rest:0<9}")
    return {"startUsageAmount": start, "unitPrice": {"currencyCode": "USD", "units": usd[0], "nanos": usd[1]}}


class Prices:
    """The server. `compute` and `tpu` are the SKUs, `page` how many of them a page has."""

    def __init__(self) -> None:
        self.compute: list[Any] = []
        self.tpu: list[Any] = []
        self.page = 5000
        self.requests: list[Request] = []
        self.refuse: Callable[[Request], Response | None] = lambda _: None

    def __call__(self, request: Request) -> Response:
        self.requests.append(request)
        if refused := self.refuse(request):
            return refused
        if not request.path.endswith("/skus"):
            return json_response(404, {"error": {"code": 404, "message": "no such method", "status": "NOT_FOUND"}})
        listed = self.compute if "6F81-5844-456A" in request.path else self.tpu
        start = int(parse_qs(request.query).get("pageToken", ["0"])[0])
        more = str(start + self.page) if start + self.page < len(listed) else ""
        return json_response(200, {"skus": listed[start : start + self.page], "nextPageToken": more})


@contextmanager
def served(prices: Prices) -> Iterator[GcpPriceFeed]:
    server = Server(prices)
    server.start()
    try:
        feed = plugin.open_price_feed(Settings({"billing_endpoint_url": server.url, "api_key": KEY}))
        assert isinstance(feed, GcpPriceFeed)
        yield feed
    finally:
        server.stop()


def read(skus: Sequence[Any], *types: PricedType, regions: Sequence[str] = (IOWA,), **changes: Any) -> FoundPrices:
    """Return what a feed finds among some SKUs, which both services have."""
    prices = Prices()
    prices.compute = prices.tpu = list(skus)
    for name, value in changes.items():
        setattr(prices, name, value)
    with served(prices) as feed:
        return feed.fetch(PriceQuery(types, regions), progress=lambda _: None)


def costs(found: FoundPrices) -> dict[str, float]:
    """Return the price of each purchase; each must be of the same type and region."""
    return {price.purchase: price.quote.hourly_cost for price in found.prices}


def only(found: FoundPrices) -> Price:
    [price] = found.prices
    return price


def error_page(status: int, message: str, code: str, reason: str = "") -> Response:
    body: dict[str, Any] = {"code": status, "message": message, "status": code}
    if reason:
        body["details"] = [{"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": reason}]
    return Response(status, json.dumps({"error": body}).encode())
