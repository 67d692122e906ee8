"""Chooses the subnets of a launch from which its nodes reach the internet and, unless they are private, can be reached."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

from multicompute.errors import MulticomputeError
from multicompute.provider import LaunchRequest
from multicompute.provider_kit.vendor_errors import Place, invalid_request
from multicompute_aws._addresses import Shortage
from multicompute_aws._routes import WayOut

Access = Literal["public", "elastic", "none"]
"""The public address of a node: given by EC2 at the launch, an elastic IP address after it, or none."""

_NO_WAY_OUT: Final = "NoWayOut"


@dataclass(frozen=True, slots=True)
class Subnet:
    """A subnet that nodes can be launched into.

    Attributes:
        is_public: Whether AWS gives its instances a public address by default.
        free: How many addresses were free when it was listed.
    """

    id: str
    vpc: str
    zone: str
    is_public: bool
    free: int = 0


@dataclass(frozen=True, slots=True)
class Choice:
    """A subnet, where its default route leads, and the public address that nodes get in it."""

    subnet: Subnet
    way: WayOut
    access: Access


def choices(
    subnets: Sequence[tuple[Subnet, WayOut]], *, is_private: bool, has_one_interface: bool, has_key: bool
) -> list[Choice]:
    """Return the subnets that a launch can use, the best first; without private=True none that leaves the nodes without a way out.

    A node with several interfaces gets no public address from EC2. With a key to log in with, an elastic IP address is better than
    a NAT gateway, which lets nobody in; without one, the NAT gateway is.
    """
    found = [
        Choice(subnet, way, _access(subnet, way, is_private=is_private, has_one_interface=has_one_interface))
        for subnet, way in subnets
    ]
    if is_private:
        order: tuple[WayOut, ...] = ("nat", "unknown", "internet", "none")
        return sorted(found, key=lambda choice: order.index(choice.way))
    order = ("nat", "internet", "unknown") if not has_one_interface and not has_key else ("internet", "nat", "unknown")
    return sorted((choice for choice in found if choice.way in order), key=lambda choice: order.index(choice.way))


def _access(subnet: Subnet, way: WayOut, *, is_private: bool, has_one_interface: bool) -> Access:
    is_public = way == "internet" or (way == "unknown" and subnet.is_public)
    if is_private or not is_public:
        return "none"
    return "public" if has_one_interface else "elastic"


def no_way_out(place: Place) -> MulticomputeError:
    """Return the error of a launch for which every subnet is isolated."""
    return invalid_request(
        "no subnet here has a route to the internet, so nodes could not be reached and could not download anything",
        code=_NO_WAY_OUT,
        place=place,
        scope="request",
        hint="add a default route to an internet or NAT gateway, name other [providers.aws] subnets, or use private=True",
    )


def no_addresses(shortage: Shortage, place: Place) -> MulticomputeError:
    """Return the error of a launch whose nodes get no public address, and whose subnets have no NAT gateway."""
    return invalid_request(
        f"EC2 gives nodes with several network cards no public address, and no subnet here has a NAT gateway: {shortage.why}",
        code=_NO_WAY_OUT,
        place=place,
        scope="request",
        hint=f"name [providers.aws] subnets with a NAT gateway, use private=True, or {shortage.remedy}",
    )


def warn(request: LaunchRequest, choice: Choice, place: Place) -> None:
    """Report what will not work on nodes in a subnet."""
    subnet = choice.subnet.id
    if request.private and choice.way in ("internet", "none"):
        text = f"private nodes in {subnet} have no way out, since it has no NAT gateway: no download works"
        request.warn(f"{place}: {text}")
    elif choice.access == "none" and request.opens_ssh:
        request.warn(f"{place}: nodes in {subnet} get no public address: SSH works only from inside its network")
