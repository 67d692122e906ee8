"""Reads capacity reservation groups by id: what they hold, where, and how much of it is free."""

from collections.abc import Mapping
from typing import Any

from multicompute.offer import Part
from multicompute.provider import Reservation
from multicompute_azure._access import is_resource_id
from multicompute_azure._errors import Place, unavailable_here
from multicompute_azure._names import parse_id, plain_region, zone_name
from multicompute_azure._session import Clients, within


class Reservations:
    """Looks reservations up by the id of their capacity reservation group, or its name where a resource group is configured."""

    def __init__(self, clients: Clients) -> None:
        self._clients = clients

    def checked(self, part: Part, place: Place) -> str:
        """The full id of the group that a part is taken from.

        Raises:
            CapacityError: it is not there, or has not enough free. Azure itself would give the rest from what is not reserved, without
                the reservation's guarantee and at a price that the plan did not show.
        """
        held = [
            item
            for item in self.held(part.reservation or "", place)
            if item.instance_type.lower() == place.instance_type.lower() and item.zone == place.zone
        ]
        free = sum(item.available for item in held)
        if free < part.nodes:
            raise unavailable_here(
                f"the reservation {part.reservation} has {free} of the {part.nodes} {place.instance_type} that were asked for",
                code="ReservationCapacityExceeded",
                place=place,
                scope="request",
                hint="a reservation is valid for its own size, region and zone only",
            )
        return self._id(part.reservation or "")

    def held(self, reservation_id: str, place: Place) -> list[Reservation]:
        """What the group holds in the region of `place`; nothing where there is no such group."""
        full = self._id(reservation_id)
        if not is_resource_id(full):
            return []
        named = parse_id(full)
        path = within(named.group, named.type, named.name)
        group = self._clients.get("look at the capacity reservation group", place, path, _expand="instanceView")
        if group is None or plain_region(group.get("location")) != place.region:
            return []
        # What is allocated stands in the group's view only, and what is reserved of which size in the list only.
        view = (group.get("properties") or {}).get("instanceView") or {}
        uses = {
            str(each.get("name")): each.get("utilizationInfo") or {} for each in view.get("capacityReservations") or ()
        }
        items = self._clients.pages("list the capacity reservations", place, f"{path}/capacityReservations")
        return [_reservation(item, uses.get(str(item["name"]), {}), reservation_id, place.region) for item in items]

    def _id(self, reservation_id: str) -> str:
        group = self._clients.settings.resource_group
        if is_resource_id(reservation_id) or not group:
            return reservation_id
        return (
            f"/subscriptions/{self._clients.subscription}/resourceGroups/{group}"
            f"/providers/Microsoft.Compute/capacityReservationGroups/{reservation_id}"
        )


def _reservation(item: Any, use: Mapping[str, Any], group_id: str, region: str) -> Reservation:
    sku, zones = item.get("sku") or {}, item.get("zones") or [""]
    # What Azure holds, where it says so: a reservation that was asked to grow may not have.
    held = use.get("currentCapacity", sku.get("capacity"))
    return Reservation(
        provider="azure",
        id=group_id,
        region=region,
        zone=zone_name(region, str(zones[0])),
        instance_type=str(sku.get("name") or ""),
        available=max(int(held or 0) - len(use.get("virtualMachinesAllocated") or ()), 0),
        kind="capacity-reservation",
    )
