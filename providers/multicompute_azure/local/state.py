"""The state of the local Azure: resource groups with their resources, operations, scheduled changes, and the lock."""

import heapq
import itertools
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from ipaddress import IPv4Address, ip_network
from typing import Any

from multicompute.testing.local.timing import Limits, Schedule, Timing
from multicompute_azure.local import hardware
from multicompute_azure.local.arm import ArmError, Json, group_id, group_not_found, group_of
from multicompute_azure.local.guards import Guards
from multicompute_azure.local.images import Details

VM = "Microsoft.Compute/virtualMachines"
SCALE_SET = "Microsoft.Compute/virtualMachineScaleSets"
# The machines of a Uniform scale set, their disks, interfaces and addresses are parts of the scale set: Resource Manager neither lists nor
# tags them ("Orchestration modes for Virtual Machine Scale Sets in Azure").
UNIFORM_VM = f"{SCALE_SET}/virtualMachines"
UNIFORM_DISK = f"{UNIFORM_VM}/disks"
UNIFORM_NIC = f"{UNIFORM_VM}/networkInterfaces"
UNIFORM_IP = f"{UNIFORM_NIC}/publicIPAddresses"
DISK = "Microsoft.Compute/disks"
PLACEMENT_GROUP = "Microsoft.Compute/proximityPlacementGroups"
RESERVATION_GROUP = "Microsoft.Compute/capacityReservationGroups"
RESERVATION = "Microsoft.Compute/capacityReservationGroups/capacityReservations"
SECURITY_GROUP = "Microsoft.Network/networkSecurityGroups"
NETWORK = "Microsoft.Network/virtualNetworks"
SUBNET = "Microsoft.Network/virtualNetworks/subnets"
PUBLIC_IP = "Microsoft.Network/publicIPAddresses"
NIC = "Microsoft.Network/networkInterfaces"

PARTS = frozenset({SUBNET, UNIFORM_VM, UNIFORM_DISK, UNIFORM_NIC, UNIFORM_IP})
"""The types that Resource Manager does not list: parts of other resources."""
BILLABLE = frozenset({VM, UNIFORM_VM, DISK, PUBLIC_IP, RESERVATION})


class AddressPool:
    """The private addresses of a subnet; Azure reserves the first four and the last."""

    __slots__ = ("_end", "_free", "_next", "network")

    def __init__(self, prefix: str) -> None:
        """Start with every address of `prefix` free, except those that Azure reserves."""
        self.network = ip_network(prefix)
        first = int(self.network.network_address)
        self._next, self._end = first + 4, first + self.network.num_addresses - 1
        self._free: list[int] = []

    @property
    def left(self) -> int:
        """The number of free addresses."""
        return max(self._end - self._next, 0) + len(self._free)

    def allocate(self) -> str:
        """Take a free address and return it."""
        if self._free:
            return str(IPv4Address(heapq.heappop(self._free)))
        self._next += 1
        return str(IPv4Address(self._next - 1))

    def release(self, address: str) -> None:
        """Make an address free again."""
        heapq.heappush(self._free, int(IPv4Address(address)))


@dataclass(slots=True)
class Machine:
    """The properties of a virtual machine in addition to those of every resource."""

    size: str
    vcpus: int
    zone: str
    spot: bool
    eviction_policy: str
    profile: Json
    scale_set: str
    runs_at: datetime
    nics: list["ArmResource"] = field(default_factory=list)
    disks: list["ArmResource"] = field(default_factory=list)
    reservation: str = ""
    placement_group: str = ""
    instance_id: str = ""
    """The number of an instance of a Uniform scale set, "" in a Flexible one."""
    user_data: str = ""
    custom_data: str = ""
    model: int = 0
    """The version of the scale set's model that it was created from."""
    power: str = "running"
    is_restarted: bool = False
    is_deleting: bool = False

    @property
    def uses_capacity(self) -> bool:
        """Return whether it uses capacity and quota."""
        return self.power != "deallocated"


