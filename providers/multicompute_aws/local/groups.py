"""The actions on placement groups, capacity reservations and spot requests, which moto lacks or has only in part."""

from collections.abc import Mapping
from typing import Any

from multicompute_aws.local import wire
from multicompute_aws.local.filters import Getter, matcher, select
from multicompute_aws.local.instances import Call, Handler
from multicompute_aws.local.moto_cloud import Moto
from multicompute_aws.local.state import CapacityReservation, PlacementGroup, Region, SpotRequest, State
from multicompute_aws.local.tag_rules import read_specifications, tag_set
from multicompute_aws.local.wire import AwsError


class Groups:
    """Placement groups, capacity reservations and spot requests."""

    def __init__(self, state: State, moto: Moto) -> None:
        """Answer from the records in `state`; security groups and subnets are in `moto`."""
        self._state = state
        self._moto = moto

    def handlers(self) -> Mapping[str, Handler]:
        """Return the handlers by action."""
        return {
            "CreatePlacementGroup": self._create_placement_group,
            "DescribePlacementGroups": self._describe_placement_groups,
            "DeletePlacementGroup": self._delete_placement_group,
            "DescribeCapacityReservations": self._describe_reservations,
            "CancelCapacityReservation": self._cancel_reservation,
            "DescribeSpotInstanceRequests": self._describe_spot_requests,
            "CancelSpotInstanceRequests": self._cancel_spot_requests,
            "DeleteSecurityGroup": self._delete_security_group,
        }

    def _create_placement_group(self, call: Call) -> bytes:
        params = call.params
        name = params.get("GroupName", "")
        if not name or len(name) > 255 or not name.isascii():
            raise AwsError("InvalidParameterValue", f"Value ({name}) for parameter groupName is invalid.")
        if name in call.region.placement_groups:
            raise AwsError("InvalidPlacementGroup.Duplicate", f"The placement group '{name}' already exists.")
        tags = read_specifications(params.get("TagSpecifications", []), ("placement-group",))
        group = PlacementGroup(
            self._state.new_id("pg"),
            name,
            params.get("Strategy", "cluster"),
            params.get("PartitionCount"),
            tags.get("placement-group", {}),
        )
        call.region.placement_groups[name] = group
        return wire.response_body(call.action, {"PlacementGroup": self._placement_values(group, call.region)})

    def _describe_placement_groups(self, call: Call) -> bytes:
        groups = list(call.region.placement_groups.values())
        names, ids = call.params.get("GroupNames", []), call.params.get("GroupIds", [])
        for wanted in (*names, *ids):
            if all(wanted not in (group.name, group.id) for group in groups):
                raise AwsError("InvalidPlacementGroup.Unknown", f"The Placement Group '{wanted}' is unknown.")
        matches = matcher(call.params.get("Filters", ()), _PLACEMENT_FILTERS, lambda group: group.tags)
        found = [
            self._placement_values(group, call.region)
            for group in groups
            if (not names or group.name in names) and (not ids or group.id in ids) and matches(group)
        ]
        return wire.response_body(call.action, {"PlacementGroups": found})

    def _delete_placement_group(self, call: Call) -> bytes:
        name = call.params["GroupName"]
        group = call.region.placement_groups.get(name)
        if group is None:
            raise AwsError("InvalidPlacementGroup.Unknown", f"The Placement Group '{name}' is unknown.")
        if call.region.members(group, self._state.now()):
            raise AwsError(
                "InvalidPlacementGroup.InUse", f"The placement group '{name}' is in use and may not be deleted."
            )
        del call.region.placement_groups[name]
        return wire.response_body(call.action, {})

    def _placement_values(self, group: PlacementGroup, region: Region) -> dict[str, Any]:
        return {
            "GroupName": group.name,
            "GroupId": group.id,
            "State": "available",
            "Strategy": group.strategy,
            "PartitionCount": group.partitions,
            "GroupArn": f"arn:aws:ec2:{region.name}:{self._moto.account}:placement-group/{group.name}",
            "Tags": tag_set(group.tags),
        }

    def _describe_reservations(self, call: Call) -> bytes:
        ids = call.params.get("CapacityReservationIds")
        named = (self._reservation(call.region, identifier) for identifier in ids or ())
        candidates = named if ids else call.region.reservations.values()
        page, more = select(call.params, "CapacityReservationIds", candidates, _RESERVATION_FILTERS)
        listed = [self._reservation_values(item, call.region) for item in page]
        values: dict[str, Any] = {"CapacityReservations": listed, "NextToken": more}
        return wire.response_body(call.action, values)

    def _cancel_reservation(self, call: Call) -> bytes:
        self._reservation(call.region, call.params["CapacityReservationId"]).state = "cancelled"
        return wire.response_body(call.action, {"Return": True})

    def _reservation(self, region: Region, identifier: str) -> CapacityReservation:
        if identifier not in region.reservations:
            raise AwsError(
                "InvalidCapacityReservationId.NotFound", f"The capacity reservation '{identifier}' does not exist"
            )
        return region.reservations[identifier]

    def _reservation_values(self, item: CapacityReservation, region: Region) -> dict[str, Any]:
        return {
            "CapacityReservationId": item.id,
            "OwnerId": self._moto.account,
            "InstanceType": item.instance_type,
            "InstancePlatform": "Linux/UNIX",
            "AvailabilityZone": item.zone,
            "Tenancy": item.tenancy,
            "TotalInstanceCount": item.total,
            "AvailableInstanceCount": item.total - region.reserved(item, self._state.now()),
            "State": item.state_at(self._state.now()),
            "StartDate": item.created_at,
            "CreateDate": item.created_at,
            "EndDate": item.ends_at,
            "EndDateType": "limited" if item.ends_at else "unlimited",
            "InstanceMatchCriteria": "targeted",
            "ReservationType": "capacity-block" if item.is_block else "default",
            "Tags": tag_set(item.tags),
        }

    def _describe_spot_requests(self, call: Call) -> bytes:
        ids = call.params.get("SpotInstanceRequestIds")
        named = (self._spot_request(call.region, identifier) for identifier in ids or ())
        candidates = named if ids else call.region.spot_requests.values()
        page, more = select(call.params, "SpotInstanceRequestIds", candidates, _SPOT_FILTERS)
        values: dict[str, Any] = {"SpotInstanceRequests": [_spot_values(item) for item in page], "NextToken": more}
        return wire.response_body(call.action, values)

    def _cancel_spot_requests(self, call: Call) -> bytes:
        found = [self._spot_request(call.region, identifier) for identifier in call.params["SpotInstanceRequestIds"]]
        for item in found:
            if item.state in ("open", "active"):
                # The instance of a cancelled request keeps running ("Cancel a Spot Instance request", EC2 user guide).
                item.state, item.status = "cancelled", "request-canceled-and-instance-running"
        cancelled = [{"SpotInstanceRequestId": item.id, "State": item.state} for item in found]
        return wire.response_body(call.action, {"CancelledSpotInstanceRequests": cancelled})

    def _spot_request(self, region: Region, identifier: str) -> SpotRequest:
        if identifier not in region.spot_requests:
            raise AwsError(
                "InvalidSpotInstanceRequestID.NotFound", f"The spot instance request ID '{identifier}' does not exist"
            )
        return region.spot_requests[identifier]

    def _delete_security_group(self, call: Call) -> bytes:
        """Refuse while an instance of the own store, which moto does not know, uses the group; otherwise pass the call on to moto."""
        group_id = call.params.get("GroupId")
        if group_id is None and "GroupName" in call.params:
            group = self._moto.ec2(call.region.name).get_security_group_from_name(call.params["GroupName"])
            group_id = group.id if group else None
        is_used = any(group_id in {group for group, _ in each.spec.groups} for each in call.region.interfaces.values())
        # moto deletes a group that an interface of its own still has.
        interfaces = self._moto.ec2(call.region.name).enis.values()
        is_used = is_used or any(group_id in {group.id for group in each.group_set} for each in interfaces)
        if is_used and not call.params.get("DryRun"):
            raise AwsError("DependencyViolation", f"resource {group_id} has a dependent object")
        return self._moto.call_or_refuse(call.request)


