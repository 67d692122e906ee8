"""Checks of a launch against zone, placement group, quota and capacity, with EC2's errors and messages."""

import fnmatch
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from multicompute_aws.local.hardware import InstanceType, instance_types
from multicompute_aws.local.prices import spot_price
from multicompute_aws.local.state import CapacityReservation, PlacementGroup, Region, State
from multicompute_aws.local.wire import AwsError

DEFAULT_QUOTA: Final = 100_000_000.0
"""In vCPUs; so high that no test reaches it without `set_quota`."""


@dataclass(frozen=True, slots=True)
class QuotaKind:
    """A vCPU quota of EC2 and the instance families that count against it."""

    code: str
    name: str
    families: tuple[str, ...]
    spot: bool

    def counts(self, instance_type: str, *, spot: bool) -> bool:
        """Return whether an instance counts against it."""
        return self.spot == spot and any(fnmatch.fnmatchcase(instance_type, pattern) for pattern in self.families)


_STANDARD = ("[acdhimrtz][0-9]*", "im[0-9]*", "is[0-9]*")
# Codes and names: Service Quotas, "Amazon EC2", listed in us-east-1.
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
class LaunchDemand:
    """The demand of a launch; zone "" leaves the zone to EC2."""

    instance_type: InstanceType
    zone: str
    least: int
    most: int
    spot: bool
    reservation: CapacityReservation | None
    group: PlacementGroup | None
    tenancy: str = "default"


@dataclass(frozen=True, slots=True)
class Allocation:
    """The zone and the number of instances that a launch gets, and the reservation that they use."""

    zone: str
    count: int
    reservation: CapacityReservation | None


def check_offered(demand: LaunchDemand, region: str, state: State) -> None:
    """Refuse a type that the zone or the region does not offer.

    Where the region does not, EC2 names neither: https://github.com/hashicorp/terraform-provider-aws/issues/9113.
    """
    zones = state.offered(region).get(demand.instance_type.name, frozenset())
    if not zones:
        raise AwsError(
            "Unsupported",
            "The requested configuration is currently not supported. Please check the documentation for supported"
            " configurations.",
        )
    if demand.zone and demand.zone not in zones:
        raise AwsError(
            "Unsupported",
            f"Your requested instance type ({demand.instance_type.name}) is not supported in your requested Availability Zone"
            f" ({demand.zone}). Please retry your request by not specifying an Availability Zone or choosing"
            f" {', '.join(sorted(zones))}.",
        )


def check_group(demand: LaunchDemand, region: Region, state: State) -> None:
    """Refuse instances that the placement group cannot contain."""
    if demand.group is None or demand.group.strategy != "cluster":
        return
    if "cluster" not in demand.instance_type.strategies:
        raise AwsError(
            "InvalidParameterValue",
            f"Cluster placement groups are not supported by the '{demand.instance_type.name}' instance type. Specify a supported"
            " instance type or change the placement group strategy, and try again.",
        )
    zones = {member.launch.zone for member in region.members(demand.group, state.now())}
    if demand.zone and zones and demand.zone not in zones:
        raise AwsError(
            "InvalidParameterValue",
            f"The cluster placement group '{demand.group.name}' has its instances in {', '.join(sorted(zones))} and can't"
            f" span Availability Zones; {demand.zone} was requested.",
        )


def check_quota(demand: LaunchDemand, region: Region, state: State) -> None:
    """Refuse more vCPUs than the quota of the instance family allows.

    Capacity blocks do not count, and what is launched into a reservation has counted since the reservation exists.
    """
    if demand.reservation is not None:
        return
    kind = next((kind for kind in QUOTAS if kind.counts(demand.instance_type.name, spot=demand.spot)), None)
    if kind is None:
        return
    limit = state.quotas.get((region.name, kind.code), DEFAULT_QUOTA)
    if limit == DEFAULT_QUOTA or quota_used(kind, region, state) + demand.least * demand.instance_type.vcpus <= limit:
        return
    if demand.spot:
        raise AwsError("MaxSpotInstanceCountExceeded", "Max spot instance count exceeded")
    raise AwsError(
        "VcpuLimitExceeded",
        f"You have requested more vCPU capacity than your current vCPU limit of {limit:.0f} allows for the instance"
        " bucket that the specified instance type belongs to. Please visit"
        " http://aws.amazon.com/contact-us/ec2-request to request an adjustment to this limit.",
    )


