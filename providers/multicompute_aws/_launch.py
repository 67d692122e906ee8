"""Launches a gang: everything that is free first, then one RunInstances call per part, all or nothing."""

import hashlib
from typing import Any, Final

from botocore.exceptions import ClientError

from multicompute.errors import InvalidRequestError, MulticomputeError, ThrottledError, TransientError
from multicompute.node import Node
from multicompute.offer import Part
from multicompute.provider import TAG_ATTEMPT, LaunchRequest
from multicompute_aws._discover import instances, to_node
from multicompute_aws._errors import Place, code_of, retryable, translate_errors
from multicompute_aws._image import Image, Images
from multicompute_aws._network import Network, interfaces, warn_of_no_way_out
from multicompute_aws._reserved import Reservations, Reserved
from multicompute_aws._session import Clients
from multicompute_aws._tags import check_tags, ec2_tags
from multicompute_aws._teardown import terminate_instances
from multicompute_aws._userdata import user_data

_CLIENT_TOKEN_LENGTH: Final = 64
# Room for a framework, a container or two and checkpoints beside the 100 GB of a deep learning image.
_DEFAULT_DISK_GIB: Final = 200
_DEFAULT_PLAIN_DISK_GIB: Final = 50
# Containers on the node are one hop further away from the metadata service, and get their role from it.
_METADATA_HOPS: Final = 2
# What we made a moment ago may not be known to RunInstances yet.
_NOT_YET_THERE: Final = frozenset({"InvalidGroup.NotFound", "InvalidPlacementGroup.Unknown"})


class Launcher:
    """Launches gangs; what it looked up for one launch serves the next."""

    def __init__(self, clients: Clients) -> None:
        self._clients = clients
        self._images = Images(clients)
        self._network = Network(clients)
        self._reservations = Reservations(clients)

    def launch(self, request: LaunchRequest) -> tuple[Node, ...]:
        """Launch all parts of `request`, or none; see `Provider.launch`."""
        check_tags(request.tags)
        calls = [(part, self._call(request, index, part)) for index, part in enumerate(request.parts)]
        nodes: list[Node] = []
        for part, call in calls:
            try:
                nodes += self._run(request, part, call)
            except (ThrottledError, TransientError):
                # Not known what became of it: the engine repeats the launch, and finds the earlier parts by their tokens.
                raise
            except MulticomputeError as error:
                self._take_back(nodes, error)
                raise
        return tuple(nodes)

    def forget(self, cluster_id: str) -> None:
        """Forget what was made for a cluster that is torn down."""
        self._network.forget(cluster_id)

    def _run(self, request: LaunchRequest, part: Part, call: dict[str, Any]) -> list[Node]:
        place = place_of(part)
        ec2 = self._clients.ec2(place.region)
        with translate_errors("RunInstances", place):
            try:
                launched = ec2.run_instances(**call)["Instances"]
            except ClientError as error:
                code = code_of(error)
                if code in ("IdempotentParameterMismatch", "IdempotentInstanceTerminated"):
                    return self._already(request, part, call["ClientToken"], place, error)
                if code in _NOT_YET_THERE and not self._clients.settings.security_groups:
                    self._network.forget(request.cluster_id)
                    raise retryable(f"the group made for the launch is not known yet: {code}", code, place) from error
                raise
        return [to_node(dict(item), place.region, request=request, part=part) for item in launched]

    def _already(
        self, request: LaunchRequest, part: Part, client_token: str, place: Place, error: Exception
    ) -> list[Node]:
        """The nodes that an earlier launch under this token made, with an image or a script that was different then."""
        filters = [
            {"Name": "client-token", "Values": [client_token]},
            {"Name": f"tag:{TAG_ATTEMPT}", "Values": [request.token]},
        ]
        found = [
            to_node(item, place.region, request=request, part=part)
            for item in instances(self._clients.ec2(place.region), filters, place)
        ]
        if not found:
            code = code_of(error)
            raise retryable(f"launched before under this token, but not listed yet: {code}", code, place) from error
        return found

    def _take_back(self, nodes: list[Node], error: MulticomputeError) -> None:
        """Terminate the parts that did come up before another was refused: a gang is all or nothing.

        Raises:
            TransientError: that failed, so that nodes of this token may live; the engine repeats the launch.
        """
        if not nodes:
            return
        place = Place(nodes[0].region)
        try:
            terminate_instances(self._clients.ec2(place.region), [node.id for node in nodes], place)
        except MulticomputeError as failure:
            raise TransientError(
                f"{place}: {error.message}; and the other part of the gang could not be taken back: {failure.message}",
                provider="aws",
                region=place.region,
                code=failure.code,
                hint="the same request may be sent again with the same token",
            ) from error

    def _call(self, request: LaunchRequest, index: int, part: Part) -> dict[str, Any]:
        """The arguments of RunInstances for one part; makes and looks up what they name."""
        place, instance = place_of(part), part.offer.instance
        reserved = self._reservations.find(part.reservation, place) if part.reservation else None
        image = self._images.find(instance, place, named=request.image)
        subnet = self._network.subnet(place)
        cards = self._network.cards(instance, place) if request.fabric else ()
        groups = self._network.security_groups(request, subnet, place)
        placement = self._placement(request, reserved, place)
        network = interfaces(subnet, groups, cards, is_private=request.private)
        if not self._clients.settings.is_local:
            warn_of_no_way_out(subnet, network, is_private=request.private, place=place)
        call: dict[str, Any] = {
            "ImageId": image.id,
            "InstanceType": instance.name,
            "MinCount": part.nodes,
            "MaxCount": part.nodes,
            "ClientToken": client_token(request.token, index),
            "InstanceInitiatedShutdownBehavior": "terminate",
            "MetadataOptions": {
                "HttpTokens": "required",
                "HttpEndpoint": "enabled",
                "HttpPutResponseHopLimit": _METADATA_HOPS,
                "InstanceMetadataTags": "enabled",
            },
            "NetworkInterfaces": network,
            "BlockDeviceMappings": _disks(request, part, image),
            "TagSpecifications": _tag_specifications(request, part),
            "UserData": user_data(
                expires_at=request.expires_at, ssh_public_key=request.ssh_public_key, setup=request.setup
            ),
        }
        if placement:
            call["Placement"] = {"GroupName": placement}
        return call | _market(request, part, reserved) | _configured(self._clients)

    def _placement(self, request: LaunchRequest, reserved: Reserved | None, place: Place) -> str:
        """The placement group for a part; a reservation brings its own, and a capacity block lies close together already."""
        if reserved is not None:
            return reserved.placement_group
        return self._network.placement_group(request, place) if request.fabric else ""


