"""Reads reservations by their names or paths: of the own project, of another one, and of a block of one."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from multicompute.errors import AccessDeniedError, MulticomputeError
from multicompute.provider import Reservation
from multicompute.provider_kit.vendor_errors import Place, invalid_request, unavailable_here
from multicompute_gcp._names import last_segment, region_of
from multicompute_gcp._session import Clients
from multicompute_gcp._slices import chips_by_slice

# Any reservation may have an end; its instances are deleted with it only if it was bought by calendar, which is possible for these types:
# https://cloud.google.com/compute/docs/instances/future-reservations-calendar-mode-overview.
_BY_CALENDAR: Final = re.compile(r"(a3|a4x?)-")
# https://cloud.google.com/compute/docs/instances/about-reservation-bound-vms: they are reserved in advance only, so their instances are
# bound to the reservation, also to one that can't be read.
_ALWAYS_BOUND: Final = ("a3-ultragpu-", "a4-", "a4x-")
# A name; or a path, which may name the project that owns it, its zone, and a block or sub-block in it.
_PATH: Final = re.compile(
    r"(?:https://[^/]+/compute/[^/]+/)?"
    r"(?:projects/(?P<project>[^/]+)/(?:(?:zones|locations)/(?P<zone>[^/]+)/)?reservations/)?"
    r"(?P<name>[^/]+)(?P<inside>/reservationBlocks/.+)?"
)
# The families of aggregate reservations in compute.v1 (AllocationAggregateReservation.vmFamily), and the accelerators that they are for:
# https://cloud.google.com/kubernetes-engine/docs/concepts/plan-tpus#availability.
_FAMILIES: Final[Mapping[str, str]] = {
    "VM_FAMILY_CLOUD_TPU_DEVICE_CT3": "tpu-v3",
    "VM_FAMILY_CLOUD_TPU_POD_SLICE_CT3P": "tpu-v3",
    "VM_FAMILY_CLOUD_TPU_POD_SLICE_CT4P": "tpu-v4",
    "VM_FAMILY_CLOUD_TPU_LITE_DEVICE_CT5L": "tpu-v5e",
    "VM_FAMILY_CLOUD_TPU_LITE_POD_SLICE_CT5LP": "tpu-v5e",
    "VM_FAMILY_CLOUD_TPU_POD_SLICE_CT5P": "tpu-v5p",
    "VM_FAMILY_CLOUD_TPU_LITE_POD_SLICE_CT6E": "tpu-v6e",
    "VM_FAMILY_CLOUD_TPU_POD_SLICE_TPU7X": "tpu7x",
}


@dataclass(frozen=True, slots=True)
class ReservationPath:
    """The parts of the id by which a user names a reservation.

    Attributes:
        project: The project that owns it; "" for the own project.
        zone: Its zone; "" if the id has none.
        inside: The path of a block or sub-block in it, which begins with "/"; "" for the complete reservation.
    """

    name: str
    project: str = ""
    zone: str = ""
    inside: str = ""

    @classmethod
    def of(cls, reservation_id: str) -> "ReservationPath":
        """Return the parts of an id. One of another form counts as a name, which no reservation has."""
        found = _PATH.fullmatch(reservation_id)
        return cls(**{key: value or "" for key, value in found.groupdict().items()}) if found else cls(reservation_id)

    def affinity(self, project: str) -> str:
        """Return the value that reservation affinity needs in `project`: a name or, for another project or a block, a path without a zone.

        compute.v1 (ReservationAffinity.values), and the `bulk_insert_name` of Google's Cluster Toolkit for blocks.
        """
        if self.project in ("", project) and not self.inside:
            return self.name
        return f"projects/{self.project or project}/reservations/{self.name}{self.inside}"

    def url(self, clients: Clients, zone: str) -> str:
        """Return the URL of the reservation in a zone."""
        return clients.compute_url("zones", zone, "reservations", self.name, project=self.project)


@dataclass(frozen=True, slots=True)
class HeldReservation:
    """The properties of a reservation that a launch needs.

    Attributes:
        name: The name that reservation affinity needs: a name, or the path of another project's reservation or of a block.
        is_bound: Whether its instances need the provisioning model RESERVATION_BOUND, and are deleted at its end.
        policies: The names of its placement policies, which its instances must have, too.
        local_ssds: Its local SSDs as the cloud describes them, which its instances must have, too.
        cpu_platform: Its minimum CPU platform, which its instances must have, too; "" for none.
    """

    name: str
    is_bound: bool
    policies: tuple[str, ...] = ()
    local_ssds: tuple[Mapping[str, Any], ...] = ()
    cpu_platform: str = ""


def find_reservation(clients: Clients, reservation_id: str, place: Place) -> HeldReservation:
    """Return the reservation in the zone of `place`.

    One of another project that can't be read is used as it is: consuming it needs no permission to read it.

    Raises:
        CapacityError: The zone has no reservation of this name.
        InvalidRequestError: It can't be named, because any instance may use it.
    """
    path = ReservationPath.of(reservation_id)
    found, is_readable = None, True
    if path.zone in ("", place.zone):
        found, is_readable = _find(clients, path, place)
    if found is None and not is_readable:
        bound = place.instance_type.startswith(_ALWAYS_BOUND)
        return HeldReservation(path.affinity(clients.project), is_bound=bound)
    if found is None:
        raise _not_here(reservation_id, place)
    if found.get("specificReservation") and not found.get("specificReservationRequired", True):
        # https://github.com/skypilot-org/skypilot/issues/3327: "can not be targeted as specificReservationRequired is not set".
        raise invalid_request(
            f"reservation {reservation_id} can't be named: any instance of its machine type uses it",
            code="ReservationNotSpecific",
            place=place,
            hint="create it with --require-specific-reservation",
        )
    properties = _properties(found)
    return HeldReservation(
        path.affinity(clients.project),
        is_bound=is_bound(found),
        policies=tuple(last_segment(url) for url in (found.get("resourcePolicies") or {}).values()),
        local_ssds=tuple(properties.get("localSsds") or ()),
        cpu_platform=str(properties.get("minCpuPlatform") or ""),
    )


def _find(clients: Clients, path: ReservationPath, place: Place) -> tuple[dict[str, Any] | None, bool]:
    """Return the reservation in the zone of `place`, and whether it can be read: another project may hide what it has."""
    try:
        found = clients.get(path.url(clients, place.zone), "reservations.get", place)
    except AccessDeniedError:
        return None, False
    return found, found is not None or path.project in ("", clients.project)


def _not_here(reservation_id: str, place: Place) -> MulticomputeError:
    return unavailable_here(
        f"the zone has no reservation {reservation_id}",
        code="notFound",
        place=place,
        scope="request",
        hint="a reservation is valid in its own zone only",
    )


def is_bound(item: Mapping[str, Any]) -> bool:
    """Return whether the instances of a reservation are bound to it: it is DENSE, or was bought by calendar.

    "Instances consuming DENSE reservations must use provisioningModel RESERVATION_BOUND"
    (https://github.com/skypilot-org/skypilot/issues/9771).
    """
    return item.get("deploymentType") == "DENSE" or is_by_calendar(item)


def is_by_calendar(item: Mapping[str, Any]) -> bool:
    """Return whether a reservation was bought by calendar, so that instances are deleted at its end."""
    return bool(item.get("deleteAtTime")) and _BY_CALENDAR.match(_machine_type(item)) is not None


def _properties(item: Mapping[str, Any]) -> Mapping[str, Any]:
    return (item.get("specificReservation") or {}).get("instanceProperties") or {}


def _machine_type(item: Mapping[str, Any]) -> str:
    return last_segment(_properties(item).get("machineType", ""))


def reservations(clients: Clients, place: Place, reservation_id: str) -> list[Reservation]:
    """Return the reservation, if it is in this region; one that is not ready has nothing available."""
    path = ReservationPath.of(reservation_id)
    found = [item for item in _items(clients, place, path) if region_of(_zone(item)) == place.region]
    if path.inside:
        found = [_of_block(clients, item, path, place) for item in found]
    return [one for item in found for one in reservations_of(item, reservation_id)]


def _items(clients: Clients, place: Place, path: ReservationPath) -> list[dict[str, Any]]:
    if not path.zone:
        listed = clients.aggregated("reservations", place, project=path.project, filter=f'name = "{path.name}"')
        return [item for item in listed if item.get("name") == path.name]
    if region_of(path.zone) != place.region:
        return []
    item = clients.get(path.url(clients, path.zone), "reservations.get", place)
    return [] if item is None else [item]


def _of_block(clients: Clients, item: dict[str, Any], path: ReservationPath, place: Place) -> dict[str, Any]:
    """Return the reservation with the counts of a block in it."""
    url = path.url(clients, _zone(item)) + path.inside
    block = (clients.get(url, "reservationBlocks.get", place) or {}).get("resource") or {}
    counts = {"count": block.get("count", 0), "inUseCount": block.get("inUseCount", 0)}
    specific = {**(item.get("specificReservation") or {}), **counts, "assuredCount": counts["count"]}
    return {**item, "status": block.get("status", "INVALID"), "specificReservation": specific}


def _zone(item: Mapping[str, Any]) -> str:
    return last_segment(item.get("zone", ""))


def reservations_of(item: Mapping[str, Any], reservation_id: str) -> Iterator[Reservation]:
    """Yield the reservation that the cloud describes: once, or for each slice type that fits into a reservation of TPU chips."""
    is_ready = item.get("status", "READY") == "READY"
    if item.get("specificReservation"):
        specific = item["specificReservation"]
        count = min(int(specific.get("count", 0)), int(specific.get("assuredCount", specific.get("count", 0))))
        free = count - int(specific.get("inUseCount", 0))
        kind = "calendar reservation" if is_by_calendar(item) else "reservation"
        yield _reservation(item, reservation_id, _machine_type(item), free if is_ready else 0, kind)
        return
    aggregate = item.get("aggregateReservation") or {}
    accelerator = _FAMILIES.get(str(aggregate.get("vmFamily")), "")
    free = _chips(aggregate.get("reservedResources")) - _chips(aggregate.get("inUseResources"))
    for slice_type, chips in chips_by_slice(accelerator).items():
        if chips <= free and is_ready:
            yield _reservation(item, reservation_id, slice_type, free // chips, "TPU reservation")


def _chips(resources: Any) -> int:
    return sum(int((one.get("accelerator") or {}).get("acceleratorCount", 0)) for one in resources or ())


def _reservation(
    item: Mapping[str, Any], reservation_id: str, instance_type: str, available: int, kind: str
) -> Reservation:
    zone = _zone(item)
    # Instances that are not bound outlive the reservation: they run on, at the price of instances without one.
    ends = is_bound(item) and item.get("deleteAtTime")
    return Reservation(
        provider="gcp",
        id=reservation_id,
        region=region_of(zone),
        zone=zone,
        instance_type=instance_type,
        available=max(available, 0),
        kind=kind,
        ends_at=datetime.fromisoformat(str(item["deleteAtTime"])) if ends else None,
    )


def queue_reservation(reservation_id: str, place: Place, *, project: str) -> str:
    """Return the name of a reservation that a queued resource needs: projects/P/locations/ZONE/reservations/NAME.

    The name "-" is any reservation of the project, as gcloud's `--reserved` sends it (tpu_utils.CreateReservationName). Folders and
    organizations have reservations of this form, too.

    Raises:
        CapacityError: The reservation is in another zone.
    """
    if reservation_id.startswith(("folders/", "organizations/")):
        return reservation_id
    path = ReservationPath.of(reservation_id)
    if path.zone not in ("", place.zone):
        raise _not_here(reservation_id, place)
    return f"projects/{path.project or project}/locations/{place.zone}/reservations/{path.name}"
