"""Makes instances and their disks from a blueprint."""

from datetime import datetime

from multicompute_gcp.local.answers import Json
from multicompute_gcp.local.blueprint import Blueprint
from multicompute_gcp.local.disk_rules import DiskPlan, disk_body
from multicompute_gcp.local.network_rules import addressed
from multicompute_gcp.local.records import Disk, Instance, path_of, stamp, url_of
from multicompute_gcp.local.state import State


def clash(state: State, blueprint: Blueprint, name: str) -> Json | None:
    """The error of making an instance of this name where it, or a disk that it would make, is there already."""
    zone = blueprint.host.zone
    records = state.zone(zone)
    if records.instances.find(name) is not None:
        return _exists(path_of(f"zones/{zone}", "instances", name))
    for plan, disk_name in zip(blueprint.disks, disk_names(blueprint, name), strict=True):
        # compute.v1, AttachedDiskInitializeParams.diskName: one that is named is attached where it exists.
        if plan.existing is None and not plan.name and not plan.is_scratch and records.disks.find(disk_name):
            return _exists(path_of(f"zones/{zone}", "disks", disk_name))
    return None


def _exists(path: str) -> Json:
    return {"code": "RESOURCE_ALREADY_EXISTS", "message": f"The resource '{path}' already exists"}


def disk_names(blueprint: Blueprint, name: str) -> list[str]:
    """The names of an instance's disks: the boot disk is called as the instance, others are numbered."""
    return [plan.name or (name if plan.is_boot else f"{name}-{index}") for index, plan in enumerate(blueprint.disks)]


def make_instance(
    state: State, blueprint: Blueprint, name: str, *, hostname: str = "", is_ghost: bool = False
) -> Instance:
    """Make an instance with its disks. A ghost is one on the way to a stockout."""
    now, timing, host = state.now(), state.timing, blueprint.host
    scope, number = f"zones/{host.zone}", state.new_id()
    body = {
        **blueprint.body,
        "id": str(number),
        "name": name,
        "creationTimestamp": stamp(now),
        "selfLink": url_of(scope, "instances", name),
        "networkInterfaces": addressed(blueprint.body["networkInterfaces"], state.number()),
    }
    if hostname:
        body["hostname"] = hostname
    instance = Instance(
        name=name,
        id=number,
        host=host,
        body=body,
        labels=dict(blueprint.labels),
        created_at=now,
        runs_from=now + timing.boot,
        listed_from=now + timing.lag,
        action=blueprint.schedule.action,
        is_ghost=is_ghost,
    )
    records = state.zone(host.zone)
    for plan, disk_name in zip(blueprint.disks, disk_names(blueprint, name), strict=True):
        if not plan.is_scratch:
            instance.disks.append((_disk(state, host.zone, disk_name, plan, instance), plan.auto_delete))
    body["disks"] = _attachments(host.zone, name, blueprint)
    records.instances.put(instance)
    _limit_run(state, blueprint, instance)
    return instance


def _disk(state: State, zone: str, name: str, plan: DiskPlan, user: Instance) -> Disk:
    records, now = state.zone(zone), state.now()
    disk = plan.existing or (records.disks.find(name) if plan.name else None)
    if disk is None:
        number = state.new_id()
        body = disk_body(zone, name, number, plan, stamp(now))
        disk = Disk(name, number, f"zones/{zone}", "disk", body, dict(plan.labels), now + state.timing.lag)
        records.disks.put(disk)
    disk.user = user
    return disk


def _attachments(zone: str, name: str, blueprint: Blueprint) -> list[Json]:
    found = []
    for index, (plan, disk_name) in enumerate(zip(blueprint.disks, disk_names(blueprint, name), strict=True)):
        item = {"deviceName": f"persistent-disk-{index}", **plan.attachment, "index": index}
        if not plan.is_scratch:
            item["source"] = url_of(f"zones/{zone}", "disks", disk_name)
        found.append(item)
    return found


def _limit_run(state: State, blueprint: Blueprint, instance: Instance) -> None:
    schedule = blueprint.schedule
    if schedule.run_limit is not None:
        state.limit_run(instance, _running_since(instance) + schedule.run_limit)
    elif schedule.end is not None:
        state.limit_run(instance, schedule.end)


def _running_since(instance: Instance) -> datetime:
    # "automatically defined whenever a VM has a time limit and enters the RUNNING state" (limit-vm-runtime).
    return instance.runs_from