def _spot_values(item: SpotRequest) -> dict[str, Any]:
    launch = item.instance.launch
    return {
        "SpotInstanceRequestId": item.id,
        "InstanceId": item.instance.id,
        "State": item.state,
        "Status": {"Code": item.status, "Message": item.status.replace("-", " "), "UpdateTime": item.created_at},
        "SpotPrice": item.max_price or None,
        "Type": item.kind,
        "InstanceInterruptionBehavior": item.interruption,
        "CreateTime": item.created_at,
        "LaunchedAvailabilityZone": launch.zone,
        "ProductDescription": "Linux/UNIX",
        "LaunchSpecification": {"InstanceType": launch.instance_type, "ImageId": launch.image},
        "Tags": tag_set(item.tags),
    }


_PLACEMENT_FILTERS: dict[str, Getter[PlacementGroup]] = {
    "group-name": lambda group: (group.name,),
    "state": lambda group: ("available",),
    "strategy": lambda group: (group.strategy,),
}
_RESERVATION_FILTERS: dict[str, Getter[CapacityReservation]] = {
    "instance-type": lambda item: (item.instance_type,),
    "availability-zone": lambda item: (item.zone,),
    "state": lambda item: (item.state,),
}
_SPOT_FILTERS: dict[str, Getter[SpotRequest]] = {
    "spot-instance-request-id": lambda item: (item.id,),
    "instance-id": lambda item: (item.instance.id,),
    "state": lambda item: (item.state,),
    "status-code": lambda item: (item.status,),
    "launched-availability-zone": lambda item: (item.instance.launch.zone,),
    "type": lambda item: (item.kind,),
}
