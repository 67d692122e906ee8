"""Reads reservations by their names."""

import re
from dataclasses import dataclass
from typing import Any, Final

from multicompute.provider import Reservation
from multicompute_gcp._errors import Place, unavailable_here
from multicompute_gcp._labels import last_of
from multicompute_gcp._session import Clients

# Whatever can be reserved may have an end; machines end with it only where it was bought by calendar, which these are:
# https://cloud.google.com/compute/docs/instances/future-reservations-calendar-mode-overview.
_BY_CALENDAR: Final = re.compile(r"(a3|a4x?)-")


@dataclass(frozen=True, slots=True)
class Reserved:
    """A reservation, as far as a launch into it needs to know.

    Attributes:
        name: as reservation affinity takes it: a name, or the path of another project's.
        is_bound: whether it has an end, with which its machines end too.
        policies: the names of its placement policies, which its machines must have too.
    """

    name: str
    is_bound: bool
    policies: tuple[str, ...] = ()


class Reservations:
    """Looks reservations up before a launch; what it reads of them does not change, so each is asked for once."""

    def __init__(self, clients: Clients) -> None:
        self._clients = clients
        self._known: dict[tuple[str, str], Reserved] = {}

    def find(self, reservation_id: str, place: Place) -> Reserved:
        """The reservation in the zone of `place`.

        Raises:
            CapacityError: it is not there.
        """
        if reservation_id.startswith("projects/"):
            # Another project's, which this one may use and need not be able to read. Its path as shown elsewhere has the zone in it.
            return Reserved(re.sub(r"/zones/[^/]+(?=/reservations/)", "", reservation_id), is_bound=False)
        key = (place.zone, reservation_id)
        if key not in self._known:
            url = self._clients.compute_url("zones", place.zone, "reservations", reservation_id)
            found = self._clients.get(url, "reservations.get", place)
            if found is None:
                raise unavailable_here(
                    f"there is no reservation {reservation_id} in this zone",
                    code="notFound",
                    place=place,
                    hint="a reservation is valid in its own zone only",
                )
            policies = tuple(last_of(url) for url in (found.get("resourcePolicies") or {}).values())
            self._known[key] = Reserved(reservation_id, is_bound=is_by_calendar(found), policies=policies)
        return self._known[key]


def is_by_calendar(item: dict[str, Any]) -> bool:
    """Whether machines end with this reservation."""
    return bool(item.get("deleteAtTime")) and _BY_CALENDAR.match(_machine_type(item)) is not None


def _machine_type(item: dict[str, Any]) -> str:
    specific = item.get("specificReservation") or {}
    return last_of(str((specific.get("instanceProperties") or {}).get("machineType", "")))


def held(clients: Clients, region: str, reservation_id: str) -> list[Reservation]:
    """The reservation, where it is in this region; one that is not ready has nothing available."""
    name = reservation_id.rpartition("/")[2]
    listed = clients.aggregated("reservations", Place(region), filter=f'name = "{name}"')
    found = [_reservation(item, reservation_id) for item in listed if item.get("name") == name]
    return [item for item in found if item is not None and item.region == region]


def _reservation(item: dict[str, Any], reservation_id: str) -> Reservation | None:
    specific = item.get("specificReservation")
    if not specific:
        return None
    zone = str(item.get("zone", "")).rpartition("/")[2]
    free = int(specific.get("count", 0)) - int(specific.get("inUseCount", 0))
    return Reservation(
        provider="gcp",
        id=reservation_id,
        region=zone.rpartition("-")[0],
        zone=zone,
        instance_type=_machine_type(item),
        available=max(free, 0) if item.get("status", "READY") == "READY" else 0,
        kind="calendar reservation" if is_by_calendar(item) else "reservation",
    )