@dataclass(slots=True)
class ArmResource:
    """A resource in a resource group.

    Attributes:
        key: Its id in lower case, because ids are case-insensitive.
        created_at: When it was created; lists show it after the lag.
        number: Its place in the order of creation.
        body: Its document without id, name, type, location and tags.
        state: Its provisioning state.
        attached_to: For a disk, a network interface or an address: the id of the resource that uses it, "" for none.
        delete_option: What happens to it when that resource is deleted: "Delete" or "Detach".
        reserved_until: For a network interface: until when it is reserved for a deleted machine.
        reserved_for: The id of that machine.
        machine: For a virtual machine: its properties.
    """

    id: str
    key: str
    name: str
    type: str
    location: str
    tags: dict[str, str]
    created_at: datetime
    number: int
    body: Json = field(default_factory=dict)
    state: str = "Succeeded"
    attached_to: str = ""
    delete_option: str = "Detach"
    reserved_until: datetime | None = None
    reserved_for: str = ""
    machine: Machine | None = None


@dataclass(slots=True)
class Group:
    """A resource group and its resources."""

    name: str
    location: str
    tags: dict[str, str]
    created_at: datetime
    managed_by: str = ""
    state: str = "Succeeded"
    items: dict[str, ArmResource] = field(default_factory=dict)
    ghosts: list[tuple[ArmResource, datetime]] = field(default_factory=list)
    """Deleted resources and when they were deleted: Resource Manager's list shows them for a while."""
    deletion: "Operation | None" = None


@dataclass(slots=True)
class Operation:
    """A long-running operation; its next `polls_left` statuses are "InProgress" even if it has ended."""

    id: str
    name: str
    location: str
    started: datetime
    status: str = "InProgress"
    ended: datetime | None = None
    error: ArmError | None = None
    polls_left: int = 0


