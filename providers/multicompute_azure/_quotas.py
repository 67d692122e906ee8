"""Reads what the subscription may have in a region: cores by family, in all and as spot, and reservations by id."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, Final

from multicompute.errors import MulticomputeError
from multicompute.provider import Quota, Quotas, Reservation
from multicompute_azure._errors import Place
from multicompute_azure._reserved import Reservations
from multicompute_azure._session import COMPUTE, Clients, within
from multicompute_azure._sizes import Size, Sizes

# https://learn.microsoft.com/azure/virtual-machines/quotas: all regular cores of a region, and all spot cores, which know no families.
_REGIONAL: Final = "cores"
_SPOT: Final = "lowprioritycores"


def quotas(clients: Clients, sizes: Sizes, region: str, reservations: Sequence[str] = ()) -> Quotas:
    """What the subscription may still have in `region`; what can't be read is a note."""
    place = Place(region)
    notes: list[str] = []
    found: tuple[Quota, ...] = ()
    try:
        usages = list(clients.pages("list the usages", place, within(None, f"{COMPUTE}/locations/{region}/usages")))
        found = tuple(_quotas(usages, sizes.of(region), region))
        if not found:
            notes.append(f"azure {region}: the usages name no quota of cores; they are not compared")
    except MulticomputeError as error:
        notes.append(f"azure {region}: quotas could not be read and are not compared: {error.message}")
    held: list[Reservation] = []
    reader = Reservations(clients)
    for reservation_id in reservations:
        try:
            held += reader.held(reservation_id, place)
        except MulticomputeError as error:
            notes.append(f"azure {region}: reservation {reservation_id} could not be read: {error.message}")
    return Quotas(found, tuple(held), tuple(notes))


def _quotas(usages: Sequence[Any], sizes: Mapping[str, Size], region: str) -> list[Quota]:
    families: dict[str, list[str]] = defaultdict(list)
    for size in sizes.values():
        families[size.family.lower()].append(size.name)
    families[_REGIONAL] = families[_SPOT] = ["*"]
    found = []
    for usage in usages:
        name = usage.get("name") or {}
        key, limit = str(name.get("value") or "").lower(), float(usage.get("limit") or 0)
        if families.get(key) and limit >= 0:
            found.append(
                Quota(
                    name=str(name.get("localizedValue") or name.get("value")),
                    region=region,
                    purchase="spot" if key == _SPOT else "on_demand",
                    families=tuple(sorted(families[key])),
                    limit=limit,
                    used=float(usage.get("currentValue") or 0),
                    unit="vcpus",
                )
            )
    return found
