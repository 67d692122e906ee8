"""The state of the local Google Cloud: zones with instances and disks, other resources, operations, and the lock."""

import itertools
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from multicompute.testing.local.timing import Limits, Schedule, Timing
from multicompute_gcp.local.hardware import hardware
from multicompute_gcp.local.records import ComputeResource, Disk, Instance, Operation, Reservation

if TYPE_CHECKING:
    from multicompute_gcp.local.group_records import Group


class Named(Protocol):
    """A resource that a store can hold."""

    name: str


_N = TypeVar("_N", bound=Named)


class ResourceStore(Generic[_N]):
    """The resources of one kind in one scope, by name; listed in the order of their names, as Google lists them."""

    def __init__(self, resources: Iterable[_N] = ()) -> None:
        """Start with `resources`."""
        self._by_name = {resource.name: resource for resource in resources}
        self._sorted: list[_N] | None = None

    def add(self, resource: _N) -> None:
        """Add a resource."""
        self._by_name[resource.name] = resource
        self._sorted = None

    def find(self, name: str) -> _N | None:
        """Return the resource with a name, or None."""
        return self._by_name.get(name)

    def remove(self, name: str) -> None:
        """Remove a resource, if it exists."""
        if self._by_name.pop(name, None) is not None:
            self._sorted = None

    def in_order(self) -> list[_N]:
        """Return every resource by name; the caller must not change the list."""
        if self._sorted is None:
            self._sorted = [self._by_name[name] for name in sorted(self._by_name)]
        return self._sorted

    def __iter__(self) -> Iterator[_N]:
        """Iterate over the resources in the order in which they were added."""
        return iter(self._by_name.values())


@dataclass
class ZoneRecords:
    """The zonal resources of one zone."""

    instances: ResourceStore[Instance] = field(default_factory=ResourceStore)
    disks: ResourceStore[Disk] = field(default_factory=ResourceStore)
    reservations: ResourceStore[Reservation] = field(default_factory=ResourceStore)
    groups: "ResourceStore[Group]" = field(default_factory=ResourceStore)


class State:
    """Every record, the conditions that a test has set, and the lock that guards both.

    Attributes:
        timing: How long things take.
        ghost_time: How long instances that a stockout leaves behind exist after it.
        capacity: (zone; machine type, accelerator type or slice type) -> how many the zone has in total.
        quotas: (quota metric; region, zone or "global") -> the limit.
        unreachable: The zones that lists over all zones cannot reach.
        stores: Kind -> scope -> the resources: firewalls, networks, resource policies, ...
        requests: Request id -> when it came, which request it was, and the operation that it began.
        stockout_has_status: Whether an operation that ends in a stockout has an HTTP status.
        stockout_is_upfront: Whether bulkInsert refuses a stockout before it begins an operation.
        lost_while_created: The codes of operations that are to fail because an instance is preempted while it is created.
        role: The permissions of the caller; None for all.
        used_permissions: The permissions that calls have needed.
        settle: Called after each change of time, with the lock held.
    """

    def __init__(self, now: Callable[[], datetime]) -> None:
        """Start without any records; `now` returns the time of the cloud's clock."""
        self.lock = threading.RLock()
        self._clock_now = now
        self.offset = timedelta(0)
        self.timing = Timing()
        self.ghost_time = timedelta(0)
        self.zones: dict[str, ZoneRecords] = {}
        self.stores: dict[str, dict[str, ResourceStore[ComputeResource]]] = {}
        self.operations: dict[str, ResourceStore[Operation]] = {}
        self.requests: dict[str, tuple[datetime, str, Any]] = {}
        self.capacity: Limits[int] = Limits()
        self.quotas: Limits[float] = Limits()
        self.unreachable: set[str] = set()
        self.stockout_has_status = True
        self.lost_while_created: list[str] = []
        self.role: frozenset[str] | None = None
        self.used_permissions: set[str] = set()
        self.stockout_is_upfront = False
        self.settle: Callable[[], None] = lambda: None
        self._numbers = itertools.count(1)
        self._schedule = Schedule(self.now)

    def clear(self) -> None:
        """Delete every record; the conditions stay."""
        for records in (self.zones, self.stores, self.operations, self.requests):
            records.clear()
        self._schedule.clear()

    def now(self) -> datetime:
        """Return the time in this cloud."""
        return self._clock_now() + self.offset

    def number(self) -> int:
        """Return the next number, for names and addresses."""
        return next(self._numbers)

    def new_id(self) -> int:
        """Return a new resource id, as long as Google's ids."""
        return 1_000_000_000_000_000_000 + self.number()

    def zone(self, name: str) -> ZoneRecords:
        """Return the records of a zone that exists."""
        return self.zones.setdefault(name, ZoneRecords())

    def store(self, kind: str, scope: str) -> ResourceStore[ComputeResource]:
        """Return the resources of a kind in a scope."""
        return self.stores.setdefault(kind, {}).setdefault(scope, ResourceStore())

    def at(self, when: datetime, action: Callable[[], None]) -> None:
        """Run an action at a time; at once if the time has come."""
        if when <= self.now():
            action()
        else:
            self._schedule.add(when, action)

    def catch_up(self) -> None:
        """Run everything that is due; the caller holds the lock."""
        self._schedule.run_due()
        self.settle()

    def instances(self, region: str | None = None) -> Iterator[Instance]:
        """Yield the instances of a region, or all instances."""
        for name, records in self.zones.items():
            if region is None or hardware().zones[name] == region:
                yield from records.instances

    def delete_instance(self, instance: Instance, gone_at: datetime) -> None:
        """Begin to delete an instance; at `gone_at` it is gone, with every disk that has autoDelete."""
        if instance.gone_at is not None:
            return
        instance.gone_at = gone_at
        self.at(gone_at, lambda: self._remove_instance(instance))

    def expire_ghost(self, ghost: Instance, when: datetime) -> None:
        """Remove a ghost with its disks at a time, unless it was deleted before."""
        ghost.disks = [(disk, True) for disk, _ in ghost.disks]
        self.at(when, lambda: self._remove_instance(ghost))

    def _remove_instance(self, instance: Instance) -> None:
        records = self.zone(instance.host.zone)
        if records.instances.find(instance.name) is not instance:
            return
        records.instances.remove(instance.name)
        for disk, is_deleted_too in instance.disks:
            disk.user = None
            if is_deleted_too:
                records.disks.remove(disk.name)

    def stop_instance(self, instance: Instance) -> None:
        """Stop an instance: it exists and keeps its disks."""
        if instance.stopped_at is None and instance.gone_at is None:
            instance.stopped_at = self.now()

    def start_instance(self, instance: Instance) -> None:
        """Start a stopped instance, or resume a suspended one."""
        if instance.stopped_at is not None:
            instance.stopped_at, instance.is_suspended = None, False
            instance.runs_from = self.now() + self.timing.boot

    def limit_run(self, instance: Instance, run_until: datetime) -> None:
        """Stop or delete an instance at the end of its time limit, according to its termination action."""
        instance.run_until = run_until
        self.at(run_until, lambda: self._end_run(instance))

    def _end_run(self, instance: Instance) -> None:
        if instance.gone_at is not None or instance.stopped_at is not None:
            return
        if instance.action == "DELETE":
            self.delete_instance(instance, self.now())
        else:
            self.stop_instance(instance)
