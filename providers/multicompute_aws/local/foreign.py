"""Resources of somebody else, which nobody may touch; and the proof that nobody did."""

from collections.abc import Mapping
from typing import Any

from multicompute.testing import foreign
from multicompute.testing.local_server import Request
from multicompute_aws.local import wire
from multicompute_aws.local.instances import Call, Handler
from multicompute_aws.local.moto_cloud import Moto
from multicompute_aws.local.state import State

_IMAGE = "/aws/service/canonical/ubuntu/server/24.04/stable/current/amd64/hvm/ebs-gp3/ami-id"


class ForeignResources:
    """An instance, a volume, a security group and a placement group for each kind of foreign resource, and groups named like ours without tags.

    Attributes:
        ids: the ids of all of them, and of what comes with the instances.
    """

    def __init__(self, state: State, moto: Moto) -> None:
        self._state = state
        self._moto = moto
        self._expected: dict[tuple[str, str], Mapping[str, str]] = {}
        self.ids: set[str] = set()

    def forget(self) -> None:
        """Know of none any more."""
        self._expected.clear()
        self.ids.clear()

    def seed(self, region: str, handlers: Mapping[str, Handler], *, in_moto: bool) -> None:
        """Make them in a region."""
        before = self._tags(region)
        with self._state.lock:
            for number, tags in enumerate(foreign.ALL):
                self._make(region, handlers, number, tags, in_moto=in_moto)
            self._make_like_ours(region, handlers)
        made = {key: found for key, found in self._tags(region).items() if key not in before}
        self._expected |= {(region, identifier): found for identifier, found in made.items()}
        self.ids |= set(made)

    def are_intact(self) -> bool:
        """Whether all of them live and have their tags."""
        return all(self._tags(region).get(identifier) == tags for (region, identifier), tags in self._expected.items())

    def _make(
        self, region: str, handlers: Mapping[str, Handler], number: int, tags: Mapping[str, str], *, in_moto: bool
    ) -> None:
        backend = self._moto.ec2(region)
        zone = self._moto.zones(region)[0]
        vpc = backend.default_vpc.id
        group = backend.create_security_group(f"foreign-{number}", "not ours", vpc, tags=dict(tags))
        self._call(
            region, handlers, "CreatePlacementGroup", {"GroupName": f"foreign-{number}"}, "placement-group", tags
        )
        run = {
            "ImageId": self._moto.image_parameter(region, _IMAGE),
            "InstanceType": "t3.micro",
            "MinCount": 1,
            "MaxCount": 1,
            "SecurityGroupIds": [group.id],
        }
        self._call(region, handlers, "RunInstances", run, "instance", tags)
        if in_moto:
            backend.create_volume(size=8, zone_name=zone).add_tags(dict(tags))
        else:
            self._call(region, handlers, "CreateVolume", {"Size": 8, "AvailabilityZone": zone}, "volume", tags)

    def _make_like_ours(self, region: str, handlers: Mapping[str, Handler]) -> None:
        backend = self._moto.ec2(region)
        backend.create_security_group(foreign.LIKE_OURS, "not ours", backend.default_vpc.id, tags={})
        name = f"{foreign.LIKE_OURS}-{self._moto.zones(region)[0]}"
        self._call(region, handlers, "CreatePlacementGroup", {"GroupName": name}, "placement-group", {})

    def _call(
        self,
        region: str,
        handlers: Mapping[str, Handler],
        action: str,
        params: dict[str, Any],
        kind: str,
        tags: Mapping[str, str],
    ) -> None:
        pairs = [{"Key": key, "Value": value} for key, value in tags.items()]
        if pairs:
            params = {**params, "TagSpecifications": [{"ResourceType": kind, "Tags": pairs}]}
        handlers[action](Call(action, self._state.region(region), params, _request(region)))

    def _tags(self, name: str) -> dict[str, dict[str, str]]:
        """Id -> tags of everything in a region."""
        with self._state.lock:
            region, now = self._state.region(name), self._state.now()
            found = {instance.id: dict(instance.tags) for instance in region.live(now)}
            found |= {volume.id: dict(volume.tags) for volume in region.volumes.values()}
            found |= {interface.id: dict(interface.tags) for interface in region.interfaces.values()}
            found |= {group.name: dict(group.tags) for group in region.placement_groups.values()}
            # Last, because of an instance in moto our own record knows the tags of its birth only.
            found |= {
                resource.id: dict(resource.tags) for resource in self._moto.resources() if resource.region == name
            }
        return found


def _request(region: str) -> Request:
    scope = f"AWS4-HMAC-SHA256 Credential=LOCAL/20270101/{region}/ec2/aws4_request, SignedHeaders=host, Signature=0"
    headers = {
        "authorization": scope,
        "content-type": "application/x-www-form-urlencoded; charset=utf-8",
        "host": "ec2.amazonaws.com",
    }
    return Request("POST", "/", "", headers, f"Version={wire.ec2_model().api_version}".encode())
