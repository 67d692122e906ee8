"""Reservations: of the own project or shared by another one, of machines or of TPU chips, and their blocks."""

from collections.abc import Mapping

from multicompute_gcp.local import capacity
from multicompute_gcp.local.calls import Call, Handler, ZonalKind
from multicompute_gcp.local.hardware import hardware
from multicompute_gcp.local.instance_plan import InstancePlan
from multicompute_gcp.local.records import PROJECT, ComputeResource, Reservation, path_of, timestamp, url_of
from multicompute_gcp.local.responses import GcpError, Json, invalid, not_found
from multicompute_gcp.local.state import ResourceStore, State

_BOUND = "RESERVATION_BOUND"
# compute.v1, AllocationAggregateReservation.vmFamily, by generation.
_FAMILIES: Mapping[str, str] = {
    "tpu-v3": "VM_FAMILY_CLOUD_TPU_POD_SLICE_CT3P",
    "tpu-v4": "VM_FAMILY_CLOUD_TPU_POD_SLICE_CT4P",
    "tpu-v5e": "VM_FAMILY_CLOUD_TPU_LITE_POD_SLICE_CT5LP",
    "tpu-v5p": "VM_FAMILY_CLOUD_TPU_POD_SLICE_CT5P",
    "tpu-v6e": "VM_FAMILY_CLOUD_TPU_LITE_POD_SLICE_CT6E",
    "tpu7x": "VM_FAMILY_CLOUD_TPU_POD_SLICE_TPU7X",
}
# https://cloud.google.com/compute/docs/disks/local-ssd: the size of a local SSD.
_LOCAL_SSD_GB = 375


class Reservations:
    """The methods that read reservations and their blocks."""

    def __init__(self, state: State) -> None:
        """Answer from `state`."""
        self._state = state

    def handlers(self) -> Mapping[str, Handler]:
        """Return the handlers by method."""
        return {
            **{method: self._handler(method) for method in ("reservations.get", "reservations.list")},
            "reservations.aggregatedList": self._handler("reservations.aggregatedList"),
            "reservationBlocks.get": self._block,
        }

    def _handler(self, method: str) -> Handler:
        return lambda call: self._of_project(call).handlers()[method](call)

    def _of_project(self, call: Call) -> ZonalKind[ComputeResource]:
        """Return the reservations of the project that the call names, which another project may hide."""
        project = call.path["project"]
        owned = [one for zone in self._state.zones.values() for one in zone.reservations if one.owner == project]
        if project != PROJECT and not owned:
            raise not_found(f"projects/{project}")
        if not all(one.terms.is_readable for one in owned):
            # A consumer of a shared reservation needs no permission in its owner's project
            # (https://cloud.google.com/compute/docs/instances/reservations-shared), so it usually has none.
            verb = "list" if "reservation" not in call.path else "get"
            text = f"Required 'compute.reservations.{verb}' permission for 'projects/{project}'"
            raise GcpError("forbidden", text, 403)

        def of_zone(zone: str) -> ResourceStore[ComputeResource]:
            found = self._state.zone(zone).reservations
            return ResourceStore(self._shown(one) for one in found if one.owner == project)

        return ZonalKind(self._state, "reservation", of_zone)

    def _block(self, call: Call) -> Json:
        shown = self._of_project(call).found(call)
        project, zone, name = call.path["project"], call.zone, call.path["reservationBlock"]
        key = shown.name if project == PROJECT else f"projects/{project}/reservations/{shown.name}"
        reservation = capacity.find_reservation(self._state, zone, key)
        if reservation is None or name not in reservation.terms.blocks:
            path = f"zones/{zone}/reservations/{shown.name}"
            raise not_found(path_of(path, "reservationBlocks", name))
        used = capacity.in_use(self._state, zone, f"{key}/reservationBlocks/{name}")
        block = {"kind": "compute#reservationBlock", "name": name, "status": "READY", "inUseCount": used}
        return {"resource": {**block, "count": reservation.terms.blocks[name]}}

    def _shown(self, reservation: Reservation) -> ComputeResource:
        scope, name = f"zones/{reservation.zone}", reservation.short_name
        body: Json = {
            "kind": "compute#reservation",
            "id": str(reservation.id),
            "name": name,
            "creationTimestamp": timestamp(reservation.created_at),
            "zone": url_of(scope),
            "selfLink": url_of(scope, "reservations", name).replace(PROJECT, reservation.owner),
            "status": "READY",
            "specificReservationRequired": reservation.terms.is_specific,
            **self._resources(reservation),
        }
        if reservation.terms.is_dense:
            body["deploymentType"] = "DENSE"
        if reservation.ends_at:
            body["deleteAtTime"] = timestamp(reservation.ends_at)
        if reservation.policies:
            where = f"regions/{hardware().zones[reservation.zone]}"
            body["resourcePolicies"] = {
                f"policy-{number}": url_of(where, "resourcePolicies", policy)
                for number, policy in enumerate(reservation.policies)
            }
        return ComputeResource(name, reservation.id, scope, "reservation", body)

    def _resources(self, reservation: Reservation) -> Json:
        kind = hardware().slices.get(reservation.machine_type)
        if kind is not None:
            chips = {"accelerator": {"acceleratorCount": reservation.total * kind.chips}}
            aggregate = {"vmFamily": _FAMILIES[kind.generation], "reservedResources": [chips]}
            return {"aggregateReservation": aggregate}
        machine, terms = hardware().machine_types[reservation.machine_type], reservation.terms
        properties: Json = {"machineType": reservation.machine_type}
        if machine.gpu:
            properties["guestAccelerators"] = [{"acceleratorType": machine.gpu, "acceleratorCount": int(machine.gpus)}]
        if terms.local_ssds:
            disk = {"diskSizeGb": str(_LOCAL_SSD_GB), "interface": "NVME"}
            properties["localSsds"] = [disk] * terms.local_ssds
        if terms.cpu_platform:
            properties["minCpuPlatform"] = terms.cpu_platform
        return {
            "specificReservation": {
                "count": str(reservation.total),
                "assuredCount": str(reservation.total),
                "inUseCount": str(capacity.in_use(self._state, reservation.zone, reservation.name)),
                "instanceProperties": properties,
            }
        }


