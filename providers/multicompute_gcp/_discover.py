"""Finds our machines and disks by label, with one listing over all zones."""

from typing import Any, Final

from multicompute.node import Node, NodeState
from multicompute.offer import Part
from multicompute.provider import LaunchRequest, Resource, Selector
from multicompute_gcp._errors import Place
from multicompute_gcp._fates import PREEMPTED, ended
from multicompute_gcp._labels import label_filter, last_of, region_of, tags_of
from multicompute_gcp._machine import ATTACHED_NAMES
from multicompute_gcp._session import Clients

# https://cloud.google.com/compute/docs/instances/instance-life-cycle. TERMINATED is stopped: it can be started again, and has its disk.
_STATES: Final = {
    "PROVISIONING": NodeState.PENDING,
    "STAGING": NodeState.PENDING,
    "RUNNING": NodeState.RUNNING,
    "REPAIRING": NodeState.PENDING,
    "PENDING": NodeState.PENDING,
    "STOPPING": NodeState.STOPPING,
    "PENDING_STOP": NodeState.STOPPING,
    "SUSPENDING": NodeState.STOPPING,
    "DEPROVISIONING": NodeState.STOPPING,
    "SUSPENDED": NodeState.STOPPED,
    "STOPPED": NodeState.STOPPED,
    "TERMINATED": NodeState.STOPPED,
}
# What a node's record needs; the whole of an instance with eight interfaces is ten times as long.
_NODE_FIELDS: Final = (
    "name,zone,status,statusMessage,machineType,labels,labelFingerprint,scheduling(provisioningModel),guestAccelerators,"
    "networkInterfaces(networkIP,accessConfigs(natIP))"
)
# What Google has found wrong with a machine that still runs: a GPU, a link, a disk that fails, and will be seen to.
_HEALTH_FIELDS: Final = f"{_NODE_FIELDS},resourceStatus(upcomingMaintenance)"
_FAULT: Final = "FAILURE_"
# By which it is known whether a listing is all there is.
_COMPLETENESS: Final = "items/*/warning/code,nextPageToken,unreachables"
_LEASE_FIELDS: Final = f"{_NODE_FIELDS},metadata,resourceStatus(scheduling)"


def instances(clients: Clients, selector: Selector, place: Place, *, with_lease: bool = False) -> list[dict[str, Any]]:
    """The selected instances in Google's words, in the order of their zones and names."""
    fields = _LEASE_FIELDS if with_lease else _HEALTH_FIELDS if selector.with_health else _NODE_FIELDS
    found = clients.aggregated(
        "instances",
        place,
        filter=label_filter(selector),
        fields=f"items/*/instances({fields}),{_COMPLETENESS}",
    )
    inside = [item for item in found if selector.region in (None, region_of(last_of(item["zone"])))]
    return sorted(inside, key=lambda item: (str(item["name"]), str(item["zone"])))


def disks(clients: Clients, selector: Selector, place: Place) -> list[dict[str, Any]]:
    """The selected disks, whether or not an instance has them."""
    found = clients.aggregated(
        "disks",
        place,
        filter=label_filter(selector),
        fields=f"items/*/disks(name,zone,users,labels,labelFingerprint,status),{_COMPLETENESS}",
    )
    zonal = [item for item in found if item.get("zone")]
    return [item for item in zonal if selector.region in (None, region_of(last_of(item["zone"])))]


def nodes(clients: Clients, selector: Selector, place: Place) -> list[Node]:
    """The selected nodes in a stable order; of those that are known and not listed, the ones whose end Google tells."""
    found = [to_node(item, with_health=selector.with_health) for item in instances(clients, selector, place)]
    listed = {node.id for node in found}
    missing = [node_id for node_id in selector.node_ids if node_id not in listed and "/" not in node_id]
    return found + (ended(clients, missing, selector, place) if missing else [])


