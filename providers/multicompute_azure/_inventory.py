"""Lists everything of ours that exists, whatever its kind, by Resource Manager's own listings."""

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any, Final

from multicompute.provider import TAG_ATTEMPT, TAG_ID, TAG_OWNER, Resource, Selector
from multicompute_azure._errors import Place
from multicompute_azure._names import canonical, group_name, parse_id, plain_region
from multicompute_azure._session import Clients
from multicompute_azure._tags import are_meant, tag_filter

# What a resource of each type is called, and whether it costs money by itself. Types in lower case: Azure does not keep to one spelling.
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
# These belong to the cluster, and not to the attempt that happened to make them.
_OF_THE_CLUSTER: Final = frozenset(
    {"resource-group", "proximity-placement-group", "network-security-group", "virtual-network"}
)
_AT_ONCE: Final = 8
# With more groups than this one listing of the whole subscription costs fewer calls than one of each group.
_MANY_GROUPS: Final = 16


class Inventory:
    """Asks Resource Manager for what a selector means."""

    def __init__(self, clients: Clients) -> None:
        self._clients = clients
        self._configured = clients.settings.resource_group

    def resources(self, selector: Selector) -> list[Resource]:
        """Everything selected that still exists."""
        place = self._place(selector)
        if self._configured is not None:
            items = self._in_group(self._configured, place)
            return [self._resource(item) for item in items if _is_wanted(item, selector)]
        if selector.token is not None and (selector.cluster_id is None or selector.region is None):
            names = self._groups_of_attempt(selector, place)
            return [self._resource(item) for item in self._in_groups(names, place) if _is_wanted(item, selector)]
        groups = self.groups(selector)
        items = self._in_groups([str(item["name"]) for item in groups], place)
        if selector.token is not None:
            return [self._resource(item) for item in items if _is_wanted(item, selector)]
        # Whatever is in a cluster's own group goes with it, so that it is shown whether or not it is tagged.
        return [self._resource(item) for item in [*groups, *items]]

    def groups(self, selector: Selector) -> list[Any]:
        """The resource groups made for the selected clusters; none where all goes into a given one."""
        place = self._place(selector)
        # A group has the tag of whichever attempt made it, so that the attempt can't be what it is looked for by.
        cluster = replace(selector, token=None, node_ids=())
        if self._configured is not None:
            return []
        if selector.cluster_id is not None and selector.region is not None:
            group = self.group(group_name(selector.cluster_id, selector.region), place)
            return [group] if group is not None and _is_wanted(group, cluster) else []
        listed: list[Any] = list(
            self._clients.pages("list the resource groups", place, "resourceGroups", _filter=_narrowest(cluster))
        )
        # A listing filtered by a tag may leave the tags out; what is not shown is asked for.
        listed = [item if item.get("tags") else self.group(str(item["name"]), place) or item for item in listed]
        return [item for item in listed if _is_wanted(item, cluster)]

    def group(self, name: str, place: Place) -> Any:
        """A resource group by name, None where there is none."""
        return self._clients.get("look at the resource group", place, f"resourceGroups/{name}")

    def _groups_of_attempt(self, selector: Selector, place: Place) -> list[str]:
        """The groups that an attempt has something in. A listing filtered by a tag shows no tags, so that it only serves to find them."""
        listed = self._clients.pages(
            "list the resources of the attempt", place, "resources", _filter=_narrowest(selector)
        )
        return sorted({parse_id(str(item["id"])).group.lower() for item in listed})

    def _in_groups(self, names: list[str], place: Place) -> list[Any]:
        if len(names) <= 1:
            return [item for name in names for item in self._in_group(name, place)]
        if len(names) > _MANY_GROUPS:
            listed = self._clients.pages("list the resources", place, "resources")
            wanted = {name.lower() for name in names}
            return [item for item in listed if parse_id(str(item["id"])).group.lower() in wanted]
        with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="multicompute-azure") as pool:
            return [item for found in pool.map(lambda name: self._in_group(name, place), names) for item in found]

    def _in_group(self, name: str, place: Place) -> list[Any]:
        return list(self._clients.pages("list the resources of the group", place, f"resourceGroups/{name}/resources"))

    def _resource(self, item: Any) -> Resource:
        own_id = canonical(str(item["id"]), self._configured)
        kind = parse_id(own_id).type
        name, billable = _KINDS.get(kind.lower(), (kind, False))
        return Resource(
            "azure", name, own_id, plain_region(item.get("location")), billable, dict(item.get("tags") or {})
        )

    def _place(self, selector: Selector) -> Place:
        return Place(selector.region or self._clients.settings.home_region)


def _is_wanted(item: Any, selector: Selector) -> bool:
    if selector.region not in (None, plain_region(item.get("location"))):
        return False
    if selector.token is not None:
        kind, _ = _KINDS.get(parse_id(str(item["id"])).type.lower(), ("", False))
        if kind in _OF_THE_CLUSTER:
            return False
    return are_meant(item.get("tags") or {}, selector)


def _narrowest(selector: Selector) -> str:
    """Resource Manager filters by one tag: the one that leaves the least."""
    for name, value in ((TAG_ATTEMPT, selector.token), (TAG_ID, selector.cluster_id), (TAG_OWNER, selector.owner)):
        if value is not None:
            return tag_filter(name, value)
    return tag_filter(TAG_ID)
