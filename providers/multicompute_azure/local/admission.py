"""Checks of a launch against restrictions, quotas and capacity, with Azure's errors and messages."""

from dataclasses import dataclass
from typing import Literal

from multicompute_azure.local import hardware
from multicompute_azure.local.arm import ArmError, Json, dig
from multicompute_azure.local.hardware import Size
from multicompute_azure.local.state import RESERVATION, ArmResource, State

Stockout = Literal["auto", "SkuNotAvailable", "AllocationFailed", "OverconstrainedAllocationRequest"]
REGIONAL, SPOT = "cores", "lowPriorityCores"
UNLIMITED = 10_000_000
_GUIDANCE = "Read more about improving likelihood of allocation success at http://aka.ms/allocation-guidance"
_QUOTA_HELP = (
    "Submit a request for Quota increase at https://aka.ms/ProdportalCRP/?#create/Microsoft.Support by specifying parameters listed "
    "in the 'Details' section for deployment to succeed. Please read more about quota limits at "
    "https://docs.microsoft.com/en-us/azure/azure-supportability/per-vm-quota-requests"
)


@dataclass(frozen=True, slots=True)
class Demand:
    """The demand of a launch; `is_colocated` asks for proximity."""

    size: Size
    region: str
    zones: tuple[str, ...]
    count: int
    spot: bool
    is_colocated: bool
    reservation_group: str = ""


