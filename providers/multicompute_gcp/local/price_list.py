"""The price list of the local Google Cloud: SKUs that agree with the packaged tables, in the forms of the Cloud Billing Catalog."""

import functools
import json
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Final

from multicompute_gcp.local.component_prices import Key, fitted
from multicompute_gcp.local.hardware import hardware
from multicompute_gcp.local.responses import Json

COMPUTE: Final = "6F81-5844-456A"
TPU: Final = "E000-3F24-B8AA"
SERVICES: Final[Mapping[str, str]] = {COMPUTE: "Compute Engine", TPU: "Cloud TPU"}
# Not today's date: a price list is as old as its vendor says.
_EFFECTIVE: Final = "2026-10-01T07:00:00.123456789Z"
_NANO: Final = 10**9
_DIGITS: Final = Decimal("0.000001")

# Prices per hour on demand, made up: of a core and of a GiB by series, of accelerators, and of a GiB of local SSD by month. They hold where the
# packaged tables have no price that consists of these components, and decide where the tables leave open which component costs how much.
_SERIES: Final[Mapping[str, tuple[str, str]]] = {
    "A2": ("0.03", "0.004"),
    "A3": ("0.028", "0.0026"),
    "A3Plus": ("0.029", "0.0026"),
    "A3Ultra": ("0.03", "0.0027"),
    "C3": ("0.034", "0.0046"),
    "C4": ("0.035", "0.004"),
    "C4A Arm": ("0.031", "0.0036"),
    "E2": ("0.022", "0.003"),
    "G2": ("0.025", "0.003"),
    "G4": ("0.047", "0.0055"),
    "N1 Predefined": ("0.032", "0.0043"),
    "N2": ("0.032", "0.0043"),
    "N4": ("0.03", "0.0034"),
}
_GPUS: Final[Mapping[str, tuple[str, str]]] = {
    "a100": ("Nvidia Tesla A100 GPU", "2.9"),
    "a100-80gb": ("Nvidia Tesla A100 80GB GPU", "3.9"),
    "h100": ("Nvidia H100 80GB GPU", "9.8"),
    "h100-mega": ("Nvidia H100 80GB Mega GPU", "10.2"),
    "h200": ("Nvidia H200 141GB GPU", "9.9"),
    "l4": ("Nvidia L4 GPU", "0.56"),
    "p100": ("Nvidia Tesla P100 GPU", "1.5"),
    "p4": ("Nvidia Tesla P4 GPU", "0.6"),
    "rtx-pro-6000": ("RTX 6000 96GB", "2.6"),
    "t4": ("Nvidia Tesla T4 GPU", "0.35"),
    "v100": ("Nvidia Tesla V100 GPU", "2.5"),
}
_SLICE: Final = "11"
_SSD: Final = "0.08"
_CHIPS: Final[Mapping[str, tuple[str, str]]] = {
    "tpu:v5e": ("TpuV5e", "1.2"),
    "tpu:v5p": ("TpuV5p", "4.2"),
    "tpu:v6e": ("TpuV6e", "2.7"),
    "tpu:tpu7x": ("Tpu7x", "12"),
}
# By eight cores, four chips; sold by continent.
_EIGHT_CORES: Final[Mapping[str, tuple[str, str]]] = {
    "tpu:v2": ("Tpu-v2", "4.5"),
    "tpu-pod:v2": ("Tpu-v2 Pod", "6"),
    "tpu:v3": ("Tpu-v3", "8"),
    "tpu-pod:v3": ("Tpu-v3 Pod", "8"),
    "tpu-pod:v4": ("Tpu-v4 Pod", "12.8"),
}
_CONTINENTS: Final[Mapping[str, str]] = {"us": "USA", "europe": "Europe", "asia": "Asia"}
_SHARE: Final[Mapping[str, Decimal]] = {
    "on_demand": Decimal(1),
    "flex_start": Decimal("0.55"),
    "spot": Decimal("0.4"),
}
# "Americas" are these three. One SKU covers them, and where a region has its own SKU, that one holds.
AMERICAS: Final = ("us-central1", "us-east1", "us-west1")
_MULTI: Final = frozenset({"N1 Predefined", "A2"})
_OWN: Final = "us-east1"
# https://cloud.google.com/compute/docs/machine-resource: the series that the Dynamic Workload Scheduler provides.
_FLEX: Final = frozenset({"A2", "A3", "A3Plus", "A3Ultra", "G2", "G4"})