def to_node(item: dict[str, Any], part: Part | None = None, *, with_health: bool = False) -> Node:
    """A node from Google's description; what only the launch knows (price, accelerators) comes from `part`.

    With `with_health` one that Google finds at fault is IMPAIRED.
    """
    zone = last_of(item["zone"])
    interface = (item.get("networkInterfaces") or [{}])[0]
    public = [config.get("natIP") for config in interface.get("accessConfigs") or ()]
    state = _STATES.get(str(item.get("status")), NodeState.PENDING)
    fault = _fault(item) if with_health else None
    model = (item.get("scheduling") or {}).get("provisioningModel")
    attached, count = _attached(item)
    # A spot machine that is stopped was taken back, or has ended itself with its lease; both are the end of it.
    is_preempted = state in (NodeState.STOPPED, NodeState.STOPPING) and model == "SPOT"
    return Node(
        id=str(item["name"]),
        rank=-1,
        provider="gcp",
        instance_type=last_of(item.get("machineType", "")),
        region=region_of(zone),
        zone=zone,
        state=NodeState.IMPAIRED if fault else state,
        private_ip=interface.get("networkIP") or None,
        public_ip=next((address for address in public if address), None),
        accelerators=part.offer.instance.accelerators if part else count,
        hourly_cost=part.offer.hourly_cost if part else 0.0,
        token=tags_of(item.get("labels")).get("multicompute-attempt", ""),
        reason=fault or _reason(item, state, is_preempted=is_preempted),
        cause="preemption" if is_preempted else "",
        is_spot=model == "SPOT",
        attached=attached,
    )


def _fault(item: dict[str, Any]) -> str | None:
    """What Google finds wrong with a machine that is up, None for nothing."""
    status = str(item.get("status"))
    if status == "REPAIRING":
        return f"{status}: {item.get('statusMessage') or 'Google repairs the machine'}"
    planned = (item.get("resourceStatus") or {}).get("upcomingMaintenance") or {}
    faults = [str(reason) for reason in planned.get("maintenanceReasons") or () if str(reason).startswith(_FAULT)]
    if status != "RUNNING" or not faults:
        return None
    return f"{', '.join(faults)}: Google has found a fault, to be mended by {planned.get('latestWindowStartTime') or 'a time not named'}"


def _attached(item: dict[str, Any]) -> tuple[str, float]:
    """Which accelerators were attached to a machine of a general type, and how many; "" for those that a type has built in."""
    for listed in item.get("guestAccelerators") or ():
        if name := ATTACHED_NAMES.get(last_of(str(listed.get("acceleratorType", "")))):
            return name, float(listed.get("acceleratorCount") or 0)
    return "", 0.0


def _reason(item: dict[str, Any], state: NodeState, *, is_preempted: bool) -> str | None:
    if state in (NodeState.PENDING, NodeState.RUNNING):
        return None
    if is_preempted:
        return f"{PREEMPTED}: the spot machine is {str(item.get('status')).lower()}"
    return f"{item.get('status')}: {item.get('statusMessage') or 'the machine is not running'}"


def pending_node(name: str, request: LaunchRequest, part: Part, zone: str) -> Node:
    """A node that Google has accepted and may not list yet."""
    offer = part.offer
    return Node(
        id=name,
        rank=-1,
        provider="gcp",
        instance_type=offer.instance_type,
        region=offer.region,
        zone=zone,
        state=NodeState.PENDING,
        accelerators=offer.instance.accelerators,
        hourly_cost=offer.hourly_cost,
        token=request.token,
    )


def resources(clients: Clients, selector: Selector, place: Place) -> list[Resource]:
    """The selected instances and disks."""
    found = [instance_resource(item) for item in instances(clients, selector, place)]
    return found + [disk_resource(item) for item in disks(clients, selector, place)]


def instance_resource(item: dict[str, Any]) -> Resource:
    """An instance as a resource; one that is being stopped or deleted is not billed by itself, its disk is."""
    state = _STATES.get(str(item.get("status")), NodeState.PENDING)
    is_billed = state in (NodeState.PENDING, NodeState.RUNNING)
    region = region_of(last_of(item["zone"]))
    return Resource("gcp", "instance", str(item["name"]), region, is_billed, tags_of(item.get("labels")))


def disk_resource(item: dict[str, Any]) -> Resource:
    region = region_of(last_of(item["zone"]))
    return Resource("gcp", "disk", str(item["name"]), region, billable=True, tags=tags_of(item.get("labels")))