class Admission:
    """The limits that decide which launches are admitted.

    Attributes:
        stockout: How a lack of capacity is reported. "SkuNotAvailable" refuses the call; the others fail the operation; "auto" is
            "SkuNotAvailable" if the capacity of the place is 0.
    """

    def __init__(self, state: State) -> None:
        """Compare launches with the capacity, quotas and restrictions in `state`."""
        self._state = state
        self.stockout: Stockout = "auto"

    def limit(self, region: str, name: str) -> int:
        """Return how many cores a quota allows."""
        return self._state.quotas.get((region, name.lower()), UNLIMITED)

    def usage(self, region: str) -> dict[str, int]:
        """Return quota -> cores in use; stopped machines count, deallocated ones do not."""
        used: dict[str, int] = {}
        families = {size.name: size.family for size in hardware.sizes().values()}
        for _, machine in self._state.machines(region):
            if not machine.uses_capacity:
                continue
            names = (SPOT,) if machine.spot else (families[machine.size], REGIONAL)
            for name in names:
                used[name] = used.get(name, 0) + machine.vcpus
        return used

    def check_sold(self, demand: Demand) -> None:
        """Refuse a size that is restricted there for the subscription."""
        places = [f"{demand.region}-{zone}" for zone in demand.zones] or []
        barred = (demand.region, demand.size.name) in self._state.restrictions
        if barred or any((place, demand.size.name) in self._state.restrictions for place in places):
            raise _not_available(demand)

    def check_quota(self, demand: Demand) -> None:
        """Refuse a launch that exceeds a quota."""
        needed = demand.count * demand.size.vcpus
        used = self.usage(demand.region)
        titles = {REGIONAL: "Total Regional Cores", SPOT: "LowPriorityCores"}
        for name in (SPOT,) if demand.spot else (demand.size.family, REGIONAL):
            limit, current = self.limit(demand.region, name), used.get(name, 0)
            if current + needed > limit:
                raise ArmError(
                    "OperationNotAllowed",
                    f"Operation could not be completed as it results in exceeding approved {titles.get(name, f'{name} Cores')} quota. "
                    f"Additional details - Deployment Model: Resource Manager, Location: {demand.region}, Current Limit: {limit}, "
                    f"Current Usage: {current}, Additional Required: {needed}, (Minimum) New Limit Required: {current + needed}. "
                    f"{_QUOTA_HELP}",
                    409,
                )

    def allocate(self, demand: Demand) -> tuple[int, ArmError | None]:
        """Return how many machines of a launch there is capacity for, and the error of the operation if that is not enough.

        Raises:
            ArmError: Azure refuses the call itself.
        """
        free = self._free(demand)
        if free is None or free >= demand.count:
            return demand.count, None
        if self.stockout == "SkuNotAvailable" or (self.stockout == "auto" and self._has_none(demand)):
            raise _not_available(demand)
        is_over = self.stockout == "OverconstrainedAllocationRequest" or (
            self.stockout == "auto" and demand.is_colocated
        )
        return max(free, 0), _overconstrained(demand) if is_over else _failed(demand)

    def reserved(self, group_id: str, size: str, zones: tuple[str, ...]) -> tuple[ArmResource, ...]:
        """Return the capacity reservations of a group for a size and these zones."""
        return tuple(
            item
            for item in self._state.items(RESERVATION)
            if item.key.startswith(group_id.lower() + "/")
            and dig(item.body, "sku", "name").lower() == size.lower()
            # A group without zones is for launches without a zone, a group with zones for launches in one of them.
            and (set(item.body.get("zones") or ()) & set(zones) if zones else not item.body.get("zones"))
        )

    def users(self, group_id: str, size: str) -> list[ArmResource]:
        """Return the machines of one size that use a reservation group."""
        key = group_id.lower()
        return [
            item
            for item, machine in self._state.machines()
            if machine.reservation.lower() == key and machine.size.lower() == size.lower() and machine.uses_capacity
        ]

    def _free(self, demand: Demand) -> int | None:
        """Return how many machines there is capacity for; None for any number."""
        if not demand.zones:
            general = self._free_regional(demand)
        else:
            each = [self._free_zonal(demand, zone) for zone in demand.zones]
            general = None if None in each else sum(number for number in each if number is not None)
        if demand.reservation_group:
            held = self.reserved(demand.reservation_group, demand.size.name, demand.zones)
            total = sum(int(dig(item.body, "sku", "capacity") or 0) for item in held)
            left = max(total - len(self.users(demand.reservation_group, demand.size.name)), 0)
            general = None if general is None else general + left
        return general

    def _free_regional(self, demand: Demand) -> int | None:
        limits = [self._state.capacity.get((demand.region, demand.size.name))]
        zones = [
            self._state.capacity.get((f"{demand.region}-{zone}", demand.size.name))
            for zone in hardware.zones_of(demand.region)
        ]
        if zones and None not in zones:
            limits.append(sum(number for number in zones if number is not None))
        known = [limit for limit in limits if limit is not None]
        return min(known) - self._used(demand, None) if known else None

    def _free_zonal(self, demand: Demand, zone: str) -> int | None:
        free = []
        regional = self._state.capacity.get((demand.region, demand.size.name))
        if regional is not None:
            free.append(regional - self._used(demand, None))
        zonal = self._state.capacity.get((f"{demand.region}-{zone}", demand.size.name))
        if zonal is not None:
            free.append(zonal - self._used(demand, zone))
        return min(free) if free else None

    def _used(self, demand: Demand, zone: str | None) -> int:
        return sum(
            1
            for _, machine in self._state.machines(demand.region)
            if machine.size == demand.size.name
            and machine.uses_capacity
            and not machine.reservation
            and zone in (None, machine.zone)
        )

    def _has_none(self, demand: Demand) -> bool:
        places = [demand.region, *(f"{demand.region}-{zone}" for zone in demand.zones)]
        return any(self._state.capacity.get((place, demand.size.name)) == 0 for place in places)

    def restrictions_of(self, size: Size, region: str) -> list[Json]:
        """Return the restrictions of a size in the list of SKUs."""
        found: list[Json] = []
        if (region, size.name) in self._state.restrictions:
            info: Json = {"locations": [region]}
            found.append(
                {
                    "type": "Location",
                    "values": [region],
                    "restrictionInfo": info,
                    "reasonCode": "NotAvailableForSubscription",
                }
            )
        zones = [
            zone for zone in hardware.zones_of(region) if (f"{region}-{zone}", size.name) in self._state.restrictions
        ]
        if zones:
            info = {"locations": [region], "zones": zones}
            found.append(
                {
                    "type": "Zone",
                    "values": [region],
                    "restrictionInfo": info,
                    "reasonCode": "NotAvailableForSubscription",
                }
            )
        return found


def _not_available(demand: Demand) -> ArmError:
    return ArmError(
        "SkuNotAvailable",
        f"The requested VM size for resource 'Following SKUs have failed for Capacity Restrictions: {demand.size.name}' is currently "
        f"not available in location '{demand.region}'. Please try another size or deploy to a different location or different zone. "
        "See https://aka.ms/azureskunotavailable for details.",
        409,
    )


def _failed(demand: Demand) -> ArmError:
    code, where = ("ZonalAllocationFailed", "zone") if demand.zones else ("AllocationFailed", "region")
    return ArmError(
        code,
        f"Allocation failed. We do not have sufficient capacity for the requested VM size in this {where}. {_GUIDANCE}",
        409,
    )


def _overconstrained(demand: Demand) -> ArmError:
    code = "OverconstrainedZonalAllocationRequest" if demand.zones else "OverconstrainedAllocationRequest"
    return ArmError(
        code,
        "Allocation failed. VM(s) with the following constraints cannot be allocated, because the condition is too restrictive. "
        "Please remove some constraints and try again. Constraints applied are:\n  - Proximity Placement Group\n  - VM Size\n",
        409,
    )
