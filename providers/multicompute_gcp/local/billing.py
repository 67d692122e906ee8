"""The methods of Cloud Billing on price lists, which need an API key or credentials but no permission."""

import re
from collections.abc import Mapping
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Final
from urllib.parse import parse_qs
from zoneinfo import ZoneInfo

from multicompute.offer import InstanceType
from multicompute.testing.local.server import Request
from multicompute_gcp.local.calls import Call, Handler
from multicompute_gcp.local.hardware import GPU_NAMES, hardware
from multicompute_gcp.local.price_list import SERVICES, PriceList
from multicompute_gcp.local.responses import GcpError, Json
from multicompute_gcp.local.state import State
from multicompute_gcp.prices._rates import parts_of

API_KEY: Final = "AIzaLocalCloudKeyThatNeedsNoSecrecy00"
_LARGEST_PAGE: Final = 5000
# cloudbilling.v1, services.skus.list: "The time range has to be within a single calendar month in America/Los_Angeles timezone."
_ZONE: Final = "America/Los_Angeles"
_PATH: Final = re.compile(r"/v1(beta)?/(services|skus)\b")
_INFO: Final = "type.googleapis.com/google.rpc.ErrorInfo"


class Billing:
    """The price lists.

    Attributes:
        largest_page: The largest number of SKUs on a page.
    """

    def __init__(self, state: State) -> None:
        """Serve the prices of the local cloud."""
        self.largest_page = _LARGEST_PAGE
        self.prices = PriceList()
        self._state = state

    def clear(self) -> None:
        """Forget all prices that were set."""
        self.prices.clear()

    def handlers(self) -> Mapping[str, Handler]:
        """Return the handlers by method."""
        return {
            "cloudbilling.services.list": self._services,
            "cloudbilling.skus.list": self._list,
            "cloudbilling.price.get": self._price,
        }

    def set_price(self, instance_type: str, region: str, hourly_usd: float, purchase: str) -> None:
        """Change the SKU that sets a type apart so that the type costs `hourly_usd`."""
        shape = _shape(instance_type, region)
        parts = parts_of(shape)
        main = next((part for part in parts if part[0].startswith(("gpu", "slice", "tpu"))), parts[0])
        rest = sum(
            (
                self.prices.rate(component, region, purchase) * count
                for component, count in parts
                if component != main[0]
            ),
            Decimal(0),
        )
        usd = (Decimal(str(hourly_usd)) - rest) / main[1]
        if usd <= 0:
            raise ValueError(f"hourly_usd={hourly_usd}: the other parts of {instance_type} alone cost {rest:.2f}")
        self.prices.rate(main[0], region, purchase)
        self.prices.set(main[0], region, purchase, usd)

    def _services(self, call: Call) -> Json:
        listed = [
            {
                "name": f"services/{key}",
                "serviceId": key,
                "displayName": name,
                "businessEntityName": "businessEntities/GCP",
            }
            for key, name in SERVICES.items()
        ]
        return {"services": listed, "nextPageToken": ""}

    def _list(self, call: Call) -> str:
        service = call.path["service"]
        if service not in SERVICES:
            raise GcpError("NOT_FOUND", f"Service services/{service} was not found.", 404)
        self._check_query(call)
        asked = int(call.query.get("pageSize", "0"))
        if not 0 <= asked <= _LARGEST_PAGE:
            raise GcpError("INVALID_ARGUMENT", f"Page size {asked} is not between 0 and {_LARGEST_PAGE}.", 400)
        start = _start(call.query.get("pageToken", ""))
        size = min(asked or _LARGEST_PAGE, self.largest_page)
        skus = self.prices.skus(service)
        more = f"after-{start + size}" if start + size < len(skus) else ""
        return f'{{"skus": [{", ".join(skus[start : start + size])}], "nextPageToken": "{more}"}}'

    def _check_query(self, call: Call) -> None:
        if call.query.get("currencyCode", "USD") != "USD":
            raise GcpError("INVALID_ARGUMENT", "The local Google Cloud has prices in USD only.", 400)
        begin, end = (_instant(call.query.get(name)) for name in ("startTime", "endTime"))
        now = self._state.now()
        if any(at is not None and at > now for at in (begin, end)):
            raise GcpError("INVALID_ARGUMENT", "Timestamps in the future are not allowed.", 400)
        if begin and end and _month(begin) != _month(end - timedelta(microseconds=1)):
            raise GcpError(
                "INVALID_ARGUMENT", f"The time range has to be within a single calendar month in {_ZONE}.", 400
            )

    def _price(self, call: Call) -> Json:
        sku = self.prices.sku(call.path["sku"])
        if sku is None:
            raise GcpError("NOT_FOUND", f"SKU {call.path['sku']} was not found.", 404)
        expression = sku["pricingInfo"][0]["pricingExpression"]
        return {
            "name": f"skus/{sku['skuId']}/price",
            "currencyCode": "USD",
            "valueType": "rate",
            "rate": {
                "tiers": [
                    {"startAmount": {"value": str(tier["startUsageAmount"])}, "listPrice": tier["unitPrice"]}
                    for tier in expression["tieredRates"]
                ],
                "unitInfo": {
                    "unit": expression["usageUnit"],
                    "unitDescription": expression["usageUnitDescription"],
                    "unitQuantity": {"value": "1"},
                },
                "aggregationInfo": {"level": "LEVEL_UNSPECIFIED", "interval": "INTERVAL_UNSPECIFIED"},
            },
        }


