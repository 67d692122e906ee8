"""Reads Compute Engine's GPU quotas of a region, and reservations by name."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final

from multicompute.offer import Purchase
from multicompute.provider import Quota, Quotas, Reservation
from multicompute.provider_kit.renewal import Renewal
from multicompute.provider_kit.seam import read_quotas
from multicompute.provider_kit.vendor_errors import Place
from multicompute_gcp._list import ATTACHED
from multicompute_gcp._reservations import reservations as reservations_of
from multicompute_gcp._session import Clients

# The metrics of regions.get, and the machine types that count against each. H100 and later have none for on-demand there.
_FAMILIES: Final = {
    "NVIDIA_A100_GPUS": ("a2-highgpu-*", "a2-megagpu-*"),
    "NVIDIA_A100_80GB_GPUS": ("a2-ultragpu-*",),
    "NVIDIA_L4_GPUS": ("g2-standard-*",),
    "NVIDIA_H100_GPUS": ("a3-highgpu-*", "a3-edgegpu-*"),
}
# The name of an N1 machine type does not say which accelerator is attached, so the quota names the accelerator.
_ATTACHED: Final = {f"NVIDIA_{name.upper()}_GPUS": name for name in ATTACHED}
_PREEMPTIBLE: Final = "PREEMPTIBLE_"
# The project's quota over all regions; only on-demand instances are compared with it. An N1 instance without accelerators does not count.
_ALL_REGIONS: Final = "GPUS_ALL_REGIONS"
_GPU_FAMILIES: Final = ("a2-*", "a3-*", "a4-*", "a4x-*", "g2-*", "g4-*", "n1-*")
_SHORT_LIVED: Final[tuple[Purchase, ...]] = ("spot", "flex_start")


def quotas(clients: Clients, region: str, reservations: Sequence[str] = (), *, renewal: Renewal) -> Quotas:
    """Return the quotas of `region` and the named reservations that are in it, see `Provider.quotas`."""
    place = Place("gcp", region)

    def get(url: str, operation: str) -> Any:
        # Renewed here, because an error becomes a note.
        found = renewal.run(lambda: clients.get(url, operation, place)) or {}
        return found.get("quotas", ())

    def read() -> Iterator[Quota]:
        yield from _of_region(get(clients.compute_url("regions", region), "regions.get"), region)
        yield from _of_project(get(clients.compute_url(), "projects.get"))

    def reservation(reservation_id: str) -> Iterable[Reservation]:
        return renewal.run(lambda: reservations_of(clients, place, reservation_id))

    return read_quotas(place, quotas=read, reservation=reservation, reservations=reservations)


def _of_region(listed: Iterable[dict[str, Any]], region: str) -> Iterator[Quota]:
    """Yield the GPU quotas. Spot and flex-start count against the preemptible quota if the account has one, else against the standard one.

    https://cloud.google.com/compute/resource-usage (allocation quotas for preemptible resources).
    """
    figures = {str(item["metric"]): (float(item["limit"]), float(item["usage"])) for item in listed}
    for metric, families in (_FAMILIES | dict.fromkeys(_ATTACHED, ("n1-*",))).items():
        standard, preemptible = figures.get(metric), figures.get(_PREEMPTIBLE + metric)
        if standard is not None:
            yield _quota(metric, region, "on_demand", families, standard)
        short, name = standard, metric
        if preemptible is not None and preemptible[0] > 0:
            short, name = preemptible, _PREEMPTIBLE + metric
        if short is not None:
            for purchase in _SHORT_LIVED:
                yield _quota(name, region, purchase, families, short)


def _of_project(listed: Iterable[dict[str, Any]]) -> Iterator[Quota]:
    for item in listed:
        if item.get("metric") == _ALL_REGIONS:
            figures = (float(item["limit"]), float(item["usage"]))
            yield _quota(_ALL_REGIONS, "", "on_demand", _GPU_FAMILIES, figures)


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
