"""Names that follow from cluster and token, so that what was made can be found without having been remembered; and resource ids."""

import hashlib
import re
from typing import Final, NamedTuple

_GROUP_LENGTH: Final = 90
_NAME_LENGTH: Final = 60
# Of the 64 that Azure allows, nine are for the ends of the instances' names.
_SET_LENGTH: Final = 54
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
    """Take a resource id apart.

    Raises:
        ValueError: it is none.
    """
    found = _ID.fullmatch(resource_id)
    if found is None:
        raise ValueError(f"{resource_id!r} is no resource id")
    return ResourceId(found["subscription"], found["group"], found["type"] or "", found["name"] or "")


def group_name(cluster_id: str, region: str) -> str:
    """The resource group of a cluster in a region; lower case, because Azure reports the case of it now this way, now that."""
    return _fitting(f"multicompute-{cluster_id}-{region}", _GROUP_LENGTH)


def beside_name(cluster_id: str, region: str, kind: str) -> str:
    """The name of something that a cluster has once per region: its network, its security group, ..."""
    return _fitting(f"multicompute-{cluster_id}-{region}", _NAME_LENGTH) + f"-{kind}"


def scale_set_name(token: str, index: int) -> str:
    """The scale set of the part with this index of an attempt. Instances are named after it, with nine characters more."""
    return _fitting(f"{token}-{index}", _SET_LENGTH)


def zone_number(zone: str) -> str:
    """Azure's number of a zone ("1") in ours ("eastus-1"), or "" for none.

    Azure numbers the zones of each region from 1; the region stands before the number here, so that a lack remembered for a zone
    does not rule out the zones of other regions.
    """
    return zone.rpartition("-")[2]


def zone_name(region: str, number: str) -> str:
    """Our name of the zone with this number in a region; "" where it is in none."""
    return f"{region}-{number}" if number else ""


def canonical(resource_id: str, configured_group: str | None) -> str:
    """A resource id in one spelling: Azure's listings write the name of the group in capitals as they please."""
    head, separator, rest = resource_id.partition("/providers/")
    lead, _, group = head.rpartition("/")
    is_configured = configured_group is not None and configured_group.lower() == group.lower()
    own = configured_group if is_configured else group.lower()
    return f"{lead[: lead.rfind('/')]}/resourceGroups/{own}{separator}{rest}"


def plain_region(location: object) -> str:
    """A region's name as offers have it; now and then Azure answers with the name for people, "East US"."""
    return str(location or "").replace(" ", "").lower()


def _fitting(name: str, length: int) -> str:
    """`name` in the characters that all kinds of resources take; one that had to be changed keeps a digest, so that it stays unique."""
    plain = re.sub(r"[^a-z0-9-]", "-", name.lower()).strip("-")
    if plain == name and len(name) <= length:
        return name
    digest = hashlib.sha256(name.encode()).hexdigest()[:12]
    return f"{plain[: length - 13].strip('-')}-{digest}"
