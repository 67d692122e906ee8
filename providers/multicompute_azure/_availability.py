"""Reads what the subscription can use in a region: the location itself, its zones, and the sizes that are not restricted."""

import threading
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, TypeVar

from multicompute.errors import AccessDeniedError
from multicompute.provider import Availability
from multicompute.provider_kit.vendor_errors import Place
from multicompute_azure._names import plain_region, zone_name
from multicompute_azure._session import Clients
from multicompute_azure._sizes import Size, Sizes

_Answer = TypeVar("_Answer")
_NO_LOCATION: Final = "the subscription does not have this location"


class Locations:
    """The locations of the subscription, read once: one answer has all of them."""

    def __init__(self, clients: Clients) -> None:
        self._clients = clients
        self._known: Mapping[str, Mapping[str, str]] | None = None
        self._lock = threading.Lock()

    def zones(self, place: Place) -> Mapping[str, Mapping[str, str]]:
        """Return region -> the id of each of its zones -> our name of the zone in this subscription.

        "Subscriptions - List Locations" has the physical zone behind each logical one, whose numbers every subscription has in its own order.

        Raises:
            MulticomputeError: They can't be read.
        """
        with self._lock:
            if self._known is None:
                listed = self._clients.locations(place)
                self._known = {plain_region(item.get("name")): _zones(item) for item in listed if _is_region(item)}
            return self._known


def availability(sizes: Sizes, locations: Locations, region: str) -> Availability:
    """Return what the subscription can use in a region, see `Provider.availability`."""
    place, notes = Place("azure", region), list[str]()
    zones = _readable(lambda: locations.zones(place), notes, f"{place}: the locations of the subscription")
    if zones is not None and region not in zones:
        return Availability(region, refused=_NO_LOCATION)
    sold = _readable(lambda: sizes.in_region(region), notes, f"{place}: what is restricted")
    own = None if zones is None else zones[region]
    return Availability(
        region,
        zones=own,
        offered=None if sold is None else _offered(sold.values(), region, own),
        notes=tuple(notes),
    )


def _readable(read: Callable[[], _Answer], notes: list[str], what: str) -> _Answer | None:
    """Return an answer, or None with a note if the identity may not read it."""
    try:
        return read()
    except AccessDeniedError as error:
        notes.append(f"{what} is not known: {error.message}")
        return None


def _offered(sold: Iterable[Size], region: str, zones: Mapping[str, str] | None) -> Mapping[str, tuple[str, ...]]:
    found = {}
    for size in sold:
        names = tuple(zone_name(region, number) for number in sorted(size.zones - size.zone_restrictions.keys()))
        if not size.zones:
            # Without zones of its own, a size is launched for the region, whatever zone of it a plan names.
            names = tuple(sorted((zones or {}).values())) or ("",)
        if names and not size.restriction:
            found[size.name] = names
    return found


def _zones(item: Mapping[str, Any]) -> Mapping[str, str]:
    region = plain_region(item.get("name"))
    pairs = item.get("availabilityZoneMappings") or ()
    return {str(pair["physicalZone"]): zone_name(region, str(pair["logicalZone"])) for pair in pairs}


def _is_region(item: Mapping[str, Any]) -> bool:
    return str((item.get("metadata") or {}).get("regionType", "Physical")) == "Physical"
