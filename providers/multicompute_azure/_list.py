"""Lists our scale sets and their instances, by tag and by name, to the last page."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any, Final

from multicompute.node import Cause, Node, NodeState
from multicompute.provider import TAG_ATTEMPT, TAG_ID, Selector
from multicompute.provider_kit.calls import in_parallel
from multicompute.provider_kit.vendor_errors import Place, VendorAnswer, cause_of, one_line
from multicompute_azure._addresses import Addresses
from multicompute_azure._errors import MEANINGS, PARTIAL
from multicompute_azure._health import with_health
from multicompute_azure._names import (
    group_name,
    instance_node_id,
    is_resource_id,
    parse_id,
    plain_region,
    set_names,
    token_of,
    zone_name,
)
from multicompute_azure._session import Clients, path_of
from multicompute_azure._sets import MACHINES, SCALE_SETS, ScaleSet, find_scale_set, scale_set_of
from multicompute_azure._tags import are_selected, has_tag
from multicompute_azure._uniform import instances

_AT_ONCE: Final = 8
# With more scale sets than this, listings of the complete subscription need fewer calls than one for each.
_MANY_SETS: Final = 16
_REASON_LENGTH: Final = 400
# "States and billing status of Azure Virtual Machines": every power state. One that is stopped, by its own system or by `az vm stop`, keeps its
# host and is billed as if it ran; only one that is deallocated is not. A hibernated machine is deallocated, too.
_POWER: Final = {
    "creating": NodeState.PENDING,
    "starting": NodeState.PENDING,
    "running": NodeState.RUNNING,
    "stopping": NodeState.STOPPING,
    "stopped": NodeState.STOPPED,
    "deallocating": NodeState.STOPPING,
    "deallocated": NodeState.STOPPED,
    "hibernating": NodeState.STOPPING,
    "hibernated": NodeState.STOPPED,
}
_BILLED: Final = "stopped"
_BILLED_REASON: Final = (
    "it was shut down and not deallocated, so Azure bills it as if it ran; `az vm deallocate` ends that"
)
_NOT_UP: Final = ("OSProvisioning", "VMProvisioning")
_TOO_FEW: Final = VendorAnswer(PARTIAL, "the scale set failed with fewer instances than were requested")


def nodes(clients: Clients, addresses: Addresses, selector: Selector) -> tuple[Node, ...]:
    """Return the selected nodes, see `Provider.nodes`.

    It takes one listing of scale sets, one of instances for each, one of addresses while some are not known, and one of Azure's own
    findings if `selector` asks for health.
    """
    place = clients.place_of(selector)
    sets = scale_sets(clients, selector)
    found = _listed_nodes(clients, selector, sets)
    if not found:
        return ()
    if _lacks_group_tags(clients, selector, place):
        found = [replace(node, is_tagged=False) for node in found]
    owners = {(item.group.lower(), item.name.lower()) for item in sets if item.is_public}
    public = frozenset(node.id for node in found if tuple(map(str.lower, _scale_set_of(node.id))) in owners)
    found = addresses.added_to(found, place, public=public)
    return tuple(with_health(clients, found, place) if selector.with_health else found)


def listed_nodes(clients: Clients, selector: Selector) -> list[Node]:
    """Return the selected nodes in a stable order, without addresses and health."""
    return _listed_nodes(clients, selector, scale_sets(clients, selector))


def _listed_nodes(clients: Clients, selector: Selector, sets: list[ScaleSet]) -> list[Node]:
    if len(sets) > _MANY_SETS:
        machines = _all_instances(clients, selector)
        listed = in_parallel(lambda item: nodes_of(clients, item, machines), sets, at_once=_AT_ONCE)
    else:
        listed = in_parallel(lambda item: nodes_of(clients, item), sets, at_once=_AT_ONCE)
    found = [node for item, of_set in zip(sets, listed, strict=True) for node in _own(item, of_set, selector)]
    found += _by_id(clients, selector, {node.id.lower() for node in found})
    wanted = set(selector.only)
    return [node for node in found if node.id in wanted] if wanted else found


def _lacks_group_tags(clients: Clients, selector: Selector, place: Place) -> bool:
    """Return whether the tags of the cluster's own group were removed, by `az group update --tags` for example."""
    if clients.settings.resource_group is not None or not selector.tokens:
        return False
    if selector.cluster_id is None or selector.region is None:
        return False
    name = group_name(selector.cluster_id, selector.region)
    group = clients.find("resourceGroups.get", place, f"resourceGroups/{name}")
    return group is not None and not has_tag(group.get("tags") or {}, TAG_ID)


