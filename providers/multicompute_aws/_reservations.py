"""Reads capacity reservations and capacity blocks by their ids."""

import re
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from multicompute.errors import MulticomputeError
from multicompute.provider import Reservation
from multicompute.provider_kit.vendor_errors import Place, unavailable_here
from multicompute_aws._errors import translate_errors
from multicompute_aws._session import Clients

# A reservation is in one region only, so this is the normal answer of all others.
_ELSEWHERE: Final = ("InvalidCapacityReservationId.NotFound", "InvalidCapacityReservationId.Malformed")
# https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/capacity-blocks-using.html: EC2 begins to terminate the instances 30 minutes
# before the end of a block, and those of UltraServers 60 minutes before.
_BLOCK_MARGIN: Final = timedelta(minutes=30)
_ULTRASERVER_MARGIN: Final = timedelta(minutes=60)
_ULTRASERVER: Final = re.compile(r"p6e-|trn2u\.")


@dataclass(frozen=True, slots=True)
class CapacityReservation:
    """The properties of a capacity reservation that a launch needs.

    Attributes:
        is_block: Whether it is a capacity block for ML, into which instances are launched with options of their own.
        placement_group: The cluster placement group that it belongs to, or "".
        tenancy: "default" or "dedicated". Instances need the same: "tenancy" is one of the attributes that must match,
            https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/ec2-capacity-reservations.html.
    """

    id: str
    is_block: bool
    placement_group: str
    tenancy: str = "default"


def find_reservation(clients: Clients, reservation_id: str, place: Place) -> CapacityReservation:
    """Return the reservation in the region of `place`.

    Raises:
        CapacityError: The region has no reservation of this id, or it belongs to another account.
        InvalidRequestError: EC2 knows no reservation of this id.
    """
    described = _described(clients, place, reservation_id)
    if not described:
        raise unavailable_here(
            f"the region has no reservation {reservation_id}",
            code="InvalidCapacityReservationId.NotFound",
            place=place,
            scope="request",
            hint="a reservation is valid in its own region and zone only",
        )
    item = described[0]
    # arn:aws:ec2:region:account:placement-group/name
    group = str(item.get("PlacementGroupArn") or "").rpartition("/")[2]
    tenancy = str(item.get("Tenancy") or "default")
    return CapacityReservation(item["CapacityReservationId"], _is_block(item), group, tenancy)


def reservations(clients: Clients, place: Place, reservation_id: str) -> list[Reservation]:
    """Return the reservation, if it is in this region; one that is not active has nothing available."""
    try:
        described = _described(clients, place, reservation_id)
    except MulticomputeError as error:
        if error.code in _ELSEWHERE:
            return []
        raise
    return [
        Reservation(
            provider="aws",
            id=item["CapacityReservationId"],
            region=place.region,
            zone=item["AvailabilityZone"],
            instance_type=item["InstanceType"],
            available=item["AvailableInstanceCount"] if item["State"] == "active" else 0,
            kind="capacity-block" if _is_block(item) else "reservation",
            ends_at=_end(item),
        )
        for item in described
    ]


def _described(clients: Clients, place: Place, reservation_id: str) -> list[dict[str, Any]]:
    with translate_errors("DescribeCapacityReservations", place):
        answer = clients.ec2(place.region).describe_capacity_reservations(CapacityReservationIds=[reservation_id])
    return [dict(item) for item in answer["CapacityReservations"]]


def _end(item: dict[str, Any]) -> datetime | None:
    """Return when EC2 begins to terminate the instances in a capacity block; None for other reservations.

    Instances in a reservation with an end date run on after it, see
    https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/capacity-reservations-using.html.
    """
    end: datetime | None = item.get("EndDate")
    if end is None or not _is_block(item):
        return None
    return end - (_ULTRASERVER_MARGIN if _ULTRASERVER.match(item["InstanceType"]) else _BLOCK_MARGIN)


def _is_block(item: dict[str, Any]) -> bool:
    return item.get("ReservationType") == "capacity-block"
