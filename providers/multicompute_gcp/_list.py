"""Lists what is ours, by label or description, with one listing over all zones for each kind of resource."""

from typing import Any, Final

from multicompute.node import Node, NodeState
from multicompute.offer import Part
from multicompute.provider import TAG_ATTEMPT, TAG_ID, LaunchRequest, Resource, Selector
from multicompute.provider_kit.seam import unlisted
from multicompute.provider_kit.tags import is_selected
from multicompute.provider_kit.vendor_errors import Place
from multicompute_gcp._health import instance_fault
from multicompute_gcp._names import last_segment, region_of, resource_name
from multicompute_gcp._operations import PREEMPTED, ended_nodes
from multicompute_gcp._session import PAGE, Clients
from multicompute_gcp._tags import described_tags, label_filter, tags_of

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
ATTACHED: Final = {name: f"nvidia-tesla-{name}" for name in ("t4", "v100", "p100", "p4", "k80")}
"""The accelerators that are attached to N1 instances, as Compute Engine calls them."""
_NAMES_OF_ATTACHED: Final = {vendor_name: name for name, vendor_name in ATTACHED.items()}
# What a node's record needs; a complete instance with eight interfaces is ten times as long.
_NODE_FIELDS: Final = (
    "name,zone,status,statusMessage,machineType,labels,labelFingerprint,scheduling(provisioningModel),guestAccelerators,"
    "networkInterfaces(networkIP,accessConfigs(natIP))"
)
_HEALTH_FIELDS: Final = f"{_NODE_FIELDS},resourceStatus(upcomingMaintenance)"
_EXPIRY_FIELDS: Final = f"{_NODE_FIELDS},metadata,resourceStatus(scheduling)"
_DISK_FIELDS: Final = "name,zone,users,labels,labelFingerprint,status"
# What shows whether a listing is complete.
_COMPLETENESS: Final = "items/*/warning/code,nextPageToken,unreachables"


def nodes(clients: Clients, selector: Selector, place: Place) -> list[Node]:
    """Return the selected instances in a stable order, and those in `selector.node_ids` that are known to have ended."""
    found = [to_node(item, with_health=selector.with_health) for item in instances(clients, selector, place)]
    missing = [node_id for node_id in unlisted(selector, {node.id for node in found}) if "/" not in node_id]
    return found + (ended_nodes(clients, missing, selector, place) if missing else [])


def resources(clients: Clients, selector: Selector, place: Place) -> list[Resource]:
    """Return the selected instances, disks, firewall rules and placement policies."""
    found = [instance_resource(item) for item in instances(clients, selector, place)]
    found += [disk_resource(item) for item in disks(clients, selector, place)]
    return found + dependents(clients, selector, place)


def instances(clients: Clients, selector: Selector, place: Place, *, for_expiry: bool = False) -> list[dict[str, Any]]:
    """Return the selected instances as Google describes them, in the order of their names and zones."""
    fields = _EXPIRY_FIELDS if for_expiry else _HEALTH_FIELDS if selector.with_health else _NODE_FIELDS
    found = _labelled(clients, "instances", fields, selector, place)
    return sorted(found, key=lambda item: (str(item["name"]), str(item["zone"])))


def disks(clients: Clients, selector: Selector, place: Place) -> list[dict[str, Any]]:
    """Return the selected disks as Google describes them, attached or not."""
    return _labelled(clients, "disks", _DISK_FIELDS, selector, place)


def _labelled(clients: Clients, kind: str, fields: str, selector: Selector, place: Place) -> list[dict[str, Any]]:
    shown = f"items/*/{kind}({fields}),{_COMPLETENESS}"
    found = clients.aggregated(kind, place, filter=label_filter(selector), fields=shown)
    return [item for item in found if item.get("zone") and selector.region in (None, region_of(zone_of(item)))]


def zone_of(item: dict[str, Any]) -> str:
    """Return the zone of an instance or disk."""
    return last_segment(item["zone"])