@dataclass(frozen=True, slots=True)
class Part:
    """A component as the list prices it.

    Attributes:
        key: "core:a3", "gpu:h100", "ssd", "tpu:v5p", ...
        usd: USD per unit on demand, where no region factor applies.
        unit: The usage unit.
    """

    key: str
    text: str
    usd: Decimal
    unit: str
    family: str
    group: str


class PriceList:
    """The SKUs of both services. Composed prices are those of the packaged tables, where these have one; `set` changes a component."""

    def __init__(self) -> None:
        """Start without prices that were set."""
        self._set: dict[tuple[str, str, str], Decimal] = {}
        self._skus: dict[str, list[str]] = {}
        self._by_id: dict[str, Json] = {}

    def clear(self) -> None:
        """Forget all prices that were set."""
        for records in (self._set, self._skus, self._by_id):
            records.clear()

    def set(self, component: str, region: str, purchase: str, usd: Decimal) -> None:
        """Set the price of a component in a region, in USD per hour and core, GiB, GPU, slice or chip."""
        self._set[component, region, purchase] = usd
        self._skus.clear()
        self._by_id.clear()

    def rate(self, component: str, region: str, purchase: str) -> Decimal:
        """Return the price of a component in a region, in USD per hour and core, GiB, GPU, slice or chip; ValueError if it has none."""
        if (component, region, purchase) in self._set:
            return self._set[component, region, purchase]
        part = next((part for part in _parts() if part.key == component), None)
        if part is None or not _has(part, purchase):
            raise ValueError(f"{component} has no price as {purchase} in {region}")
        return _usd(part, region, purchase) / _units(part)

    def skus(self, service: str) -> list[str]:
        """Return the SKUs of a service as JSON texts."""
        if not self._set:
            return _unchanged(service)
        if service not in self._skus:
            self._skus[service] = [json.dumps(sku) for sku in self._of_service(service)]
        return self._skus[service]

    def sku(self, sku_id: str) -> Json | None:
        """Return a SKU by its id."""
        if not self._by_id:
            self._by_id |= {sku["skuId"]: sku for service in SERVICES for sku in map(json.loads, self.skus(service))}
        return self._by_id.get(sku_id)

    def _of_service(self, service: str) -> Iterator[Json]:
        return self._compute() if service == COMPUTE else self._tpus()

    def _compute(self) -> Iterator[Json]:
        for part in _parts():
            if part.key.startswith("tpu") and part.key in _EIGHT_CORES:
                continue
            for purchase in _SHARE:
                if _has(part, purchase):
                    yield from self._of_part(part, purchase)
            yield from _misleading(part)
        yield from _others()

    def _of_part(self, part: Part, purchase: str) -> Iterator[Json]:
        series = part.text.partition(" Instance")[0]
        shared: tuple[str, ...] = AMERICAS if series in _MULTI and purchase == "on_demand" else ()
        common = _usd(part, AMERICAS[0], purchase)
        if shared:
            yield _sku(COMPUTE, part, _described(part, purchase, "Americas"), shared, common, purchase)
        for region in sorted(hardware().regions()):
            usd = self._usd(part, region, purchase)
            if region not in shared or region == _OWN or usd != common:
                yield _sku(COMPUTE, part, _described(part, purchase, _place(region)), (region,), usd, purchase)

    def _usd(self, part: Part, region: str, purchase: str) -> Decimal:
        """Return the price of a SKU."""
        usd = self._set.get((part.key, region, purchase))
        return _usd(part, region, purchase) if usd is None else usd * _units(part)

    def _tpus(self) -> Iterator[Json]:
        for part in (part for part in _parts() if part.key in _EIGHT_CORES):
            for prefix, continent in _CONTINENTS.items():
                regions = tuple(sorted(region for region in hardware().regions() if region.startswith(f"{prefix}-")))
                for purchase in ("on_demand", "spot"):
                    text = f"{part.text} in {continent}"
                    # Preemptible ones are OnDemand, too.
                    text = f"Preemptible {text}" if purchase == "spot" else text
                    common = part.usd * _SHARE[purchase]
                    yield _sku(TPU, part, text, regions, common, "on_demand")
                    for region in regions:
                        if (usd := self._usd(part, region, purchase)) != common:
                            text = f"{text.partition(' in ')[0]} in {_place(region)}"
                            yield _sku(TPU, part, text, (region,), usd, "on_demand")


