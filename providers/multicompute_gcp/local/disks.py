"""The methods on disks."""

from collections.abc import Mapping

from multicompute_gcp.local.calls import Call, Handler, ZonalKind, required
from multicompute_gcp.local.disk_rules import DiskPlan, disk_body
from multicompute_gcp.local.images import source
from multicompute_gcp.local.operations import Operations
from multicompute_gcp.local.records import Disk, Operation, fingerprint, path_of, timestamp
from multicompute_gcp.local.references import check_fresh, check_labels, check_name
from multicompute_gcp.local.responses import GcpError
from multicompute_gcp.local.state import State


class Disks:
    """Persistent disks: those of instances, those that outlive their instances, and those created alone."""

    def __init__(self, state: State, operations: Operations) -> None:
        """Answer from `state`; changes run as `operations`."""
        self._state = state
        self._operations = operations
        self._disks = ZonalKind(state, "disk", lambda zone: state.zone(zone).disks)

    def handlers(self) -> Mapping[str, Handler]:
        """Return the handlers by method."""
        return {
            "disks.insert": self._insert,
            **self._disks.handlers(),
            "disks.delete": self._delete,
            "disks.setLabels": self._set_labels,
        }

    def _insert(self, call: Call) -> Operation:
        zone, name = call.zone, required(call.body, "name")
        check_name("resource.name", name)
        if self._state.zone(zone).disks.find(name) is not None:
            raise GcpError(
                "alreadyExists", f"The resource '{path_of(f'zones/{zone}', 'disks', name)}' already exists", 409
            )
        given = call.body.get("sourceImage")
        image = source("resource.sourceImage", given) if given else None
        plan = DiskPlan(
            name=name,
            type=call.body.get("type", "pd-standard").rsplit("/", 1)[-1],
            size_gb=int(call.body.get("sizeGb") or (image.disk_gb if image else 500)),
            image=image,
            labels=check_labels("resource.labels", call.body.get("labels", {})),
            auto_delete=False,
            is_boot=False,
            attachment={},
        )
        now, number = self._state.now(), self._state.new_id()
        body = disk_body(zone, name, number, plan, timestamp(now))
        disk = Disk(name, number, f"zones/{zone}", "disk", body, plan.labels, now + self._state.timing.lag)
        self._state.zone(zone).disks.add(disk)
        return self._begin("insert", disk)

    def _delete(self, call: Call) -> Operation:
        disk = self._disks.found(call)
        if disk.user is not None:
            path, user = path_of(disk.scope, "disks", disk.name), path_of(disk.scope, "instances", disk.user.name)
            raise GcpError(
                "resourceInUseByAnotherResource", f"The disk resource '{path}' is already being used by '{user}'", 400
            )
        operation = self._begin("delete", disk)
        self._state.at(operation.done_at, lambda: self._state.zone(call.zone).disks.remove(disk.name))
        return operation

    def _set_labels(self, call: Call) -> Operation:
        disk = self._disks.found(call, "resource")
        check_fresh(call.body.get("labelFingerprint", ""), fingerprint(disk.labels))
        disk.labels = check_labels("labels", call.body.get("labels", {}))
        return self._begin("setLabels", disk)

    def _begin(self, kind: str, disk: Disk) -> Operation:
        return self._operations.begin(kind, disk.scope, disk.body["selfLink"], disk.id)
