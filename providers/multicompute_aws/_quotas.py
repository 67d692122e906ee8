"""Reads what the account may have in a region: vCPU quotas less what runs, and reservations by id."""

from collections import defaultdict
from collections.abc import Sequence
from typing import Any, Final

from multicompute.errors import MulticomputeError
from multicompute.offer import Purchase
from multicompute.provider import Quota, Quotas, Reservation
from multicompute_aws._discover import instances
from multicompute_aws._errors import Place, member, translate_errors
from multicompute_aws._families import FAMILIES, Family
from multicompute_aws._session import Clients

# Instances in these states count against the vCPU quotas.
_COUNTED: Final = [{"Name": "instance-state-name", "Values": ["pending", "running"]}]
_TYPES_AT_ONCE: Final = 100


def quotas(clients: Clients, region: str, reservations: Sequence[str] = ()) -> Quotas:
    """What the account may still have in `region`; what can't be read is a note."""
    notes: list[str] = []
    found: tuple[Quota, ...] = ()
    place = Place(region)
    try:
        limits = _limits(clients, place)
        # What runs is worth a listing only where there is a limit to hold it against.
        used = _used(clients, place) if limits else {}
        found = tuple(_quota(family, region, limits[family.code], used) for family in FAMILIES if family.code in limits)
        if not found:
            notes.append(f"aws {region}: Service Quotas names none of EC2's vCPU quotas; they are not compared")
    except MulticomputeError as error:
        notes.append(f"aws {region}: quotas could not be read and are not compared: {error.message}")
    held: list[Reservation] = []
    for reservation_id in reservations:
        try:
            held += _held(clients, place, reservation_id)
        except MulticomputeError as error:
            if error.code not in _ELSEWHERE:
                notes.append(f"aws {region}: reservation {reservation_id} could not be read: {error.message}")
    return Quotas(found, tuple(held), tuple(notes))


# A reservation is in one region only, so in the others this is the normal answer.
_ELSEWHERE: Final = ("InvalidCapacityReservationId.NotFound", "InvalidCapacityReservationId.Malformed")


def _quota(family: Family, region: str, limit: float, used: dict[tuple[str, Purchase], float]) -> Quota:
    return Quota(
        name=family.name,
        region=region,
        purchase=family.purchase,
        families=family.types,
        limit=limit,
        used=sum(
            vcpus
            for (instance_type, purchase), vcpus in used.items()
            if purchase == family.purchase and family.covers(instance_type)
        ),
        unit="vcpus",
    )


def _limits(clients: Clients, place: Place) -> dict[str, float]:
    """The account's limit of each quota that is of interest, by code."""
    wanted = {family.code for family in FAMILIES}
    with translate_errors("ListServiceQuotas", place):
        pages: Any = (
            clients.service_quotas(place.region)
            .get_paginator("list_service_quotas")
            .paginate(ServiceCode="ec2", PaginationConfig={"PageSize": 100})
        )
        return {
            item["QuotaCode"]: float(item["Value"])
            for page in pages
            for item in member(page, "Quotas", place)
            if item["QuotaCode"] in wanted and "Value" in item
        }


def _used(clients: Clients, place: Place) -> dict[tuple[str, Purchase], float]:
    """vCPUs of everything that runs in the account, by type and way of buying; capacity blocks have quotas of their own."""
    counts: dict[tuple[str, Purchase], float] = defaultdict(float)
    without: dict[tuple[str, Purchase], int] = defaultdict(int)
    for item in instances(clients.ec2(place.region), list(_COUNTED), place):
        lifecycle = item.get("InstanceLifecycle", "")
        if lifecycle == "capacity-block":
            continue
        key: tuple[str, Purchase] = (item["InstanceType"], "spot" if lifecycle == "spot" else "on_demand")
        options = item.get("CpuOptions") or {}
        vcpus = int(options.get("CoreCount", 0)) * int(options.get("ThreadsPerCore", 0))
        counts[key] += vcpus
        without[key] += 0 if vcpus else 1
    lacking = sorted({instance_type for (instance_type, _), number in without.items() if number})
    if lacking:
        vcpus_of = _vcpus(clients, place, lacking)
        for key, number in without.items():
            counts[key] += number * vcpus_of.get(key[0], 0)
    return dict(counts)


def _vcpus(clients: Clients, place: Place, types: list[str]) -> dict[str, int]:
    """vCPUs of instance types whose instances do not say how many they have."""
    found: dict[str, int] = {}
    for start in range(0, len(types), _TYPES_AT_ONCE):
        filters: Any = [{"Name": "instance-type", "Values": types[start : start + _TYPES_AT_ONCE]}]
        with translate_errors("DescribeInstanceTypes", place):
            pages = clients.ec2(place.region).get_paginator("describe_instance_types").paginate(Filters=filters)
            for page in pages:
                for item in page["InstanceTypes"]:
                    found[item["InstanceType"]] = item["VCpuInfo"]["DefaultVCpus"]
    return found


def _held(clients: Clients, place: Place, reservation_id: str) -> list[Reservation]:
    """The reservation, where it is in this region; one that is not active has nothing available."""
    with translate_errors("DescribeCapacityReservations", place):
        answer = clients.ec2(place.region).describe_capacity_reservations(CapacityReservationIds=[reservation_id])
    held: list[Reservation] = []
    for item in answer["CapacityReservations"]:
        is_block = item.get("ReservationType") == "capacity-block"
        held.append(
            Reservation(
                provider="aws",
                id=item["CapacityReservationId"],
                region=place.region,
                zone=item["AvailabilityZone"],
                instance_type=item["InstanceType"],
                available=item["AvailableInstanceCount"] if item["State"] == "active" else 0,
                kind="capacity-block" if is_block else "reservation",
            )
        )
    return held