@functools.cache
def _unchanged(service: str) -> list[str]:
    """Return the SKUs of a service as JSON texts, with no price set. Each process makes them once."""
    return [json.dumps(sku) for sku in PriceList()._of_service(service)]


def _parts() -> Iterator[Part]:
    for series, (core, ram) in _SERIES.items():
        name = series.split(" ", 1)[0].lower()
        group = "N1Standard" if series.startswith("N1") else ""
        yield Part(f"core:{name}", f"{series} Instance Core", Decimal(core), "h", "Compute", group or "CPU")
        yield Part(f"ram:{name}", f"{series} Instance Ram", Decimal(ram), "GiBy.h", "Compute", group or "RAM")
    for name, (text, usd) in _GPUS.items():
        yield Part(f"gpu:{name}", text, Decimal(usd), "h", "Compute", "GPU")
    yield Part("slice:b200", "A4 Nvidia B200 (1 gpu slice)", Decimal(_SLICE), "h", "Compute", "GPU")
    yield Part("ssd", "SSD backed Local Storage", Decimal(_SSD), "GiBy.mo", "Storage", "LocalSSD")
    for key, (text, usd) in {**_CHIPS, **_EIGHT_CORES}.items():
        yield Part(key, text, Decimal(usd), "h", "Compute", "TPU")


def _units(part: Part) -> Decimal:
    """Return how many hours and units of the component one unit of its SKU is."""
    if part.unit == "GiBy.mo":
        return Decimal(730)
    return Decimal(4) if part.key in _EIGHT_CORES else Decimal(1)


def _has(part: Part, purchase: str) -> bool:
    if purchase != "flex_start":
        return True
    series = part.text.split(" ", 1)[0]
    is_gpu = part.key in (
        "gpu:a100",
        "gpu:a100-80gb",
        "gpu:h100",
        "gpu:h100-mega",
        "gpu:h200",
        "gpu:l4",
        "gpu:rtx-pro-6000",
    )
    return series in _FLEX or is_gpu or part.key in _CHIPS


def _usd(part: Part, region: str, purchase: str) -> Decimal:
    """Return the price of a SKU: that of the tables, else a share of what the same region has on demand."""
    known, key = _tables(purchase), (part.key, region, purchase)
    if key in known:
        return known[key] * _units(part)
    if purchase != "on_demand":
        return (_usd(part, region, "on_demand") * _SHARE[purchase]).quantize(_DIGITS)
    if spot := _tables("spot").get((part.key, region, "spot")):
        return (spot * _units(part) / _SHARE["spot"]).quantize(_DIGITS)
    return _made_up(part, region)


@functools.cache
def _tables(purchase: str) -> Mapping[Key, Decimal]:
    """Return the rates of the packaged tables, which each process computes once."""
    parts = {part.key: part for part in _parts()}

    def prior(component: str, region: str, purchase: str) -> Decimal:
        part = parts[component]
        known = _tables("on_demand").get((component, region, "on_demand")) if purchase != "on_demand" else None
        usd = known * _units(part) if known else _made_up(part, region)
        return (usd * _SHARE[purchase]).quantize(_DIGITS) / _units(part)

    return fitted(prior, purchase)


def _made_up(part: Part, region: str) -> Decimal:
    """Return a price on demand that no table has."""
    if part.key in _EIGHT_CORES:
        return part.usd
    # No region is a fixed factor from another: each family has its own.
    step = zlib.crc32(f"{region} {part.key.partition(':')[2]}".encode()) % 25 if region not in AMERICAS[:1] else 0
    return (part.usd * (100 + step) / 100).quantize(_DIGITS)


def _described(part: Part, purchase: str, place: str) -> str:
    if purchase == "on_demand":
        text = {"gpu:h100-mega": "Nvidia H100 80GB Plus GPU"}.get(part.key, part.text) if place == "Iowa" else part.text
        # The largest regions' SKU of local SSD has no place at all.
        return text if part.key == "ssd" and place in ("Iowa", "Belgium") else f"{text} running in {place}"
    if purchase == "flex_start":
        text = part.text.replace("H100 80GB Mega", "H100 Mega 80GB").replace("Tpu", "")
        return f"DWS Defined Duration {text.replace(' Instance', '')} running in {place}"
    if part.key.startswith(("core", "ram", "slice")):
        return f"Spot Preemptible {part.text} running in {place}"
    return f"{part.text} attached to Spot Preemptible VMs running in {place}"


def _place(region: str) -> str:
    names = {"us-central1": "Iowa", "us-east1": "South Carolina", "us-west1": "Oregon", "europe-west1": "Belgium"}
    return names.get(region, region.replace("-", " ").title())


