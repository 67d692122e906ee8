"""The methods on instances."""

import re
import uuid
from collections.abc import Mapping, Sequence
from datetime import datetime

from multicompute.testing.local.machines import reported_host_key
from multicompute_gcp.local import capacity, quotas
from multicompute_gcp.local.calls import Call, Handler, ZonalKind, required
from multicompute_gcp.local.hardware import hardware
from multicompute_gcp.local.instance_creation import create_instance, name_conflict
from multicompute_gcp.local.instance_plan import (
    InstancePlan,
    check_group_size,
    check_metadata,
    read_instance_plan,
    with_fingerprint,
)
from multicompute_gcp.local.operations import Operations, refuse_too_many
from multicompute_gcp.local.pending import PendingInstances, valid_for
from multicompute_gcp.local.records import Error, Instance, Operation, fingerprint, path_of, url_of
from multicompute_gcp.local.references import check_fresh, check_labels, check_name
from multicompute_gcp.local.reservations import check_reservation
from multicompute_gcp.local.responses import GcpError, Json, invalid
from multicompute_gcp.local.scheduling import check_flex_start, read_scheduling
from multicompute_gcp.local.state import State

_PATTERN = re.compile(r"([^#]*)(#{1,18})([^#]*)")
# https://cloud.google.com/compute/docs/troubleshooting/troubleshooting-bulk-vm-creation
_BULK_AT_ONCE = 10
_BULK_COUNT = 5000


