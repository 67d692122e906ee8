"""Launches a gang: first everything that costs nothing, then one RunInstances call per part, all or nothing."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from botocore.exceptions import ClientError

from multicompute.errors import CapacityError, MulticomputeError, ThrottledError, TransientError
from multicompute.node import Node
from multicompute.offer import Part
from multicompute.provider import TAG_ATTEMPT, LaunchRequest, Selector
from multicompute.provider_kit.seam import all_or_nothing
from multicompute.provider_kit.vendor_errors import Place, invalid_request, retryable, unavailable_here
from multicompute_aws._addresses import ELASTIC, TAG_ADDRESS, Addresses, Shortage, is_address_quota
from multicompute_aws._boot import user_data
from multicompute_aws._cards import NetworkCard, interfaces
from multicompute_aws._errors import code_of, translate_errors
from multicompute_aws._families import is_xen
from multicompute_aws._image import Image, Images
from multicompute_aws._list import instances, live_instances, to_node
from multicompute_aws._names import client_token
from multicompute_aws._network import Network
from multicompute_aws._reach import Choice, no_addresses, warn
from multicompute_aws._reservations import CapacityReservation, find_reservation
from multicompute_aws._session import Clients
from multicompute_aws._tags import ec2_tags, fit_metadata
from multicompute_aws._terminate import terminate_instances

if TYPE_CHECKING:
    from mypy_boto3_ec2 import EC2Client

# A deep learning image has 100 GB; the rest is for a framework, a container or two and checkpoints.
_DEFAULT_DISK_GIB: Final = 200
_DEFAULT_PLAIN_DISK_GIB: Final = 50
# "When launching a Trn1/Trn2/Trn3 instance, you must adjust your primary EBS volume size to a minimum of 512GB",
# https://awsdocs-neuron.readthedocs-hosted.com/en/v2.33.0/setup/pytorch/update-dlami.html.
_TRAINIUM_DISK_GIB: Final = 512
# Containers on the node get their role from the metadata service, one hop further away.
_METADATA_HOPS: Final = 2
_SUBNET_IS_FULL: Final = "InsufficientFreeAddressesInSubnet"
# A group that was created a moment ago may not be known to RunInstances yet.
_NOT_YET_KNOWN: Final = frozenset({"InvalidGroup.NotFound", "InvalidPlacementGroup.Unknown"})


class Launcher:
    """A launcher of gangs, which keeps what it has read for the next launch."""

    def __init__(self, clients: Clients) -> None:
        self._clients = clients
        self._images = Images(clients)
        self.addresses = Addresses(clients)
        self._network = Network(clients, self.addresses)

    def launch(self, request: LaunchRequest) -> tuple[Node, ...]:
        """Launch all parts of `request`, or none; see `Provider.launch`."""
        calls = [(part, self._calls(request, index, part)) for index, part in enumerate(request.parts)]
        nodes: list[Node] = []
        place = Place("aws", request.region)
        with_addresses = 0

        def roll_back() -> None:
            terminate_instances(self._clients.ec2(place.region), [node.id for node in nodes], place)
            if with_addresses:
                self.addresses.release(request.token, place)

        with all_or_nothing(place, roll_back):
            for part, in_subnets in calls:
                call, launched = self._run_in_any(request, part, in_subnets)
                nodes += launched
                with_addresses += part.nodes if call.choice.access == "elastic" else 0
            if with_addresses:
                self._allocate_addresses(request, with_addresses, place)
        return tuple(nodes)

    def _allocate_addresses(self, request: LaunchRequest, count: int, place: Place) -> None:
        try:
            self.addresses.allocate(count, {**request.tags, TAG_ATTEMPT: request.token}, place)
        except MulticomputeError as error:
            if not is_address_quota(error):
                raise
            # Its quota could not be read, or another launch took the last ones.
            why = Shortage(error.vendor_message or error.message)
            raise no_addresses(why, Place.of(request.parts[0].offer)) from error

    def restart(self, request: LaunchRequest) -> tuple[Node, ...]:
        """Start the stopped instances of an earlier launch, all that can be started, and return all of them.

        Raises:
            CapacityError, QuotaError, ...: Some can't be started now.
            TransientError: Some are still stopping.
        """
        place = Place.of(request.parts[0].offer)
        selector = Selector(
            region=place.region, tokens=(request.token,), cluster_id=request.cluster_id, token=request.token
        )
        ec2 = self._clients.ec2(place.region)
        start_instances(ec2, [item["InstanceId"] for item in _in_state(ec2, selector, place, "stopped")], place)
        found = live_instances(ec2, selector, place)
        if stopping := [item["InstanceId"] for item in found if item["State"]["Name"] == "stopping"]:
            text = f"{len(stopping)} instances are still stopping: {', '.join(stopping[:5])}"
            raise retryable(text, code="IncorrectInstanceState", place=place)
        return tuple(to_node(item, place.region, selector=selector) for item in found)

    def open_ssh(self, cluster_id: str, place: Place) -> None:
        """Open port 22 of a cluster's nodes to the caller."""
        self._network.open_ssh(cluster_id, place)

    def forget(self, cluster_id: str) -> None:
        """Forget what was created for a cluster that is torn down."""
        self._network.forget(cluster_id)

    def _run_in_any(self, request: LaunchRequest, part: Part, calls: Sequence["_Call"]) -> tuple["_Call", list[Node]]:
        """Launch a part in the first of its subnets that has enough free addresses.

        All calls have the same client token, so EC2 launches the part once, whichever subnet an earlier call has named.
        """
        for number, call in enumerate(calls):
            try:
                nodes = self._run(request, part, call.arguments, is_first=number == 0)
            except CapacityError as error:
                if error.code != _SUBNET_IS_FULL or number == len(calls) - 1:
                    raise
                subnet = call.choice.subnet.id
                request.warn(f"{Place.of(part.offer)}: {subnet} has too few free addresses; trying the next subnet")
            else:
                self._network.use(call.choice.subnet, call.arguments["ClientToken"])
                warn(request, call.choice, Place.of(part.offer))
                return call, nodes
        raise AssertionError("a part has at least one subnet")

    def _run(self, request: LaunchRequest, part: Part, call: dict[str, Any], *, is_first: bool = True) -> list[Node]:
        place = Place.of(part.offer)
        ec2 = self._clients.ec2(place.region)
        with translate_errors("RunInstances", place):
            try:
                launched = ec2.run_instances(**call)["Instances"]
            except ClientError as error:
                code = code_of(error)
                if code == "IdempotentParameterMismatch" and not is_first:
                    # EC2 has just refused this token for want of addresses, so it has launched nothing with it.
                    text = "too few free addresses in the first subnet, and EC2 accepts no other for this launch"
                    raise unavailable_here(text, code=_SUBNET_IS_FULL, place=place, scope="zone", hint="") from error
                if code in ("IdempotentParameterMismatch", "IdempotentInstanceTerminated"):
                    return self._launched_before(request, part, call["ClientToken"], place, error)
                if code in _NOT_YET_KNOWN:
                    self._network.forget(request.cluster_id)
                    text = f"the group that was created for the launch is not known yet: {code}"
                    raise retryable(text, code=code, place=place) from error
                raise
        return [to_node(dict(item), place.region, request=request, part=part) for item in launched]

    def _launched_before(
        self, request: LaunchRequest, part: Part, client_token: str, place: Place, error: Exception
    ) -> list[Node]:
        """Return the nodes that an earlier launch with this token created, when the image or the script was a different one."""
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
            text = f"launched before with this token, but not listed yet: {code}"
            raise retryable(text, code=code, place=place) from error
        return found

    def _calls(self, request: LaunchRequest, index: int, part: Part) -> list["_Call"]:
        """Return the calls of RunInstances for one part, one for each subnet of its zone, in the order to try them."""
        place = Place.of(part.offer)
        reserved = find_reservation(self._clients, part.reservation, place) if part.reservation else None
        image = self._images.find(part.offer.instance, place, named=request.image)
        try:
            subnets = self._network.subnets(place, client_token(request.token, index))
        except CapacityError as error:
            if part.reservation is None:
                raise
            text = f"reservation {part.reservation} is in a zone without a subnet to launch into"
            raise unavailable_here(
                text, code="NoSubnet", place=place, scope="request", hint=error.hint or ""
            ) from error
        cards = self._network.cards(part.offer.instance, place) if request.fabric else ()
        choices = self._network.choices(request, subnets, has_one_interface=len(cards) < 2, place=place)
        groups = self._network.security_groups(request, choices[0].subnet, place)
        common = self._arguments(request, index, part, image, reserved)
        return [
            _Call(
                choice,
                {
                    **common,
                    "NetworkInterfaces": _interfaces(choice, groups, cards),
                    "TagSpecifications": _tag_specifications(request, part, choice),
                },
            )
            for choice in choices
        ]

    def _arguments(
        self, request: LaunchRequest, index: int, part: Part, image: Image, reserved: CapacityReservation | None
    ) -> dict[str, Any]:
        """Return the arguments of RunInstances for one part in any subnet; the placement group is created or found."""
        place, instance = Place.of(part.offer), part.offer.instance
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
                "InstanceMetadataTags": "enabled" if _shows_tags(request, instance.name) else "disabled",
            },
            "BlockDeviceMappings": _disks(request, part, image),
            "UserData": user_data(
                expires_at=request.expires_at, ssh_public_key=request.ssh_public_key, setup=request.setup
            ),
        }
        placement = self._placement(request, reserved, place)
        if placement:
            call["Placement"] = placement
        return call | _market(request, part, reserved) | _configured(self._clients)

    def _placement(self, request: LaunchRequest, reserved: CapacityReservation | None, place: Place) -> dict[str, str]:
        """Return the placement of a part; a reservation has a group of its own, and a capacity block needs none."""
        if reserved is not None:
            group = {"GroupName": reserved.placement_group} if reserved.placement_group else {}
            return group | ({"Tenancy": reserved.tenancy} if reserved.tenancy != "default" else {})
        return {"GroupName": self._network.placement_group(request, place)} if request.fabric else {}


