"""Reads capacity reservation groups by id: what they hold in which region and zone, and how much is free."""

from collections.abc import Mapping
from typing import Any, Final

from multicompute.provider import Reservation
from multicompute.provider_kit.vendor_errors import Place, unavailable_here
from multicompute_azure._names import is_resource_id, parse_id, plain_region, zone_name
from multicompute_azure._session import COMPUTE, Clients, path_of

_GROUPS: Final = f"{COMPUTE}/capacityReservationGroups"


def require_reservation(clients: Clients, place: Place, reservation_id: str, nodes: int) -> str:
    """Return the full id of a capacity reservation group that has enough free for a part of `nodes` nodes in `place`.

    Raises:
        CapacityError: It does not exist there, or has not enough free. Azure itself would use unreserved capacity for the rest, without
            the reservation's guarantee and at a price that the plan did not show.
    """
    free = sum(
        item.available
        for item in reservations(clients, place, reservation_id)
        if item.instance_type.lower() == place.instance_type.lower() and item.zone == place.zone
    )
    if free < nodes:
        raise unavailable_here(
            f"the reservation {reservation_id} has {free} of {nodes} nodes free",
            code="ReservationCapacityExceeded",
            place=place,
            scope="request",
            hint="a reservation is valid for its own size, region and zone only",
        )
    return _full_id(clients, reservation_id)


def reservations(clients: Clients, place: Place, reservation_id: str) -> list[Reservation]:
    """Return what the capacity reservation group holds in the region of `place`; nothing if there is no such group."""
    full_id = _full_id(clients, reservation_id)
    if not is_resource_id(full_id):
        return []
    named = parse_id(full_id)
    path = path_of(named.group, named.type, named.name)
    group = clients.find("capacityReservationGroups.get", place, path, _expand="instanceView")
    if group is None or plain_region(group.get("location")) != place.region:
        return []
    # What is allocated is in the group's instance view only, and what is reserved of which size in the listing only.
    view = (group.get("properties") or {}).get("instanceView") or {}
    used = {str(item.get("name")): item.get("utilizationInfo") or {} for item in view.get("capacityReservations") or ()}
    items = clients.list_all("capacityReservations.list", place, f"{path}/capacityReservations")
    return [_reservation(item, used.get(str(item["name"]), {}), reservation_id, place.region) for item in items]


def _full_id(clients: Clients, reservation_id: str) -> str:
    """Return the id of a group that may be given by its name, if a resource group is configured."""
    group = clients.settings.resource_group
    if is_resource_id(reservation_id) or not group:
        return reservation_id
    return clients.id_of(group, _GROUPS, reservation_id)


def _reservation(item: Any, used: Mapping[str, Any], group_id: str, region: str) -> Reservation:
    sku, zones = item.get("sku") or {}, item.get("zones") or [""]
    # The current capacity where Azure reports it: a reservation that was asked to grow may not have grown.
    held = used.get("currentCapacity", sku.get("capacity"))
    return Reservation(
        provider="azure",
        id=group_id,
        region=region,
        zone=zone_name(region, str(zones[0])),
        instance_type=str(sku.get("name") or ""),
        available=max(int(held or 0) - len(used.get("virtualMachinesAllocated") or ()), 0),
        kind="capacity-reservation",
    )