def _by_id(clients: Clients, selector: Selector, listed: set[str]) -> list[Node]:
    """Return the known machines that are in none of the listed scale sets any more, because a user has detached them."""
    wanted = {node_id.lower() for node_id in (*selector.known_ids, *selector.only)} - listed
    wanted = {node_id for node_id in wanted if is_resource_id(node_id) and parse_id(node_id).type == MACHINES.lower()}
    found: list[Node] = []
    place = clients.place_of(selector)
    for group in sorted({parse_id(node_id).group for node_id in wanted}):
        for item in list(clients.list_all("virtualMachines.list", place, path_of(group, MACHINES))):
            region = plain_region(item.get("location"))
            if str(item["id"]).lower() in wanted and selector.region in (None, region):
                found += _detached(clients, item, region, place)
    return found


def _detached(clients: Clients, item: Any, region: str, place: Place) -> list[Node]:
    named = parse_id(clients.canonical(item["id"]))
    path = path_of(named.group, MACHINES, named.name)
    full = clients.find("virtualMachines.get", place, path, _expand="instanceView")
    if full is None:
        return []
    priority = str((full.get("properties") or {}).get("priority") or "")
    tags = dict(full.get("tags") or {})
    alone = ScaleSet("", named.group, named.name, region, "", 0, "", priority == "Spot", tags)
    return [_node(clients, full, alone)]


def _own(scale_set: ScaleSet, found: list[Node], selector: Selector) -> list[Node]:
    """Return the nodes of the selected launch, where several launches share a scale set."""
    if selector.token is None or not scale_set.is_shared:
        return found
    return [node for node in found if node.token == selector.token]


def nodes_of(clients: Clients, scale_set: ScaleSet, machines: Mapping[str, list[Any]] | None = None) -> list[Node]:
    """Return the nodes of one scale set, in a stable order, without addresses, and the missing ones if it failed with fewer.

    Args:
        clients: The SDK's clients.
        scale_set: The scale set.
        machines: The machines of all Flexible scale sets, if they have been listed.
    """
    if scale_set.is_uniform:
        return _nodes(clients, scale_set, instances(clients, scale_set))
    if machines is not None:
        return _nodes(clients, scale_set, machines.get(scale_set.id.lower(), []))
    wanted = f"'virtualMachineScaleSet/id' eq '{scale_set.id}'"
    path = path_of(scale_set.group, MACHINES)
    place = scale_set.place
    listed = clients.list_all("virtualMachines.list", place, path, _filter=wanted, _expand="instanceView")
    return _nodes(clients, scale_set, listed)


# --- scale sets -------------------------------------------------------------------------------------------------------


def scale_sets(clients: Clients, selector: Selector) -> list[ScaleSet]:
    """Return the selected scale sets, ordered by region and name; those that no listing shows yet, by the ids of their instances."""
    found = {item.id: item for item in _listed(clients, selector)}
    known = (*selector.node_ids, *selector.known_ids, *selector.only)
    for group, name in sorted({_scale_set_of(node_id) for node_id in known}):
        if name and not any(item.name == name and item.group.lower() == group.lower() for item in found.values()):
            hidden = find_scale_set(clients, group, name, Place("azure", selector.region or ""))
            if hidden is not None and selector.region in (None, hidden.region):
                # Its name is in the id of a node of ours, so it is ours, whatever its tags are.
                found[hidden.id] = hidden
    return sorted(found.values(), key=lambda item: (item.region, item.name))


