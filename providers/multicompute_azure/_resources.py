"""Lists everything of ours that exists, whatever its kind, by Resource Manager's own listings."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Final

from multicompute.node import Node, NodeState
from multicompute.provider import TAG_ATTEMPT, TAG_ID, TAG_OWNER, Resource, Selector
from multicompute.provider_kit.calls import in_parallel
from multicompute.provider_kit.tags import selected_tags
from multicompute.provider_kit.vendor_errors import Place
from multicompute_azure._fabric import is_kept
from multicompute_azure._list import listed_nodes, named_tokens, nodes_of, scale_sets
from multicompute_azure._names import (
    dependent_names,
    group_name,
    is_resource_id,
    parse_id,
    plain_region,
    set_names,
    token_of,
    zone_name,
)
from multicompute_azure._session import Clients
from multicompute_azure._sets import ScaleSet
from multicompute_azure._tags import are_selected, has_tag, tag_filter

# The kind of each type, and whether it is billed by itself. Types in lower case, because Azure does not keep to one spelling.
_KINDS: Final[Mapping[str, tuple[str, bool]]] = {
    "": ("resource-group", False),
    "microsoft.compute/virtualmachines": ("virtual-machine", True),
    "microsoft.compute/virtualmachinescalesets": ("scale-set", False),
    "microsoft.compute/disks": ("disk", True),
    "microsoft.compute/proximityplacementgroups": ("proximity-placement-group", False),
    "microsoft.network/publicipaddresses": ("public-ip-address", True),
    "microsoft.network/networkinterfaces": ("network-interface", False),
    "microsoft.network/networksecuritygroups": ("network-security-group", False),
    "microsoft.network/virtualnetworks": ("virtual-network", False),
}
# These belong to the cluster, and not to the attempt that created them.
_OF_THE_CLUSTER: Final = frozenset(
    {"resource-group", "proximity-placement-group", "network-security-group", "virtual-network"}
)
_AT_ONCE: Final = 8
_ZONES: Final = ("1", "2", "3")
# With more groups than this, one listing of the complete subscription needs fewer calls than one of each group.
_MANY_GROUPS: Final = 16


def resources(clients: Clients, selector: Selector) -> tuple[Resource, ...]:
    """Return everything selected that still exists, see `Provider.resources`."""
    place, configured = clients.place_of(selector), clients.settings.resource_group
    if selector.only:
        return machines_of(clients, selector)
    if configured is None and selector.token is None:
        groups = owned_groups(clients, selector)
        items = _in_groups(clients, [str(item["name"]) for item in groups], place)
        # Everything in a cluster's own group is deleted with it, so it is listed whether or not it has tags.
        own = _with_instances(clients, selector, [_resource(clients, item) for item in [*groups, *items]])
        return (*own, *elsewhere(clients, selector))
    if configured is not None:
        names = [configured]
    elif selector.cluster_id is not None and selector.region is not None:
        names = [str(item["name"]) for item in owned_groups(clients, selector)]
    else:
        names = _groups_of_attempt(clients, selector, place)
    own = [_resource(clients, item) for item in filter(_ours(selector), _in_groups(clients, names, place))]
    return (*_with_instances(clients, selector, own), *elsewhere(clients, selector))


def machines_of(clients: Clients, selector: Selector) -> tuple[Resource, ...]:
    """Return the selected machines that exist, by their own listings and not by those of their group."""
    nodes = [node for node in listed_nodes(clients, selector) if node.state is not NodeState.GONE]
    return tuple(Resource("azure", "virtual-machine", node.id, node.region, billable=True) for node in nodes)


def _with_instances(clients: Clients, selector: Selector, found: list[Resource]) -> list[Resource]:
    """Return `found` with the instances of Uniform scale sets, which Resource Manager does not list.

    A scale set that other launches share is no resource of the selected one: only its instances are.
    """
    if selector.token is None and not any(item.kind == "scale-set" for item in found):
        return found
    for scale_set in scale_sets(clients, selector):
        if not scale_set.is_uniform:
            continue
        nodes = [node for node in nodes_of(clients, scale_set) if node.state is not NodeState.GONE]
        if selector.token is not None and scale_set.is_shared:
            if is_kept(scale_set, nodes, selector.token):
                found = [item for item in found if item.id.lower() != scale_set.id.lower()]
            nodes = [node for node in nodes if node.token == selector.token]
        found = found + [_instance(node, scale_set) for node in nodes]
    return found


def _instance(node: Node, scale_set: ScaleSet) -> Resource:
    """Return an instance of a Uniform scale set as a resource, with the tags of the scale set and its own token."""
    tags = {**scale_set.tags, TAG_ATTEMPT: node.token} if scale_set.tags else {}
    is_billed = node.is_billed or node.state is not NodeState.STOPPED
    return Resource("azure", "virtual-machine", node.id, node.region, is_billed, tags)


def elsewhere(clients: Clients, selector: Selector) -> tuple[Resource, ...]:
    """Return the known machines that are not in the cluster's group: the setting `resource_group` has changed since their launch."""
    usual = clients.settings.resource_group or group_name(selector.cluster_id or "", selector.region or "")
    known = [name for name in selector.known_ids if is_resource_id(name)]
    moved = tuple(name for name in known if parse_id(name).group.lower() != usual.lower())
    if not moved or selector.cluster_id is None or selector.region is None:
        return ()
    return machines_of(clients, Selector(region=selector.region, cluster_id=selector.cluster_id, only=moved))


