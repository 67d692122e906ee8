"""The plan for the instances of one request: reads and checks the request as Compute Engine does, and adds the defaults."""

import re
from dataclasses import dataclass

from multicompute_gcp.local.disk_rules import DiskPlan, read_disks
from multicompute_gcp.local.hardware import MachineType, hardware
from multicompute_gcp.local.network_rules import read_interfaces
from multicompute_gcp.local.records import PROJECT, HostSpec, fingerprint, url_of
from multicompute_gcp.local.references import check_exists, check_labels, member
from multicompute_gcp.local.responses import GcpError, Json, invalid
from multicompute_gcp.local.scheduling import Schedule, read_scheduling
from multicompute_gcp.local.state import State

_RESERVATION_PATH = re.compile(r"projects/[^/]+/reservations/[^/]+(/reservationBlocks/[^/]+)?")
_RESERVATION_KEY = "compute.googleapis.com/reservation-name"
# https://cloud.google.com/compute/docs/metadata/setting-custom-metadata: 256 KiB per value, 512 KiB in total.
_METADATA_VALUE, _METADATA = 256 * 1024, 512 * 1024
_NOT_COMPACT = frozenset({"e2", "n1"})
_COPIED = (
    "description",
    "tags",
    "serviceAccounts",
    "shieldedInstanceConfig",
    "canIpForward",
    "minCpuPlatform",
    "networkPerformanceConfig",
    "advancedMachineFeatures",
    "guestAccelerators",
    "reservationAffinity",
)


@dataclass(frozen=True, slots=True)
class InstancePlan:
    """The plan from which each instance of a request is created.

    Attributes:
        body: The fields that all instances share.
        fault: An error of the operation, although the request is accepted; None for none.
    """

    machine: MachineType
    host: HostSpec
    schedule: Schedule
    body: Json
    labels: dict[str, str]
    disks: tuple[DiskPlan, ...]
    fault: Json | None = None


def read_instance_plan(state: State, zone: str, properties: Json, *, bulk: bool) -> InstancePlan:
    """Read the properties of instances.

    Args:
        state: The state of the cloud.
        zone: The zone of the instances.
        properties: The properties as the request has them.
        bulk: Whether the request is bulkInsert, which takes names where insert takes URLs.

    Raises:
        GcpError: Compute Engine would refuse the properties.
    """
    place = "resource.instanceProperties" if bulk else "resource"
    machine, fault = _machine(place, zone, properties, bulk=bulk)
    gpu, gpus = _accelerators(place, zone, machine, properties, bulk=bulk)
    reservation = _reservation(place, properties)
    schedule = read_scheduling(place, properties.get("scheduling", {}), machine, gpu, reservation)
    _check_purchase(place, machine, schedule, reservation)
    region = hardware().zones[zone]
    policies = _policies(state, place, region, machine, properties, bulk=bulk)
    check_metadata(f"{place}.metadata", properties.get("metadata", {}))
    how = (schedule.is_spot, reservation, tuple(policies), schedule.model == "FLEX_START")
    host = HostSpec(zone, region, machine.name, machine.vcpus, gpu, gpus, *how)
    body: Json = {name: properties[name] for name in _COPIED if name in properties}
    body |= {
        "kind": "compute#instance",
        "machineType": url_of(f"zones/{zone}", "machineTypes", machine.name),
        "zone": url_of(f"zones/{zone}"),
        "cpuPlatform": "Unknown CPU Platform",
        "scheduling": schedule.body,
        "networkInterfaces": read_interfaces(state, place, zone, machine.name, properties),
        "resourcePolicies": [url_of(f"regions/{region}", "resourcePolicies", name) for name in policies],
        "metadata": with_fingerprint(properties.get("metadata", {}), "compute#metadata"),
        "tags": with_fingerprint(properties.get("tags", {})),
        "deletionProtection": properties.get("deletionProtection", False),
    }
    if gpu:
        accelerator = url_of(f"zones/{zone}", "acceleratorTypes", gpu)
        body["guestAccelerators"] = [{"acceleratorType": accelerator, "acceleratorCount": max(int(gpus), 1)}]
    return InstancePlan(
        machine=machine,
        host=host,
        schedule=schedule,
        body=body,
        labels=check_labels(f"{place}.labels", properties.get("labels", {})),
        disks=read_disks(state, place, zone, machine, properties, bulk=bulk),
        fault=fault,
    )


def _machine(place: str, zone: str, properties: Json, *, bulk: bool) -> tuple[MachineType, Json | None]:
    field, given = f"{place}.machineType", properties.get("machineType", "")
    if not given:
        raise invalid(field, given, "Machine type must be specified.")
    fault = None
    if bulk and "/" in given:
        # compute.v1, InstanceProperties.machineType: a URL "will result in an INTERNAL_ERROR".
        fault = {"code": "INTERNAL_ERROR", "message": "Internal error. Please try again or contact Google Support."}
        name = given.rsplit("/", 1)[-1]
    else:
        name = member(field, given, "machineTypes", f"zones/{zone}", by_name=bulk)
    machine = hardware().machine_types.get(name)
    if machine is None or zone not in machine.zones:
        raise invalid(field, given, f"Machine type with name '{name}' does not exist in zone '{zone}'.")
    return machine, fault


