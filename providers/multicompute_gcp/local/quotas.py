"""Quotas of Compute Engine: what an instance counts against, the usage, and the error."""

from collections import Counter
from collections.abc import Iterable, Mapping

from multicompute_gcp.local.records import HostSpec, Instance
from multicompute_gcp.local.responses import Json
from multicompute_gcp.local.state import State

GLOBAL = "global"
UNLIMITED = 1_000_000.0
# Accelerator type -> quota metric. The second table has the accelerators without a metric in regions.get: they count by family
# in a quota of the Cloud Quotas API.
_GPU_METRICS: Mapping[str, str] = {
    "nvidia-tesla-t4": "NVIDIA_T4_GPUS",
    "nvidia-tesla-p4": "NVIDIA_P4_GPUS",
    "nvidia-tesla-p100": "NVIDIA_P100_GPUS",
    "nvidia-tesla-v100": "NVIDIA_V100_GPUS",
    "nvidia-tesla-a100": "NVIDIA_A100_GPUS",
    "nvidia-a100-80gb": "NVIDIA_A100_80GB_GPUS",
    "nvidia-l4": "NVIDIA_L4_GPUS",
}
_FAMILY_METRICS: Mapping[str, str] = {
    "nvidia-h100-80gb": "NVIDIA_H100_GPUS",
    "nvidia-h100-mega-80gb": "NVIDIA_H100_GPUS",
    "nvidia-h200-141gb": "NVIDIA_H200_GPUS",
    "nvidia-b200": "NVIDIA_B200_GPUS",
    "nvidia-gb200": "NVIDIA_GB200_GPUS",
    "nvidia-gb300": "NVIDIA_GB300_GPUS",
    "nvidia-rtx-pro-6000": "NVIDIA_RTX_PRO_6000_GPUS",
}
_CPU_METRICS: Mapping[str, str] = {
    "a2": "A2_CPUS",
    "n2": "N2_CPUS",
    "c3": "C3_CPUS",
    "n1": "CPUS",
    "e2": "CPUS",
    "g2": "CPUS",
}
_PREEMPTIBLE_H100 = "PREEMPTIBLE_NVIDIA_H100_GPUS"
_LISTED = (
    *_GPU_METRICS.values(),
    *(f"PREEMPTIBLE_{metric}" for metric in _GPU_METRICS.values()),
    _PREEMPTIBLE_H100,
    "CPUS",
    "A2_CPUS",
    "N2_CPUS",
    "C3_CPUS",
    "PREEMPTIBLE_CPUS",
    "INSTANCES",
    "IN_USE_ADDRESSES",
)
_UNLISTED = (
    *dict.fromkeys(_FAMILY_METRICS.values()),
    *(f"PREEMPTIBLE_{metric}" for metric in dict.fromkeys(_FAMILY_METRICS.values())),
)
_PROJECT_WIDE = ("GPUS_ALL_REGIONS", "CPUS_ALL_REGIONS")
METRICS = frozenset((*_LISTED, *_UNLISTED, *_PROJECT_WIDE))

Use = Mapping[tuple[str, str], float]


def demand(host: HostSpec, *, has_address: bool) -> Use:
    """Return (metric, region or "global") -> how much one instance uses."""
    spot = "PREEMPTIBLE_" if host.spot or host.is_flex else ""
    found: dict[tuple[str, str], float] = {("INSTANCES", host.region): 1, ("CPUS_ALL_REGIONS", GLOBAL): host.vcpus}
    if has_address:
        found["IN_USE_ADDRESSES", host.region] = 1
    family = host.machine_type.split("-", 1)[0]
    if spot:
        found["PREEMPTIBLE_CPUS", host.region] = host.vcpus
    elif family in _CPU_METRICS:
        found[_CPU_METRICS[family], host.region] = host.vcpus
    if host.gpu:
        metric = _GPU_METRICS.get(host.gpu) or _FAMILY_METRICS[host.gpu]
        found[f"{spot}{metric}", host.region] = host.gpus
        found["GPUS_ALL_REGIONS", GLOBAL] = host.gpus
    return found


def used(instances: Iterable[Instance]) -> Counter[tuple[str, str]]:
    """Return the usage of each quota by these instances."""
    total: Counter[tuple[str, str]] = Counter()
    kinds: Counter[tuple[int, bool]] = Counter()
    hosts: dict[tuple[int, bool], HostSpec] = {}
    # The instances of one request share a HostSpec: count them, and compute the demand of each HostSpec once.
    for instance in instances:
        if instance.takes_capacity() and not instance.is_ghost:
            key = id(instance.host), instance.has_address
            kinds[key] += 1
            hosts[key] = instance.host
    for key, count in kinds.items():
        for quota, amount in demand(hosts[key], has_address=key[1]).items():
            total[quota] += amount * count  # type: ignore[assignment] # a Counter counts in whole numbers, these are also fractions
    return total


def exceeded(state: State, host: HostSpec, count: int, *, has_address: bool) -> tuple[str, str, float] | None:
    """Return the metric, place and limit of the quota that `count` more instances exceed; None if they exceed none."""
    if not state.quotas:
        return None
    taken = used(state.instances())
    for (metric, place), amount in demand(host, has_address=has_address).items():
        limit = state.quotas.get((metric, place))
        if limit is not None and taken[metric, place] + amount * count > limit:
            return metric, place, limit
    return None


def error(metric: str, place: str, limit: float, *, gap: str = "  ") -> Json:
    """Return the error of an operation; `gap` precedes "Limit", and differs between Google's two forms of the message."""
    where = "globally" if place == GLOBAL else f"in region {place}"
    info: Json = {"limit": limit}
    if metric in _UNLISTED:
        family = metric.removeprefix("PREEMPTIBLE_").removesuffix("_GPUS")
        name = "PREEMPTIBLE_GPUS_PER_GPU_FAMILY" if metric.startswith("PREEMPTIBLE") else "GPUS_PER_GPU_FAMILY"
        info |= {"dimensions": {"gpu_family": family, "region": place}}
    else:
        name = metric
        info |= {"dimensions": {} if place == GLOBAL else {"region": place}}
    info |= {
        "metricName": f"compute.googleapis.com/{name.lower()}",
        "limitName": f"{name.replace('_', '-')}-per-project-region",
    }
    message = f"Quota '{name}' exceeded.{gap}Limit: {limit:.1f} {where}."
    return {"code": "QUOTA_EXCEEDED", "message": message, "errorDetails": [{"quotaInfo": info}]}


def listed(state: State, region: str, taken: Use) -> list[Json]:
    """Return the quotas of a region as regions.get shows them."""
    return [
        {
            "metric": metric,
            "limit": state.quotas.get((metric, region), UNLIMITED),
            "usage": taken.get((metric, region), 0),
        }
        for metric in _LISTED
    ]


def project_wide(state: State, taken: Use) -> list[Json]:
    """Return the quotas of the project as projects.get shows them."""
    return [
        {
            "metric": metric,
            "limit": state.quotas.get((metric, GLOBAL), UNLIMITED),
            "usage": taken.get((metric, GLOBAL), 0),
        }
        for metric in _PROJECT_WIDE
    ]
