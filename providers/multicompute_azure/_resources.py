"""Lists everything of ours that exists, whatever its kind, by Resource Manager's own listings."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

from multicompute.provider import TAG_ATTEMPT, TAG_ID, TAG_OWNER, Resource, Selector
from multicompute.provider_kit.calls import in_parallel
from multicompute.provider_kit.tags import selected_tags
from multicompute.provider_kit.vendor_errors import Place
from multicompute_azure._names import group_name, parse_id, plain_region
from multicompute_azure._session import Clients
from multicompute_azure._tags import are_selected, tag_filter

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
# With more groups than this, one listing of the complete subscription needs fewer calls than one of each group.
_MANY_GROUPS: Final = 16


def resources(clients: Clients, selector: Selector) -> tuple[Resource, ...]:
    """Return everything selected that still exists, see `Provider.resources`."""
    place, configured = clients.place_of(selector), clients.settings.resource_group
    if configured is None and selector.token is None:
        groups = owned_groups(clients, selector)
        items = _in_groups(clients, [str(item["name"]) for item in groups], place)
        # Everything in a cluster's own group is deleted with it, so it is listed whether or not it has tags.
        return tuple(_resource(clients, item) for item in [*groups, *items])
    if configured is not None:
        names = [configured]
    elif selector.cluster_id is not None and selector.region is not None:
        names = [str(item["name"]) for item in owned_groups(clients, selector)]
    else:
        names = _groups_of_attempt(clients, selector, place)
    items = _in_groups(clients, names, place)
    return tuple(_resource(clients, item) for item in items if _is_selected(item, selector))


def owned_groups(clients: Clients, selector: Selector) -> list[Any]:
    """Return the resource groups that were created for the selected clusters; none if one is configured for everything."""
    if clients.settings.resource_group is not None:
        return []
    place = clients.place_of(selector)
    # A group has the tag of the attempt that created it, so it can't be found by another attempt of the cluster.
    cluster = replace(selector, token=None, node_ids=())
    if selector.cluster_id is not None and selector.region is not None:
        group = find_group(clients, group_name(selector.cluster_id, selector.region), place)
        return [group] if group is not None and _is_selected(group, cluster) else []
    listed: list[Any] = list(
        clients.list_all("resourceGroups.list", place, "resourceGroups", _filter=_narrowest(cluster))
    )
    # A listing filtered by a tag may leave the tags out; then each group is read by its name.
    listed = [item if item.get("tags") else find_group(clients, str(item["name"]), place) or item for item in listed]
    return [item for item in listed if _is_selected(item, cluster)]


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


def _narrowest(selector: Selector) -> str:
    """Return the filter by the tag that leaves the fewest resources: Resource Manager filters by one tag only."""
    wanted = selected_tags(selector)
    name = next((name for name in (TAG_ATTEMPT, TAG_ID, TAG_OWNER) if name in wanted), TAG_ID)
    return tag_filter(name, wanted.get(name))
