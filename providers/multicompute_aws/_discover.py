"""Finds what is ours, by tag, to the last page."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

from multicompute.node import Node, NodeState
from multicompute.offer import Part
from multicompute.provider import TAG_ATTEMPT, LaunchRequest, Resource, Selector
from multicompute_aws._errors import CAUSES, Place, translate_errors
from multicompute_aws._health import with_health
from multicompute_aws._tags import plain_tags, tag_filters

if TYPE_CHECKING:
    from mypy_boto3_ec2 import EC2Client

# The most that one page may have; fewer pages, fewer calls.
PAGE: Final = 1000
ALIVE: Final = ("pending", "running", "shutting-down", "stopping", "stopped")

_STATES: Final = {
    "pending": NodeState.PENDING,
    "running": NodeState.RUNNING,
    "shutting-down": NodeState.STOPPING,
    "stopping": NodeState.STOPPING,
    "stopped": NodeState.STOPPED,
    "terminated": NodeState.GONE,
}


def instances(ec2: "EC2Client", filters: list[dict[str, Any]], place: Place) -> Iterator[dict[str, Any]]:
    """The instances that `filters` find, in EC2's words, page by page."""
    more: dict[str, Any] = {}
    while True:
        with translate_errors("DescribeInstances", place):
            page: Any = ec2.describe_instances(Filters=filters, MaxResults=PAGE, **more)  # type: ignore[arg-type]
        for reservation in page["Reservations"]:
            yield from reservation["Instances"]
        if not page.get("NextToken"):
            return
        more = {"NextToken": page["NextToken"]}


def alive(ec2: "EC2Client", selector: Selector, place: Place) -> list[dict[str, Any]]:
    """The selected instances that are not terminated."""
    states = {"Name": "instance-state-name", "Values": list(ALIVE)}
    return list(instances(ec2, [*tag_filters(selector), states], place))


def nodes(ec2: "EC2Client", selector: Selector, place: Place) -> list[Node]:
    """The selected nodes, those terminated a short time ago too, in a stable order."""
    found = sorted(instances(ec2, tag_filters(selector), place), key=_order)
    listed = [to_node(item, place.region) for item in found]
    return with_health(ec2, listed, place) if selector.with_health else listed


def _order(item: dict[str, Any]) -> tuple[str, int, str]:
    # The client token sets the parts of a gang apart, the index counts within one.
    return (str(item.get("ClientToken", "")), int(item.get("AmiLaunchIndex", 0)), str(item["InstanceId"]))


def to_node(
    item: dict[str, Any], region: str, *, request: LaunchRequest | None = None, part: Part | None = None
) -> Node:
    """A node from EC2's description; what only the launch knows (price, accelerators) comes from `part`."""
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
    """Why it stopped, the code first: "Server.SpotInstanceTermination: ..."."""
    reason = item.get("StateReason") or {}
    code, message = str(reason.get("Code", "")), str(reason.get("Message", ""))
    if code in ("", "pending", "running"):
        return None
    return message if message.startswith(code) else f"{code}: {message}"


def resources(ec2: "EC2Client", selector: Selector, place: Place) -> list[Resource]:
    """Everything selected that still exists.

    The groups belong to the cluster and not to the attempt that happened to make them: a selector with a token leaves them out.
    """
    found = [instance_resource(item, place) for item in alive(ec2, selector, place)]
    found += volumes(ec2, selector, place) + network_interfaces(ec2, selector, place)
    found += spot_requests(ec2, selector, place)
    if selector.token is None:
        found += security_groups(ec2, selector, place) + placement_groups(ec2, selector, place)
    return found


def instance_resource(item: dict[str, Any], place: Place) -> Resource:
    """An instance as a resource; one that is shutting down is not billed any more."""
    return _resource("instance", item["InstanceId"], item, place, billable=item["State"]["Name"] != "shutting-down")


def volumes(ec2: "EC2Client", selector: Selector, place: Place) -> list[Resource]:
    with translate_errors("DescribeVolumes", place):
        pages: Any = ec2.get_paginator("describe_volumes").paginate(
            Filters=tag_filters(selector),  # type: ignore[arg-type]
            PaginationConfig={"PageSize": PAGE},
        )
        items = [item for page in pages for item in page["Volumes"]]
    return [_resource("volume", item["VolumeId"], item, place, billable=True) for item in items]


def network_interfaces(ec2: "EC2Client", selector: Selector, place: Place) -> list[Resource]:
    with translate_errors("DescribeNetworkInterfaces", place):
        pages: Any = ec2.get_paginator("describe_network_interfaces").paginate(
            Filters=tag_filters(selector),  # type: ignore[arg-type]
            PaginationConfig={"PageSize": PAGE},
        )
        items = [item for page in pages for item in page["NetworkInterfaces"]]
    return [_resource("network-interface", item["NetworkInterfaceId"], item, place) for item in items]


def spot_requests(ec2: "EC2Client", selector: Selector, place: Place) -> list[Resource]:
    """Spot requests that are not closed; EC2 closes one with its instance, but not always at once."""
    filters = [*tag_filters(selector), {"Name": "state", "Values": ["open", "active"]}]
    with translate_errors("DescribeSpotInstanceRequests", place):
        answer = ec2.describe_spot_instance_requests(Filters=filters)  # type: ignore[arg-type]
    items: Any = answer["SpotInstanceRequests"]
    return [_resource("spot-instances-request", item["SpotInstanceRequestId"], item, place) for item in items]


def security_groups(ec2: "EC2Client", selector: Selector, place: Place) -> list[Resource]:
    with translate_errors("DescribeSecurityGroups", place):
        pages: Any = ec2.get_paginator("describe_security_groups").paginate(
            Filters=tag_filters(selector),  # type: ignore[arg-type]
            PaginationConfig={"PageSize": PAGE},
        )
        items = [item for page in pages for item in page["SecurityGroups"]]
    return [_resource("security-group", item["GroupId"], item, place) for item in items]


def placement_groups(ec2: "EC2Client", selector: Selector, place: Place) -> list[Resource]:
    """Placement groups, by name: EC2 deletes them by it."""
    with translate_errors("DescribePlacementGroups", place):
        answer = ec2.describe_placement_groups(Filters=tag_filters(selector))  # type: ignore[arg-type]
    items: Any = [item for item in answer["PlacementGroups"] if item.get("State") != "deleted"]
    return [_resource("placement-group", item["GroupName"], item, place) for item in items]


def _resource(kind: str, resource_id: str, item: dict[str, Any], place: Place, *, billable: bool = False) -> Resource:
    tags = plain_tags(item.get("Tags") or item.get("TagSet"))
    return Resource("aws", kind, resource_id, place.region, billable, tags)
