"""Reads reservations by their names."""

import re
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from multicompute.provider import Reservation
from multicompute.provider_kit.vendor_errors import Place, unavailable_here
from multicompute_gcp._names import last_segment, region_of
from multicompute_gcp._session import Clients

# Any reservation may have an end; its instances are deleted with it only if it was bought by calendar, which is possible for these types:
# https://cloud.google.com/compute/docs/instances/future-reservations-calendar-mode-overview.
_BY_CALENDAR: Final = re.compile(r"(a3|a4x?)-")


@dataclass(frozen=True, slots=True)
class HeldReservation:
    """The properties of a reservation that a launch needs.

    Attributes:
        name: The name that reservation affinity needs: a name, or the path of another project's reservation.
        is_bound: Whether it has an end, at which its instances are deleted.
        policies: The names of its placement policies, which its instances must have, too.
    """

    name: str
    is_bound: bool
    policies: tuple[str, ...] = ()


def find_reservation(clients: Clients, reservation_id: str, place: Place) -> HeldReservation:
    """Return the reservation in the zone of `place`.

    Raises:
        CapacityError: The zone has no reservation of this name.
    """
    if reservation_id.startswith("projects/"):
        # Another project's reservation can be used without permission to read it. Elsewhere, its path is shown with the zone in it.
        return HeldReservation(re.sub(r"/zones/[^/]+(?=/reservations/)", "", reservation_id), is_bound=False)
    found = clients.get(
        clients.compute_url("zones", place.zone, "reservations", reservation_id), "reservations.get", place
    )
    if found is None:
        raise unavailable_here(
            f"the zone has no reservation {reservation_id}",
            code="notFound",
            place=place,
            scope="zone",
            hint="a reservation is valid in its own zone only",
        )
    policies = tuple(last_segment(url) for url in (found.get("resourcePolicies") or {}).values())
    return HeldReservation(reservation_id, is_bound=is_by_calendar(found), policies=policies)


def is_by_calendar(item: dict[str, Any]) -> bool:
    """Return whether instances are deleted at the end of this reservation."""
    return bool(item.get("deleteAtTime")) and _BY_CALENDAR.match(_machine_type(item)) is not None


def _machine_type(item: dict[str, Any]) -> str:
    specific = item.get("specificReservation") or {}
    return last_segment((specific.get("instanceProperties") or {}).get("machineType", ""))


def reservations(clients: Clients, place: Place, reservation_id: str) -> list[Reservation]:
    """Return the reservation, if it is in this region; one that is not ready has nothing available."""
    name = last_segment(reservation_id)
    listed = clients.aggregated("reservations", place, filter=f'name = "{name}"')
    found = [reservation_of(item, reservation_id) for item in listed if item.get("name") == name]
    return [item for item in found if item is not None and item.region == place.region]


def reservation_of(item: dict[str, Any], reservation_id: str) -> Reservation | None:
    """Return the reservation that the cloud describes; None if it is not for a specific machine type."""
    specific = item.get("specificReservation")
    if not specific:
        return None
    zone = last_segment(item.get("zone", ""))
    free = int(specific.get("count", 0)) - int(specific.get("inUseCount", 0))
    return Reservation(
        provider="gcp",
        id=reservation_id,
        region=region_of(zone),
        zone=zone,
        instance_type=_machine_type(item),
        available=max(free, 0) if item.get("status", "READY") == "READY" else 0,
        kind="calendar reservation" if is_by_calendar(item) else "reservation",
        # Instances in other reservations outlive them: they run on, at the price of instances without a reservation.
        ends_at=datetime.fromisoformat(str(item["deleteAtTime"])) if is_by_calendar(item) else None,
    )
