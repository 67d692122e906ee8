"""Reads the core quotas of a region, by family, regional and spot, with what is used of each, and reservations by id."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Final

from multicompute.provider import Quota, Quotas
from multicompute.provider_kit.seam import read_quotas
from multicompute.provider_kit.vendor_errors import Place
from multicompute_azure._reservations import reservations as reservations_of
from multicompute_azure._session import COMPUTE, Clients, path_of
from multicompute_azure._sizes import Size, Sizes

# https://learn.microsoft.com/azure/virtual-machines/quotas: all regular cores of a region, and all spot cores, which have no families.
_REGIONAL: Final = "cores"
_SPOT: Final = "lowprioritycores"


def usages_path(region: str) -> str:
    """Return the path of the listing of a region's quotas and what is used of them."""
    return path_of(None, f"{COMPUTE}/locations/{region}/usages")


def quotas(clients: Clients, sizes: Sizes, region: str, reservations: Sequence[str] = ()) -> Quotas:
    """Return the quotas of `region` and the named reservations that are in it, see `Provider.quotas`."""
    place = Place("azure", region)

    def read() -> list[Quota]:
        usages = list(clients.list_all("usages.list", place, usages_path(region)))
        return _quotas(usages, sizes.in_region(region), region)

    reservation = partial(reservations_of, clients, place)
    return read_quotas(place, quotas=read, reservation=reservation, reservations=reservations)


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
