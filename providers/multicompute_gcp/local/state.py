"""What the local Google Cloud holds: zones with instances and disks, what lies beside them, operations, TPUs; and the one lock."""

import heapq
import itertools
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Generic, Protocol, TypeVar

from multicompute_gcp.local.hardware import hardware
from multicompute_gcp.local.records import Disk, Instance, Operation, Reservation, Thing


class Named(Protocol):
    """What can lie on a shelf."""

    name: str


_N = TypeVar("_N", bound=Named)


class Shelf(Generic[_N]):
    """Resources of one kind in one place, by name; listed in the order of their names, as Google lists them."""

    def __init__(self) -> None:
        self._things: dict[str, _N] = {}
        self._sorted: list[_N] | None = None

    def put(self, thing: _N) -> None:
        """Add a resource."""
        self._things[thing.name] = thing
        self._sorted = None

    def find(self, name: str) -> _N | None:
        """The resource of that name, if it is there."""
        return self._things.get(name)

    def drop(self, name: str) -> None:
        """Take a resource away; again is no difference."""
        if self._things.pop(name, None) is not None:
            self._sorted = None

    def in_order(self) -> list[_N]:
        """All of them by name; not to be changed by the caller."""
        if self._sorted is None:
            self._sorted = [self._things[name] for name in sorted(self._things)]
        return self._sorted

    def __iter__(self) -> Iterator[_N]:
        return iter(self._things.values())

    def __len__(self) -> int:
        return len(self._things)


class ZoneRecords:
    """What one zone holds."""

    def __init__(self) -> None:
        self.instances: Shelf[Instance] = Shelf()
        self.disks: Shelf[Disk] = Shelf()
        self.reservations: Shelf[Reservation] = Shelf()


@dataclass(slots=True)
class Timing:
    """How long things take; all of it nothing by default, so that tests wait for nothing.

    Attributes:
        lag: how long lists do not show what was just made.
        boot: how long an instance, or a TPU slice, takes from its creation to run.
        operation: how long an operation takes.
        polls: how often a look at an operation finds it still running, beside that.
        ghost: how long what a stockout leaves behind lives on after it.
        shutdown: how long a deletion takes.
    """

    lag: timedelta = timedelta(0)
    boot: timedelta = timedelta(0)
    operation: timedelta = timedelta(0)
    polls: int = 0
    ghost: timedelta = timedelta(0)
    shutdown: timedelta = timedelta(0)


class State:
    """All records, what the harness prescribes, and the one lock that guards both.

    Attributes:
        capacity: (zone, machine type, accelerator type or slice type) -> how many there are in all; missing for any number.
        quotas: (metric, region, zone or "global") -> limit.
        unreachable: zones that lists over all zones can't reach at the moment.
        shelves: kind -> scope -> resources: firewalls, networks, resource policies, ...
        requests: request id -> when, which request, and what it began.
        stockout_has_status: whether an operation that ends in a stockout has an HTTP status.
        stockout_is_upfront: whether bulkInsert finds out about a stockout before it begins.
        settle: what else is to be done when time has passed.
    """

    def __init__(self, now: Callable[[], datetime]) -> None:
        self.lock = threading.RLock()
        self._clock_now = now
        self.offset = timedelta(0)
        self.timing = Timing()
        self.zones: dict[str, ZoneRecords] = {}
        self.shelves: dict[str, dict[str, Shelf[Thing]]] = {}
        self.operations: dict[str, Shelf[Operation]] = {}
        self.requests: dict[str, tuple[datetime, str, Any]] = {}
        self.capacity: dict[tuple[str, str], int] = {}
        self.quotas: dict[tuple[str, str], float] = {}
        self.unreachable: set[str] = set()
        self.stockout_has_status = True
        self.stockout_is_upfront = False
        self.settle: Callable[[], None] = lambda: None
        self._numbers = itertools.count(1)
        self._events: list[tuple[datetime, int, Callable[[], None]]] = []

    def clear(self) -> None:
        """Forget all records; what the harness prescribed stays."""
        for records in (self.zones, self.shelves, self.operations, self.requests):
            records.clear()
        self._events.clear()

    def now(self) -> datetime:
        """The time in this cloud."""
        return self._clock_now() + self.offset

    def number(self) -> int:
        """The next number, for names and addresses."""
        return next(self._numbers)

    def new_id(self) -> int:
        """A new resource id, as long as Google's."""
        return 1_000_000_000_000_000_000 + self.number()

    def zone(self, name: str) -> ZoneRecords:
        """The records of a zone that exists."""
        return self.zones.setdefault(name, ZoneRecords())

    def shelf(self, kind: str, scope: str) -> Shelf[Thing]:
        """The resources of a kind in a scope."""
        return self.shelves.setdefault(kind, {}).setdefault(scope, Shelf())

    def at(self, when: datetime, event: Callable[[], None]) -> None:
        """Let `event` happen when it is time; at once if it is."""
        if when <= self.now():
            event()
        else:
            heapq.heappush(self._events, (when, self.number(), event))

    def catch_up(self) -> None:
        """Let everything happen whose time has come; the caller holds the lock."""
        now = self.now()
        while self._events and self._events[0][0] <= now:
            heapq.heappop(self._events)[2]()
        self.settle()

    def instances(self, region: str | None = None) -> Iterator[Instance]:
        """All instances, or those of a region."""
        for name, records in self.zones.items():
            if region is None or hardware().zones[name] == region:
                yield from records.instances

    def delete_instance(self, instance: Instance, gone_at: datetime) -> None:
        """Begin to delete an instance; the disks that are set to go with it go when it is gone."""
        if instance.gone_at is not None:
            return
        instance.gone_at = gone_at
        self.at(gone_at, lambda: self._take_away(instance))

    def vanish(self, ghost: Instance, when: datetime) -> None:
        """Let a ghost go by itself, with its disks, unless it was deleted before."""
        ghost.disks = [(disk, True) for disk, _ in ghost.disks]
        self.at(when, lambda: self._take_away(ghost))

    def _take_away(self, instance: Instance) -> None:
        records = self.zone(instance.host.zone)
        if records.instances.find(instance.name) is not instance:
            return
        records.instances.drop(instance.name)
        for disk, goes_too in instance.disks:
            disk.user = None
            if goes_too:
                records.disks.drop(disk.name)

    def stop_instance(self, instance: Instance) -> None:
        """Let an instance stand still: it exists, keeps its disks, and runs no more."""
        if instance.stopped_at is None and instance.gone_at is None:
            instance.stopped_at = self.now()

    def limit_run(self, instance: Instance, run_until: datetime) -> None:
        """Let a time limit end an instance, by the action that it was given."""
        instance.run_until = run_until
        self.at(run_until, lambda: self._run_out(instance))

    def _run_out(self, instance: Instance) -> None:
        if instance.gone_at is not None or instance.stopped_at is not None:
            return
        if instance.action == "DELETE":
            self.delete_instance(instance, self.now())
        else:
            self.stop_instance(instance)
