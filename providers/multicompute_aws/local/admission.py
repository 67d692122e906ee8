"""Whether a zone, a quota, a reservation and a placement group have room for a launch: EC2's refusals, in its words."""

import fnmatch
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from multicompute_aws.local.hardware import Shape, zones_of
from multicompute_aws.local.state import CapacityReservation, PlacementGroup, Region, State
from multicompute_aws.local.wire import AwsError

DEFAULT_QUOTA: Final = 100_000_000.0
"""vCPU; so high that only a quota that somebody set is ever felt."""


@dataclass(frozen=True, slots=True)
class QuotaKind:
    """One of EC2's vCPU quotas and the instance families that count against it."""

    code: str
    name: str
    families: tuple[str, ...]
    spot: bool

    def counts(self, instance_type: str, *, spot: bool) -> bool:
        """Whether such an instance takes from it."""
        return self.spot == spot and any(fnmatch.fnmatchcase(instance_type, pattern) for pattern in self.families)


_STANDARD = ("[acdhimrtz][0-9]*", "im[0-9]*", "is[0-9]*")
# Codes and names: Service Quotas, "Amazon EC2", as listed for us-east-1.
QUOTAS: Final = (
    QuotaKind("L-417A185B", "Running On-Demand P instances", ("p[0-9]*",), spot=False),
    QuotaKind("L-7212CCBC", "All P4, P3 and P2 Spot Instance Requests", ("p[234]*",), spot=True),
    QuotaKind("L-C4BD4855", "All P5 Spot Instance Requests", ("p5*",), spot=True),
    QuotaKind("L-DB2E81BA", "Running On-Demand G and VT instances", ("g[0-9]*", "gr[0-9]*", "vt[0-9]*"), spot=False),
    QuotaKind("L-3819A6DF", "All G and VT Spot Instance Requests", ("g[0-9]*", "gr[0-9]*", "vt[0-9]*"), spot=True),
    QuotaKind("L-1945791B", "Running On-Demand Inf instances", ("inf*",), spot=False),
    QuotaKind("L-B5D1601B", "All Inf Spot Instance Requests", ("inf*",), spot=True),
    QuotaKind("L-2C3B7624", "Running On-Demand Trn instances", ("trn*",), spot=False),
    QuotaKind("L-6B0D517C", "All Trn Spot Instance Requests", ("trn*",), spot=True),
    QuotaKind("L-6E869C2A", "Running On-Demand DL instances", ("dl[0-9]*",), spot=False),
    QuotaKind("L-85EED4F7", "All DL Spot Instance Requests", ("dl[0-9]*",), spot=True),
    QuotaKind("L-74FC7D96", "Running On-Demand F instances", ("f[0-9]*",), spot=False),
    QuotaKind("L-88CF9481", "All F Spot Instance Requests", ("f[0-9]*",), spot=True),
    QuotaKind("L-1216C47A", "Running On-Demand Standard (A, C, D, H, I, M, R, T, Z) instances", _STANDARD, spot=False),
    QuotaKind("L-34B43A08", "All Standard (A, C, D, H, I, M, R, T, Z) Spot Instance Requests", _STANDARD, spot=True),
)


@dataclass(frozen=True, slots=True)
class Ask:
    """What a launch needs room for."""

    shape: Shape
    zone: str
    least: int
    most: int
    spot: bool
    reservation: CapacityReservation | None
    group: PlacementGroup | None


@dataclass(frozen=True, slots=True)
class Room:
    """Where a launch goes, how many it gets, and from which reservation."""

    zone: str
    count: int
    reservation: CapacityReservation | None


def check_offered(ask: Ask, region: str) -> None:
    """Refuse a type that the zone, or the region, does not sell."""
    zones = zones_of(region).get(ask.shape.name, frozenset())
    if not zones:
        raise AwsError(
            "Unsupported",
            "The requested configuration is currently not supported. Please check the documentation for supported"
            f" configurations: {ask.shape.name} is not offered in {region}.",
        )
    if ask.zone and ask.zone not in zones:
        raise AwsError(
            "Unsupported",
            f"Your requested instance type ({ask.shape.name}) is not supported in your requested Availability Zone"
            f" ({ask.zone}). Please retry your request by not specifying an Availability Zone or choosing"
            f" {', '.join(sorted(zones))}.",
        )


