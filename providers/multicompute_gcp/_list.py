"""Lists what is ours, by label, description or name, with one listing over all zones for each kind of resource."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any, Final

from multicompute.node import Node, NodeState
from multicompute.offer import Part
from multicompute.provider import TAG_ATTEMPT, TAG_ID, LaunchRequest, Resource, Selector
from multicompute.provider_kit.calls import batches
from multicompute.provider_kit.seam import unlisted
from multicompute.provider_kit.tags import is_selected as has_selected_tags
from multicompute.provider_kit.vendor_errors import Place
from multicompute_gcp._groups import queued_nodes
from multicompute_gcp._groups import resources as group_resources
from multicompute_gcp._health import instance_fault
from multicompute_gcp._names import attempt_pattern, last_segment, region_of, resource_name, token_of
from multicompute_gcp._operations import PREEMPTED, ended_nodes, preemptions
from multicompute_gcp._session import PAGE, Clients
from multicompute_gcp._tags import described_tags, is_selected, label_filter, tags_of

# https://docs.cloud.google.com/compute/docs/instances/instance-lifecycle and the enum of `Instance.status` in the discovery document of
# compute.v1. TERMINATED is "stopped (either by explicit action or underlying failure)": it can be started again, and has its disks, as
# SUSPENDED has. STOPPING is "either being deleted or killed": the next listing shows which. An instance that is deleted is in no listing.
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
    "name,zone,status,statusMessage,machineType,labels,labelFingerprint,description,lastStartTimestamp,deletionProtection,"
    "scheduling(provisioningModel),guestAccelerators,networkInterfaces(networkIP,accessConfigs(natIP))"
)
_HEALTH_FIELDS: Final = f"{_NODE_FIELDS},resourceStatus(upcomingMaintenance)"
_EXPIRY_FIELDS: Final = f"{_NODE_FIELDS},metadata,resourceStatus(scheduling)"
_DISK_FIELDS: Final = "name,zone,users,labels,labelFingerprint,description,status"
# Names in one filter, whose length is limited by that of a URL.
_NAMES_AT_ONCE: Final = 50
# What shows whether a listing is complete.
_COMPLETENESS: Final = "items/*/warning/code,nextPageToken,unreachables"


def nodes(clients: Clients, selector: Selector, place: Place) -> list[Node]:
    """Return the selected instances in a stable order, and those known by id that are known to have been preempted or refused."""
    items = instances(clients, selector, place)
    found = [_selected_node(item, selector) for item in items]
    found = _with_preemptions(clients, found, items, place)
    listed = {node.id for node in found}
    known = [name for name in (*selector.known_ids, *selector.only) if name not in listed]
    missing = [node_id for node_id in (*unlisted(selector, listed), *known) if "/" not in node_id]
    if not missing and (found or selector.token is None):
        return found
    found += queued_nodes(clients, selector, listed, place)
    listed |= {node.id for node in found}
    missing = [name for name in missing if name not in listed]
    return found + (ended_nodes(clients, missing, selector, place) if missing else [])


def _selected_node(item: dict[str, Any], selector: Selector) -> Node:
    node = to_node(item, with_health=selector.with_health)
    if has_tags(item, selector):
        return node
    return replace(node, is_tagged=False, token=token_of(node.id, selector.tokens))


def has_tags(item: Mapping[str, Any], selector: Selector) -> bool:
    """Return whether the labels of an instance or disk select it; otherwise it was found by its name."""
    return is_selected(item.get("labels") or {}, item.get("description"), selector)


def _with_preemptions(clients: Clients, found: list[Node], items: list[dict[str, Any]], place: Place) -> list[Node]:
    """Return the nodes; those that Google has preempted have the cause "preemption".

    A spot instance that does not run may also have been stopped by a user, so its operations decide
    (https://cloud.google.com/compute/docs/instances/create-use-spot#preemption-detection).
    """
    down = (NodeState.STOPPED, NodeState.STOPPING)
    if not any(node.is_spot and node.state in down for node in found):
        return found
    ended = preemptions(clients, place)

    def checked(node: Node, item: dict[str, Any]) -> Node:
        at, started = ended.get((node.zone, node.id)), item.get("lastStartTimestamp")
        is_since_start = at is not None and (not started or at >= datetime.fromisoformat(str(started)))
        if not (node.is_spot and node.state in down and is_since_start):
            return node
        text = f"{PREEMPTED}: the spot instance is {str(item.get('status')).lower()}"
        return replace(node, cause="preemption", reason=text)

    return [checked(node, item) for node, item in zip(found, items, strict=True)]


def resources(clients: Clients, selector: Selector, place: Place) -> list[Resource]:
    """Return the selected instances, disks, managed instance groups, firewall rules and placement policies."""
    found = [instance_resource(item) for item in instances(clients, selector, place)]
    found += [disk_resource(item) for item in disks(clients, selector, place)]
    found += group_resources(clients, selector, place)
    return found + dependents(clients, selector, place)


def instances(clients: Clients, selector: Selector, place: Place, *, for_expiry: bool = False) -> list[dict[str, Any]]:
    """Return the selected instances as Google describes them, in the order of their names and zones."""
    fields = _EXPIRY_FIELDS if for_expiry else _HEALTH_FIELDS if selector.with_health else _NODE_FIELDS
    found = _selected(clients, "instances", fields, selector, place)
    return sorted(found, key=lambda item: (str(item["name"]), str(item["zone"])))


def disks(clients: Clients, selector: Selector, place: Place) -> list[dict[str, Any]]:
    """Return the selected disks as Google describes them, attached or not. A boot disk has the name of its instance."""
    return _selected(clients, "disks", _DISK_FIELDS, selector, place)


def _selected(clients: Clients, kind: str, fields: str, selector: Selector, place: Place) -> list[dict[str, Any]]:
    """Return what is selected: by label and, if these do not show everything that the caller knows, by name as well."""
    if selector.only:
        return _by_name(clients, kind, fields, selector.only, selector, place)
    listed = _filtered(clients, kind, fields, label_filter(selector), selector, place)
    found = [item for item in listed if has_tags(item, selector)]
    names = {str(item["name"]) for item in found}
    missing = [name for name in selector.known_ids if name not in names]
    if not missing and found:
        return found
    patterns = [attempt_pattern(token) for token in selector.tokens]
    missing = [name for name in missing if not token_of(name, selector.tokens)]
    return found + [
        item
        for item in _by_name(clients, kind, fields, [*patterns, *missing], selector, place)
        if not has_tags(item, selector)
    ]


def _by_name(
    clients: Clients, kind: str, fields: str, names: Iterable[str], selector: Selector, place: Place
) -> list[dict[str, Any]]:
    """Return what has one of the names, or matches one of the regular expressions, whatever its labels are."""
    wanted = [name for name in dict.fromkeys(names) if "/" not in name]
    return [
        item
        for batch in batches(wanted, _NAMES_AT_ONCE)
        for item in _filtered(clients, kind, fields, f'name eq "({"|".join(batch)})"', selector, place)
    ]


def _filtered(
    clients: Clients, kind: str, fields: str, wanted: str, selector: Selector, place: Place
) -> list[dict[str, Any]]:
    shown = f"items/*/{kind}({fields}),{_COMPLETENESS}"
    found = clients.aggregated(kind, place, filter=wanted, fields=shown)
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
        token=_tags(item).get(TAG_ATTEMPT, ""),
        reason=fault or _reason(item, state),
        is_spot=is_spot,
        attached=attached,
    )


def _attached(item: dict[str, Any]) -> tuple[str, float]:
    """Return the accelerator that is attached to an instance, and how many; "" if they are part of its machine type."""
    for listed in item.get("guestAccelerators") or ():
        if name := _NAMES_OF_ATTACHED.get(last_segment(listed.get("acceleratorType", ""))):
            return name, float(listed.get("acceleratorCount") or 0)
    return "", 0.0


def _tags(item: Mapping[str, Any]) -> dict[str, str]:
    return tags_of(item.get("labels"), item.get("description"))


def _reason(item: dict[str, Any], state: NodeState) -> str | None:
    if state in (NodeState.PENDING, NodeState.RUNNING):
        return None
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
    return _resource("instance", item, region_of(zone_of(item)), _tags(item), billable=is_billed)


def disk_resource(item: dict[str, Any]) -> Resource:
    """Return a disk as a resource."""
    return _resource("disk", item, region_of(zone_of(item)), _tags(item), billable=True)


def dependents(clients: Clients, selector: Selector, place: Place) -> list[Resource]:
    """Return the firewall rules and placement policies of the selected clusters.

    They belong to the cluster and not to an attempt: a selector with a token selects none. They can't have labels, so their tags are in
    their descriptions.
    """
    if selector.token is not None or selector.only:
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
    is_ours = has_selected_tags(item.tags, selector) and item.id.startswith(resource_name(item.tags[TAG_ID]))
    return is_ours and selector.region in (None, item.region)


def _resource(
    kind: str, item: dict[str, Any], region: str, tags: dict[str, str], *, billable: bool = False
) -> Resource:
    return Resource("gcp", kind, str(item["name"]), region, billable, tags)
