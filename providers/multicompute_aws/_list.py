"""Lists what is ours, by tag, to the last page."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final

from botocore import xform_name

from multicompute.errors import MulticomputeError
from multicompute.node import Node, NodeState
from multicompute.offer import Part
from multicompute.provider import TAG_ATTEMPT, TAG_ID, LaunchRequest, Resource, Selector
from multicompute.provider_kit.calls import all_pages, batches
from multicompute.provider_kit.vendor_errors import Place, VendorAnswer, cause_of
from multicompute_aws._addresses import Addresses, waits_for_address
from multicompute_aws._errors import KEY_REASON, MEANINGS, NOT_IN_MOTO, reason_code, translate_errors
from multicompute_aws._health import with_health
from multicompute_aws._names import client_token_filters, group_name, is_client_token
from multicompute_aws._session import Clients
from multicompute_aws._tags import plain_tags, tag_filters

if TYPE_CHECKING:
    from mypy_boto3_ec2 import EC2Client

# The most that one page may have; fewer pages, fewer calls.
_PAGE: Final = 1000
# The most values of one filter: https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_Filter.html
_VALUES_AT_ONCE: Final = 200
_LIVE_STATES: Final = ("pending", "running", "shutting-down", "stopping", "stopped")

# Every state of https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_InstanceState.html. A hibernated instance is "stopped", too. A
# preempted one is "shutting-down" and then "terminated", because requests are one-time; the state reason tells it from other ends.
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
    "elastic-ip": ("DescribeAddresses", "Addresses", "AllocationId"),
    "volume": ("DescribeVolumes", "Volumes", "VolumeId"),
    "network-interface": ("DescribeNetworkInterfaces", "NetworkInterfaces", "NetworkInterfaceId"),
    "security-group": ("DescribeSecurityGroups", "SecurityGroups", "GroupId"),
    "placement-group": ("DescribePlacementGroups", "PlacementGroups", "GroupName"),
}


_BILLABLE: Final = ("volume", "elastic-ip")
# The launch asks for encrypted volumes, and each region has a default key for them, whose policy may exclude the identity:
# https://docs.aws.amazon.com/ebs/latest/userguide/ebs-encryption-requirements.html
_KEY_REMEDY: Final = "the region's default key of EBS encryption must allow this identity to use it"
# Those with names of their own, by which they are found without their tags.
_NAMED: Final = ("security-group", "placement-group")


def nodes(clients: Clients, selector: Selector, addresses: Addresses) -> tuple[Node, ...]:
    """Return the selected nodes of every region that the selector allows, see `Provider.nodes`.

    Those that wait for an elastic IP address get it here, as soon as EC2 allows it, and are pending before.
    """

    def in_region(ec2: "EC2Client", place: Place) -> list[Node]:
        found = sorted(selected_instances(ec2, selector, place, is_refresh=True), key=_order)
        # A listing of all clusters changes none of them.
        is_of_one = selector.cluster_id is not None or selector.token is not None
        waiting = [item for item in found if is_of_one and waits_for_address(item)]
        given = addresses.complete(waiting, place) if waiting else {}
        found = [
            {**item, "PublicIpAddress": given[item["InstanceId"]]} if item["InstanceId"] in given else item
            for item in found
        ]
        listed = [to_node(item, place.region, selector=selector) for item in found]
        return with_health(ec2, listed, place) if selector.with_health else listed

    listings = clients.in_regions(selector.region, in_region, is_listing=True)
    return tuple(node for listed in listings for node in listed)


def resources(clients: Clients, selector: Selector) -> tuple[Resource, ...]:
    """Return everything selected that still exists, see `Provider.resources`."""

    def in_region(ec2: "EC2Client", place: Place) -> list[Resource]:
        found = [instance_resource(item, place) for item in live_instances(ec2, selector, place)]
        if selector.only:
            return found
        return found + [item for kind in dependent_kinds(selector) for item in dependents(ec2, kind, selector, place)]

    listings = clients.in_regions(selector.region, in_region, is_listing=True)
    return tuple(item for listed in listings for item in listed)


def selected_instances(
    ec2: "EC2Client", selector: Selector, place: Place, *, only_live: bool = False, is_refresh: bool = False
) -> list[dict[str, Any]]:
    """Return the selected instances: by tag and, because tags can be removed, by client token and by id.

    What was found by tag is not asked for again by id. Filters are used for ids, because a parameter with an unknown id fails
    the complete call. With `is_refresh`, only known nodes are looked for, if all are found by tag.
    """
    states = [{"Name": "instance-state-name", "Values": list(_LIVE_STATES)}] if only_live else []

    def find(name: str, values: Sequence[str]) -> Iterator[dict[str, Any]]:
        for batch in batches(values, _VALUES_AT_ONCE):
            yield from instances(ec2, [{"Name": name, "Values": list(batch)}, *states], place)

    if selector.only:
        return list(find("instance-id", selector.only))
    found = {item["InstanceId"]: item for item in instances(ec2, [*tag_filters(selector), *states], place)}
    missing = [name for name in selector.known_ids if name not in found]
    if is_refresh and selector.known_ids and not missing:
        # The others would cost every refresh a second call. A teardown looks for them: a launch without an answer has no known ids.
        return list(found.values())
    names = [value for token in selector.tokens for value in client_token_filters(token)]
    try:
        by_token = [item for item in find("client-token", names) if token_of(item, selector)]
    except MulticomputeError as error:
        if error.code != NOT_IN_MOTO:
            raise
        # moto lacks the filter; it tags every launch, and loses no answer.
        by_token = []
    found |= {item["InstanceId"]: item for item in by_token if item["InstanceId"] not in found}
    missing = [name for name in missing if name not in found]
    return [*found.values(), *find("instance-id", missing)]


def token_of(item: dict[str, Any], selector: Selector) -> str:
    """Return the token of `selector.tokens` that an instance was launched with, by its client token; "" if with none of them."""
    given = str(item.get("ClientToken", ""))
    return next((token for token in selector.tokens if is_client_token(given, token)), "")


def instances(ec2: "EC2Client", filters: Sequence[dict[str, Any]], place: Place) -> Iterator[dict[str, Any]]:
    """Yield the instances that `filters` find, as EC2 describes them."""

    def fetch(token: str) -> tuple[list[dict[str, Any]], str]:
        more = {"NextToken": token} if token else {}
        # boto3-stubs has no type for a call whose arguments are in a dict.
        describe: Any = ec2.describe_instances
        with translate_errors("DescribeInstances", place):
            page = describe(Filters=filters, MaxResults=_PAGE, **more)
        return [item for reservation in page["Reservations"] for item in reservation["Instances"]], page.get(
            "NextToken", ""
        )

    return all_pages(fetch)


def live_instances(ec2: "EC2Client", selector: Selector, place: Place) -> list[dict[str, Any]]:
    """Return the selected instances that are not terminated."""
    return selected_instances(ec2, selector, place, only_live=True)


def _order(item: dict[str, Any]) -> tuple[str, int, str]:
    # The client token sets the parts of a gang apart, the index counts within one.
    return (str(item.get("ClientToken", "")), int(item.get("AmiLaunchIndex", 0)), str(item["InstanceId"]))


def to_node(
    item: dict[str, Any],
    region: str,
    *,
    request: LaunchRequest | None = None,
    part: Part | None = None,
    selector: Selector | None = None,
) -> Node:
    """Return the node that EC2 describes; what only the launch knows (price, accelerators) comes from `part`."""
    offer = part.offer if part else None
    tags = plain_tags(item.get("Tags"))
    token = request.token if request else tags.get(TAG_ATTEMPT) or (token_of(item, selector) if selector else "")
    return Node(
        id=item["InstanceId"],
        rank=-1,
        provider="aws",
        instance_type=item["InstanceType"],
        region=region,
        zone=item.get("Placement", {}).get("AvailabilityZone", ""),
        state=NodeState.PENDING if waits_for_address(item) else _STATES.get(item["State"]["Name"], NodeState.PENDING),
        private_ip=item.get("PrivateIpAddress") or None,
        public_ip=item.get("PublicIpAddress") or None,
        accelerators=offer.instance.accelerators if offer else 0.0,
        hourly_cost=offer.hourly_cost if offer else 0.0,
        token=token,
        reason=_reason(item),
        cause=cause_of(MEANINGS, VendorAnswer(reason_code(str((item.get("StateReason") or {}).get("Code", ""))))),
        is_spot=item.get("InstanceLifecycle") == "spot",
        is_tagged=request is not None or _is_tagged(item, selector or Selector()),
    )


def _is_tagged(item: dict[str, Any], selector: Selector) -> bool:
    """Return whether an instance has our tags; a terminated one loses its tags gradually, which is no news.

    https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/terminating-instances.html
    """
    owner = plain_tags(item.get("Tags")).get(TAG_ID)
    return item["State"]["Name"] == "terminated" or (owner is not None and selector.cluster_id in (None, owner))


def _reason(item: dict[str, Any]) -> str | None:
    """Return why an instance stopped, the code first: "Server.SpotInstanceTermination: ..."."""
    reason = item.get("StateReason") or {}
    code, message = str(reason.get("Code", "")), str(reason.get("Message", ""))
    if code in ("", "pending", "running"):
        return None
    shown = message if message.startswith(code) else f"{code}: {message}"
    return f"{shown} ({_KEY_REMEDY})" if reason_code(code) == KEY_REASON else shown


def instance_resource(item: dict[str, Any], place: Place) -> Resource:
    """Return an instance as a resource; one that is shutting down is not billed any more."""
    return _resource("instance", item["InstanceId"], item, place, billable=item["State"]["Name"] != "shutting-down")


def dependent_kinds(selector: Selector) -> list[str]:
    """Return the kinds of resources that a launch creates in addition to instances, in the order in which they are deleted.

    The groups belong to the cluster and not to the attempt that created them: a selector with a token leaves them out.
    """
    return [kind for kind in _DEPENDENTS if selector.token is None or not kind.endswith("-group")]


def dependents(ec2: "EC2Client", kind: str, selector: Selector, place: Place) -> list[Resource]:
    """Return the selected resources of one of the `dependent_kinds`, by tag, and groups whose tags were removed by name."""
    try:
        found = {item.id: item for item in _described(ec2, kind, tag_filters(selector), place)}
    except MulticomputeError as error:
        # moto that lacks placement groups has none.
        if kind == "placement-group" and error.code == NOT_IN_MOTO:
            return []
        raise
    if kind in _NAMED and selector.cluster_id and selector.tokens:
        # The id of a cluster is random, so a group with its name and no owner in its tags is the cluster's.
        name = group_name(selector.cluster_id)
        by_name = _described(ec2, kind, [{"Name": "group-name", "Values": [name, f"{name}-*"]}], place)
        found |= {item.id: item for item in by_name if TAG_ID not in item.tags}
    return list(found.values())


def _described(ec2: "EC2Client", kind: str, filters: Sequence[dict[str, Any]], place: Place) -> list[Resource]:
    operation, member, name = _DEPENDENTS[kind]
    method, call = xform_name(operation), {"Filters": list(filters)}
    if kind == "spot-instances-request":
        # EC2 closes a request with its instance, but not always at once.
        call["Filters"].append({"Name": "state", "Values": ["open", "active"]})
    with translate_errors(operation, place):
        if ec2.can_paginate(method):
            # boto3-stubs has an overload for each literal name only.
            get_paginator: Any = ec2.get_paginator
            pages = get_paginator(method).paginate(**call, PaginationConfig={"PageSize": _PAGE})
        else:
            pages = [getattr(ec2, method)(**call)]
        items = [item for page in pages for item in page[member]]
    found = [item for item in items if item.get("State") != "deleted"]
    return [_resource(kind, item[name], item, place, billable=kind in _BILLABLE) for item in found]


def _resource(kind: str, resource_id: str, item: dict[str, Any], place: Place, *, billable: bool = False) -> Resource:
    tags = plain_tags(item.get("Tags") or item.get("TagSet"))
    return Resource("aws", kind, resource_id, place.region, billable, tags)