def check_spot_price(demand: LaunchDemand, region: Region, state: State, params: Mapping[str, Any]) -> None:
    """Refuse a spot request whose highest price is below the price of the zone.

    Code and message: https://github.com/aws/aws-parallelcluster-node/pull/415.
    """
    highest = params.get("InstanceMarketOptions", {}).get("SpotOptions", {}).get("MaxPrice")
    if not demand.spot or not highest or not demand.zone:
        return
    name, changes = demand.instance_type.name, state.spot_prices.get((demand.zone, demand.instance_type.name), ())
    current = spot_price(name, region.name, changes, state.now())
    if float(highest) < current:
        raise AwsError(
            "SpotMaxPriceTooLow",
            f"Your Spot request price of {highest} is lower than the minimum required Spot request fulfillment price of"
            f" {current:.6f}.",
        )


def quota_used(kind: QuotaKind, region: Region, state: State) -> int:
    """Return how many vCPUs the instances of a region, and the reservations that no instance uses, take from a quota.

    https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/cr-concepts.html, "Capacity Reservation limits": unused reservations count
    against the limits of on-demand instances.
    """
    unused = sum(
        (item.total - region.reserved(item, state.now())) * instance_types()[item.instance_type].vcpus
        for item in region.reservations.values()
        if not item.is_block and item.state_at(state.now()) == "active" and kind.counts(item.instance_type, spot=False)
    )
    return unused + sum(
        instance.launch.vcpus
        for instance in region.live(state.now())
        if not instance.is_stopped
        and not instance.launch.capacity_block
        and kind.counts(instance.launch.instance_type, spot=instance.launch.spot)
    )


def allocate(demand: LaunchDemand, region: Region, state: State, default_zones: Iterable[str]) -> Allocation:
    """Choose the zone and the number of instances of a launch.

    Raises:
        AwsError: ReservationCapacityExceeded; or InsufficientInstanceCapacity, with the HTTP status 500.
    """
    if demand.reservation is not None:
        return _in_reservation(demand, demand.reservation, region, state)
    offered = state.offered(region.name).get(demand.instance_type.name, frozenset())
    zones = [demand.zone] if demand.zone else [zone for zone in sorted(default_zones) if zone in offered]
    for zone in zones:
        left = state.available(region, zone, demand.instance_type.name)
        if left is None or left >= demand.least:
            return Allocation(zone, demand.most if left is None else min(demand.most, left), None)
    others = [
        zone
        for zone in sorted(offered - set(zones))
        if (left := state.available(region, zone, demand.instance_type.name)) is None or left >= demand.least
    ]
    raise _insufficient(demand, others)


def _in_reservation(demand: LaunchDemand, reservation: CapacityReservation, region: Region, state: State) -> Allocation:
    if (reservation.instance_type, demand.zone or reservation.zone) != (demand.instance_type.name, reservation.zone):
        raise AwsError(
            "InvalidParameterValue",
            f"The capacity reservation '{reservation.id}' is for {reservation.instance_type} in {reservation.zone},"
            f" not for {demand.instance_type.name} in {demand.zone}.",
        )
    left = reservation.total - region.reserved(reservation, state.now())
    is_compatible = reservation.tenancy == demand.tenancy
    if reservation.state_at(state.now()) != "active" or left < demand.least or not is_compatible:
        raise AwsError(
            "ReservationCapacityExceeded",
            "The requested reservation does not have sufficient compatible and available capacity for this request.",
        )
    return Allocation(reservation.zone, min(demand.most, left), reservation)


def _insufficient(demand: LaunchDemand, others: Sequence[str]) -> AwsError:
    name = demand.instance_type.name
    if demand.spot:
        message = "There is no Spot capacity available that matches your request."
    elif not demand.zone:
        message = (
            f"We currently do not have sufficient {name} capacity in the Availability Zones of this region."
            " Our system will be working on provisioning additional capacity."
        )
    else:
        message = (
            f"We currently do not have sufficient {name} capacity in the Availability Zone you requested ({demand.zone})."
            " Our system will be working on provisioning additional capacity."
        )
        if others:
            message += (
                f" You can currently get {name} capacity by not specifying an Availability Zone in your request or"
                f" choosing {', '.join(others)}."
            )
    return AwsError("InsufficientInstanceCapacity", message, 500)
