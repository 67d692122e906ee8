"""Lists what is ours, by tag, to the last page."""

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final

from multicompute.node import Node, NodeState
from multicompute.offer import Part
from multicompute.provider import TAG_ATTEMPT, LaunchRequest, Resource, Selector
from multicompute.provider_kit.calls import all_pages
from multicompute.provider_kit.vendor_errors import Place
from multicompute_aws._errors import CAUSES, translate_errors
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


def nodes(clients: Clients, selector: Selector) -> tuple[Node, ...]:
    """Return the selected nodes of every region that the selector allows, see `Provider.nodes`."""

    def in_region(ec2: "EC2Client", place: Place) -> list[Node]:
        found = sorted(instances(ec2, tag_filters(selector), place), key=_order)
        listed = [to_node(item, place.region) for item in found]
        return with_health(ec2, listed, place) if selector.with_health else listed

    return tuple(node for listed in clients.in_regions(selector.region, in_region) for node in listed)


def resources(clients: Clients, selector: Selector) -> tuple[Resource, ...]:
    """Return everything selected that still exists, see `Provider.resources`.

    The groups belong to the cluster and not to the attempt that created them: a selector with a token leaves them out.
    """

    def in_region(ec2: "EC2Client", place: Place) -> list[Resource]:
        found = [instance_resource(item, place) for item in live_instances(ec2, selector, place)]
        found += volumes(ec2, selector, place) + network_interfaces(ec2, selector, place)
        found += spot_requests(ec2, selector, place)
        if selector.token is None:
            found += security_groups(ec2, selector, place) + placement_groups(ec2, selector, place)
        return found

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
        cause=CAUSES.get(str((item.get("StateReason") or {}).get("Code", "")), ""),
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


def volumes(ec2: "EC2Client", selector: Selector, place: Place) -> list[Resource]:
    """Return the selected volumes."""
    pages = ec2.get_paginator("describe_volumes").paginate(**_listing(selector))
    items = _items("DescribeVolumes", pages, "Volumes", place)
    return [_resource("volume", item["VolumeId"], item, place, billable=True) for item in items]


def network_interfaces(ec2: "EC2Client", selector: Selector, place: Place) -> list[Resource]:
    """Return the selected network interfaces."""
    pages = ec2.get_paginator("describe_network_interfaces").paginate(**_listing(selector))
    items = _items("DescribeNetworkInterfaces", pages, "NetworkInterfaces", place)
    return [_resource("network-interface", item["NetworkInterfaceId"], item, place) for item in items]


def spot_requests(ec2: "EC2Client", selector: Selector, place: Place) -> list[Resource]:
    """Return the selected spot requests that are not closed; EC2 closes one with its instance, but not always at once."""
    filters = [*tag_filters(selector), {"Name": "state", "Values": ["open", "active"]}]
    with translate_errors("DescribeSpotInstanceRequests", place):
        answer = ec2.describe_spot_instance_requests(Filters=filters)  # type: ignore[arg-type]
    items: Any = answer["SpotInstanceRequests"]
    return [_resource("spot-instances-request", item["SpotInstanceRequestId"], item, place) for item in items]


def security_groups(ec2: "EC2Client", selector: Selector, place: Place) -> list[Resource]:
    """Return the selected security groups."""
    pages = ec2.get_paginator("describe_security_groups").paginate(**_listing(selector))
    items = _items("DescribeSecurityGroups", pages, "SecurityGroups", place)
    return [_resource("security-group", item["GroupId"], item, place) for item in items]


def placement_groups(ec2: "EC2Client", selector: Selector, place: Place) -> list[Resource]:
    """Return the selected placement groups, by name: EC2 deletes them by it."""
    with translate_errors("DescribePlacementGroups", place):
        answer = ec2.describe_placement_groups(Filters=tag_filters(selector))  # type: ignore[arg-type]
    items: Any = [item for item in answer["PlacementGroups"] if item.get("State") != "deleted"]
    return [_resource("placement-group", item["GroupName"], item, place) for item in items]


def _listing(selector: Selector) -> Any:
    return {"Filters": tag_filters(selector), "PaginationConfig": {"PageSize": _PAGE}}


def _items(operation: str, pages: Iterable[Any], member: str, place: Place) -> list[dict[str, Any]]:
    with translate_errors(operation, place):
        return [item for page in pages for item in page[member]]


def _resource(kind: str, resource_id: str, item: dict[str, Any], place: Place, *, billable: bool = False) -> Resource:
    tags = plain_tags(item.get("Tags") or item.get("TagSet"))
    return Resource("aws", kind, resource_id, place.region, billable, tags)