def check_group(ask: Ask, region: Region, state: State) -> None:
    """Refuse what a placement group can't hold."""
    if ask.group is None or ask.group.strategy != "cluster":
        return
    if "cluster" not in ask.shape.strategies:
        raise AwsError(
            "InvalidParameterValue",
            f"Cluster placement groups are not supported by the '{ask.shape.name}' instance type. Specify a supported"
            " instance type or change the placement group strategy, and try again.",
        )
    zones = {member.launch.zone for member in region.members(ask.group, state.now())}
    if ask.zone and zones and ask.zone not in zones:
        raise AwsError(
            "InvalidParameterValue",
            f"The cluster placement group '{ask.group.name}' has its instances in {', '.join(sorted(zones))} and can't"
            f" span Availability Zones; {ask.zone} was requested.",
        )


def check_quota(ask: Ask, region: Region, state: State) -> None:
    """Refuse more vCPU than the quota of the type's family class; capacity blocks don't count."""
    if ask.reservation is not None and ask.reservation.is_block:
        return
    kind = next((kind for kind in QUOTAS if kind.counts(ask.shape.name, spot=ask.spot)), None)
    if kind is None:
        return
    limit = state.quotas.get((region.name, kind.code), DEFAULT_QUOTA)
    if limit == DEFAULT_QUOTA or quota_used(kind, region, state) + ask.least * ask.shape.vcpus <= limit:
        return
    if ask.spot:
        raise AwsError("MaxSpotInstanceCountExceeded", "Max spot instance count exceeded")
    raise AwsError(
        "VcpuLimitExceeded",
        f"You have requested more vCPU capacity than your current vCPU limit of {limit:.0f} allows for the instance"
        " bucket that the specified instance type belongs to. Please visit"
        " http://aws.amazon.com/contact-us/ec2-request to request an adjustment to this limit.",
    )


def quota_used(kind: QuotaKind, region: Region, state: State) -> int:
    """The vCPU that a region's instances take from a quota."""
    return sum(
        instance.launch.vcpus
        for instance in region.live(state.now())
        if not instance.is_stopped
        and not instance.launch.capacity_block
        and kind.counts(instance.launch.instance_type, spot=instance.launch.spot)
    )


def find_room(ask: Ask, region: Region, state: State, default_zones: Iterable[str]) -> Room:
    """Decide where a launch goes and how many it gets.

    Raises:
        AwsError: ReservationCapacityExceeded, or InsufficientInstanceCapacity as HTTP 500.
    """
    if ask.reservation is not None:
        return _in_reservation(ask, ask.reservation, region, state)
    offered = zones_of(region.name).get(ask.shape.name, frozenset())
    zones = [ask.zone] if ask.zone else [zone for zone in sorted(default_zones) if zone in offered]
    for zone in zones:
        left = state.left(region, zone, ask.shape.name)
        if left is None or left >= ask.least:
            return Room(zone, ask.most if left is None else min(ask.most, left), None)
    others = [
        zone
        for zone in sorted(offered - set(zones))
        if (left := state.left(region, zone, ask.shape.name)) is None or left >= ask.least
    ]
    raise _insufficient(ask, others)


def _in_reservation(ask: Ask, reservation: CapacityReservation, region: Region, state: State) -> Room:
    if (reservation.instance_type, ask.zone or reservation.zone) != (ask.shape.name, reservation.zone):
        raise AwsError(
            "InvalidParameterValue",
            f"The capacity reservation '{reservation.id}' is for {reservation.instance_type} in {reservation.zone},"
            f" not for {ask.shape.name} in {ask.zone}.",
        )
    left = reservation.total - region.reserved(reservation, state.now())
    if reservation.state != "active" or left < ask.least:
        raise AwsError(
            "ReservationCapacityExceeded",
            "The requested reservation does not have sufficient compatible and available capacity for this request.",
        )
    return Room(reservation.zone, min(ask.most, left), reservation)


def _insufficient(ask: Ask, others: Sequence[str]) -> AwsError:
    name = ask.shape.name
    if ask.spot:
        message = "There is no Spot capacity available that matches your request."
    elif not ask.zone:
        message = (
            f"We currently do not have sufficient {name} capacity in the Availability Zones of this region."
            " Our system will be working on provisioning additional capacity."
        )
    else:
        message = (
            f"We currently do not have sufficient {name} capacity in the Availability Zone you requested ({ask.zone})."
            " Our system will be working on provisioning additional capacity."
        )
        if others:
            message += (
                f" You can currently get {name} capacity by not specifying an Availability Zone in your request or"
                f" choosing {', '.join(others)}."
            )
    return AwsError("InsufficientInstanceCapacity", message, 500)
