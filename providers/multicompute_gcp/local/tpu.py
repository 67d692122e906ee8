"""The methods of the TPU API."""

import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, TypeVar

from multicompute_gcp.local.calls import Call, Handler
from multicompute_gcp.local.filters import page_token, read_page_token
from multicompute_gcp.local.hardware import hardware
from multicompute_gcp.local.responses import GcpError, Json
from multicompute_gcp.local.state import Named, ResourceStore
from multicompute_gcp.local.tpu_queue import Queue
from multicompute_gcp.local.tpu_records import QueuedResource, TpuNode, TpuOperation, TpuRecords, full_name
from multicompute_gcp.local.tpu_rules import (
    RUNTIME_VERSIONS,
    bad,
    check_id,
    check_network,
    check_node_id,
    check_quota,
    no_capacity,
    read_node,
)

_PAGE, _LARGEST_PAGE = 100, 1000
_ANYWHERE = "-"
_PATCHED = frozenset({"description", "tags", "labels", "metadata"})
# "update is not supported while in state PREEMPTED", with the code 3, so probably in no state in which the slice does not run; "Cloud TPU API
# does not allow setting labels on pending instances" (both in SkyPilot: sky/backends/cloud_vm_ray_backend.py, sky/provision/gcp/instance_utils.py).
_NOT_PATCHED = ("CREATING", "PREEMPTED", "STOPPED", "DELETING")
_RESOURCE_EXHAUSTED = 8
_N = TypeVar("_N", bound=Named)