def is_billing(request: Request) -> bool:
    """Return whether a request is for Cloud Billing."""
    return _PATH.match(request.path) is not None


def check_caller(request: Request) -> bool:
    """Return whether an API key is given, and refuse an invalid one, and a call without a key or a token.

    Raises:
        GcpError: The call has no valid key and no token.
    """
    key = request.headers.get("x-goog-api-key") or parse_qs(request.query).get("key", [""])[0]
    if key == API_KEY:
        return True
    if key:
        info: Json = {"@type": _INFO, "reason": "API_KEY_INVALID", "domain": "googleapis.com"}
        text = "API key not valid. Please pass a valid API key."
        raise GcpError("INVALID_ARGUMENT", text, 400, details=[info])
    if not request.headers.get("authorization"):
        text = "Method doesn't allow unregistered callers (callers without established identity)."
        raise GcpError("PERMISSION_DENIED", f"{text} Please use API Key or other form of API consumer identity.", 403)
    return False


def _shape(name: str, region: str) -> InstanceType:
    machine, found = hardware().machine_types.get(name), hardware().slices.get(name)
    zones = machine.zones if machine else found.zones if found else ()
    if not any(hardware().zones[zone] == region for zone in zones):
        raise ValueError(f"{name} is not offered in {region}")
    if found is not None:
        return InstanceType("gcp", name, found.generation, found.chips, hosts=found.hosts)
    assert machine is not None
    names = {gpu: shard for shard, gpu in GPU_NAMES.items()} | {"nvidia-h100-mega-80gb": "h100", "": ""}
    return InstanceType(
        "gcp", name, names[machine.gpu], machine.gpus, vcpus=machine.vcpus, memory_gib=machine.memory_gib
    )


def _start(token: str) -> int:
    if not token:
        return 0
    found = re.fullmatch(r"after-(\d+)", token)
    if found is None:
        raise GcpError("INVALID_ARGUMENT", "Invalid page token.", 400)
    return int(found[1])


def _instant(text: str | None) -> datetime | None:
    return datetime.fromisoformat(re.sub(r"\.(\d{6})\d*", r".\1", text)) if text else None


def _month(at: datetime) -> tuple[int, int]:
    local = at.astimezone(ZoneInfo(_ZONE))
    return local.year, local.month