def _listed(clients: Clients, selector: Selector) -> list[ScaleSet]:
    place = clients.place_of(selector)
    group = clients.settings.resource_group
    if group is None and selector.cluster_id is not None and selector.region is not None:
        group = group_name(selector.cluster_id, selector.region)
    listed = clients.list_all("virtualMachineScaleSets.list", place, path_of(group, SCALE_SETS))
    names = set_names(named_tokens(selector))
    found = [scale_set_of(clients, item, token=token_of(str(item["name"]), names)) for item in listed]
    return [
        item
        for item in found
        if (item.token or _is_selected(item, selector)) and selector.region in (None, item.region)
    ]


def _is_selected(item: ScaleSet, selector: Selector) -> bool:
    """Return whether a scale set is selected by its tags; where several launches share it, it has the token of the first one."""
    return are_selected(item.tags, replace(selector, token=None) if item.joined else selector)


def named_tokens(selector: Selector) -> tuple[str, ...]:
    """Return the tokens by whose names resources are selected, in addition to those selected by tag."""
    return tuple(token for token in selector.tokens if selector.token in (None, token))


def _scale_set_of(node_id: str) -> tuple[str, str]:
    """Return the group and the name of the scale set that an instance is in; two "" if the id is not that of an instance."""
    try:
        named = parse_id(node_id)
    except ValueError:
        return ("", "")
    if named.type.lower() == SCALE_SETS.lower():
        return (named.group, named.name.partition("/")[0])
    return (named.group, named.name.rpartition("_")[0])


# --- instances --------------------------------------------------------------------------------------------------------


def _nodes(clients: Clients, scale_set: ScaleSet, items: Iterable[Any]) -> list[Node]:
    found = [_node(clients, item, scale_set) for item in sorted(items, key=lambda item: str(item["name"]))]
    failure = clients.launches.refresh(scale_set.id, scale_set.place)
    if failure is None and scale_set.state.lower() == "failed" and len(found) < scale_set.capacity:
        failure = _TOO_FEW
    if failure is None:
        return found
    reason, cause = _reason(failure), cause_of(MEANINGS, failure)
    # Of a scale set that was enlarged, only the last launch can have failed.
    explained = [
        node
        if node.state in (NodeState.PENDING, NodeState.RUNNING)
        or node.cause
        or scale_set.joined not in ("", node.token)
        else replace(node, reason=reason, cause=cause)
        for node in found
    ]
    return explained + _missing(scale_set, scale_set.capacity - len(found), reason, cause)


def _all_instances(clients: Clients, selector: Selector) -> dict[str, list[Any]]:
    """Return the instances of all scale sets, by scale set, in two listings: Azure reports their states in one of its own."""
    place, path = clients.place_of(selector), path_of(None, MACHINES)
    views = {
        str(item["id"]).lower(): (item.get("properties") or {}).get("instanceView")
        for item in clients.list_all("virtualMachines.listAll", place, path, statusOnly="true")
    }
    found: dict[str, list[Any]] = defaultdict(list)
    for item in clients.list_all("virtualMachines.listAll", place, path):
        properties = {**(item.get("properties") or {}), "instanceView": views.get(str(item["id"]).lower())}
        owner = (properties.get("virtualMachineScaleSet") or {}).get("id")
        if owner:
            found[clients.canonical(owner).lower()].append({**item, "properties": properties})
    return found