def to_node(item: dict[str, Any], part: Part | None = None, *, with_health: bool = False) -> Node:
    """Return the node that Google describes; what only the launch knows (price, accelerators) comes from `part`.

    With `with_health`, an instance with a fault is IMPAIRED.
    """
    zone = zone_of(item)
    interface = (item.get("networkInterfaces") or [{}])[0]
    public = [config.get("natIP") for config in interface.get("accessConfigs") or ()]
    state = _STATES.get(str(item.get("status")), NodeState.PENDING)
    fault = instance_fault(item) if with_health else None
    is_spot = (item.get("scheduling") or {}).get("provisioningModel") == "SPOT"
    attached, count = _attached(item)
    # A spot instance that is stopped was preempted, or has stopped itself at the end of its lease; either way it does not come back.
    is_preempted = is_spot and state in (NodeState.STOPPED, NodeState.STOPPING)
    return Node(
        id=str(item["name"]),
        rank=-1,
        provider="gcp",
        instance_type=last_segment(item.get("machineType", "")),
        region=region_of(zone),
        zone=zone,
        state=NodeState.IMPAIRED if fault else state,
        private_ip=interface.get("networkIP") or None,
        public_ip=next((address for address in public if address), None),
        accelerators=part.offer.instance.accelerators if part else count,
        hourly_cost=part.offer.hourly_cost if part else 0.0,
        token=tags_of(item.get("labels")).get(TAG_ATTEMPT, ""),
        reason=fault or _reason(item, state, is_preempted=is_preempted),
        cause="preemption" if is_preempted else "",
        is_spot=is_spot,
        attached=attached,
    )


def _attached(item: dict[str, Any]) -> tuple[str, float]:
    """Return the accelerator that is attached to an instance, and how many; "" if they are part of its machine type."""
    for listed in item.get("guestAccelerators") or ():
        if name := _NAMES_OF_ATTACHED.get(last_segment(listed.get("acceleratorType", ""))):
            return name, float(listed.get("acceleratorCount") or 0)
    return "", 0.0


def _reason(item: dict[str, Any], state: NodeState, *, is_preempted: bool) -> str | None:
    if state in (NodeState.PENDING, NodeState.RUNNING):
        return None
    if is_preempted:
        return f"{PREEMPTED}: the spot instance is {str(item.get('status')).lower()}"
    return f"{item.get('status')}: {item.get('statusMessage') or 'the instance does not run'}"


def pending_node(node_id: str, request: LaunchRequest, part: Part) -> Node:
    """Return a node that Google has accepted and may not list yet."""
    offer = part.offer
    return Node(
        id=node_id,
        rank=-1,
        provider="gcp",
        instance_type=offer.instance_type,
        region=offer.region,
        zone=offer.zone,
        state=NodeState.PENDING,
        accelerators=offer.instance.accelerators,
        hourly_cost=offer.hourly_cost,
        token=request.token,
    )


def instance_resource(item: dict[str, Any]) -> Resource:
    """Return an instance as a resource; one that is stopping or stopped is not billed, but its disk is."""
    is_billed = _STATES.get(str(item.get("status")), NodeState.PENDING) in (NodeState.PENDING, NodeState.RUNNING)
    return _resource("instance", item, region_of(zone_of(item)), tags_of(item.get("labels")), billable=is_billed)


def disk_resource(item: dict[str, Any]) -> Resource:
    """Return a disk as a resource."""
    return _resource("disk", item, region_of(zone_of(item)), tags_of(item.get("labels")), billable=True)


def dependents(clients: Clients, selector: Selector, place: Place) -> list[Resource]:
    """Return the firewall rules and placement policies of the selected clusters.

    They belong to the cluster and not to an attempt: a selector with a token selects none. They can't have labels, so their tags are in
    their descriptions.
    """
    if selector.token is not None:
        return []
    found: list[Resource] = []
    for page in clients.pages(clients.compute_url("global", "firewalls"), "firewalls.list", place, maxResults=PAGE):
        for item in page.get("items", ()):
            tags = described_tags(item.get("description"))
            name = str(item["name"])
            region = name.removeprefix(f"{resource_name(tags.get(TAG_ID, ''))}-").removesuffix("-ssh")
            found.append(_resource("firewall", item, region, tags))
    for item in clients.aggregated("resourcePolicies", place):
        tags = described_tags(item.get("description"))
        found.append(_resource("resource-policy", item, last_segment(item.get("region", "")), tags))
    return [item for item in found if _is_dependent(item, selector)]


def _is_dependent(item: Resource, selector: Selector) -> bool:
    """Return whether a resource is ours, by its description and its name: a description alone may have been copied (I9)."""
    is_ours = is_selected(item.tags, selector) and item.id.startswith(resource_name(item.tags[TAG_ID]))
    return is_ours and selector.region in (None, item.region)


def _resource(
    kind: str, item: dict[str, Any], region: str, tags: dict[str, str], *, billable: bool = False
) -> Resource:
    return Resource("gcp", kind, str(item["name"]), region, billable, tags)
