"""Tells nodes a new expiry by the name of a security group, where their tags can't be in their metadata.

The metadata service shows the names of an instance's groups, as they are now, and needs no credentials for that:
https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/instancedata-data-categories.html, "security-groups". The group has no rules, so
it allows nothing. Until the first extension no such group exists, and the expiry in the boot script holds.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from botocore.exceptions import ClientError

from multicompute.provider import TAG_EXPIRES_AT, TAG_ID
from multicompute.provider_kit.calls import batches
from multicompute.provider_kit.vendor_errors import Place, retryable
from multicompute_aws._errors import code_of, translate_errors
from multicompute_aws._names import is_until_name, until_name
from multicompute_aws._tags import ec2_tags, plain_tags

if TYPE_CHECKING:
    from mypy_boto3_ec2 import EC2Client

_VALUES_AT_ONCE: Final = 200
_EVERYWHERE: Final = {"IpProtocol": "-1", "IpRanges": [{"CidrIp": "0.0.0.0/0"}]}


def reads_groups(item: Mapping[str, Any]) -> bool:
    """Return whether an instance, as EC2 describes it, has no tags in its metadata."""
    options: Mapping[str, Any] = item.get("MetadataOptions") or {}
    return options.get("InstanceMetadataTags") == "disabled"


def set_until(ec2: "EC2Client", items: Sequence[Mapping[str, Any]], expiry: str, place: Place) -> None:
    """Give instances a security group that is named after the new expiry, in place of the one before."""
    for (cluster_id, vpc), members in _by_cluster(items).items():
        tags = {**plain_tags(members[0].get("Tags")), TAG_EXPIRES_AT: expiry}
        group = _group(ec2, until_name(cluster_id, expiry), vpc, tags, place)
        replaced: set[str] = set()
        for batch in batches([str(item["InstanceId"]) for item in members], _VALUES_AT_ONCE - 1):
            for interface in _primary_interfaces(ec2, batch, place):
                groups = {each["GroupId"]: each["GroupName"] for each in interface["Groups"]}
                others = [name for name, title in groups.items() if not is_until_name(title)]
                replaced |= set(groups) - set(others) - {group}
                if set(groups) != {*others, group}:
                    with translate_errors("ModifyNetworkInterfaceAttribute", place):
                        name = interface["NetworkInterfaceId"]
                        ec2.modify_network_interface_attribute(NetworkInterfaceId=name, Groups=[*others, group])
        for name in replaced:
            _delete_unused(ec2, name, place)


def _by_cluster(items: Sequence[Mapping[str, Any]]) -> dict[tuple[str, str], list[Mapping[str, Any]]]:
    found: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for item in items:
        cluster_id = plain_tags(item.get("Tags")).get(TAG_ID, "")
        found.setdefault((cluster_id, str(item.get("VpcId", ""))), []).append(item)
    return found


def _group(ec2: "EC2Client", name: str, vpc: str, tags: Mapping[str, str], place: Place) -> str:
    """Return the id of the group, created if it does not exist yet."""
    specification: Any = [{"ResourceType": "security-group", "Tags": ec2_tags(tags)}]
    with translate_errors("CreateSecurityGroup", place):
        try:
            created = ec2.create_security_group(
                GroupName=name,
                Description="The expiry of nodes; it has no rules",
                VpcId=vpc,
                TagSpecifications=specification,
            )
            group = created["GroupId"]
        except ClientError as error:
            if code_of(error) != "InvalidGroup.Duplicate":
                raise
            filters: Any = [{"Name": "group-name", "Values": [name]}, {"Name": "vpc-id", "Values": [vpc]}]
            groups = ec2.describe_security_groups(Filters=filters)["SecurityGroups"]
            if not groups:
                text = f"the security group {name} exists, but is not listed yet"
                raise retryable(text, code="InvalidGroup.Duplicate", place=place) from error
            group = groups[0]["GroupId"]
    with translate_errors("RevokeSecurityGroupEgress", place):
        try:
            # EC2 creates a group with a rule that allows all outbound traffic, which the user's own groups may not.
            # The stubs do not accept a mapping that is a constant as their TypedDict.
            ec2.revoke_security_group_egress(GroupId=group, IpPermissions=[_EVERYWHERE])  # type: ignore[list-item] # a TypedDict of the stubs, as a constant
        except ClientError as error:
            if code_of(error) != "InvalidPermission.NotFound":
                raise
    return group


def _primary_interfaces(ec2: "EC2Client", ids: Sequence[str], place: Place) -> list[Mapping[str, Any]]:
    """Return the first interface of each instance: the others of a node with EFA have no IP address."""
    filters: Any = [
        {"Name": "attachment.instance-id", "Values": list(ids)},
        {"Name": "attachment.device-index", "Values": ["0"]},
    ]
    with translate_errors("DescribeNetworkInterfaces", place):
        pages = ec2.get_paginator("describe_network_interfaces").paginate(Filters=filters)
        found: list[Mapping[str, Any]] = [dict(item) for page in pages for item in page["NetworkInterfaces"]]
    return [item for item in found if item.get("Attachment", {}).get("NetworkCardIndex", 0) == 0]


def _delete_unused(ec2: "EC2Client", group: str, place: Place) -> None:
    """Delete a group of an earlier expiry, unless a node still has it; the teardown deletes what stays."""
    with translate_errors("DeleteSecurityGroup", place):
        try:
            ec2.delete_security_group(GroupId=group)
        except ClientError as error:
            if code_of(error) not in ("DependencyViolation", "InvalidGroup.InUse", "InvalidGroup.NotFound"):
                raise