class Tpu:
    """The methods on nodes, queued resources, operations, and on what a project can use."""

    def __init__(self, records: TpuRecords, queue: Queue) -> None:
        """Answer from `records`; `queue` creates the nodes of queued resources."""
        self._records = records
        self._queue = queue
        self._state = records.state

    def handlers(self) -> Mapping[str, Handler]:
        """Return the handlers by method."""
        return {
            "tpu.locations.list": self._locations,
            "tpu.locations.get": self._location,
            "tpu.acceleratorTypes.list": self._accelerator_types,
            "tpu.acceleratorTypes.get": self._accelerator_type,
            "tpu.runtimeVersions.list": self._runtime_versions,
            "tpu.runtimeVersions.get": self._runtime_version,
            "tpu.queuedResources.create": self._create_queued,
            "tpu.queuedResources.get": self._get_queued,
            "tpu.queuedResources.list": self._list_queued,
            "tpu.queuedResources.delete": self._delete_queued,
            "tpu.nodes.create": self._create_node,
            "tpu.nodes.get": self._get_node,
            "tpu.nodes.list": self._list_nodes,
            "tpu.nodes.delete": self._delete_node,
            "tpu.nodes.patch": self._patch_node,
            "tpu.nodes.stop": self._stop_node,
            "tpu.nodes.start": self._start_node,
            "tpu.nodes.getGuestAttributes": self._guest_attributes,
            "tpu.operations.get": self._get_operation,
            "tpu.operations.list": self._list_operations,
        }

    # --- offerings ----------------------------------------------------------------------------------------------------

    def _locations(self, call: Call) -> Json:
        zones = sorted({zone for kind in hardware().slices.values() for zone in kind.zones})
        return self._page(call, "locations", [(zone, _location(zone)) for zone in zones])

    def _location(self, call: Call) -> Json:
        return _location(self._zone(call))

    def _accelerator_types(self, call: Call) -> Json:
        zone = self._zone(call)
        kinds = sorted(kind.name for kind in hardware().slices.values() if zone in kind.zones)
        return self._page(call, "acceleratorTypes", [(name, _accelerator_type(zone, name)) for name in kinds])

    def _accelerator_type(self, call: Call) -> Json:
        zone, name = self._zone(call), call.path["acceleratorType"]
        if zone not in getattr(hardware().slices.get(name), "zones", ()):
            raise _missing(full_name(zone, "acceleratorTypes", name))
        return _accelerator_type(zone, name)

    def _runtime_versions(self, call: Call) -> Json:
        zone = self._zone(call)
        return self._page(call, "runtimeVersions", [(name, _runtime(zone, name)) for name in RUNTIME_VERSIONS])

    def _runtime_version(self, call: Call) -> Json:
        zone, name = self._zone(call), call.path["runtimeVersion"]
        if name not in RUNTIME_VERSIONS:
            raise _missing(full_name(zone, "runtimeVersions", name))
        return _runtime(zone, name)

    # --- queued resources ---------------------------------------------------------------------------------------------

    def _create_queued(self, call: Call) -> TpuOperation:
        zone = self._zone(call)
        name = check_id(call.query.get("queuedResourceId") or f"qr-{self._state.number():x}", "queued_resource_id")
        if self._records.zone(zone).queued.find(name) is not None:
            raise _taken(full_name(zone, "queuedResources", name))
        queued = self._queue.add(zone, name, call.body)
        target = full_name(zone, "queuedResources", name)
        return self._records.begin(
            zone, "create", target, kind="QueuedResource", response=queued.as_json(self._state.now())
        )

    def _get_queued(self, call: Call) -> Json:
        return self._queued(call).as_json(self._state.now())

    def _list_queued(self, call: Call) -> Json:
        return self._listed(call, "queuedResources", lambda zone: self._records.zone(zone).queued.in_order())

    def _delete_queued(self, call: Call) -> TpuOperation:
        queued = self._queued(call)
        target = full_name(queued.zone, "queuedResources", queued.name)
        nodes = self._queue.nodes_of(queued)
        state = queued.state(self._state.now())
        if nodes and not call.is_set("force") and state not in ("ACCEPTED", "FAILED", "SUSPENDED"):
            # queuedResources.delete in tpu.v2: without force only if it has no nodes, or in these states.
            raise GcpError(
                "FAILED_PRECONDITION",
                f"The queued resource {target} can't be deleted in the state {state} while it has nodes; use force.",
                400,
            )
        gone_at = queued.gone_at or self._state.now() + self._records.deletion_time()
        for node in nodes:
            self._records.delete_node(node, gone_at)
        operation = self._records.begin(queued.zone, "delete", target, done_at=gone_at)
        self._queue.delete(queued, gone_at)
        return operation

    # --- nodes --------------------------------------------------------------------------------------------------------

    def _create_node(self, call: Call) -> TpuOperation:
        zone = self._zone(call)
        name = check_node_id(call.query.get("nodeId") or f"n-{self._state.number()}")
        kind = read_node(call.body, zone)
        check_network(self._records, call.body, zone)
        target = full_name(zone, "nodes", name)
        if self._records.zone(zone).nodes.find(name) is not None:
            raise _taken(target)
        scheduling = call.body.get("schedulingConfig", {})
        spot = bool(scheduling.get("spot") or scheduling.get("preemptible"))
        check_quota(self._records, zone, kind, 1, spot=spot)
        if not self._records.has_capacity(zone, kind, 1):
            return self._records.begin(zone, "create", target, failure=(_RESOURCE_EXHAUSTED, no_capacity(zone)))
        node = self._records.create_node(zone, name, kind, call.body, spot=spot)
        done_at = max(node.ready_at, self._state.now() + self._state.timing.operation)
        return self._records.begin(
            zone, "create", target, kind="Node", response=node.as_json(node.ready_at), done_at=done_at
        )

    def _get_node(self, call: Call) -> Json:
        return self._node(call).as_json(self._state.now())

    def _list_nodes(self, call: Call) -> Json:
        return self._listed(call, "nodes", lambda zone: self._records.zone(zone).nodes.in_order())

    def _delete_node(self, call: Call) -> TpuOperation:
        node = self._node(call)
        gone_at = node.gone_at or self._state.now() + self._records.deletion_time()
        operation = self._records.begin(node.zone, "delete", full_name(node.zone, "nodes", node.name), done_at=gone_at)
        self._records.delete_node(node, gone_at)
        self._queue.note_deletion(node, gone_at)
        return operation

    def _stop_node(self, call: Call) -> TpuOperation:
        node = self._node(call)
        try:
            self._records.stop_node(node)
        except ValueError as error:
            raise bad(str(error)) from error
        return self._changed(node, "stop")

    def _start_node(self, call: Call) -> TpuOperation:
        node = self._node(call)
        if node.stopped_at is None:
            raise GcpError("FAILED_PRECONDITION", f"The node {node.name} is not stopped.", 400)
        if not self._records.has_capacity(node.zone, node.slice, 1):
            failure = (_RESOURCE_EXHAUSTED, no_capacity(node.zone))
            return self._records.begin(node.zone, "start", full_name(node.zone, "nodes", node.name), failure=failure)
        self._records.start_node(node)
        return self._changed(node, "start")

    def _changed(self, node: TpuNode, verb: str) -> TpuOperation:
        target = full_name(node.zone, "nodes", node.name)
        return self._records.begin(node.zone, verb, target, kind="Node", response=node.as_json(self._state.now()))

    def _patch_node(self, call: Call) -> TpuOperation:
        node = self._node(call)
        state = node.state(self._state.now())
        if state in _NOT_PATCHED:
            raise bad(f"update is not supported while in state {state}")
        fields = [name for name in call.query.get("updateMask", "").split(",") if name]
        if not fields or not set(fields) <= _PATCHED:
            raise bad(f"The update mask {fields} must name some of {', '.join(sorted(_PATCHED))}.")
        changed = {**node.body, **{name: call.body.get(name) for name in fields}}
        read_node(changed, node.zone)
        node.body = {name: value for name, value in changed.items() if value is not None}
        return self._changed(node, "update")

    def _guest_attributes(self, call: Call) -> Json:
        """Return what the hosts wrote at boot, if their startup script writes it and their metadata allows it."""
        node, path = self._node(call), str(call.body.get("queryPath", ""))
        metadata = node.body.get("metadata", {})
        namespace, key = path.partition("/")[0], "worker-"
        writes = f"guest-attributes/{namespace}/{key}" in metadata.get("startup-script", "")
        if node.state(self._state.now()) != "READY" or metadata.get("enable-guest-attributes") != "TRUE" or not writes:
            raise GcpError("NOT_FOUND", f"Guest attributes '{path}' were not found", 404)
        found = [
            {"namespace": namespace, "key": f"{key}{host}", "value": node.machine_number(host)}
            for host in range(node.slice.hosts)
        ]
        wanted = call.body.get("workerIds") or [str(host) for host in range(node.slice.hosts)]
        return {
            "guestAttributes": [
                {"queryPath": path, "queryValue": {"items": [entry]}}
                for host, entry in enumerate(found)
                if str(host) in wanted
            ]
        }

    # --- operations ---------------------------------------------------------------------------------------------------

    def _get_operation(self, call: Call) -> Json:
        operation = self._found(call, "operation", self._records.zone(self._zone(call)).operations)
        shown = operation.as_json(self._state.now())
        operation.polls_left -= 1
        return shown

    def _list_operations(self, call: Call) -> Json:
        return self._listed(call, "operations", lambda zone: self._records.zone(zone).operations.in_order())

    # --- all kinds --------------------------------------------------------------------------------------------------

    def _zone(self, call: Call) -> str:
        name = call.path["zone"]
        is_offered = any(name in kind.zones for kind in hardware().slices.values())
        if not is_offered or name in self._records.unauthorized:
            # https://github.com/dstackai/gpuhunt/issues/98: also of zones that `locations.list` has.
            raise GcpError("PERMISSION_DENIED", f"Location {name} is not found or access is unauthorized.", 403)
        return name

    def _queued(self, call: Call) -> QueuedResource:
        return self._found(call, "queuedResource", self._records.zone(self._zone(call)).queued)

    def _node(self, call: Call) -> TpuNode:
        return self._found(call, "node", self._records.zone(self._zone(call)).nodes)

    def _found(self, call: Call, kind: str, store: ResourceStore[_N]) -> _N:
        found = store.find(call.path[kind])
        if found is None:
            raise _missing(full_name(call.path["zone"], f"{kind}s", call.path[kind]))
        return found

    def _listed(self, call: Call, member: str, of: Any) -> Json:
        """Return a page of a list of one zone, or of all zones if the zone is "-"."""
        everywhere = call.path["zone"] == _ANYWHERE
        allowed = [zone for zone in self._records.zones() if zone not in self._records.unauthorized]
        zones = allowed if everywhere else [self._zone(call)]
        missing = sorted(self._state.unreachable & set(zones)) if everywhere else []
        now = self._state.now()
        resources: list[tuple[str, Any]] = []
        for zone in zones:
            if zone not in missing:
                resources += [
                    (f"{zone}/{resource.name}", resource) for resource in of(zone) if _is_listed(resource, now)
                ]
        page = self._page(call, member, resources)
        page[member] = [resource.as_json(now) for resource in page[member]]
        return page | ({"unreachable": missing} if missing else {})

    def _page(self, call: Call, member: str, resources: Sequence[tuple[str, Any]]) -> Json:
        given = call.query.get("pageSize", "0")
        if not re.fullmatch(r"\d+", given):
            raise bad(f'The page size "{given}" is no number.')
        size = min(int(given) or _PAGE, _LARGEST_PAGE)
        after = read_page_token(call.query.get("pageToken", ""))[1]
        rest = [(key, resource) for key, resource in resources if not after or key > after]
        page: Json = {member: [resource for _, resource in rest[:size]]}
        if len(rest) > size:
            page["nextPageToken"] = page_token(member, rest[size - 1][0])
        return page


def _is_listed(resource: object, now: datetime) -> bool:
    shown: datetime | None = getattr(resource, "listed_from", None)
    return shown is None or now >= shown


def _missing(name: str) -> GcpError:
    return GcpError("NOT_FOUND", f"Resource '{name}' was not found", 404)


def _taken(name: str) -> GcpError:
    return GcpError("ALREADY_EXISTS", f"Resource '{name}' already exists", 409)


def _location(zone: str) -> Json:
    return {"name": f"projects/multicompute-local/locations/{zone}", "locationId": zone}


def _accelerator_type(zone: str, name: str) -> Json:
    return {"name": full_name(zone, "acceleratorTypes", name), "type": name}


def _runtime(zone: str, name: str) -> Json:
    return {"name": full_name(zone, "runtimeVersions", name), "version": name}
