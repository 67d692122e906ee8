"""Elastic IP addresses, for nodes that EC2 gives no public address because they have several network interfaces.

https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_InstanceNetworkInterfaceSpecification.html, AssociatePublicIpAddress.

The instances carry a tag that says so. After the launch the addresses are allocated, with the tags of the launch. EC2 associates one only
with an interface of an instance that runs, so that is done by the next listing that shows it:
https://github.com/hashicorp/terraform-provider-aws/issues/19699.
"""

import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from botocore.exceptions import ClientError

from multicompute.errors import AccessDeniedError, MulticomputeError, QuotaError
from multicompute.provider import RESERVED_TAG_PREFIX, TAG_ATTEMPT, TAG_ID, LaunchRequest, Selector
from multicompute.provider_kit.calls import batches
from multicompute.provider_kit.vendor_errors import Place
from multicompute_aws._errors import ACTION, code_of, log, translate_errors
from multicompute_aws._names import escaped
from multicompute_aws._session import Clients
from multicompute_aws._tags import ec2_tags, plain_tags

if TYPE_CHECKING:
    from mypy_boto3_ec2 import EC2Client

TAG_ADDRESS: Final = f"{RESERVED_TAG_PREFIX}address"
ELASTIC: Final = "elastic"
"""The value of the tag on instances that get an elastic IP address."""
# "EC2-VPC Elastic IPs": 5 in each region of a new account, https://docs.aws.amazon.com/vpc/latest/userguide/amazon-vpc-limits.html.
QUOTA: Final = "L-0263D0A3"
_VALUES_AT_ONCE: Final = 200
# The instance is not running yet, or another process was faster.
_NOT_NOW: Final = frozenset(
    {"IncorrectInstanceState", "InvalidInstanceID", "Resource.AlreadyAssociated", "InvalidAllocationID.NotFound"}
)
_GONE: Final = frozenset({"InvalidAllocationID.NotFound", "InvalidAddressID.NotFound"})


@dataclass(frozen=True, slots=True)
class Shortage:
    """The reason why an account can't have the addresses for a launch, and the remedy."""

    why: str
    remedy: str = f"raise the quota {QUOTA}"