class Instances:
    """The methods on instances."""

    def __init__(self, state: State, operations: Operations, pending: PendingInstances) -> None:
        """Answer from `state`; changes run as `operations`, and `pending` has the instances that wait for capacity."""
        self._state = state
        self._pending = pending
        self._operations = operations
        self._instances = ZonalKind(state, "instance", lambda zone: state.zone(zone).instances)

    def handlers(self) -> Mapping[str, Handler]:
        """Return the handlers by method."""
        return {
            "instances.bulkInsert": self._bulk_insert,
            "instances.insert": self._insert,
            **self._instances.handlers(),
            "instances.delete": self._delete,
            "instances.stop": self._stop,
            "instances.start": self._start,
            "instances.suspend": self._suspend,
            "instances.resume": self._resume,
            "instances.setLabels": self._set_labels,
            "instances.setMetadata": self._set_metadata,
            "instances.setScheduling": self._set_scheduling,
            "instances.getGuestAttributes": self._guest_attributes,
            "instances.setDeletionProtection": self._protect,
        }

    # --- creating -------------------------------------------------------------------------------------------------------

    def _bulk_insert(self, call: Call) -> Operation:
        zone, body = call.zone, call.body
        count, least = _counts(body)
        if body.get("locationPolicy") or body.get("instanceFlexibilityPolicy"):
            raise GcpError("invalid", "The local Compute Engine makes instances in one zone and of one type only.", 400)
        plan = read_instance_plan(self._state, zone, required(body, "instanceProperties"), bulk=True)
        if plan.schedule.model == "FLEX_START":
            # A field report, and what `gcloud compute instances bulk create --provisioning-model` offers: RESERVATION_BOUND, SPOT, STANDARD.
            # Google documents instances.insert and managed instance groups as the ways to flex-start.
            field = "resource.instanceProperties.scheduling.provisioningModel"
            raise invalid(field, "FLEX_START", "Flex-start VMs can't be created in bulk.")
        names = self._names(zone, body, count)
        refuse_too_many(self._operations.running(f"zones/{zone}", "bulkInsert"), _BULK_AT_ONCE)
        check_group_size(self._state, plan.host, count)
        check_reservation(self._state, plan)
        self._refuse_upfront(plan, count)
        target = url_of(f"zones/{zone}", "instances")
        if plan.fault is not None:
            return self._failed("bulkInsert", zone, target, [plan.fault], 500)
        conflicts = [error for name in names if (error := name_conflict(self._state, plan, name)) is not None]
        if conflicts:
            return self._failed("bulkInsert", zone, target, [capacity.min_count_error(least), conflicts[0]], 409)
        if self._state.lost_while_created and plan.schedule.is_spot:
            return self._lost(plan, names, self._state.lost_while_created.pop(0))
        fits = capacity.available(self._state, plan.host, count)
        if fits < least:
            return self._stocked_out(plan, names, fits, least)
        hostnames = body.get("perInstanceProperties", {})
        created = names[:fits]
        for name in created:
            create_instance(self._state, plan, name, hostname=hostnames.get(name, {}).get("hostname", ""))
        return self._operations.begin(
            "bulkInsert", f"zones/{zone}", target, 0, more=_bulk_status(zone, count, len(created), 0)
        )

    def _insert(self, call: Call) -> Operation:
        zone, name = call.zone, required(call.body, "name")
        check_name("resource.name", name)
        plan = read_instance_plan(self._state, zone, call.body, bulk=False)
        check_flex_start(plan.schedule.model, call.body)
        wait = valid_for(call.body)
        if self._state.zone(zone).instances.find(name) is not None:
            path = path_of(f"zones/{zone}", "instances", name)
            raise GcpError("alreadyExists", f"The resource '{path}' already exists", 409)
        check_group_size(self._state, plan.host, 1)
        check_reservation(self._state, plan)
        target = url_of(f"zones/{zone}", "instances", name)
        taken = name_conflict(self._state, plan, name)
        if taken is not None:
            return self._failed("insert", zone, target, [taken], 409)
        over = quotas.exceeded(self._state, plan.host, 1, has_address=_has_address(plan))
        if over is not None:
            return self._failed("insert", zone, target, [quotas.error(*over)], 403)
        if capacity.available(self._state, plan.host, 1) < 1:
            error = capacity.stockout(self._state, plan.host, 1)
            if wait is not None and plan.schedule.model == "FLEX_START":
                return self._pending.insert(plan, name, target, wait, error)
            return self._ending_in_stockout("insert", plan, [name], target, [error], {})
        instance = create_instance(self._state, plan, name, hostname=call.body.get("hostname", ""))
        return self._operations.begin("insert", f"zones/{zone}", target, instance.id)

    def _names(self, zone: str, body: Json, count: int) -> list[str]:
        pattern, each = body.get("namePattern"), body.get("perInstanceProperties", {})
        if (pattern is None) == (not each):
            raise GcpError("invalid", "Either namePattern or perInstanceProperties must be set, and not both.", 400)
        if pattern is None:
            if count > len(each):
                raise invalid(
                    "resource.perInstanceProperties", len(each), f"It has fewer entries than the count {count}."
                )
            names = list(each)[:count]
        else:
            names = self._numbered(zone, pattern, count)
        for name in (names[0], names[-1], *each):
            check_name("resource.namePattern" if pattern else "resource.perInstanceProperties", name)
        return names

    def _numbered(self, zone: str, pattern: str, count: int) -> list[str]:
        match = _PATTERN.fullmatch(pattern)
        if match is None:
            raise invalid("resource.namePattern", pattern, "It must contain one continuous sequence of #.")
        before, width, after = match[1], len(match[2]), match[3]
        # "the generated instance numbers start after the biggest existing number" (compute.v1, BulkInsertInstanceResource).
        taken = re.compile(re.escape(before) + r"(\d+)" + re.escape(after))
        numbers = [int(found[1]) for one in self._state.zone(zone).instances if (found := taken.fullmatch(one.name))]
        first = max(numbers, default=0) + 1
        return [f"{before}{number:0{width}d}{after}" for number in range(first, first + count)]

    def _refuse_upfront(self, plan: InstancePlan, count: int) -> None:
        """Refuse what bulkInsert, unlike insert, checks before it begins an operation."""
        over = quotas.exceeded(self._state, plan.host, count, has_address=_has_address(plan))
        if over is not None:
            raise GcpError("quotaExceeded", quotas.error(*over, gap=" ")["message"], 403)
        if self._state.stockout_is_upfront and capacity.available(self._state, plan.host, count) < count:
            message = f"The zone '{path_of(f'zones/{plan.host.zone}')}' does not have enough resources available to fulfill the request."
            raise GcpError("insufficientCapacity", message, 503)

    def _lost(self, plan: InstancePlan, names: Sequence[str], code: str) -> Operation:
        """Preempt the last instance while it is created; the others exist until they are deleted.

        UNSUPPORTED_OPERATION and RESOURCE_NOT_FOUND are what was observed: SkyPilot's `_gcp_handler` in
        sky/backends/cloud_vm_ray_backend.py, https://github.com/skypilot-org/skypilot/issues/1797 ("The VM was initiated despite the error").
        """
        zone = plan.host.zone
        path = path_of(f"zones/{zone}", "instances", names[-1])
        messages = {"RESOURCE_NOT_FOUND": f"The resource '{path}' was not found"}
        error = {"code": code, "message": messages.get(code, f"The operation on '{path}' can't be completed.")}
        for name in names[:-1]:
            create_instance(self._state, plan, name)
        return self._failed("bulkInsert", zone, url_of(f"zones/{zone}", "instances"), [error], 400)

    def _stocked_out(self, plan: InstancePlan, names: Sequence[str], fits: int, least: int) -> Operation:
        zone, error = plan.host.zone, capacity.stockout(self._state, plan.host, len(names))
        group = str(uuid.UUID(int=self._state.new_id() << 32))
        more = _bulk_status(zone, len(names), fits, len(names) - fits, group)
        for name in names[fits : fits + 1]:
            # The first instance that failed has an operation of its own, with the cause.
            target = url_of(f"zones/{zone}", "instances", name)
            self._failed("insert", zone, target, [error], 503, {"operationGroupId": group})
        errors = [capacity.min_count_error(least), error] if fits else [error]
        target = url_of(f"zones/{zone}", "instances")
        return self._ending_in_stockout("bulkInsert", plan, names[: max(fits, 1)], target, errors, more)

    def _ending_in_stockout(
        self, kind: str, plan: InstancePlan, names: Sequence[str], target: str, errors: Sequence[Error], more: Json
    ) -> Operation:
        status = 503 if self._state.stockout_has_status else None
        operation = self._failed(kind, plan.host.zone, target, errors, status, more)
        if self._state.ghost_time:
            for name in names:
                ghost = create_instance(self._state, plan, name, is_ghost=True)
                self._state.expire_ghost(ghost, operation.done_at + self._state.ghost_time)
        return operation

    def _failed(
        self, kind: str, zone: str, target: str, errors: Sequence[Error], status: int | None, more: Json | None = None
    ) -> Operation:
        return self._operations.begin(
            kind, f"zones/{zone}", target, self._state.new_id(), errors=errors, http_status=status, more=more
        )

    # --- changing -----------------------------------------------------------------------------------------------------

    def _delete(self, call: Call) -> Operation:
        instance, now, timing = self._instances.found(call), self._state.now(), self._state.timing
        if instance.is_protected:
            # https://github.com/hashicorp/terraform-provider-google/pull/1211
            raise GcpError(
                "invalidResourceUsage",
                f"Invalid resource usage: 'Resource cannot be deleted if it's protected against deletion."
                f" Resource: {instance.body['selfLink']}'.",
                400,
            )
        gone_at = instance.gone_at or now + max(timing.operation, timing.shutdown)
        operation = self._begin("delete", instance, done_at=gone_at)
        instance.is_ghost = False
        self._state.delete_instance(instance, gone_at)
        return operation

    def _stop(self, call: Call) -> Operation:
        instance = self._instances.found(call)
        self._refuse_unready(instance)
        self._state.stop_instance(instance)
        return self._begin("stop", instance)

    def _suspend(self, call: Call) -> Operation:
        instance = self._instances.found(call)
        self._refuse_unready(instance)
        if instance.status(self._state.now()) != "RUNNING":
            # troubleshooting-suspend-resume: "You cannot suspend an instance that is stopped or terminated."
            raise GcpError("invalid", "You cannot suspend an instance that is not running.", 400)
        self._state.stop_instance(instance)
        instance.is_suspended = True
        return self._begin("suspend", instance)

    def _start(self, call: Call) -> Operation:
        instance = self._instances.found(call)
        if instance.is_suspended:
            # compute.v1: start is for instances "that was stopped using the instances().stop method".
            raise GcpError("invalid", "Instance is suspended; it must be resumed.", 400)
        return self._run_again("start", instance)

    def _resume(self, call: Call) -> Operation:
        instance = self._instances.found(call)
        if not instance.is_suspended:
            raise GcpError("invalid", "Instance is not suspended; it can't be resumed.", 400)
        return self._run_again("resume", instance)

    def _run_again(self, kind: str, instance: Instance) -> Operation:
        self._refuse_unready(instance)
        if instance.stopped_at is not None:
            if capacity.available(self._state, instance.host, 1) < 1:
                error = capacity.stockout(self._state, instance.host, 1)
                return self._failed(kind, instance.host.zone, instance.body["selfLink"], [error], 503)
            self._state.start_instance(instance)
        return self._begin(kind, instance)

    def _set_labels(self, call: Call) -> Operation:
        instance = self._instances.found(call)
        check_fresh(call.body.get("labelFingerprint", ""), fingerprint(instance.labels))
        instance.relabel(check_labels("labels", call.body.get("labels", {})))
        return self._begin("setLabels", instance)

    def _set_metadata(self, call: Call) -> Operation:
        instance = self._instances.found(call)
        if call.body.get("fingerprint", "") != instance.body["metadata"]["fingerprint"]:
            message = "Supplied fingerprint does not match current metadata fingerprint."
            raise GcpError("conditionNotMet", message, 412, location="If-Match")
        check_metadata("metadata", call.body)
        instance.body["metadata"] = with_fingerprint(call.body, "compute#metadata")
        instance.relabel(instance.labels)
        return self._begin("setMetadata", instance)

    def _guest_attributes(self, call: Call) -> Json:
        """Return the host key that the guest agent publishes, if the metadata allows it."""
        instance, path = self._instances.found(call), call.query.get("queryPath", "")
        allowed = {item["key"]: item["value"] for item in instance.body["metadata"].get("items", ())}
        is_there = instance.status(self._state.now()) == "RUNNING" and path == "hostkeys/"
        if not is_there or allowed.get("enable-guest-attributes", "").upper() != "TRUE":
            raise GcpError("notFound", "The resource was not found", 404)
        kind, _, value = reported_host_key(str(instance.body["name"])).partition(" ")
        items = [{"namespace": "hostkeys", "key": kind, "value": value}]
        return {"kind": "compute#guestAttributes", "queryPath": path, "queryValue": {"items": items}}

    def _set_scheduling(self, call: Call) -> Operation:
        instance = self._instances.found(call)
        if instance.status(self._state.now()) != "TERMINATED":
            # compute.v1, instances.setScheduling: "You can only call this method on a stopped instance".
            raise GcpError("invalid", "Scheduling options can only be changed while the instance is stopped.", 400)
        machine = hardware().machine_types[instance.host.machine_type]
        schedule = read_scheduling("resource", call.body, machine, instance.host.gpu, instance.host.reservation)
        instance.body["scheduling"] = schedule.body
        instance.relabel(instance.labels)
        return self._begin("setScheduling", instance)

    def _protect(self, call: Call) -> Operation:
        instance = self._instances.found(call, "resource")
        instance.protect(is_protected=call.query.get("deletionProtection", "true").lower() == "true")
        return self._begin("setDeletionProtection", instance)

    def _refuse_unready(self, instance: Instance) -> None:
        if instance.gone_at is not None or instance.is_ghost:
            path = path_of(instance.scope, "instances", instance.name)
            raise GcpError("resourceNotReady", f"The resource '{path}' is not ready", 400)

    def _begin(self, kind: str, instance: Instance, done_at: datetime | None = None) -> Operation:
        return self._operations.begin(kind, instance.scope, instance.body["selfLink"], instance.id, done_at=done_at)


def _counts(body: Json) -> tuple[int, int]:
    count = int(body.get("count", 0))
    least = int(body.get("minCount", count))
    if not 1 <= count <= _BULK_COUNT:
        raise invalid("resource.count", count, f"It must be from 1 to {_BULK_COUNT}.")
    if not 1 <= least <= count:
        raise invalid("resource.minCount", least, f"It must be from 1 to the count {count}.")
    return count, least


def _has_address(plan: InstancePlan) -> bool:
    return any(interface.get("accessConfigs") for interface in plan.body["networkInterfaces"])


def _bulk_status(zone: str, target: int, created: int, failed: int, group: str = "") -> Json:
    status: Json = {"status": "DONE", "targetVmCount": target, "createdVmCount": created}
    if failed:
        status |= {"status": "ROLLING_BACK", "failedToCreateVmCount": failed, "deletedVmCount": created}
    more: Json = {"instancesBulkInsertOperationMetadata": {"perLocationStatus": {f"zones/{zone}": status}}}
    return more | ({"operationGroupId": group} if group else {})
