"""What exists in the local Azure, and what is about to happen to it."""

import heapq
import itertools
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from ipaddress import IPv4Address, ip_network
from typing import Any

from multicompute_azure.local.arm import ArmError, Json, group_id, group_not_found, group_of

VM = "Microsoft.Compute/virtualMachines"
SCALE_SET = "Microsoft.Compute/virtualMachineScaleSets"
DISK = "Microsoft.Compute/disks"
PLACEMENT_GROUP = "Microsoft.Compute/proximityPlacementGroups"
RESERVATION_GROUP = "Microsoft.Compute/capacityReservationGroups"
RESERVATION = "Microsoft.Compute/capacityReservationGroups/capacityReservations"
SECURITY_GROUP = "Microsoft.Network/networkSecurityGroups"
NETWORK = "Microsoft.Network/virtualNetworks"
SUBNET = "Microsoft.Network/virtualNetworks/subnets"
PUBLIC_IP = "Microsoft.Network/publicIPAddresses"
NIC = "Microsoft.Network/networkInterfaces"

BILLABLE = frozenset({VM, DISK, PUBLIC_IP, RESERVATION})


class Pool:
    """The private addresses of a subnet; Azure keeps the first four and the last for itself."""

    __slots__ = ("_end", "_free", "_next", "network")

    def __init__(self, prefix: str) -> None:
        self.network = ip_network(prefix)
        first = int(self.network.network_address)
        self._next, self._end = first + 4, first + self.network.num_addresses - 1
        self._free: list[int] = []

    @property
    def left(self) -> int:
        """How many addresses are free."""
        return max(self._end - self._next, 0) + len(self._free)

    def take(self) -> str:
        """The lowest free address."""
        if self._free:
            return str(IPv4Address(heapq.heappop(self._free)))
        self._next += 1
        return str(IPv4Address(self._next - 1))

    def give_back(self, address: str) -> None:
        """Let an address be free again."""
        heapq.heappush(self._free, int(IPv4Address(address)))


@dataclass(slots=True)
class Machine:
    """What a virtual machine has beyond any resource."""

    size: str
    vcpus: int
    zone: str
    spot: bool
    eviction_policy: str
    profile: Json
    scale_set: str
    runs_at: datetime
    nics: list["Item"] = field(default_factory=list)
    disks: list["Item"] = field(default_factory=list)
    reservation: str = ""
    placement_group: str = ""
    power: str = "running"
    is_deleting: bool = False

    @property
    def uses_capacity(self) -> bool:
        return self.power != "deallocated"


@dataclass(slots=True)
class Item:
    """One resource.

    Attributes:
        key: its id in lower case: ids don't differ by case.
        born: when it was made; a listing shows it after the lag only.
        body: what its document has beside id, name, type, location and tags.
        state: its provisioning state.
        attached_to: of a disk, a network interface, an address: the resource that uses it, "" for none.
        delete_option: what becomes of it when that one goes.
        reserved_until: of a network interface, until when the machine that it belonged to keeps it.
    """

    id: str
    key: str
    name: str
    type: str
    location: str
    tags: dict[str, str]
    born: datetime
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
    """A resource group with everything in it."""

    name: str
    location: str
    tags: dict[str, str]
    born: datetime
    managed_by: str = ""
    state: str = "Succeeded"
    items: dict[str, Item] = field(default_factory=dict)
    ghosts: list[tuple[Item, datetime]] = field(default_factory=list)
    """What is gone, and since when: Resource Manager's own listing shows it for a while."""
    deletion: "Operation | None" = None


@dataclass(slots=True)
class Operation:
    """A long-running operation; `polls_left` answers will still say that it is in progress, however long ago it ended."""

    id: str
    name: str
    location: str
    started: datetime
    status: str = "InProgress"
    ended: datetime | None = None
    error: ArmError | None = None
    polls_left: int = 0


