"""Reads what a SKU of the Cloud Billing Catalog prices: the component, how it is bought, and USD per hour and unit.

The description decides. The category does not: `usageType` is OnDemand for the spot slice of B200, for preemptible TPUs of the first
generations and for everything of the Dynamic Workload Scheduler, and `resourceGroup` is the same for cores and RAM of N1. The texts are those
that other readers match: build/mapping.csv of Cyclenerd/google-cloud-pricing-cost-calculator, src/gpuhunt/providers/gcp.py of dstackai/gpuhunt,
and sky/catalog/data_fetchers/fetch_gcp.py of skypilot-org/skypilot.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal, InvalidOperation
from typing import Any, Final

from multicompute.offer import Purchase

Json = Mapping[str, Any]

# What reads like a machine, and is not sold as one: prices of commitments, of what a reservation covers ($0), of booked blocks, of nodes for
# one tenant, of custom shapes and their extended memory, surcharges, stopped machines and licences.
_NOT_SOLD: Final = re.compile(
    r"commitment|calendar mode|reserved|sole.?tenan|custom|extended|premium|capacity optimized|suspended|licen[cs]|overcommit"
    r"|virtual workstation|vm state|confidential"
)
# The place is a city, a state or a continent, and may be another name than that of the region: serviceRegions has the regions.
_PLACE: Final = re.compile(r"[ ,]+(?:running )?in .*$|[ -]*\((?:usa?|americas?|europe|emea|asia.*)\)$")
_SPOT: Final = re.compile(
    r"^(?:spot preemptible|preemptible|spot) | attached to (?:spot preemptible|preemptible|spot) vms?$"
)
# Flex-start is billed as "DWS Defined Duration"; "DWS Flex Start" has been seen for newer series.
_FLEX: Final = re.compile(
    r"^dws (?:defined duration|flex[ -]?start) | attached to dws (?:defined duration|flex[ -]?start) vms?$"
)
_MACHINE: Final = re.compile(
    r"(?P<series>[a-z]\d[a-z]?) ?(?P<kind>plus|mega|ultra)?(?: (?:predefined|amd|arm|memory-optimized))*(?: instance)?"
    r" (?P<part>core|ram)s?"
)
_C2: Final = re.compile(r"compute[ -]optimized(?: instance)? (?P<part>core|ram)s?")
_KINDS: Final = {None: "", "plus": "plus", "mega": "plus", "ultra": "ultra"}
_GPU: Final = re.compile(r"(?:nvidia )?(?:tesla )?(?P<name>.+?)(?: gpu)?")
# Description without "Nvidia", "Tesla" and "GPU" -> component. Each must be complete: "A100" is not "A100 80GB".
_GPUS: Final[Mapping[str, str]] = {
    "a100": "a100",
    "a100 40gb": "a100",
    "a100 80gb": "a100-80gb",
    "h100 80gb": "h100",
    # In us-central1 it is called Plus; the Dynamic Workload Scheduler has the words in another order.
    "h100 80gb mega": "h100-mega",
    "h100 80gb plus": "h100-mega",
    "h100 mega 80gb": "h100-mega",
    "h100 plus 80gb": "h100-mega",
    "h200 141gb": "h200",
    "l4": "l4",
    "p100": "p100",
    "p4": "p4",
    "t4": "t4",
    "v100": "v100",
    "rtx 6000 96gb": "rtx-pro-6000",
    "rtx pro 6000 96gb": "rtx-pro-6000",
    "rtx pro 6000": "rtx-pro-6000",
}
# One of the eight slices of a machine: cores, RAM and disks included.
_SLICE: Final = re.compile(r"(?:a4 )?(?:nvidia )?(?P<name>b200)(?: gpu)? \(1 gpu slice\)")
_SSD: Final = re.compile(r"ssd backed local storage|(?P<series>[a-z]\d[a-z]?) instance local ssd")
_OLD_TPU: Final = re.compile(
    r"(?:cloud )?tpu[- ]?v(?P<generation>[234])(?P<rest>(?:[- ](?:pod|device|slice|accelerator|core|chip)s?)*)"
)
_TPU: Final = re.compile(r"(?:cloud )?tpu[- ]?v?(?P<generation>5e|5p|6e|7x)(?: chips?)?")
# The Dynamic Workload Scheduler leaves "Tpu" out.
_FLEX_TPU: Final = re.compile(r"(?:tpu[- ]?)?v?(?P<generation>5e|5p|6e|7x)(?: chips?)?")
# v2 to v4 are priced by eight cores, which are four chips (https://cloud.google.com/tpu/pricing, and skypilot's `get_tpu_price`).
_CHIPS: Final = 4

_GIB: Final = Decimal(2**30) / Decimal(10**9)
# All readers count 730 hours a month, as Google's own price list does (https://cloud.google.com/compute/vm-instance-pricing).
_MONTH: Final = Decimal(730)
# The unit of a SKU -> the number of these units in an hour of the component's unit: one core, GPU or chip, or one GiB.
_PER_ONE: Final = {"h": Decimal(1)}
_PER_GIB: Final = {
    "GiBy.h": Decimal(1),
    "GBy.h": _GIB,
    "GiBy.mo": 1 / _MONTH,
    "GBy.mo": _GIB / _MONTH,
}
_NANO: Final = Decimal(10**9)


class UnreadableError(Exception):
    """A SKU of a component that is needed has no price that can be read; the text says why."""


@dataclass(frozen=True, slots=True)
class Rate:
    """The price of a component.

    Attributes:
        sku: The id of the SKU.
        component: "core:a3", "ram:a3", "gpu:h100", "slice:b200", "ssd", "tpu:v5p" or "tpu-pod:v3".
        usd: USD per hour of a core, GiB, GPU, slice or chip; 0 if the SKU is free.
        regions: The regions where it holds.
        description: The SKU's own, for messages.
    """

    sku: str
    component: str
    purchase: Purchase
    usd: Decimal
    regions: tuple[str, ...]
    description: str


def component_of(description: str) -> tuple[str, Purchase] | None:
    """Return which component a description names and how it is bought, None if it is not a part of what can be launched.

    Example:
        >>> component_of("Spot Preemptible A3 Instance Ram running in Iowa")
        ('ram:a3', 'spot')
    """
    text = " ".join(description.lower().split())
    if _NOT_SOLD.search(text):
        return None
    text = _PLACE.sub("", text)
    bought: list[Purchase] = []
    kinds: tuple[tuple[re.Pattern[str], Purchase], ...] = ((_SPOT, "spot"), (_FLEX, "flex_start"))
    for pattern, purchase in kinds:
        text, count = pattern.subn("", text)
        bought += [purchase] * bool(count)
    if len(bought) > 1 or text.startswith("dws "):
        return None
    purchase = bought[0] if bought else "on_demand"
    component = _component(text, is_flex=purchase == "flex_start")
    return (component, purchase) if component else None


def _component(text: str, *, is_flex: bool) -> str:
    """Return the component for a description without place and purchase, "" for none."""
    if found := _C2.fullmatch(text):
        return f"{found['part']}:c2"
    if found := _MACHINE.fullmatch(text):
        return f"{found['part']}:{found['series']}{_KINDS[found['kind']]}"
    if found := _SLICE.fullmatch(text):
        return f"slice:{found['name']}"
    if found := _SSD.fullmatch(text):
        return f"ssd:{found['series']}" if found["series"] else "ssd"
    if found := _OLD_TPU.fullmatch(text):
        return f"{'tpu-pod' if 'pod' in found['rest'] else 'tpu'}:v{found['generation']}"
    if found := (_FLEX_TPU if is_flex else _TPU).fullmatch(text):
        return f"tpu:{'tpu' if found['generation'] == '7x' else 'v'}{found['generation']}"
    found = _GPU.fullmatch(text)
    name = _GPUS.get(found["name"]) if found else None
    return f"gpu:{name}" if name else ""


def rate_of(sku: Json, component: str, purchase: Purchase, *, now: datetime) -> Rate:
    """Return the price of a SKU.

    Raises:
        UnreadableError: A field is missing or has an unknown form.
    """
    description = str(sku.get("description", ""))
    regions = tuple(str(region) for region in _listed(sku, "serviceRegions"))
    expression = _expression(_listed(sku, "pricingInfo"), now)
    unit = str(expression.get("usageUnit", ""))
    units = _PER_GIB if component.startswith(("ram:", "ssd")) else _PER_ONE
    if unit not in units:
        raise UnreadableError(f"unit {unit!r}")
    usd = _first_price(_listed(expression, "tieredRates")) * units[unit]
    if component.startswith(("tpu:v", "tpu-pod:v")) and component[-1] in "234":
        usd /= _CHIPS
    return Rate(str(sku.get("skuId") or sku.get("name", "")), component, purchase, usd, regions, description)


def price_of(answer: Json, component: str) -> Decimal:
    """Return USD per hour and unit of a component, from an answer of skus.price.get of the Pricing API (cloudbilling.v1beta).

    Raises:
        UnreadableError: A field is missing or has an unknown form.
    """
    rate = answer.get("rate")
    if not isinstance(rate, Mapping) or answer.get("currencyCode", "USD") != "USD":
        raise UnreadableError("no rate in USD")
    unit = rate.get("unitInfo") or {}
    tiers = [
        {
            "startUsageAmount": (tier.get("startAmount") or {}).get("value") or 0,
            "unitPrice": tier.get("listPrice") or {},
        }
        for tier in _listed(rate, "tiers")
    ]
    quantity = _number((unit.get("unitQuantity") or {}).get("value") or 1)
    units = _PER_GIB if component.startswith(("ram:", "ssd")) else _PER_ONE
    if unit.get("unit") not in units or quantity <= 0:
        raise UnreadableError(f"unit {unit.get('unit')!r}")
    usd = _first_price(tiers) * units[unit["unit"]] / quantity
    return usd / _CHIPS if component.startswith("tpu") and component[-1] in "234" else usd


def _listed(of: Json, name: str) -> list[Any]:
    found = of.get(name)
    return list(found) if isinstance(found, list) else []


def _expression(timeline: Iterable[Json], now: datetime) -> Json:
    """Return the pricing expression in force: the last one that has begun, of a list in chronological order."""
    best: tuple[datetime | None, Json] | None = None
    for info in timeline:
        begins = _instant(info.get("effectiveTime"))
        if begins is not None and begins > now:
            continue
        if best is None or begins is None or best[0] is None or begins >= best[0]:
            best = (begins, info)
    if best is None:
        raise UnreadableError("no price that has begun")
    info = best[1]
    if _number(info.get("currencyConversionRate") or 1) != 1:
        raise UnreadableError("a price that is not in USD")
    expression = info.get("pricingExpression")
    if not isinstance(expression, Mapping):
        raise UnreadableError("no pricing expression")
    return expression


def _instant(text: object) -> datetime | None:
    if not text:
        return None
    try:
        # Google's nine decimals are more than Python reads.
        found = datetime.fromisoformat(re.sub(r"\.(\d{6})\d*", r".\1", str(text)))
    except ValueError:
        raise UnreadableError(f"time {text!r}") from None
    if found.tzinfo is None:
        raise UnreadableError(f"time {text!r}")
    return found


def _first_price(tiers: Iterable[Json]) -> Decimal:
    """Return the price of the first tier that is not free: the first may be an amount that Google gives away. 0 if all are free."""
    found = sorted(
        ((_number(tier.get("startUsageAmount") or 0), _money(tier)) for tier in tiers), key=lambda tier: tier[0]
    )
    if not found:
        raise UnreadableError("no tier")
    return next((usd for _, usd in found if usd), Decimal(0))


def _money(tier: Json) -> Decimal:
    money = tier.get("unitPrice")
    if not isinstance(money, Mapping) or money.get("currencyCode", "USD") != "USD":
        raise UnreadableError("a price that is not in USD")
    # `units` is a string in JSON; both are left out where they are 0.
    usd = _number(money.get("units") or 0) + _number(money.get("nanos") or 0) / _NANO
    if usd < 0:
        raise UnreadableError("a price below 0")
    return usd


def _number(value: object) -> Decimal:
    try:
        found = Decimal(str(value))
    except InvalidOperation:
        raise UnreadableError(f"number {value!r}") from None
    if not found.is_finite():
        raise UnreadableError(f"number {value!r}")
    return found