class _Call(NamedTuple):
    """The arguments of RunInstances for one part in one subnet."""

    choice: Choice
    arguments: dict[str, Any]


def _interfaces(choice: Choice, groups: tuple[str, ...], cards: tuple[NetworkCard, ...]) -> list[dict[str, Any]]:
    network = interfaces(cards, subnet=choice.subnet.id, groups=groups)
    if len(network) == 1:
        # EC2 refuses this with several interfaces.
        network[0]["AssociatePublicIpAddress"] = choice.access == "public"
    return network


def _in_state(ec2: "EC2Client", selector: Selector, place: Place, state: str) -> list[dict[str, Any]]:
    return [item for item in live_instances(ec2, selector, place) if item["State"]["Name"] == state]


def start_instances(ec2: "EC2Client", ids: list[str], place: Place) -> None:
    """Start stopped instances; if EC2 refuses all because of some, each is started by itself, and the last refusal is raised."""
    if not ids:
        return
    try:
        with translate_errors("StartInstances", place):
            ec2.start_instances(InstanceIds=ids)
    except (ThrottledError, TransientError):
        raise
    except MulticomputeError:
        if len(ids) == 1:
            raise
    else:
        return
    refusal: MulticomputeError | None = None
    for name in ids:
        try:
            start_instances(ec2, [name], place)
        except MulticomputeError as error:
            refusal = error
    if refusal is not None:
        raise refusal


