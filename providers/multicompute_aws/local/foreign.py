"""Foreign resources for the local AWS, created by EC2's own actions."""

from collections.abc import Mapping
from typing import Any

from multicompute.testing import foreign
from multicompute.testing.local.server import Request
from multicompute_aws.local import wire
from multicompute_aws.local.instances import Call, Handler
from multicompute_aws.local.moto_cloud import Moto
from multicompute_aws.local.state import State

_IMAGE = "/aws/service/canonical/ubuntu/server/24.04/stable/current/amd64/hvm/ebs-gp3/ami-id"


class ForeignSeeder:
    """A creator of foreign resources: an instance, a volume, an address and groups for each kind of foreign tags."""

    def __init__(self, state: State, moto: Moto, handlers: Mapping[str, Handler], region: str) -> None:
        """Create the resources in `region`, by the same `handlers` that answer a client."""
        self._state = state
        self._moto = moto
        self._handlers = handlers
        self._region = region

    def seed(self, *, volumes_in_moto: bool) -> None:
        """Create all of them, and groups with names like ours and without tags; the caller holds the lock."""
        for number, tags in enumerate(foreign.ALL):
            self._create(number, tags, volumes_in_moto=volumes_in_moto)
        backend = self._moto.ec2(self._region)
        backend.create_security_group(foreign.LIKE_OURS, "not ours", backend.default_vpc.id, tags={})
        name = f"{foreign.LIKE_OURS}-{self._moto.zones(self._region)[0]}"
        self._call("CreatePlacementGroup", {"GroupName": name}, "placement-group", {})

    def _create(self, number: int, tags: Mapping[str, str], *, volumes_in_moto: bool) -> None:
        backend = self._moto.ec2(self._region)
        zone = self._moto.zones(self._region)[0]
        vpc = backend.default_vpc.id
        group = backend.create_security_group(f"foreign-{number}", "not ours", vpc, tags=dict(tags))
        self._call("CreatePlacementGroup", {"GroupName": f"foreign-{number}"}, "placement-group", tags)
        run = {
            "ImageId": self._moto.image_parameter(self._region, _IMAGE),
            "InstanceType": "t3.micro",
            "MinCount": 1,
            "MaxCount": 1,
            "SecurityGroupIds": [group.id],
        }
        self._call("RunInstances", run, "instance", tags)
        self._call("AllocateAddress", {}, "elastic-ip", tags)
        if volumes_in_moto:
            backend.create_volume(size=8, zone_name=zone).add_tags(dict(tags))
        else:
            self._call("CreateVolume", {"Size": 8, "AvailabilityZone": zone}, "volume", tags)

    def _call(self, action: str, params: dict[str, Any], kind: str, tags: Mapping[str, str]) -> None:
        pairs = [{"Key": key, "Value": value} for key, value in tags.items()]
        if pairs:
            params = {**params, "TagSpecifications": [{"ResourceType": kind, "Tags": pairs}]}
        self._handlers[action](Call(action, self._state.region(self._region), params, _request(self._region)))


def _request(region: str) -> Request:
    scope = f"AWS4-HMAC-SHA256 Credential=LOCAL/20270101/{region}/ec2/aws4_request, SignedHeaders=host, Signature=0"
    headers = {
        "authorization": scope,
        "content-type": "application/x-www-form-urlencoded; charset=utf-8",
        "host": "ec2.amazonaws.com",
    }
    return Request("POST", "/", "", headers, f"Version={wire.ec2_model().api_version}".encode())
