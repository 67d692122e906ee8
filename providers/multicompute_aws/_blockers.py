"""Finds what keeps a resource from being deleted and does not pass by itself, and says what to do about it."""

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from multicompute.errors import MulticomputeError
from multicompute.provider import TAG_ID, Resource, Selector
from multicompute.provider_kit.vendor_errors import Place, one_line
from multicompute_aws._errors import translate_errors
from multicompute_aws._list import instances
from multicompute_aws._tags import plain_tags

if TYPE_CHECKING:
    from mypy_boto3_ec2 import EC2Client

# How a message names the policy: https://docs.aws.amazon.com/IAM/latest/UserGuide/troubleshoot_access-denied.html
_POLICY: Final = re.compile(r"with an explicit deny in [a-z -]+|because no [a-z -]+ allows the \S+ action")
_NAMED: Final = 3
"""The highest number of resources that a message names."""


def protection(ids: Sequence[str], place: Place) -> str:
    """Return the message about instances with termination protection, "" for none.

    https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/Using_ChangingDisableAPITermination.html
    """
    if not ids:
        return ""
    remedy = (
        f"aws ec2 modify-instance-attribute --region {place.region} --no-disable-api-termination --instance-id {ids[0]}"
    )
    return f"{_names(ids)} has termination protection; `{remedy}` removes it"


def denial(names: Sequence[str], message: str) -> str:
    """Return the message about resources that a policy denies to delete, "" for none."""
    if not names:
        return ""
    found = _POLICY.search(message)
    return f"a policy denies to delete {_names(names)}: {found[0] if found else one_line(message, 150)}; change that policy"


def blocker_of(ec2: "EC2Client", item: Resource, selector: Selector, place: Place) -> str:
    """Return who else uses a resource that EC2 reports as in use; "" if it is only our own instances, which are ending."""
    try:
        users = _USERS[item.kind](ec2, item.id, selector, place) if item.kind in _USERS else []
    except MulticomputeError:
        # Without the permission to look for the user, the teardown only waits.
        return ""
    if not users:
        return ""
    return f"{item.kind} {item.id} is in use by {_names(users)}, which is not of this cluster; detach or delete that"


def _users_of_volume(ec2: "EC2Client", name: str, selector: Selector, place: Place) -> list[str]:
    with translate_errors("DescribeVolumes", place):
        volumes = ec2.describe_volumes(VolumeIds=[name])["Volumes"]
    attached = [str(each["InstanceId"]) for volume in volumes for each in volume.get("Attachments", ())]
    return _foreign_instances(ec2, "instance-id", attached, selector, place)


def _users_of_interface(ec2: "EC2Client", name: str, selector: Selector, place: Place) -> list[str]:
    with translate_errors("DescribeNetworkInterfaces", place):
        interfaces = ec2.describe_network_interfaces(NetworkInterfaceIds=[name])["NetworkInterfaces"]
    attached = [str(each.get("Attachment", {}).get("InstanceId", "")) for each in interfaces]
    return _foreign_instances(ec2, "instance-id", [each for each in attached if each], selector, place)


def _users_of_security_group(ec2: "EC2Client", name: str, selector: Selector, place: Place) -> list[str]:
    """Return the interfaces with the group, and the groups with a rule that names it, that are not of the cluster."""
    with translate_errors("DescribeNetworkInterfaces", place):
        found = ec2.describe_network_interfaces(Filters=[{"Name": "group-id", "Values": [name]}])["NetworkInterfaces"]
    users = [
        f"{each['NetworkInterfaceId']} ({each.get('Attachment', {}).get('InstanceId') or each.get('Description', '')})"
        for each in found
        if not _is_ours(each.get("TagSet"), selector)
    ]
    with translate_errors("DescribeSecurityGroups", place):
        filters: Any = [{"Name": "ip-permission.group-id", "Values": [name]}]
        groups = ec2.describe_security_groups(Filters=filters)["SecurityGroups"]
    named = [str(group["GroupId"]) for group in groups if group["GroupId"] != name]
    return users + [f"a rule of {group}" for group in named]


def _users_of_placement_group(ec2: "EC2Client", name: str, selector: Selector, place: Place) -> list[str]:
    return _foreign_instances(ec2, "placement-group-name", [name], selector, place)


_USERS: Final = {
    "volume": _users_of_volume,
    "network-interface": _users_of_interface,
    "security-group": _users_of_security_group,
    "placement-group": _users_of_placement_group,
}


def _foreign_instances(
    ec2: "EC2Client", name: str, values: Sequence[str], selector: Selector, place: Place
) -> list[str]:
    """Return the instances that a filter finds and that are not of the selected cluster."""
    if not values:
        return []
    found = instances(ec2, [{"Name": name, "Values": list(values)}], place)
    return [
        str(item["InstanceId"])
        for item in found
        if item["State"]["Name"] != "terminated" and not _is_ours(item.get("Tags"), selector)
    ]


def _is_ours(tags: Any, selector: Selector) -> bool:
    owner = plain_tags(tags).get(TAG_ID)
    return owner is not None and selector.cluster_id in (None, owner)


def _names(names: Sequence[str]) -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more
