"""The capacity of zones for instances, and the reports of Compute Engine about a stockout."""

from dataclasses import replace

from multicompute_gcp.local.hardware import hardware
from multicompute_gcp.local.records import HostSpec, Reservation, path_of
from multicompute_gcp.local.responses import Json
from multicompute_gcp.local.state import State

_BLOCK = "/reservationBlocks/"


def available(state: State, host: HostSpec, count: int) -> int:
    """Return how many of `count` instances the zone or the reservation has capacity for."""
    if host.reservation is not None:
        return _reserved(state, host, count)
    limits = [(host.machine_type, 1.0)]
    if host.gpu:
        limits.append((host.gpu, host.gpus))
    found = count
    for name, each in limits:
        total = state.capacity.get((host.zone, name))
        if total is not None:
            found = min(found, int((total - _used(state, host.zone, name)) // each))
    return max(found, 0)


def _used(state: State, zone: str, name: str) -> float:
    used = 0.0
    for instance in state.zone(zone).instances:
        if instance.takes_capacity() and not instance.is_ghost and instance.host.reservation is None:
            if instance.host.machine_type == name:
                used += 1
            elif instance.host.gpu == name:
                used += instance.host.gpus
    return used


def _reserved(state: State, host: HostSpec, count: int) -> int:
    named = host.reservation or ""
    reservation = find_reservation(state, host.zone, named)
    if reservation is None:
        return 0
    free = reservation.total - in_use(state, host.zone, reservation.name)
    _, _, block = named.partition(_BLOCK)
    if block:
        free = min(free, reservation.terms.blocks.get(block, 0) - in_use(state, host.zone, named))
    return max(min(count, free), 0)


def find_reservation(state: State, zone: str, named: str) -> Reservation | None:
    """Return the reservation that instances name, by itself or by a block in it."""
    return state.zone(zone).reservations.find(named.partition(_BLOCK)[0])


def in_use(state: State, zone: str, named: str) -> int:
    """Return how many instances use a reservation, or a block in one."""
    return sum(
        1
        for instance in state.zone(zone).instances
        if instance.takes_capacity() and not instance.is_ghost and _uses(instance.host.reservation or "", named)
    )


def _uses(used: str, named: str) -> bool:
    return used == named or used.startswith(f"{named}{_BLOCK}")


def stockout(state: State, host: HostSpec, count: int) -> Json:
    """Return the error of an operation without capacity, with the other zones of the region that have it."""
    zone = path_of(f"zones/{host.zone}")
    elsewhere = [] if host.reservation else _zones_with_capacity(state, host, count)
    attachment = f"{host.gpus:g}x{host.gpu}" if host.gpu else ""
    advice = ""
    if elsewhere:
        advice = f" Consider trying your request in the {', '.join(elsewhere)} zone(s), which currently has capacity to accommodate your request."
    what = f"A {host.machine_type} VM instance"
    if host.gpu:
        what += f" with {host.gpus:g} {host.gpu} accelerator(s)"
    details = [
        {
            "localizedMessage": {
                "locale": "en-US",
                "message": f"{what} is currently unavailable in the {host.zone} zone.{advice}",
            }
        },
        {
            "errorInfo": {
                "reason": "resource_availability",
                "domain": "compute.googleapis.com",
                "metadatas": {
                    "vmType": host.machine_type,
                    "attachment": attachment,
                    "zone": host.zone,
                    "zonesAvailable": ",".join(elsewhere),
                },
            }
        },
    ]
    return {
        "code": "ZONE_RESOURCE_POOL_EXHAUSTED_WITH_DETAILS",
        "message": f"The zone '{zone}' does not have enough resources available to fulfill the request.  '(resource type:compute)'.",
        "errorDetails": details,
    }


def _zones_with_capacity(state: State, host: HostSpec, count: int) -> list[str]:
    zones = hardware().machine_types[host.machine_type].zones
    return [
        zone
        for zone in sorted(zones)
        if zone != host.zone
        and hardware().zones[zone] == host.region
        and (not host.gpu or host.gpu in hardware().gpus_in(zone))
        and available(state, replace(host, zone=zone), count) >= count
    ]


def min_count_error(minimum: int) -> Json:
    """Return the error that bulkInsert puts before the cause if it created some, but not enough, instances."""
    return {
        "code": "VM_MIN_COUNT_NOT_REACHED",
        "message": f"Requested minimum count of {minimum} VMs could not be created.",
    }