def check_reservation(state: State, plan: InstancePlan) -> None:
    """Refuse instances that can't consume the reservation that they name.

    Raises:
        GcpError: It does not exist, can't be named, or has other properties.
    """
    host = plan.host
    if host.reservation is None:
        return
    reservation = capacity.find_reservation(state, host.zone, host.reservation)
    field = "resource.reservationAffinity"
    if reservation is None:
        if "/" not in host.reservation:
            raise not_found(path_of(f"zones/{host.zone}", "reservations", host.reservation))
        # https://github.com/kubernetes/autoscaler/pull/6006
        raise invalid(field, host.reservation, "Could not find the given reservation with the following name.")
    terms = reservation.terms
    if not terms.is_specific:
        # https://github.com/skypilot-org/skypilot/issues/3327
        path = f"projects/{reservation.owner}/reservations/{reservation.short_name}"
        text = f"Specified reservations [{path}] can not be targeted as specificReservationRequired is not set"
        raise invalid(field, host.reservation, text)
    if (terms.is_dense or _is_by_calendar(reservation)) and plan.schedule.model != _BOUND:
        # https://github.com/skypilot-org/skypilot/issues/9771
        text = f"Instances consuming DENSE reservations must use provisioningModel {_BOUND}."
        raise invalid("resource.scheduling.provisioningModel", plan.schedule.model, text)
    differences = list(_differences(plan, reservation))
    if differences:
        # "This error occurs when a reservation's VM properties don't match" (troubleshooting page of Colab Enterprise); Kubernetes' autoscaler
        # calls it RESERVATION_INCOMPATIBLE.
        text = f"No available resources in specified reservations. ({'; '.join(differences)})"
        raise invalid(field, host.reservation, text)


def _is_by_calendar(reservation: Reservation) -> bool:
    # https://cloud.google.com/compute/docs/instances/future-reservations-calendar-mode-overview: the types that are sold in this way.
    return reservation.ends_at is not None and reservation.machine_type.startswith(("a3-", "a4-", "a4x-"))


def _differences(plan: InstancePlan, reservation: Reservation) -> list[str]:
    """Return the properties that consuming a reservation needs and that instances do not have.

    https://cloud.google.com/compute/docs/instances/reservations-overview#consumption: machine type, minimum CPU platform, GPUs and local SSDs
    must match exactly.
    """
    host, terms, found = plan.host, reservation.terms, []
    if reservation.machine_type != host.machine_type:
        found.append(f"the reservation is for {reservation.machine_type}; {host.machine_type} was asked for")
    if set(reservation.policies) - set(host.policies):
        found.append(f"its machines must have its placement policies, {', '.join(reservation.policies)}")
    disks = [disk.attachment["interface"] for disk in plan.disks if disk.is_scratch]
    if disks != ["NVME"] * terms.local_ssds:
        found.append(f"its machines have {terms.local_ssds} local SSDs")
    if plan.body.get("minCpuPlatform", "") != terms.cpu_platform:
        found.append(f"its machines have the minimum CPU platform {terms.cpu_platform or 'of their type'}")
    return found
