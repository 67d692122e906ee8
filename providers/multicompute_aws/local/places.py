"""The places that an account can use: regions, zones under the account's own names, and what they sell."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from multicompute_aws.local import wire
from multicompute_aws.local.filters import Getter, matcher, page_size, paged
from multicompute_aws.local.hardware import zone_ids
from multicompute_aws.local.instances import Call, Handler
from multicompute_aws.local.moto_cloud import Moto
from multicompute_aws.local.state import State
from multicompute_aws.local.wire import AwsError
from multicompute_aws.local.zones import Offering

_ZONE_ID = re.compile(rb"<availabilityZoneId>([^<]+)</availabilityZoneId>")


class Places:
    """The answers of EC2 about regions, zones and offerings.

    Zone names are mapped to zone ids for each account separately ("Availability Zone IDs for your AWS resources", AWS RAM user
    guide): use1-az6 is us-east-1a in moto's listings, and may be us-east-1c in the account of this cloud.
    """

    def __init__(self, state: State, moto: Moto) -> None:
        """Answer for the account of `state`; regions, zones and offerings are those of `moto`."""
        self._state = state
        self._moto = moto

    def handlers(self) -> Mapping[str, Handler]:
        """Return the handlers by action."""
        return {
            "DescribeRegions": self._regions,
            "DescribeAvailabilityZones": self._zones,
            "DescribeInstanceTypeOfferings": self._offerings,
            "DescribeInstanceTypes": self._types,
            "DescribeSubnets": self._subnets,
        }

    def _regions(self, call: Call) -> bytes:
        named = call.params.get("RegionNames")
        listed = []
        for name, status in sorted(self._moto.regions().items()):
            is_disabled = self._state.region_status.get(name) == "disabled"
            if (named is None or name in named) and (call.params.get("AllRegions") or not is_disabled):
                status = "not-opted-in" if is_disabled else status
                listed.append({"RegionName": name, "Endpoint": f"ec2.{name}.amazonaws.com", "OptInStatus": status})
        values: dict[str, Any] = {"Regions": listed}
        return wire.response_body(call.action, values)

    def _zones(self, call: Call) -> bytes:
        ids = self._ids(call.region.name)
        for name in call.params.get("ZoneNames", ()):
            if name not in ids:
                raise AwsError("InvalidParameterValue", f"Invalid availability zone: [{name}]")
        wanted = {*call.params.get("ZoneNames", ()), *call.params.get("ZoneIds", ())}
        listed = [
            {
                "State": "available",
                "OptInStatus": "opt-in-not-required",
                "Messages": [],
                "RegionName": call.region.name,
                "ZoneName": name,
                "ZoneId": zone_id,
                "GroupName": f"{call.region.name}-zg-1",
                "NetworkBorderGroup": call.region.name,
                "ZoneType": "availability-zone",
            }
            for name, zone_id in sorted(ids.items())
            if not wanted or wanted & {name, zone_id}
        ]
        matches = matcher(call.params.get("Filters", ()), _ZONE_FILTERS, lambda item: {})
        values: dict[str, Any] = {"AvailabilityZones": [item for item in listed if matches(item)]}
        return wire.response_body(call.action, values)

    def _ids(self, region: str) -> Mapping[str, str]:
        """Return the account's zone name -> the zone's id."""
        ids = zone_ids(region)
        return {name: ids[physical] for name, physical in self._state.zones.names(region).items()}

    def _offerings(self, call: Call) -> bytes:
        kind = call.params.get("LocationType", "region")
        found = sorted(self._sold(call.region.name, kind))
        matches = matcher(call.params.get("Filters", ()), _OFFERING_FILTERS, lambda item: {})
        items = [item for item in found if matches(item)]
        size = page_size(call.params, "")
        page, more = paged(items, size, call.params.get("NextToken"), lambda item: f"{item[0]} {item[1]}")
        listed = [{"InstanceType": name, "LocationType": kind, "Location": place} for name, place in page]
        values: dict[str, Any] = {"InstanceTypeOfferings": listed, "NextToken": more}
        return wire.response_body(call.action, values)

    def _sold(self, region: str, kind: str) -> Iterator[Offering]:
        ids = self._ids(region)
        for instance_type, zones in self._state.offered(region).items():
            if kind == "region":
                yield instance_type, region
            elif kind == "availability-zone":
                yield from ((instance_type, zone) for zone in zones)
            elif kind == "availability-zone-id":
                yield from ((instance_type, ids[zone]) for zone in zones)

    def _types(self, call: Call) -> bytes:
        """Refuse types that the region does not sell, as EC2 does (moto describes every type in every region)."""
        offered = self._state.offered(call.region.name)
        missing = [name for name in call.params.get("InstanceTypes", ()) if name not in offered]
        if missing:
            raise AwsError(
                "InvalidInstanceType", f"The following supplied instance types do not exist: [{', '.join(missing)}]"
            )
        return self._moto.call_or_refuse(call.request)

    def _subnets(self, call: Call) -> bytes:
        """Pass the call on to moto, which knows its own zone ids only."""
        ids = zone_ids(call.region.name)
        own = {ids[name].encode(): zone_id.encode() for name, zone_id in self._ids(call.region.name).items()}
        body = self._moto.call_or_refuse(call.request)
        return _ZONE_ID.sub(
            lambda found: b"<availabilityZoneId>%s</availabilityZoneId>" % own.get(found[1], found[1]), body
        )


_ZONE_FILTERS: dict[str, Getter[Mapping[str, Any]]] = {
    "group-name": lambda item: (item["GroupName"],),
    "opt-in-status": lambda item: (item["OptInStatus"],),
    "region-name": lambda item: (item["RegionName"],),
    "state": lambda item: (item["State"],),
    "zone-id": lambda item: (item["ZoneId"],),
    "zone-name": lambda item: (item["ZoneName"],),
    "zone-type": lambda item: (item["ZoneType"],),
}
_OFFERING_FILTERS: dict[str, Getter[Offering]] = {
    "instance-type": lambda item: (item[0],),
    "location": lambda item: (item[1],),
}