def named_resources(clients: Clients, selector: Selector) -> list[Resource]:
    """Return what is named from one of the tokens of `selector`, or from its cluster, in the cluster's group."""
    if selector.cluster_id is None or selector.region is None:
        return []
    group = clients.settings.resource_group or group_name(selector.cluster_id, selector.region)
    names = set_names(named_tokens(selector))
    dependent = _dependent_names(selector)
    found = [_resource(clients, item) for item in _in_groups(clients, [group], clients.place_of(selector))]
    return [
        item
        for item in found
        if item.region == selector.region
        and (token_of(parse_id(item.id).name, names) or parse_id(item.id).name.lower() in dependent)
    ]


def owned_groups(clients: Clients, selector: Selector) -> list[Any]:
    """Return the resource groups that were created for the selected clusters; none if one is configured for everything."""
    if clients.settings.resource_group is not None:
        return []
    place = clients.place_of(selector)
    # A group has the tag of the attempt that created it, so it can't be found by another attempt of the cluster.
    cluster = replace(selector, token=None, node_ids=())
    if selector.cluster_id is not None and selector.region is not None:
        group = find_group(clients, group_name(selector.cluster_id, selector.region), place)
        if group is None or not (_is_selected(group, cluster) or _holds_ours(clients, group, selector, place)):
            return []
        return [group]
    listed: list[Any] = list(
        clients.list_all("resourceGroups.list", place, "resourceGroups", _filter=_narrowest(cluster))
    )
    # A listing filtered by a tag may leave the tags out; then each group is read by its name.
    listed = [item if item.get("tags") else find_group(clients, str(item["name"]), place) or item for item in listed]
    return [item for item in listed if _is_selected(item, cluster)]


def _holds_ours(clients: Clients, group: Any, selector: Selector, place: Place) -> bool:
    """Return whether a group of a cluster's name, whose tags were removed or replaced, contains a resource of the cluster.

    Its name alone proves nothing (I9). What is in it has the cluster's tags, or the name of an attempt of the cluster.
    """
    if selector.region != plain_region(group.get("location")) or has_tag(group.get("tags") or {}, TAG_ID):
        return False
    if selector.tokens and is_being_deleted(group):
        # What was in it may be gone already, and nothing more is done to it.
        return True
    is_ours = _ours(replace(selector, token=None))
    return any(map(is_ours, _in_groups(clients, [str(group["name"])], place)))


def find_group(clients: Clients, name: str, place: Place) -> dict[str, Any] | None:
    """Return a resource group by its name, or None if it does not exist."""
    return clients.find("resourceGroups.get", place, f"resourceGroups/{name}")


def is_being_deleted(group: Any) -> bool:
    """Return whether the deletion of a resource group has begun."""
    return str((group.get("properties") or {}).get("provisioningState") or "").lower() == "deleting"


def _groups_of_attempt(clients: Clients, selector: Selector, place: Place) -> list[str]:
    """Return the groups that contain a resource of an attempt. A listing filtered by a tag has no tags, so it only serves to find them."""
    listed = clients.list_all("resources.list", place, "resources", _filter=_narrowest(selector))
    return sorted({parse_id(str(item["id"])).group.lower() for item in listed})


def _in_groups(clients: Clients, names: list[str], place: Place) -> list[Any]:
    """Return the content of groups."""

    def in_group(name: str) -> list[Any]:
        return list(clients.list_all("resources.listByResourceGroup", place, f"resourceGroups/{name}/resources"))

    if len(names) > _MANY_GROUPS:
        listed = clients.list_all("resources.list", place, "resources")
        wanted = {name.lower() for name in names}
        return [item for item in listed if parse_id(str(item["id"])).group.lower() in wanted]
    return [item for found in in_parallel(in_group, names, at_once=_AT_ONCE) for item in found]


def _resource(clients: Clients, item: Any) -> Resource:
    own_id = clients.canonical(item["id"])
    kind, is_billable = _kind(own_id)
    region = plain_region(item.get("location"))
    return Resource("azure", kind, own_id, region, is_billable, dict(item.get("tags") or {}))


def _kind(resource_id: str) -> tuple[str, bool]:
    own = parse_id(resource_id).type
    return _KINDS.get(own.lower(), (own, False))


def _is_selected(item: Any, selector: Selector) -> bool:
    if selector.region not in (None, plain_region(item.get("location"))):
        return False
    if selector.token is not None and _kind(str(item["id"]))[0] in _OF_THE_CLUSTER:
        return False
    return are_selected(item.get("tags") or {}, selector)


def _ours(selector: Selector) -> Callable[[Any], bool]:
    """Return the test for what is selected by its tags, by a name that an attempt gave it, or by its id."""
    names = set_names(named_tokens(selector))
    known = {name.lower() for name in (*selector.known_ids, *selector.node_ids)}
    dependent = _dependent_names(selector) if selector.tokens and selector.token is None else set()

    def is_ours(item: Any) -> bool:
        if _is_selected(item, selector):
            return True
        if selector.region not in (None, plain_region(item.get("location"))):
            return False
        name = parse_id(str(item["id"])).name.lower()
        return bool(token_of(name, names)) or name in dependent or str(item["id"]).lower() in known

    return is_ours


def _dependent_names(selector: Selector) -> set[str]:
    """Return the names of the dependent resources of the selected cluster in the selected region, of which the ledger has an attempt."""
    if selector.cluster_id is None or selector.region is None:
        return set()
    zones = [zone_name(selector.region, number) for number in _ZONES]
    return dependent_names(selector.cluster_id, (selector.region, *zones))


def _narrowest(selector: Selector) -> str:
    """Return the filter by the tag that leaves the fewest resources: Resource Manager filters by one tag only."""
    wanted = selected_tags(selector)
    name = next((name for name in (TAG_ATTEMPT, TAG_ID, TAG_OWNER) if name in wanted), TAG_ID)
    return tag_filter(name, wanted.get(name))