def place_of(part: Part) -> Place:
    """Where a part is launched."""
    offer = part.offer
    return Place(offer.region, offer.zone, offer.instance.name, offer.purchase)


def client_token(token: str, index: int) -> str:
    """EC2's token of the part with this index; a long one is shortened by its digest, so that it stays unique.

    Raises:
        InvalidRequestError: EC2 takes ASCII only.
    """
    if not token.isascii():
        raise InvalidRequestError(f"aws: token {token!r} is not ASCII", provider="aws", code="InvalidClientToken")
    wanted = token if index == 0 else f"{token}-{index}"
    return wanted if len(wanted) <= _CLIENT_TOKEN_LENGTH else hashlib.sha256(wanted.encode()).hexdigest()


def _market(request: LaunchRequest, part: Part, reserved: Reserved | None) -> dict[str, Any]:
    """How the part is bought."""
    if reserved is not None:
        target = {"CapacityReservationTarget": {"CapacityReservationId": reserved.id}}
        market = {"InstanceMarketOptions": {"MarketType": "capacity-block"}} if reserved.is_block else {}
        return {"CapacityReservationSpecification": target, **market}
    if part.offer.purchase != "spot":
        return {}
    options = {"SpotInstanceType": "one-time", "InstanceInterruptionBehavior": "terminate"}
    if request.max_price is not None:
        options["MaxPrice"] = f"{request.max_price:.6f}"
    return {"InstanceMarketOptions": {"MarketType": "spot", "SpotOptions": options}}


def _configured(clients: Clients) -> dict[str, Any]:
    """What the settings add to every launch."""
    settings = clients.settings
    added: dict[str, Any] = {}
    if settings.key_name:
        added["KeyName"] = settings.key_name
    if settings.instance_profile:
        kind = "Arn" if settings.instance_profile.startswith("arn:") else "Name"
        added["IamInstanceProfile"] = {kind: settings.instance_profile}
    return added


def _disks(request: LaunchRequest, part: Part, image: Image) -> list[dict[str, Any]]:
    """The volumes: all of them encrypted where we make them, and gone with the instance.

    Raises:
        InvalidRequestError: the disk asked for is smaller than the image.
    """
    default = _DEFAULT_DISK_GIB if part.offer.instance.accelerator else _DEFAULT_PLAIN_DISK_GIB
    size = max(default, image.size_gib) if request.disk_gib is None else -int(-request.disk_gib // 1)
    if size < image.size_gib:
        raise InvalidRequestError(
            f"{place_of(part)}: disk={size}GiB is smaller than the image {image.id}, which has {image.size_gib} GiB",
            provider="aws",
            region=part.offer.region,
            code="InvalidBlockDeviceMapping",
            hint=f'disk="{image.size_gib}GiB" or more',
        )
    root = {"VolumeType": "gp3", "VolumeSize": size, "Encrypted": True, "DeleteOnTermination": True}
    others = [
        {"DeviceName": name, "Ebs": {"DeleteOnTermination": True}} for name, goes in image.other_volumes if not goes
    ]
    return [{"DeviceName": image.root_device, "Ebs": root}, *others]


def _tag_specifications(request: LaunchRequest, part: Part) -> list[dict[str, Any]]:
    """Tags for everything that the call makes, in the call that makes it (I2)."""
    kinds = ["instance", "volume", "network-interface"]
    if part.offer.purchase == "spot" and part.reservation is None:
        kinds.append("spot-instances-request")
    return [{"ResourceType": kind, "Tags": ec2_tags(request.tags)} for kind in kinds]
