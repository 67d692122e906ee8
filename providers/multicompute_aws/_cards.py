"""The network cards of instance types, and the network interfaces that a launch puts on them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from multicompute.offer import InstanceType


@dataclass(frozen=True, slots=True)
class NetworkCard:
    """A network card of an instance type, how many interfaces it takes, and whether one can be an EFA interface."""

    index: int
    interfaces: int
    has_efa: bool


@dataclass(frozen=True, slots=True)
class _Layout:
    """The cards of an instance type: how many, how many interfaces each takes, and those that take no EFA interface."""

    cards: int
    interfaces: int
    without_efa: frozenset[int] = frozenset()
    odd_interfaces: int = 0
    """The number of interfaces on a card with an odd index; 0 if it is that of the other cards."""


# EC2 describes the cards of a type (DescribeInstanceTypes, NetworkInfo.NetworkCards); this table is used where it does not. Sources:
# - P4d to P6-B200, Trn1, Trn1n, Trn2: the answers of DescribeInstanceTypes, which moto has a copy of; a test compares them.
# - P6-B300: "17 network cards, of which the primary network card (network card index 0) only supports ENA",
#   https://github.com/aws/aws-parallelcluster/issues/7143, and the same page of AWS as below.
# - P6e-GB200: 17 cards; those with an odd index take one interface, which is EFA-only, the others two,
#   https://github.com/aws/aws-parallelcluster/pull/6930.
_LAYOUTS: Final[Mapping[str, _Layout]] = {
    "p4d.24xlarge": _Layout(4, 15),
    "p4de.24xlarge": _Layout(4, 15),
    "p5.48xlarge": _Layout(32, 2),
    "p5e.48xlarge": _Layout(32, 2),
    "p5en.48xlarge": _Layout(16, 4),
    "p6-b200.48xlarge": _Layout(8, 4),
    "p6-b300.48xlarge": _Layout(17, 4, without_efa=frozenset({0})),
    "p6e-gb200.36xlarge": _Layout(17, 2, odd_interfaces=1),
    "trn1.32xlarge": _Layout(8, 5),
    "trn1n.32xlarge": _Layout(16, 5),
    "trn2.48xlarge": _Layout(16, 2),
    "trn2u.48xlarge": _Layout(16, 2),
}


def documented_cards(instance: InstanceType) -> tuple[NetworkCard, ...]:
    """Return the cards of an instance type from the table, else as many as the offer table has."""
    layout = _LAYOUTS.get(instance.name) or _Layout(instance.network_cards, 2)
    return tuple(
        NetworkCard(
            index,
            layout.odd_interfaces if index % 2 and layout.odd_interfaces else layout.interfaces,
            has_efa=index not in layout.without_efa,
        )
        for index in range(layout.cards)
    )


def described_cards(info: Mapping[str, Any], instance: InstanceType) -> tuple[NetworkCard, ...]:
    """Return the cards as `NetworkInfo` of DescribeInstanceTypes has them, else those of `documented_cards`."""
    documented = documented_cards(instance)
    has_efa = {card.index: card.has_efa for card in documented}
    listed = sorted(info.get("NetworkCards") or (), key=lambda card: int(card["NetworkCardIndex"]))
    found = tuple(
        NetworkCard(
            index := int(card["NetworkCardIndex"]),
            int(card.get("MaximumNetworkInterfaces", 2)),
            has_efa="efa-only" in card["InterfaceTypes"] if card.get("InterfaceTypes") else has_efa.get(index, True),
        )
        for card in listed
    )
    return found or documented


def interfaces(cards: tuple[NetworkCard, ...], *, subnet: str, groups: tuple[str, ...]) -> list[dict[str, Any]]:
    """Return the network interfaces of a node, the primary one first; without `cards`, there is no EFA interface.

    https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/efa-acc-inst-types.html: an ENA interface as the primary one (card 0,
    device 0); an EFA-only interface on card 0, device 1, if the card supports EFA; on each further card an EFA-only interface with
    device index 0. EFA-only interfaces use no IP addresses.

    A node with a single card has one interface for both instead, because EC2 gives a public address only to an instance with one
    interface.
    """
    plain = {"SubnetId": subnet, "Groups": list(groups), "DeleteOnTermination": True}
    if len(cards) < 2:
        return [{"DeviceIndex": 0, **plain, **({"InterfaceType": "efa"} if cards and cards[0].has_efa else {})}]
    found = [{"NetworkCardIndex": 0, "DeviceIndex": 0, "InterfaceType": "interface", **plain}]
    for card in cards:
        # Device 0 of card 0 is the primary interface.
        device = 1 if card.index == 0 else 0
        if card.has_efa and card.interfaces > device:
            found.append({"NetworkCardIndex": card.index, "DeviceIndex": device, "InterfaceType": "efa-only", **plain})
    return found
