"""Reads capacity reservations and capacity blocks by their ids."""

from dataclasses import dataclass
from typing import Any

from multicompute_aws._errors import Place, translate_errors, unavailable_here
from multicompute_aws._session import Clients


@dataclass(frozen=True, slots=True)
class Reserved:
    """A capacity reservation, as far as a launch into it needs to know.

    Attributes:
        is_block: whether it is a capacity block for ML, which is launched into in its own way.
        placement_group: the cluster placement group that it lies in, or "".
    """

    id: str
    is_block: bool
    placement_group: str


class Reservations:
    """Looks reservations up before a launch; what it reads of them does not change, so each is asked for once."""

    def __init__(self, clients: Clients) -> None:
        self._clients = clients
        self._known: dict[tuple[str, str], Reserved] = {}

    def find(self, reservation_id: str, place: Place) -> Reserved:
        """The reservation in the region of `place`.

        Raises:
            CapacityError: it is not there, or not this account's.
            InvalidRequestError: there is none of this id.
        """
        key = (place.region, reservation_id)
        if key not in self._known:
            with translate_errors("DescribeCapacityReservations", place):
                answer = self._clients.ec2(place.region).describe_capacity_reservations(
                    CapacityReservationIds=[reservation_id]
                )
            if not answer["CapacityReservations"]:
                raise unavailable_here(
                    f"there is no reservation {reservation_id} in this region",
                    code="InvalidCapacityReservationId.NotFound",
                    place=place,
                    scope="request",
                    hint="a reservation is valid in its own region and zone only",
                )
            self._known[key] = reserved(dict(answer["CapacityReservations"][0]))
        return self._known[key]


def reserved(described: dict[str, Any]) -> Reserved:
    """Read one item of DescribeCapacityReservations."""
    # arn:aws:ec2:region:account:placement-group/name
    group = str(described.get("PlacementGroupArn") or "").rpartition("/")[2]
    return Reserved(described["CapacityReservationId"], described.get("ReservationType") == "capacity-block", group)