class Addresses:
    """The elastic IP addresses of launches."""

    def __init__(self, clients: Clients) -> None:
        self._clients = clients
        self._lock = threading.Lock()
        self._limits: dict[str, float | None] = {}

    def shortage(self, request: LaunchRequest, place: Place) -> Shortage | None:
        """Return why the account can't have the addresses for a launch, None if it can or if its quota can't be read.

        Nothing is bought before this: a launch whose addresses are refused afterwards has to be taken back. Addresses of lost
        nodes of the cluster are released if they are in the way.
        """
        try:
            return self._shortage(request, place)
        except AccessDeniedError as error:
            # Launches that need no addresses are allowed, so this is no refusal of the region.
            named = ACTION.search(error.vendor_message or "")
            action = named[1] if named else "ec2:AllocateAddress"
            return Shortage(f"a policy denies {action} to this identity", "change that policy")

    def _shortage(self, request: LaunchRequest, place: Place) -> Shortage | None:
        ec2, needed = self._clients.ec2(place.region), request.node_count
        with translate_errors("DescribeAddresses", place):
            listed: list[dict[str, Any]] = [dict(item) for item in ec2.describe_addresses()["Addresses"]]
        others = [item for item in listed if plain_tags(item.get("Tags")).get(TAG_ATTEMPT) != request.token]
        if len(listed) - len(others) >= needed:
            return None
        limit = self._limit(place)
        if limit is not None and len(others) + needed > limit:
            unused = [
                item
                for item in others
                if plain_tags(item.get("Tags")).get(TAG_ID) == request.cluster_id and not item.get("AssociationId")
            ]
            in_use = len(others) - len(unused)
            if in_use + needed > limit:
                return Shortage(f"{needed} elastic IP addresses needed, {limit:g} allowed, {in_use} in use")
            release_all(ec2, unused, place)
        self._require_permission(ec2, place)
        return None

    def _limit(self, place: Place) -> float | None:
        """Return the quota of the region, None if it can't be read; it is read once."""
        if place.region not in self._limits:
            quotas: Any = self._clients.service_quotas(place.region)
            try:
                with translate_errors("GetServiceQuota", place):
                    answer = quotas.get_service_quota(ServiceCode="ec2", QuotaCode=QUOTA)
                self._limits[place.region] = float(answer["Quota"]["Value"])
            except (MulticomputeError, KeyError) as error:
                log.debug("%s: the quota of elastic IP addresses can't be read: %s", place, error)
                self._limits[place.region] = None
        return self._limits[place.region]

    def _require_permission(self, ec2: "EC2Client", place: Place) -> None:
        with translate_errors("AllocateAddress", place):
            try:
                ec2.allocate_address(Domain="vpc", DryRun=True, TagSpecifications=_specification({TAG_ID: "check"}))
            except ClientError as error:
                if code_of(error) != "DryRunOperation":
                    raise

    def allocate(self, needed: int, tags: Mapping[str, str], place: Place) -> list[dict[str, Any]]:
        """Return the addresses of a launch, at least as many as needed; those that are missing are allocated.

        Raises:
            QuotaError: The account has too many addresses already.
        """
        ec2 = self._clients.ec2(place.region)
        # EC2 has no client token for this call.
        with self._lock:
            found = addresses_of(ec2, [tags[TAG_ATTEMPT]], place)
            while len(found) < needed:
                with translate_errors("AllocateAddress", place):
                    made = ec2.allocate_address(Domain="vpc", TagSpecifications=_specification(tags))
                found.append(dict(made))
            return found

    def complete(self, items: Iterable[Mapping[str, Any]], place: Place) -> Mapping[str, str]:
        """Give running instances their address, and return instance id -> public address for those that have it now.

        Args:
            items: Instances that wait for one, see `waits_for_address`.
            place: Their region.
        """
        running: dict[str, list[Mapping[str, Any]]] = {}
        for item in items:
            token = plain_tags(item.get("Tags")).get(TAG_ATTEMPT)
            if item["State"]["Name"] == "running" and token:
                running.setdefault(token, []).append(item)
        found: dict[str, str] = {}
        for members in running.values():
            found |= self._associate(members, place)
        return found

    def _associate(self, items: Sequence[Mapping[str, Any]], place: Place) -> Mapping[str, str]:
        """Associate free addresses of one launch with its instances."""
        ec2 = self._clients.ec2(place.region)
        tags = {key: value for key, value in plain_tags(items[0].get("Tags")).items() if not key.startswith("aws:")}
        del tags[TAG_ADDRESS]
        listed = addresses_of(ec2, [tags[TAG_ATTEMPT]], place)
        found = {str(each["InstanceId"]): str(each["PublicIp"]) for each in listed if each.get("InstanceId")}
        waiting = [item for item in items if item["InstanceId"] not in found]
        free = [each for each in listed if not each.get("AssociationId")]
        if len(free) < len(waiting):
            # The launch ended between RunInstances and this, or somebody has released an address.
            every = self.allocate(len(listed) + len(waiting) - len(free), tags, place)
            free = [each for each in every if not each.get("AssociationId")]
        interfaces = _primary_interfaces(ec2, [str(item["InstanceId"]) for item in waiting], place)
        for item, address in zip(waiting, sorted(free, key=lambda each: str(each["AllocationId"])), strict=False):
            interface = interfaces.get(item["InstanceId"])
            if interface and self._is_associated(ec2, str(address["AllocationId"]), interface, place):
                found[item["InstanceId"]] = str(address["PublicIp"])
        return {item["InstanceId"]: found[item["InstanceId"]] for item in items if item["InstanceId"] in found}

    def _is_associated(self, ec2: "EC2Client", allocation: str, interface: str, place: Place) -> bool:
        with translate_errors("AssociateAddress", place):
            try:
                # With several interfaces, EC2 takes no instance id.
                ec2.associate_address(AllocationId=allocation, NetworkInterfaceId=interface, AllowReassociation=False)
            except ClientError as error:
                if code_of(error) in _NOT_NOW:
                    return False
                raise
        return True

    def release(self, token: str, place: Place) -> None:
        """Release the addresses of a launch that is taken back, where no node uses them."""
        ec2 = self._clients.ec2(place.region)
        release_all(ec2, addresses_of(ec2, [token], place), place)