def _accelerators(place: str, zone: str, machine: MachineType, properties: Json, *, bulk: bool) -> tuple[str, float]:
    """Return the accelerator type and the number of accelerators of each instance, built in or attached."""
    field, listed = f"{place}.guestAccelerators", properties.get("guestAccelerators", [])
    if len(listed) > 1:
        raise invalid(field, len(listed), "At most one type of accelerator can be attached.")
    if not listed:
        return machine.gpu, machine.gpus
    name = member(
        f"{field}[0].acceleratorType",
        listed[0].get("acceleratorType", ""),
        "acceleratorTypes",
        f"zones/{zone}",
        by_name=bulk,
    )
    count = int(listed[0].get("acceleratorCount", 0))
    if name not in hardware().gpus_in(zone):
        raise invalid(
            f"{field}[0].acceleratorType", name, f"Accelerator type with name '{name}' does not exist in zone '{zone}'."
        )
    if machine.has_gpu:
        if (name, count) != (machine.gpu, machine.gpus):
            raise invalid(field, name, f"Machine type {machine.name} comes with {machine.gpus:g} {machine.gpu}.")
        return machine.gpu, machine.gpus
    most = hardware().attachable.get((name, zone), 0)
    # https://cloud.google.com/compute/docs/gpus: only N1 accepts attached GPUs, in powers of two.
    if machine.family != "n1" or not 0 < count <= most or count & (count - 1):
        raise invalid(
            field, name, f"[{machine.name}, {count} {name}] features are not compatible for creating instance."
        )
    return name, count


def _reservation(place: str, properties: Json) -> str | None:
    affinity = properties.get("reservationAffinity", {})
    field = f"{place}.reservationAffinity"
    if affinity.get("consumeReservationType") != "SPECIFIC_RESERVATION":
        return None
    values = affinity.get("values", [])
    if affinity.get("key") != _RESERVATION_KEY or len(values) != 1:
        raise invalid(field, values, f"A specific reservation is named by the key {_RESERVATION_KEY} and one value.")
    # compute.v1, ReservationAffinity.values: a name in the same project, or projects/PROJECT/reservations/NAME; without a zone. The path of a
    # block goes on after that (`nodeset_reservation` in Google's Cluster Toolkit, slurm_files/scripts/util.py).
    name: str = values[0]
    if "/" in name and not _RESERVATION_PATH.fullmatch(name):
        raise invalid(field, name, "Could not find the given reservation with the following name.")
    return name.removeprefix(f"projects/{PROJECT}/reservations/")


def _check_purchase(place: str, machine: MachineType, schedule: Schedule, reservation: str | None) -> None:
    """Refuse a way of purchase that the tables do not have for the machine type."""
    how = "reserved" if reservation and not schedule.is_spot else schedule.purchase
    if machine.purchases and how not in machine.purchases:
        sold = ", ".join(sorted(machine.purchases))
        raise invalid(f"{place}.scheduling.provisioningModel", how, f"{machine.name} is only sold as {sold}.")


def _policies(
    state: State, place: str, region: str, machine: MachineType, properties: Json, *, bulk: bool
) -> list[str]:
    found = []
    for given in properties.get("resourcePolicies", []):
        name = member(f"{place}.resourcePolicies", given, "resourcePolicies", f"regions/{region}", by_name=bulk)
        check_exists(state, "resourcePolicy", "resourcePolicies", f"regions/{region}", name)
        policy = state.store("resourcePolicy", f"regions/{region}").find(name)
        if policy is not None and "groupPlacementPolicy" in policy.body and machine.family in _NOT_COMPACT:
            raise invalid(
                f"{place}.resourcePolicies",
                name,
                f"Compact placement policies are not supported for machine type {machine.name}.",
            )
        found.append(name)
    return found


def check_group_size(state: State, host: HostSpec, count: int) -> None:
    """Refuse more instances than a placement policy allows."""
    for name in host.policies:
        policy = state.store("resourcePolicy", f"regions/{host.region}").find(name)
        most = policy.body.get("groupPlacementPolicy", {}).get("vmCount") if policy else None
        members = sum(1 for one in state.instances(host.region) if name in one.host.policies)
        if most is not None and members + count > int(most):
            raise GcpError(
                "invalid", f"The resource policy '{name}' is for {most} VMs; {members + count} would be in it.", 400
            )


def check_metadata(field: str, metadata: Json) -> None:
    """Refuse metadata that is too large or has a key twice."""
    items = metadata.get("items", [])
    keys = [item.get("key", "") for item in items]
    if len(set(keys)) != len(keys) or not all(keys):
        raise invalid(field, keys, "Every item needs a key of its own.")
    sizes = [len(item.get("value", "").encode()) for item in items]
    if any(size > _METADATA_VALUE for size in sizes) or sum(sizes) > _METADATA:
        raise invalid(field, sum(sizes), "Metadata is too large: 256 KiB a value, 512 KiB in all.")


def with_fingerprint(value: Json, kind: str = "") -> Json:
    """Return a part of an instance with its fingerprint."""
    bare = {name: item for name, item in value.items() if name not in ("fingerprint", "kind")}
    return {**bare, "fingerprint": fingerprint(bare), **({"kind": kind} if kind else {})}