def _node(clients: Clients, item: Any, scale_set: ScaleSet) -> Node:
    properties = item.get("properties") or {}
    zones = item.get("zones") or ()
    tags = item.get("tags") or {}
    state, reason, cause = _state(properties, scale_set)
    is_billed = state is NodeState.STOPPED and _power_code(properties) == _BILLED
    own_id = clients.canonical(item["id"])
    if scale_set.is_uniform:
        # It has no tags of its own, see `_uniform`.
        own_id, tags = instance_node_id(own_id, str(properties.get("vmId") or "")), scale_set.tags
    return Node(
        id=own_id,
        rank=-1,
        provider="azure",
        instance_type=str((properties.get("hardwareProfile") or {}).get("vmSize") or scale_set.instance_type),
        region=scale_set.region,
        zone=zone_name(scale_set.region, str(zones[0]) if zones else ""),
        state=state,
        token=str(item.get("_token") or tags.get(TAG_ATTEMPT) or scale_set.own_token),
        reason=reason or (_BILLED_REASON if is_billed else None),
        cause=cause,
        is_spot=scale_set.is_spot,
        is_tagged=has_tag(tags, TAG_ID) and has_tag(scale_set.tags, TAG_ID),
        is_billed=is_billed,
    )


def _missing(scale_set: ScaleSet, count: int, reason: str, cause: Cause) -> list[Node]:
    """Return the instances that were requested and will not be created; without them a gang would look as if it was still starting."""
    return [
        Node(
            id=f"{scale_set.id}/missing/{index}",
            rank=-1,
            provider="azure",
            instance_type=scale_set.instance_type,
            region=scale_set.region,
            zone="",
            state=NodeState.GONE,
            token=scale_set.joined or scale_set.own_token,
            reason=reason,
            cause=cause,
        )
        for index in range(count)
    ]


# --- states -----------------------------------------------------------------------------------------------------------


def _state(properties: Any, scale_set: ScaleSet) -> tuple[NodeState, str | None, Cause]:
    """Return the state of an instance, with reason and cause, from its provisioning state and its power state."""
    statuses = (properties.get("instanceView") or {}).get("statuses") or ()
    provisioning = str(properties.get("provisioningState") or "").lower()
    power = _power(properties)
    if provisioning == "deleting":
        # We delete complete scale sets, and single instances only after they were replaced. Otherwise Azure has preempted a spot instance
        # that is deleted alone.
        if scale_set.is_spot and scale_set.state.lower() not in ("deleting", "failed"):
            return NodeState.STOPPING, "Evicted: Azure deletes the spot instance", "preemption"
        return NodeState.STOPPING, None, ""
    if provisioning == "failed":
        failure = _failure(statuses)
        if power is not NodeState.RUNNING or failure.code.startswith(_NOT_UP):
            return NodeState.STOPPED, _reason(failure), cause_of(MEANINGS, failure)
    if provisioning == "creating" or (provisioning == "updating" and power is None):
        return NodeState.PENDING, None, ""
    return power or NodeState.RUNNING, None, ""


def _power(properties: Any) -> NodeState | None:
    code = _power_code(properties)
    return _POWER.get(code, NodeState.PENDING) if code else None


def _power_code(properties: Any) -> str:
    """Return the power state in Azure's word, "" if it is not known."""
    for status in (properties.get("instanceView") or {}).get("statuses") or ():
        kind, _, value = str(status.get("code") or "").partition("/")
        if kind == "PowerState":
            return value.lower()
    return ""


def _failure(statuses: Iterable[Any]) -> VendorAnswer:
    """Return why an instance failed, from a status such as "ProvisioningState/failed/AllocationFailed"."""
    for status in statuses:
        parts = str(status.get("code") or "").split("/")
        if parts[0] == "ProvisioningState" and parts[1:2] == ["failed"]:
            code = parts[2] if len(parts) > 2 else "ProvisioningFailed"
            return VendorAnswer(code, str(status.get("message") or ""))
    return VendorAnswer("ProvisioningFailed", "Azure gives no reason")


def _reason(failure: VendorAnswer) -> str:
    return f"{failure.label}: {one_line(failure.message, _REASON_LENGTH)}"