class State:
    """The inventory, and the lock that every reader and writer holds.

    Attributes:
        timing: How long things take.
        nic_reservation: How long a network interface stays reserved for a deleted machine.
        groups: Name in lower case -> the resource group.
        operations: Id -> the operation.
        capacity: (region or zone, size) -> how many machines it has in total.
        quotas: (region, quota in lower case) -> the limit in cores.
        restrictions: The restricted (region or zone, size).
        addresses: Key of a subnet -> its free addresses.
        guards: The locks, policies and deny assignments.
        closed: Region -> the code with which it is refused: by a policy of the organisation, or of Azure.
        gallery_images: Id of a gallery image in lower case -> what its definition says.
        without_zones: (region, size) that is sold for the region as a whole, and in none of its zones.
        locations: The regions that the subscription has.
        prices: (region, size, purchase type) -> the price in USD per hour, where it differs from the packaged table.
        group_lag: How long other services do not know a new resource group.
        image_regions: Id of a gallery image in lower case -> the regions that it is replicated to; all, if it is not in here.
    """

    def __init__(self, now: Callable[[], datetime]) -> None:
        """Start without any resources; `now` returns the time of the cloud's clock."""
        self.now = now
        self.lock = threading.RLock()
        self.timing = Timing(polls=1)
        self.nic_reservation = timedelta(0)
        self.group_lag = timedelta(0)
        self.clear()

    def clear(self) -> None:
        """Delete everything that exists, and every limit and restriction; `timing` stays."""
        self.groups: dict[str, Group] = {}
        self.operations: dict[str, Operation] = {}
        self.capacity: Limits[int] = Limits()
        self.quotas: Limits[int] = Limits()
        self.restrictions: set[tuple[str, str]] = set()
        self.addresses: dict[str, AddressPool] = {}
        self.guards = Guards()
        self.closed: dict[str, str] = {}
        self.image_regions: dict[str, frozenset[str]] = {}
        self.without_zones: set[tuple[str, str]] = set()
        self.locations: frozenset[str] = frozenset(hardware.regions())
        self.prices: dict[tuple[str, str, str], float] = {}
        self.gallery_images: dict[str, Details] = {}
        self._numbers = itertools.count(1)
        self._schedule = Schedule(self.now)

    def number(self) -> int:
        """Return the next number, for the order of resources and for unique names."""
        return next(self._numbers)

    def after(self, delay: timedelta, action: Callable[[], None]) -> None:
        """Run an action in the first `catch_up` after a delay."""
        self._schedule.add(self.now() + delay, action)

    def catch_up(self) -> None:
        """Run everything that is due."""
        self._schedule.run_due()

    def begin(
        self,
        name: str,
        location: str,
        delay: timedelta,
        finish: Callable[[], ArmError | None],
        *,
        failure: ArmError | None = None,
    ) -> Operation:
        """Start a long-running operation.

        Args:
            name: The name of the operation that the call asked for.
            location: The region.
            delay: How long it takes.
            finish: Called at its end; returns the error if it fails.
            failure: The error with which it fails whatever `finish` returns.
        """
        number = self.number()
        operation = Operation(
            f"{number:08x}-0000-4000-8000-{number:012x}", name, location, self.now(), polls_left=self.timing.polls
        )
        self.operations[operation.id] = operation

        def end() -> None:
            operation.error = finish() or failure
            operation.status = "Failed" if operation.error is not None else "Succeeded"
            operation.ended = self.now()

        self.after(delay, end)
        return operation

    def group(self, name: str) -> Group:
        """Return a resource group; refuse a name that does not exist."""
        found = self.groups.get(name.lower())
        if found is None:
            raise group_not_found(name)
        return found

    def open_group(self, name: str) -> Group:
        """Return a resource group to create something in it; refuse one that is being deleted."""
        found = self.group(name)
        if self.group_lag and found.created_at + self.group_lag > self.now():
            # hashicorp/terraform-provider-azurerm#18268: a group that was just created is not known to Compute and Network yet.
            raise group_not_found(name)
        if found.state == "Deleting":
            raise ArmError(
                "ResourceGroupBeingDeleted",
                f"The resource group '{found.name}' is in deprovisioning state and cannot perform this operation.",
                409,
            )
        return found

    def find(self, resource_id: str) -> ArmResource | None:
        """Return the resource with an id, whose case does not matter, or None."""
        group = self.groups.get(group_of(resource_id).lower())
        return group.items.get(resource_id.lower()) if group is not None else None

    def add(
        self, group: Group, type_: str, name: str, location: str, tags: dict[str, str], body: Json | None = None
    ) -> ArmResource:
        """Create a top-level resource of a group."""
        return self.put(group, f"{group_id(group.name)}/providers/{type_}/{name}", type_, name, location, tags, body)

    def put(
        self,
        group: Group,
        id_: str,
        type_: str,
        name: str,
        location: str,
        tags: dict[str, str],
        body: Json | None = None,
    ) -> ArmResource:
        """Create a resource with an id."""
        item = ArmResource(
            id_, id_.lower(), name, type_, location, tags, self.now(), self.number(), body if body is not None else {}
        )
        group.items[item.key] = item
        return item

    def remove(self, item: ArmResource) -> None:
        """Remove a resource."""
        group = self.groups.get(group_of(item.id).lower())
        if group is not None and group.items.pop(item.key, None) is not None and self.timing.lag:
            group.ghosts.append((item, self.now()))

    def items(self, *types: str) -> Iterator[ArmResource]:
        """Yield the resources of these types in every group; all resources without a type."""
        for group in list(self.groups.values()):
            for item in list(group.items.values()):
                if not types or item.type in types:
                    yield item

    def machines(self, location: str = "") -> Iterator[tuple[ArmResource, Machine]]:
        """Yield the virtual machines of a region, or of all regions."""
        for group in self.groups.values():
            for item in group.items.values():
                if item.machine is not None and (not location or item.location == location):
                    yield item, item.machine

    def is_listed(self, item: ArmResource) -> bool:
        """Return whether lists show a resource already."""
        return not self.timing.lag or item.created_at + self.timing.lag <= self.now()


def machine_of(item: ArmResource) -> Machine:
    """Return the properties of a virtual machine."""
    if item.machine is None:
        raise TypeError(f"{item.id} is not a virtual machine")
    return item.machine


def properties(item: ArmResource) -> dict[str, Any]:
    """Return the properties in a resource's document, which the caller can change."""
    found: dict[str, Any] = item.body.setdefault("properties", {})
    return found


def vm_id(item: ArmResource) -> str:
    """Return the unique id of a virtual machine."""
    return f"{item.number:08x}-0000-4000-9000-{item.number:012x}"
