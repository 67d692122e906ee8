"""Reads what the account may have in a region: Compute Engine's own figures, and reservations by name."""

from collections.abc import Iterable, Sequence
from typing import Any, Final

from multicompute.errors import MulticomputeError
from multicompute.offer import Purchase
from multicompute.provider import Quota, Quotas, Reservation
from multicompute_gcp._errors import Place
from multicompute_gcp._reserved import held
from multicompute_gcp._session import Clients

# The metrics of regions.get and which machine types count against them. H100 and later have none on demand there.
_FAMILIES: Final = {
    "NVIDIA_A100_GPUS": ("a2-highgpu-*", "a2-megagpu-*"),
    "NVIDIA_A100_80GB_GPUS": ("a2-ultragpu-*",),
    "NVIDIA_L4_GPUS": ("g2-standard-*",),
    "NVIDIA_H100_GPUS": ("a3-highgpu-*", "a3-edgegpu-*"),
}
# Those that are attached to N1 machines, whose names do not say which: the catalog's name of the accelerator does.
_ATTACHED: Final = {f"NVIDIA_{name.upper()}_GPUS": name for name in ("t4", "p4", "p100", "v100", "k80")}
_PREEMPTIBLE: Final = "PREEMPTIBLE_"
# Of the project, over all regions; held against what is bought on demand only. An N1 without accelerators takes none of it.
_EVERYWHERE: Final = "GPUS_ALL_REGIONS"
_GPU_FAMILIES: Final = ("a2-*", "a3-*", "a4-*", "a4x-*", "g2-*", "g4-*", "n1-*")
_SHORT_LIVED: Final[tuple[Purchase, ...]] = ("spot", "flex_start")


def quotas(clients: Clients, region: str, reservations: Sequence[str] = ()) -> Quotas:
    """What the account may still have in `region`; what can't be read is a note."""
    notes: list[str] = []
    place, found = Place(region), []
    try:
        answer = clients.get(clients.compute_url("regions", region), "regions.get", place) or {}
        found += _of_region(answer.get("quotas", ()), region)
        project = clients.get(clients.compute_url("").rstrip("/"), "projects.get", place) or {}
        found += _of_project(project.get("quotas", ()))
    except MulticomputeError as error:
        notes.append(f"gcp {region}: quotas could not be read and are not compared: {error.message}")
    if not found and not notes:
        notes.append(f"gcp {region}: Compute Engine names no GPU quotas here; they are not compared")
    there: list[Reservation] = []
    for reservation_id in reservations:
        try:
            there += held(clients, region, reservation_id)
        except MulticomputeError as error:
            notes.append(f"gcp {region}: reservation {reservation_id} could not be read: {error.message}")
    return Quotas(tuple(found), tuple(there), tuple(notes))


def _of_region(listed: Iterable[dict[str, Any]], region: str) -> list[Quota]:
    """The GPU quotas; spot and flex-start count against the preemptible one where the account has one, else against the standard one.

    https://cloud.google.com/compute/resource-usage (allocation quotas for preemptible resources).
    """
    figures = {str(item["metric"]): (float(item["limit"]), float(item["usage"])) for item in listed}
    found: list[Quota] = []
    for metric, families in (_FAMILIES | dict.fromkeys(_ATTACHED, ("n1-*",))).items():
        standard, own = figures.get(metric), figures.get(_PREEMPTIBLE + metric)
        if standard is not None:
            found.append(_quota(metric, region, "on_demand", families, standard))
        short, name = (own, _PREEMPTIBLE + metric) if own is not None and own[0] > 0 else (standard, metric)
        if short is not None:
            found += [_quota(name, region, purchase, families, short) for purchase in _SHORT_LIVED]
    return found


def _of_project(listed: Iterable[dict[str, Any]]) -> list[Quota]:
    return [
        _quota(_EVERYWHERE, "", "on_demand", _GPU_FAMILIES, (float(item["limit"]), float(item["usage"])))
        for item in listed
        if item.get("metric") == _EVERYWHERE
    ]


def _quota(
    name: str, region: str, purchase: Purchase, families: tuple[str, ...], figures: tuple[float, float]
) -> Quota:
    limit, used = figures
    return Quota(
        name,
        region,
        purchase,
        families,
        max(limit, 0.0),
        max(used, 0.0),
        unit="accelerators",
        accelerator=_ATTACHED.get(name.removeprefix(_PREEMPTIBLE), ""),
    )
