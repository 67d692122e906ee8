"""Names that follow from cluster and token, so that a resource can be found without a record of it; and resource ids."""

import hashlib
import re
from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple

_GROUP_LENGTH: Final = 90
_NAME_LENGTH: Final = 60
# Azure allows 64 for a scale set, and fewer where it names machines, interfaces and addresses after it.
_SET_LENGTH: Final = 44
# More parts than an attempt has: one for each zone and instance type of a region.
_MOST_PARTS: Final = 32
_DEPENDENT: Final = ("nsg", "vnet", "ppg")
_OF_A_SET: Final = re.compile(r"_.*|-(?:nic|ip)-.*")
_ID: Final = re.compile(
    r"/subscriptions/(?P<subscription>[^/]+)/resourceGroups/(?P<group>[^/]+)(?:/providers/(?P<type>[^/]+/[^/]+)/(?P<name>.+))?",
    re.IGNORECASE,
)


class ResourceId(NamedTuple):
    """The parts of a resource id; `type` and `name` are "" for a resource group."""

    subscription: str
    group: str
    type: str
    name: str


def parse_id(resource_id: str) -> ResourceId:
    """Return the parts of a resource id.

    Raises:
        ValueError: It is not a resource id.
    """
    found = _ID.fullmatch(resource_id)
    if found is None:
        raise ValueError(f"{resource_id!r} is not a resource id")
    return ResourceId(found["subscription"], found["group"], found["type"] or "", found["name"] or "")


def is_resource_id(text: str) -> bool:
    """Return whether `text` is the full id of a resource in a group, and not just a name."""
    found = _ID.fullmatch(text)
    return found is not None and found["type"] is not None


def instance_node_id(arm_id: str, vm_id: str) -> str:
    """Return the id of a node in a Uniform scale set: Azure gives the id of a deleted instance to a new one, but never its vmId."""
    return f"{arm_id}@{vm_id}" if vm_id else arm_id


def arm_id(node_id: str) -> str:
    """Return Resource Manager's id of a node."""
    return node_id.partition("@")[0]


def instance_number(node_id: str) -> tuple[str, str]:
    """Return the scale set and the instance id of a node in a Uniform scale set, two "" for any other machine."""
    name = parse_id(arm_id(node_id)).name
    owner, separator, number = name.partition("/virtualMachines/")
    return (owner, number) if separator else ("", "")


def group_name(cluster_id: str, region: str) -> str:
    """Return the name of a cluster's resource group in a region; in lower case, because Azure does not keep the case of group names."""
    return _fitting(f"multicompute-{cluster_id}-{region}", _GROUP_LENGTH)


def dependent_name(cluster_id: str, place: str, kind: str) -> str:
    """Return the name of a resource that a cluster has once per region or zone: its network, its security group, ..."""
    return _fitting(f"multicompute-{cluster_id}-{place}", _NAME_LENGTH) + f"-{kind}"


def scale_set_name(token: str, index: int) -> str:
    """Return the name of the scale set of the part with this index. Azure names the instances after it, with nine characters or more."""
    return _fitting(f"{token}-{index}", _SET_LENGTH)


def interface_name(set_name: str) -> str:
    """Return the name of the interfaces of a scale set's instances; Azure appends some characters."""
    return f"{set_name}-nic"


def set_names(tokens: Iterable[str]) -> dict[str, str]:
    """Return every name that a scale set of an attempt with one of these tokens can have, with its token."""
    return {scale_set_name(token, index): token for token in tokens for index in range(_MOST_PARTS)}


def token_of(name: str, names: Mapping[str, str]) -> str:
    """Return the token of the attempt that a resource is named from, "" for none.

    Azure names an instance "<set>_<8 characters>" and a disk after its instance; interfaces and addresses are named by our body.

    Args:
        name: The name of a scale set, an instance, a disk, an interface or an address.
        names: The answer of `set_names`.
    """
    return names.get(_OF_A_SET.sub("", name.partition("/")[0].lower()), "")


def dependent_names(cluster_id: str, places: Iterable[str]) -> set[str]:
    """Return every name that `dependent_name` gives for these places: a region and its zones."""
    return {dependent_name(cluster_id, place, kind) for place in places for kind in _DEPENDENT}


def zone_number(zone: str) -> str:
    """Return Azure's number of one of our zones ("1" for "eastus-1"), or "" for none.

    Azure numbers the zones of each region from 1. Our names have the region in front, so that an outage remembered for a zone does not
    rule out the zones of other regions.
    """
    return zone.rpartition("-")[2]


def zone_name(region: str, number: str) -> str:
    """Return our name of the zone with this number in a region, or "" without a number."""
    return f"{region}-{number}" if number else ""


def canonical(resource_id: str, configured_group: str | None) -> str:
    """Return a resource id in one spelling: Azure's listings do not keep the case of the group's name."""
    if _ID.fullmatch(resource_id) is None:
        return resource_id
    head, separator, rest = resource_id.partition("/providers/")
    lead, _, group = head.rpartition("/")
    is_configured = configured_group is not None and configured_group.lower() == group.lower()
    own = configured_group if is_configured else group.lower()
    return f"{lead[: lead.rfind('/')]}/resourceGroups/{own}{separator}{rest}"


def plain_region(location: object) -> str:
    """Return a region's name as offers have it; sometimes Azure answers with the display name, "East US"."""
    return str(location or "").replace(" ", "").lower()


def _fitting(name: str, length: int) -> str:
    """Return `name` in the characters that all kinds of resources accept; a changed name gets a digest, so that it stays unique."""
    plain = re.sub(r"[^a-z0-9-]", "-", name.lower()).strip("-")
    if plain == name and len(name) <= length:
        return name
    digest = hashlib.sha256(name.encode()).hexdigest()[:12]
    return f"{plain[: length - 13].strip('-')}-{digest}"