def waits_for_address(item: Mapping[str, Any]) -> bool:
    """Return whether an instance gets an elastic IP address and has none yet."""
    return (
        item["State"]["Name"] in ("pending", "running")
        and not item.get("PublicIpAddress")
        and plain_tags(item.get("Tags")).get(TAG_ADDRESS) == ELASTIC
    )


def addresses_of(ec2: "EC2Client", tokens: Sequence[str], place: Place) -> list[dict[str, Any]]:
    """Return the addresses that were allocated for some launches."""
    found: list[dict[str, Any]] = []
    for batch in batches(tokens, _VALUES_AT_ONCE):
        filters: Any = [{"Name": f"tag:{TAG_ATTEMPT}", "Values": [escaped(token) for token in batch]}]
        with translate_errors("DescribeAddresses", place):
            found += [dict(item) for item in ec2.describe_addresses(Filters=filters)["Addresses"]]
    return found


def release_unused(
    ec2: "EC2Client", selector: Selector, list_live: Callable[[], Iterable[Mapping[str, Any]]], place: Place
) -> None:
    """Release the addresses of launches of which no instance waits for one, such as those of nodes that were replaced.

    Args:
        ec2: The client of the region.
        selector: Has the tokens of the launches.
        list_live: Lists the live instances of the cluster.
        place: The region.
    """
    try:
        free = [item for item in addresses_of(ec2, selector.tokens, place) if not item.get("AssociationId")]
        if not free:
            return
        waiting = {plain_tags(item.get("Tags")).get(TAG_ATTEMPT) for item in list_live() if waits_for_address(item)}
        unused = [item for item in free if plain_tags(item.get("Tags")).get(TAG_ATTEMPT) not in waiting]
        release_all(ec2, unused, place)
    except AccessDeniedError as error:
        log.warning("%s: unused elastic IP addresses stay until the cluster is torn down: %s", place, error.message)


def release_all(ec2: "EC2Client", items: Iterable[Mapping[str, Any]], place: Place) -> None:
    """Release the addresses that no interface uses."""
    for item in items:
        if item.get("AssociationId"):
            continue
        with translate_errors("ReleaseAddress", place):
            try:
                ec2.release_address(AllocationId=str(item["AllocationId"]))
            except ClientError as error:
                if code_of(error) not in _GONE | {"InvalidIPAddress.InUse"}:
                    raise


def is_address_quota(error: MulticomputeError) -> bool:
    """Return whether EC2 refuses an address because the account has too many."""
    return isinstance(error, QuotaError) and error.code == "AddressLimitExceeded"


def _specification(tags: Mapping[str, str]) -> Any:
    return [{"ResourceType": "elastic-ip", "Tags": ec2_tags(tags)}]


def _primary_interfaces(ec2: "EC2Client", ids: Sequence[str], place: Place) -> dict[str, str]:
    """Return instance id -> the id of its primary interface: card 0, device 0."""
    found: dict[str, str] = {}
    for batch in batches(ids, _VALUES_AT_ONCE):
        filters: Any = [
            {"Name": "attachment.instance-id", "Values": list(batch)},
            {"Name": "attachment.device-index", "Values": ["0"]},
        ]
        with translate_errors("DescribeNetworkInterfaces", place):
            pages = ec2.get_paginator("describe_network_interfaces").paginate(Filters=filters)
            for item in (item for page in pages for item in page["NetworkInterfaces"]):
                attachment = item.get("Attachment", {})
                if attachment.get("NetworkCardIndex", 0) == 0 and attachment.get("DeviceIndex", 0) == 0:
                    found[str(attachment.get("InstanceId"))] = item["NetworkInterfaceId"]
    return found