def _market(request: LaunchRequest, part: Part, reserved: CapacityReservation | None) -> dict[str, Any]:
    """Return the arguments of RunInstances for how the part is bought."""
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
    """Return the arguments of RunInstances that the settings add to every launch."""
    settings = clients.settings
    added: dict[str, Any] = {}
    if settings.key_name:
        added["KeyName"] = settings.key_name
    if settings.instance_profile:
        kind = "Arn" if settings.instance_profile.startswith("arn:") else "Name"
        added["IamInstanceProfile"] = {kind: settings.instance_profile}
    return added


def _shows_tags(request: LaunchRequest, instance_type: str) -> bool:
    """Return whether nodes read their expiry from the tags in their metadata; the others read it from the name of a group."""
    return fit_metadata(request.tags) and not is_xen(instance_type)


def default_disk_gib(accelerator: str) -> int:
    """Return the size of the boot disk of a type with this accelerator, unless its image is larger."""
    if accelerator.startswith("trainium"):
        return _TRAINIUM_DISK_GIB
    return _DEFAULT_DISK_GIB if accelerator else _DEFAULT_PLAIN_DISK_GIB


def _disks(request: LaunchRequest, part: Part, image: Image) -> list[dict[str, Any]]:
    """Return the volumes: those that we create are encrypted, and all are deleted with the instance.

    Raises:
        InvalidRequestError: The requested disk is smaller than the image.
    """
    default = default_disk_gib(part.offer.instance.accelerator)
    size = max(default, image.size_gib) if request.disk_gib is None else -int(-request.disk_gib // 1)
    if size < image.size_gib:
        text = f"disk={size}GiB is smaller than the image {image.id}, which has {image.size_gib} GiB"
        hint = f'disk="{image.size_gib}GiB" or more'
        raise invalid_request(text, code="InvalidBlockDeviceMapping", place=Place.of(part.offer), hint=hint)
    root = {"VolumeType": "gp3", "VolumeSize": size, "Encrypted": True, "DeleteOnTermination": True}
    others = [
        {"DeviceName": name, "Ebs": {"DeleteOnTermination": True}}
        for name, is_deleted in image.other_volumes
        if not is_deleted
    ]
    return [{"DeviceName": image.root_device, "Ebs": root}, *others]


def _tag_specifications(request: LaunchRequest, part: Part, choice: Choice) -> list[dict[str, Any]]:
    """Return the tags of everything that the call creates (I2)."""
    of_instance = {TAG_ADDRESS: ELASTIC} if choice.access == "elastic" else {}
    kinds = ["instance", "volume", "network-interface"]
    if part.offer.purchase == "spot" and part.reservation is None:
        kinds.append("spot-instances-request")
    return [
        {"ResourceType": kind, "Tags": ec2_tags({**request.tags, **(of_instance if kind == "instance" else {})})}
        for kind in kinds
    ]
