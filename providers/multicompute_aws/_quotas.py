"""Reads the vCPU quotas of a region with what is used of each, and reservations by id."""

from collections import defaultdict
from collections.abc import Sequence
from functools import partial
from typing import Any, Final

from multicompute.offer import Purchase
from multicompute.provider import Quota, Quotas
from multicompute.provider_kit.calls import batches
from multicompute.provider_kit.seam import read_quotas
from multicompute.provider_kit.vendor_errors import Place
from multicompute_aws._account import account
from multicompute_aws._errors import member, translate_errors
from multicompute_aws._families import FAMILIES, Family
from multicompute_aws._list import instances
from multicompute_aws._reservations import reservations as reservations_of
from multicompute_aws._session import Clients

# Instances in these states count against the vCPU quotas.
_COUNTED: Final = [{"Name": "instance-state-name", "Values": ["pending", "running"]}]
_TYPES_AT_ONCE: Final = 100


def quotas(clients: Clients, region: str, reservations: Sequence[str] = ()) -> Quotas:
    """Return the quotas of `region` and the named reservations that are in it, see `Provider.quotas`."""
    place = Place("aws", region)

    def read() -> list[Quota]:
        limits = _limits(clients, place)
        # Without a limit to compare it with, what runs is not worth a listing.
        used = _used(clients, place) if limits else {}
        return [_quota(family, region, limits[family.code], used) for family in FAMILIES if family.code in limits]

    reservation = partial(reservations_of, clients, place)
    return read_quotas(place, quotas=read, reservation=reservation, reservations=reservations)


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
    """Return the account's limits by the codes of the quotas in `FAMILIES`."""
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
    """Return the vCPUs of everything that runs in the account, by type and purchase; capacity blocks have quotas of their own."""
    counts: dict[tuple[str, Purchase], float] = defaultdict(float)
    unknown: dict[tuple[str, Purchase], int] = defaultdict(int)
    for name, free in _reserved(clients, place).items():
        unknown[name, "on_demand"] += free
    for item in instances(clients.ec2(place.region), list(_COUNTED), place):
        lifecycle = item.get("InstanceLifecycle", "")
        if lifecycle == "capacity-block":
            continue
        key: tuple[str, Purchase] = (item["InstanceType"], "spot" if lifecycle == "spot" else "on_demand")
        options = item.get("CpuOptions") or {}
        vcpus = int(options.get("CoreCount", 0)) * int(options.get("ThreadsPerCore", 0))
        counts[key] += vcpus
        unknown[key] += 0 if vcpus else 1
    types = sorted({instance_type for (instance_type, _), number in unknown.items() if number})
    if types:
        vcpus_of = _vcpus(clients, place, types)
        for key, number in unknown.items():
            counts[key] += number * vcpus_of.get(key[0], 0)
    return dict(counts)


def _reserved(clients: Clients, place: Place) -> dict[str, int]:
    """Return instance type -> how many instances its on-demand capacity reservations still hold.

    https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/cr-concepts.html: unused reservations count against the limits of on-demand
    instances. Capacity blocks do not, and neither does what another account shares.
    """
    found: dict[str, int] = defaultdict(int)
    filters: Any = [{"Name": "state", "Values": ["active"]}]
    with translate_errors("DescribeCapacityReservations", place):
        pages = clients.ec2(place.region).get_paginator("describe_capacity_reservations").paginate(Filters=filters)
        items = [item for page in pages for item in page["CapacityReservations"]]
    own = {name.rpartition(":")[2] for name in account(clients).ids} if items else set()
    for item in items:
        if item.get("ReservationType") != "capacity-block" and item.get("OwnerId") in own:
            found[item["InstanceType"]] += item["AvailableInstanceCount"]
    return dict(found)


def _vcpus(clients: Clients, place: Place, types: list[str]) -> dict[str, int]:
    """Return the vCPUs of instance types whose instances are listed without."""
    found: dict[str, int] = {}
    for batch in batches(types, _TYPES_AT_ONCE):
        filters: Any = [{"Name": "instance-type", "Values": batch}]
        with translate_errors("DescribeInstanceTypes", place):
            pages = clients.ec2(place.region).get_paginator("describe_instance_types").paginate(Filters=filters)
            for page in pages:
                for item in page["InstanceTypes"]:
                    found[item["InstanceType"]] = item["VCpuInfo"]["DefaultVCpus"]
    return found