class State:
    """Everything that exists, guarded by `lock`, which every reader and writer holds."""

    def __init__(self, now: Callable[[], datetime]) -> None:
        self.now = now
        self.lock = threading.RLock()
        self.lag = timedelta(0)
        self.boot_delay = timedelta(0)
        self.shutdown_delay = timedelta(0)
        self.operation_delay = timedelta(0)
        self.operation_polls = 1
        self.nic_reservation = timedelta(0)
        self.clear()

    def clear(self) -> None:
        """Forget everything that exists; settings stay."""
        self.groups: dict[str, Group] = {}
        self.operations: dict[str, Operation] = {}
        self.capacity: dict[tuple[str, str], int] = {}
        self.quotas: dict[tuple[str, str], int] = {}
        self.restrictions: set[tuple[str, str]] = set()
        self.addresses: dict[str, Pool] = {}
        self._numbers = itertools.count(1)
        self._events: list[tuple[datetime, int, Callable[[], None]]] = []

    def number(self) -> int:
        """The next of the numbers that order resources and make names differ."""
        return next(self._numbers)

    def later(self, delay: timedelta, action: Callable[[], None]) -> None:
        """Let something happen when `delay` has passed, by `settle`."""
        heapq.heappush(self._events, (self.now() + delay, self.number(), action))

    def settle(self) -> None:
        """Let happen what is due."""
        while self._events and self._events[0][0] <= self.now():
            heapq.heappop(self._events)[2]()

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
            finish: does what is left to do at its end, and returns why it failed, if it did.
            failure: what breaks it whatever `finish` says.
        """
        number = self.number()
        operation = Operation(
            f"{number:08x}-0000-4000-8000-{number:012x}", name, location, self.now(), polls_left=self.operation_polls
        )
        self.operations[operation.id] = operation

        def end() -> None:
            operation.error = finish() or failure
            operation.status = "Failed" if operation.error is not None else "Succeeded"
            operation.ended = self.now()

        self.later(delay, end)
        return operation

    def group(self, name: str) -> Group:
        """The resource group; refused where there is none."""
        found = self.groups.get(name.lower())
        if found is None:
            raise group_not_found(name)
        return found

    def open_group(self, name: str) -> Group:
        """The resource group, to put something into it; refused where it is being deleted."""
        found = self.group(name)
        if found.state == "Deleting":
            raise ArmError(
                "ResourceGroupBeingDeleted",
                f"The resource group '{found.name}' is in deprovisioning state and cannot perform this operation.",
                409,
            )
        return found

    def find(self, resource_id: str) -> Item | None:
        """The resource with this id, in whichever case it is written."""
        group = self.groups.get(group_of(resource_id).lower())
        return group.items.get(resource_id.lower()) if group is not None else None

    def add(
        self, group: Group, type_: str, name: str, location: str, tags: dict[str, str], body: Json | None = None
    ) -> Item:
        """Make a resource of one's own, below its group."""
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
    ) -> Item:
        """Make a resource with this id."""
        item = Item(
            id_, id_.lower(), name, type_, location, tags, self.now(), self.number(), body if body is not None else {}
        )
        group.items[item.key] = item
        return item

    def remove(self, item: Item) -> None:
        """Let a resource be gone."""
        group = self.groups.get(group_of(item.id).lower())
        if group is not None and group.items.pop(item.key, None) is not None and self.lag:
            group.ghosts.append((item, self.now()))

    def items(self, *types: str) -> Iterator[Item]:
        """Every resource of these types, in every group."""
        for group in list(self.groups.values()):
            for item in list(group.items.values()):
                if not types or item.type in types:
                    yield item

    def machines(self, location: str = "") -> Iterator[tuple[Item, Machine]]:
        """Every virtual machine, of one region where one is named."""
        for group in self.groups.values():
            for item in group.items.values():
                if item.machine is not None and (not location or item.location == location):
                    yield item, item.machine

    def is_listed(self, item: Item) -> bool:
        """Whether a listing shows it already."""
        return not self.lag or item.born + self.lag <= self.now()


def machine_of(item: Item) -> Machine:
    """What a virtual machine has beyond any resource."""
    if item.machine is None:
        raise TypeError(f"{item.id} is no virtual machine")
    return item.machine


def properties(item: Item) -> dict[str, Any]:
    """The properties of a resource's document, to read and to change."""
    found: dict[str, Any] = item.body.setdefault("properties", {})
    return found
