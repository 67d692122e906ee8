"""The creation of instances and their disks from a plan."""

from datetime import datetime

from multicompute_gcp.local.capacity import find_reservation
from multicompute_gcp.local.disk_rules import DiskPlan, disk_body
from multicompute_gcp.local.instance_plan import InstancePlan
from multicompute_gcp.local.network_rules import addressed
from multicompute_gcp.local.records import Disk, Instance, path_of, timestamp, url_of
from multicompute_gcp.local.responses import Json
from multicompute_gcp.local.state import State


def name_conflict(state: State, plan: InstancePlan, name: str) -> Json | None:
    """Return the error if an instance, or one of the disks to create for it, exists already; None if not."""
    zone = plan.host.zone
    records = state.zone(zone)
    if records.instances.find(name) is not None:
        return _exists(path_of(f"zones/{zone}", "instances", name))
    for disk, disk_name in zip(plan.disks, disk_names(plan, name), strict=True):
        # compute.v1, AttachedDiskInitializeParams.diskName: an existing disk with a given name is attached.
        if disk.existing is None and not disk.name and not disk.is_scratch and records.disks.find(disk_name):
            return _exists(path_of(f"zones/{zone}", "disks", disk_name))
    return None


def _exists(path: str) -> Json:
    return {"code": "RESOURCE_ALREADY_EXISTS", "message": f"The resource '{path}' already exists"}


def disk_names(plan: InstancePlan, name: str) -> list[str]:
    """Return the names of an instance's disks: the boot disk has the instance's name, the others are numbered."""
    return [disk.name or (name if disk.is_boot else f"{name}-{index}") for index, disk in enumerate(plan.disks)]


def create_instance(
    state: State, plan: InstancePlan, name: str, *, hostname: str = "", is_ghost: bool = False, is_pending: bool = False
) -> Instance:
    """Create an instance with its disks.

    A ghost is an instance that a stockout leaves behind for a while; a pending one waits for capacity.
    """
    now, timing, host = state.now(), state.timing, plan.host
    scope, number = f"zones/{host.zone}", state.new_id()
    body = {
        **plan.body,
        "id": str(number),
        "name": name,
        "creationTimestamp": timestamp(now),
        "selfLink": url_of(scope, "instances", name),
        "networkInterfaces": addressed(plan.body["networkInterfaces"], state.number()),
    }
    if hostname:
        body["hostname"] = hostname
    instance = Instance(
        name=name,
        id=number,
        host=host,
        body=body,
        labels=dict(plan.labels),
        created_at=now,
        runs_from=now + timing.boot,
        listed_from=now + timing.lag,
        action=plan.schedule.action,
        is_ghost=is_ghost,
        is_pending=is_pending,
    )
    records = state.zone(host.zone)
    for disk, disk_name in zip(plan.disks, disk_names(plan, name), strict=True):
        if not disk.is_scratch:
            instance.disks.append((_disk(state, host.zone, disk_name, disk, instance), disk.auto_delete))
    body["disks"] = _attachments(host.zone, name, plan)
    records.instances.add(instance)
    if not is_pending:
        limit_run(state, plan, instance)
    return instance


def _disk(state: State, zone: str, name: str, plan: DiskPlan, user: Instance) -> Disk:
    records, now = state.zone(zone), state.now()
    disk = plan.existing or (records.disks.find(name) if plan.name else None)
    if disk is None:
        number = state.new_id()
        body = disk_body(zone, name, number, plan, timestamp(now))
        disk = Disk(name, number, f"zones/{zone}", "disk", body, dict(plan.labels), now + state.timing.lag)
        records.disks.add(disk)
    disk.user = user
    return disk


def _attachments(zone: str, name: str, plan: InstancePlan) -> list[Json]:
    found = []
    for index, (disk, disk_name) in enumerate(zip(plan.disks, disk_names(plan, name), strict=True)):
        item = {"deviceName": f"persistent-disk-{index}", **disk.attachment, "index": index}
        if not disk.is_scratch:
            item["source"] = url_of(f"zones/{zone}", "disks", disk_name)
        found.append(item)
    return found


def limit_run(state: State, plan: InstancePlan, instance: Instance) -> None:
    """Let an instance end when its time limit, or the reservation that it is bound to, ends."""
    schedule, host = plan.schedule, plan.host
    ends = [schedule.end]
    if schedule.run_limit is not None:
        ends.append(_running_since(instance) + schedule.run_limit)
    if schedule.model == "RESERVATION_BOUND":
        reservation = find_reservation(state, host.zone, host.reservation or "")
        ends.append(None if reservation is None else reservation.ends_at)
    if known := [end for end in ends if end is not None]:
        state.limit_run(instance, min(known))


def _running_since(instance: Instance) -> datetime:
    # limit-vm-runtime: "automatically defined whenever a VM has a time limit and enters the RUNNING state".
    return instance.runs_from
