"""The price lists of the local Google Cloud: keys, pages, parameters and faults, as the discovery documents allow them."""

from typing import Any

import pytest

from multicompute_gcp.local import GcpLocalCloud
from tests.providers.gcp.local.bare_google import Api

SKUS = "/v1/services/6F81-5844-456A/skus"
KEY = GcpLocalCloud.api_key


def listed(api: Api, service: str = "6F81-5844-456A") -> list[dict[str, Any]]:
    skus, token = [], ""
    while True:
        status, page = api.ask(
            "GET", f"/v1/services/{service}/skus", key=KEY, **({"pageToken": token} if token else {})
        )
        assert status == 200
        skus += page["skus"]
        token = page["nextPageToken"]
        if not token:
            return skus


def test_pages_have_every_sku_once(api: Api) -> None:
    api.cloud.largest_page_of_skus = 700
    skus = listed(api)
    assert len({sku["skuId"] for sku in skus}) == len(skus) > 5000
    assert api.cloud.faults.count("cloudbilling.skus.list") == -(-len(skus) // 700)


def test_every_misleading_kind_of_sku_is_listed(api: Api) -> None:
    texts = " | ".join(sku["description"] for sku in listed(api) + listed(api, "E000-3F24-B8AA"))
    for kind in (
        *("Commitment v1", "DWS Calendar Mode", "DWS Defined Duration", "Reserved", "Sole Tenancy", "Custom Extended"),
        *("Upgrade Premium", "CmtCudPremium", "Capacity Optimized TpuV6e", "VM state: suspended", "Licensing Fee"),
        *("Americas", "H100 80GB Plus GPU", "RTX 6000 96GB running", "1 gpu slice", "Preemptible Tpu-v3 Pod in USA"),
    ):
        assert kind in texts, kind


@pytest.mark.parametrize(
    ("query", "status", "reason"),
    [
        ({"key": "AIzaOther"}, 400, "API key not valid"),
        ({}, 403, "unregistered callers"),
        ({"key": KEY, "pageSize": "5001"}, 400, "Page size"),
        ({"key": KEY, "pageSize": "many"}, 400, "TYPE_INT32"),
        ({"key": KEY, "pageToken": "x"}, 400, "page token"),
        ({"key": KEY, "filter": "x"}, 400, "Cannot bind query parameter"),
        ({"key": KEY, "currencyCode": "EUR"}, 400, "USD only"),
        ({"key": KEY, "startTime": "2199-01-01T00:00:00Z"}, 400, "future"),
        ({"key": KEY, "startTime": "2026-09-01T12:00:00Z", "endTime": "2026-10-02T12:00:00Z"}, 400, "calendar month"),
        ({"key": KEY, "startTime": "2026-10-01T12:00:00Z", "endTime": "2026-11-01T06:59:00Z"}, 200, ""),
    ],
)
def test_a_request_that_google_would_refuse_is_refused(
    api: Api, query: dict[str, str], status: int, reason: str
) -> None:
    found, answer = api.ask("GET", SKUS, **query)
    assert found == status
    assert reason in str(answer.get("error", ""))


def test_an_unknown_service_and_an_unknown_sku_are_not_found(api: Api) -> None:
    for path in ("/v1/services/0000-0000-0000/skus", "/v1beta/skus/0000-0000-0000/price"):
        assert api.ask("GET", path, key=KEY)[0] == 404


def test_the_price_of_one_sku_is_that_of_the_list(api: Api) -> None:
    sku = next(sku for sku in listed(api) if sku["description"] == "Nvidia L4 GPU running in Iowa")
    status, price = api.ask("GET", f"/v1beta/skus/{sku['skuId']}/price", key=KEY)
    assert status == 200
    money = sku["pricingInfo"][0]["pricingExpression"]["tieredRates"][0]["unitPrice"]
    assert price["rate"]["tiers"][0]["listPrice"] == money
    assert price["rate"]["unitInfo"]["unit"] == "h"


def test_throttling_and_a_disabled_api_are_faults_on_demand(api: Api) -> None:
    api.cloud.faults.throttle("cloudbilling.skus.list")
    api.cloud.faults.fail("cloudbilling.skus.list", "SERVICE_DISABLED", status=403)
    assert api.ask("GET", SKUS, key=KEY)[0] == 429
    status, answer = api.ask("GET", SKUS, key=KEY)
    assert (status, answer["error"]["status"]) == (403, "PERMISSION_DENIED")
    assert api.ask("GET", SKUS, key=KEY)[0] == 200
