"""Lists what is ours, by tag, to the last page."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final

from botocore import xform_name

from multicompute.node import Node, NodeState
from multicompute.offer import Part
from multicompute.provider import TAG_ATTEMPT, LaunchRequest, Resource, Selector
from multicompute.provider_kit.calls import all_pages
from multicompute.provider_kit.vendor_errors import Place, VendorAnswer, cause_of
from multicompute_aws._errors import MEANINGS, translate_errors
from multicompute_aws._health import with_health
from multicompute_aws._session import Clients
from multicompute_aws._tags import plain_tags, tag_filters

if TYPE_CHECKING:
    from mypy_boto3_ec2 import EC2Client

# The most that one page may have; fewer pages, fewer calls.
_PAGE: Final = 1000
_LIVE_STATES: Final = ("pending", "running", "shutting-down", "stopping", "stopped")

_STATES: Final = {
    "pending": NodeState.PENDING,
    "running": NodeState.RUNNING,
    "shutting-down": NodeState.STOPPING,
    "stopping": NodeState.STOPPING,
    "stopped": NodeState.STOPPED,
    "terminated": NodeState.GONE,
}
# The kinds of resources that a launch creates in addition to instances: the listing, and the members of its answer with the items and with the
# name by which EC2 deletes one.
_DEPENDENTS: Final = {
    "spot-instances-request": ("DescribeSpotInstanceRequests", "SpotInstanceRequests", "SpotInstanceRequestId"),
    "volume": ("DescribeVolumes", "Volumes", "VolumeId"),
    "network-interface": ("DescribeNetworkInterfaces", "NetworkInterfaces", "NetworkInterfaceId"),
    "security-group": ("DescribeSecurityGroups", "SecurityGroups", "GroupId"),
    "placement-group": ("DescribePlacementGroups", "PlacementGroups", "GroupName"),
}


def nodes(clients: Clients, selector: Selector) -> tuple[Node, ...]:
    """Return the selected nodes of every region that the selector allows, see `Provider.nodes`."""

    def in_region(ec2: "EC2Client", place: Place) -> list[Node]:
        found = sorted(instances(ec2, tag_filters(selector), place), key=_order)
        listed = [to_node(item, place.region) for item in found]
        return with_health(ec2, listed, place) if selector.with_health else listed

    return tuple(node for listed in clients.in_regions(selector.region, in_region) for node in listed)


def resources(clients: Clients, selector: Selector) -> tuple[Resource, ...]:
    """Return everything selected that still exists, see `Provider.resources`."""

    def in_region(ec2: "EC2Client", place: Place) -> list[Resource]:
        found = [instance_resource(item, place) for item in live_instances(ec2, selector, place)]
        return found + [item for kind in dependent_kinds(selector) for item in dependents(ec2, kind, selector, place)]

    return tuple(item for listed in clients.in_regions(selector.region, in_region) for item in listed)


def instances(ec2: "EC2Client", filters: Sequence[dict[str, Any]], place: Place) -> Iterator[dict[str, Any]]:
    """Yield the instances that `filters` find, as EC2 describes them."""

    def fetch(token: str) -> tuple[list[dict[str, Any]], str]:
        more = {"NextToken": token} if token else {}
        with translate_errors("DescribeInstances", place):
            page: Any = ec2.describe_instances(Filters=filters, MaxResults=_PAGE, **more)  # type: ignore[arg-type]
        return [item for reservation in page["Reservations"] for item in reservation["Instances"]], page.get(
            "NextToken", ""
        )

    return all_pages(fetch)


def live_instances(ec2: "EC2Client", selector: Selector, place: Place) -> list[dict[str, Any]]:
    """Return the selected instances that are not terminated."""
    states = {"Name": "instance-state-name", "Values": list(_LIVE_STATES)}
    return list(instances(ec2, [*tag_filters(selector), states], place))


def _order(item: dict[str, Any]) -> tuple[str, int, str]:
    # The client token sets the parts of a gang apart, the index counts within one.
    return (str(item.get("ClientToken", "")), int(item.get("AmiLaunchIndex", 0)), str(item["InstanceId"]))


def to_node(
    item: dict[str, Any], region: str, *, request: LaunchRequest | None = None, part: Part | None = None
) -> Node:
    """Return the node that EC2 describes; what only the launch knows (price, accelerators) comes from `part`."""
    offer = part.offer if part else None
    token = request.token if request else plain_tags(item.get("Tags")).get(TAG_ATTEMPT, "")
    return Node(
        id=item["InstanceId"],
        rank=-1,
        provider="aws",
        instance_type=item["InstanceType"],
        region=region,
        zone=item.get("Placement", {}).get("AvailabilityZone", ""),
        state=_STATES.get(item["State"]["Name"], NodeState.PENDING),
        private_ip=item.get("PrivateIpAddress") or None,
        public_ip=item.get("PublicIpAddress") or None,
        accelerators=offer.instance.accelerators if offer else 0.0,
        hourly_cost=offer.hourly_cost if offer else 0.0,
        token=token,
        reason=_reason(item),
        cause=cause_of(MEANINGS, VendorAnswer(str((item.get("StateReason") or {}).get("Code", "")))),
        is_spot=item.get("InstanceLifecycle") == "spot",
    )


def _reason(item: dict[str, Any]) -> str | None:
    """Return why an instance stopped, the code first: "Server.SpotInstanceTermination: ..."."""
    reason = item.get("StateReason") or {}
    code, message = str(reason.get("Code", "")), str(reason.get("Message", ""))
    if code in ("", "pending", "running"):
        return None
    return message if message.startswith(code) else f"{code}: {message}"


def instance_resource(item: dict[str, Any], place: Place) -> Resource:
    """Return an instance as a resource; one that is shutting down is not billed any more."""
    return _resource("instance", item["InstanceId"], item, place, billable=item["State"]["Name"] != "shutting-down")


def dependent_kinds(selector: Selector) -> list[str]:
    """Return the kinds of resources that a launch creates in addition to instances, in the order in which they are deleted.

    The groups belong to the cluster and not to the attempt that created them: a selector with a token leaves them out.
    """
    return [kind for kind in _DEPENDENTS if selector.token is None or not kind.endswith("-group")]


def dependents(ec2: "EC2Client", kind: str, selector: Selector, place: Place) -> list[Resource]:
    """Return the selected resources of one of the `dependent_kinds`."""
    operation, member, name = _DEPENDENTS[kind]
    method, call = xform_name(operation), {"Filters": tag_filters(selector)}
    if kind == "spot-instances-request":
        # EC2 closes a request with its instance, but not always at once.
        call["Filters"].append({"Name": "state", "Values": ["open", "active"]})
    with translate_errors(operation, place):
        if ec2.can_paginate(method):
            paginator: Any = ec2.get_paginator(method)  # type: ignore[call-overload]
            pages = paginator.paginate(**call, PaginationConfig={"PageSize": _PAGE})
        else:
            pages = [getattr(ec2, method)(**call)]
        items = [item for page in pages for item in page[member]]
    found = [item for item in items if item.get("State") != "deleted"]
    return [_resource(kind, item[name], item, place, billable=kind == "volume") for item in found]


def _resource(kind: str, resource_id: str, item: dict[str, Any], place: Place, *, billable: bool = False) -> Resource:
    tags = plain_tags(item.get("Tags") or item.get("TagSet"))
    return Resource("aws", kind, resource_id, place.region, billable, tags)