def _misleading(part: Part) -> Iterator[Json]:
    """Yield the SKUs that read like a component and are none, cheaper than it by far."""
    series, region, cheap = part.text.partition(" Instance")[0], AMERICAS[0], part.usd / 10
    texts = [
        (f"Commitment v1: {part.text} in Iowa for 1 Year", "Commit1Yr", cheap),
        (f"DWS Calendar Mode {part.text} running in Iowa", "on_demand", cheap),
        (f"Reserved {part.text} in Iowa", "on_demand", Decimal(0)),
        (f"Reserved {part.text} in Calendar Mode running in Iowa", "on_demand", cheap),
        (f"VM state: suspended {part.text} in Iowa", "on_demand", cheap),
    ]
    if part.key.startswith(("core", "ram")):
        kind = part.text.rsplit(" ", 1)[1]
        texts += [
            (f"{series} Sole Tenancy Instance {kind} running in Iowa", "on_demand", cheap),
            (f"{series} Custom Instance {kind} running in Iowa", "on_demand", cheap),
            (f"{series} Custom Extended Instance {kind} running in Iowa", "on_demand", cheap),
            (f"Memory Optimized Upgrade Premium for {part.text} running in Iowa", "on_demand", cheap),
            (f"{series} CmtCudPremium Instance {kind} running in Iowa", "on_demand", cheap),
        ]
    if part.key == "tpu:v6e":
        texts.append(("Capacity Optimized TpuV6e running in Iowa", "on_demand", cheap))
    for text, usage, usd in texts:
        yield _sku(COMPUTE, part, text, (region,), usd, usage)


def _others() -> Iterator[Json]:
    """Yield SKUs of other kinds."""
    licence = Part("", "", Decimal("0.1"), "h", "License", "Google")
    yield _sku(
        COMPUTE,
        licence,
        "Licensing Fee for Windows Server 2025 on VM (CPU cost)",
        ("global",),
        licence.usd,
        "on_demand",
    )
    egress = Part("", "", Decimal("0.12"), "GiBy", "Network", "PremiumInternetEgress")
    # A free amount first.
    tiers = [_tier(0, Decimal(0)), _tier(1, egress.usd)]
    yield _sku(
        COMPUTE, egress, "Network Internet Egress from Iowa to Americas", AMERICAS[:1], egress.usd, "on_demand", tiers
    )


def _tier(start: int, usd: Decimal) -> Json:
    nanos = int((usd * _NANO).to_integral_value())
    return {
        "startUsageAmount": start,
        "unitPrice": {"currencyCode": "USD", "units": str(nanos // _NANO), "nanos": nanos % _NANO},
    }


def _sku(
    service: str,
    part: Part,
    text: str,
    regions: tuple[str, ...],
    usd: Decimal,
    usage: str,
    tiers: list[Json] | None = None,
) -> Json:
    number = f"{zlib.crc32(f'{service}{text}{regions}'.encode()):08X}{zlib.crc32(text.encode()) & 0xFFFF:04X}"
    sku_id = f"{number[:4]}-{number[4:8]}-{number[8:]}"
    # The spot slice of B200 counts as OnDemand, as everything of the Dynamic Workload Scheduler does.
    usage = "Preemptible" if usage == "spot" and not part.key.startswith("slice") else usage
    kind = "REGIONAL" if len(regions) == 1 else "MULTI_REGIONAL"
    return {
        "name": f"services/{service}/skus/{sku_id}",
        "skuId": sku_id,
        "description": text,
        "category": {
            "serviceDisplayName": SERVICES[service],
            "resourceFamily": part.family,
            "resourceGroup": part.group,
            "usageType": usage if usage in ("Preemptible", "Commit1Yr") else "OnDemand",
        },
        "serviceRegions": list(regions),
        "pricingInfo": [
            {
                "summary": "",
                "pricingExpression": {
                    "usageUnit": part.unit,
                    "displayQuantity": 1,
                    "tieredRates": tiers or [_tier(0, usd)],
                    "usageUnitDescription": {"h": "hour"}.get(part.unit, "gibibyte"),
                },
                "currencyConversionRate": 1,
                "effectiveTime": _EFFECTIVE,
            }
        ],
        "serviceProviderName": "Google",
        "geoTaxonomy": {"type": "GLOBAL"} if regions == ("global",) else {"type": kind, "regions": list(regions)},
    }
