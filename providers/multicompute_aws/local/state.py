"""The state of the local EC2 that is not in moto: instances with disks and interfaces, groups, reservations, requests."""

import itertools
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Literal

from multicompute.testing.local.timing import Limits, Timing
from multicompute_aws.local.zones import Offering, ZoneNames, offered_in

Tags = dict[str, str]
RegionStatus = Literal["enabled", "disabled", "denied", "unverified"]
"""Disabled: the account has not opted in. Denied: a service control policy of the organisation denies every call. Unverified:
AWS has not verified the account for the region yet, and nothing can be launched there.
"""
STATE_CODES: Mapping[str, int] = {
    "pending": 0,
    "running": 16,
    "shutting-down": 32,
    "terminated": 48,
    "stopping": 64,
    "stopped": 80,
}
USER_TERMINATED = ("Client.UserInitiatedShutdown", "Client.UserInitiatedShutdown: User initiated shutdown")
SPOT_TERMINATED = (
    "Server.SpotInstanceTermination",
    "Server.SpotInstanceTermination: Instance was terminated by EC2 Spot",
)
# As https://github.com/openshift/hive has it, "DefaultEbsKmsKeyInsufficientPermissions" in its list of reasons of failed installations.
KEY_IS_UNUSABLE = (
    "Client.InvalidKMSKey.InvalidState",
    "Client.InvalidKMSKey.InvalidState: The KMS key provided is in an incorrect state",
)
TERMINATED_IS_LISTED_FOR = timedelta(hours=1)
"""The time for which listings show a terminated instance ("Terminate your instance", EC2 user guide)."""


@dataclass(frozen=True, slots=True)
class DiskSpec:
    """A volume of each instance of a launch."""

    device: str
    size: int
    type: str
    encrypted: bool
    delete_on_termination: bool
    iops: int | None = None
    throughput: int | None = None


@dataclass(frozen=True, slots=True)
class InterfaceSpec:
    """A network interface of each instance of a launch; `kind` is interface, efa or efa-only."""

    card: int
    device: int
    kind: str
    subnet: str
    groups: tuple[tuple[str, str], ...]
    delete_on_termination: bool
    description: str = ""


@dataclass(slots=True)
class Launch:
    """The common properties of the instances of one RunInstances call, which the API calls a reservation."""

    id: str
    region: str
    zone: str
    vpc: str
    instance_type: str
    vcpus: int
    cores: int
    arch: str
    image: str
    root_device: str
    key: str | None
    profile: str | None
    token: str
    spot: bool
    capacity_block: bool
    capacity_reservation: str | None
    placement_group: str | None
    public_address: bool
    user_data: str
    shutdown_behavior: str
    metadata: Mapping[str, object]
    monitoring: bool
    disks: tuple[DiskSpec, ...]
    interfaces: tuple[InterfaceSpec, ...]
    tags: Mapping[str, Tags]
    launched_at: datetime
    instances: "list[Instance]" = field(default_factory=list)
    templates: dict[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def group_ids(self) -> frozenset[str]:
        """The security groups of all its interfaces."""
        return frozenset(group for interface in self.interfaces for group, _ in interface.groups)


@dataclass(slots=True)
class Interface:
    """A network interface; `address` is "" for an efa-only interface, which has none."""

    id: str
    spec: InterfaceSpec
    address: str
    mac: str
    attachment: str
    tags: Tags
    instance: "Instance | None"


@dataclass(slots=True)
class Volume:
    """A volume, attached or not."""

    id: str
    zone: str
    spec: DiskSpec
    tags: Tags
    created_at: datetime
    instance: "Instance | None" = None


@dataclass(slots=True)
class Instance:
    """An instance. Its state follows from the time, so nothing has to run in the background.

    Attributes:
        listed_from: When the API first finds it.
        runs_from: When it is running.
        ends_at: When a requested termination is done; None if none was requested.
        reason: The code and the message of the state reason.
        is_protected: Whether it has termination protection.
        is_undeletable: Whether a policy denies to terminate it.
        is_swept: Whether its volumes and interfaces were detached or deleted after its end.
        failing: Status check ("system", "instance", "attached-ebs") -> since when it fails.
    """

    id: str
    launch: Launch
    index: int
    address: str
    public_address: str
    tags: Tags
    listed_from: datetime
    runs_from: datetime
    interfaces: list[Interface] = field(default_factory=list)
    volumes: list[Volume] = field(default_factory=list)
    spot_request: "SpotRequest | None" = None
    ends_at: datetime | None = None
    reason: tuple[str, str] | None = None
    reason_at: datetime | None = None
    is_stopped: bool = False
    is_protected: bool = False
    is_undeletable: bool = False
    shutdown_behavior: str = "stop"
    is_swept: bool = False
    failing: dict[str, datetime] = field(default_factory=dict)

    def state(self, now: datetime) -> str:
        """Return the state as the API names it."""
        if self.ends_at is not None:
            return "terminated" if now >= self.ends_at else "shutting-down"
        if self.is_stopped:
            return "stopped"
        return "running" if now >= self.runs_from else "pending"

    def status(self, check: str, now: datetime) -> str:
        """Return the result of a status check as the API names it."""
        if self.state(now) != "running":
            return "not-applicable"
        return "impaired" if check in self.failing else "ok"

    def is_live(self, now: datetime) -> bool:
        """Return whether it exists and uses capacity; also while it is shutting down."""
        return self.ends_at is None or now < self.ends_at


@dataclass(slots=True)
class SpotRequest:
    """A spot instance request; every spot instance has one."""

    id: str
    instance: Instance
    max_price: str
    kind: str
    interruption: str
    tags: Tags
    created_at: datetime
    state: str = "active"
    status: str = "fulfilled"


@dataclass(slots=True)
class PlacementGroup:
    """A placement group; the members of one with the strategy "cluster" are in one zone."""

    id: str
    name: str
    strategy: str
    partitions: int | None
    tags: Tags


@dataclass(slots=True)
class CapacityReservation:
    """A capacity reservation or a capacity block, whose capacity is separate from the zone's."""

    id: str
    instance_type: str
    zone: str
    total: int
    is_block: bool
    tags: Tags
    created_at: datetime
    state: str = "active"
    ends_at: datetime | None = None
    tenancy: str = "default"

    def state_at(self, now: datetime) -> str:
        """Return its state, which is "expired" after its end."""
        has_ended = self.ends_at is not None and now >= self.ends_at
        return "expired" if has_ended and self.state == "active" else self.state


class Region:
    """The records of one region, by id."""

    def __init__(self, name: str) -> None:
        """Start with an empty region; `name` is its name."""
        self.name = name
        self.instances: dict[str, Instance] = {}
        self.volumes: dict[str, Volume] = {}
        self.interfaces: dict[str, Interface] = {}
        self.spot_requests: dict[str, SpotRequest] = {}
        self.placement_groups: dict[str, PlacementGroup] = {}
        self.reservations: dict[str, CapacityReservation] = {}
        self.tokens: dict[str, tuple[Mapping[str, object], Launch]] = {}
        self._terminated: list[Instance] = []

    def live(self, now: datetime) -> Iterator[Instance]:
        """Return the instances that use capacity."""
        return (instance for instance in self.instances.values() if instance.is_live(now))

    def visible(self, now: datetime) -> Iterator[Instance]:
        """Return the instances that listings show."""
        return (instance for instance in self.instances.values() if now >= instance.listed_from)

    def members(self, group: PlacementGroup, now: datetime) -> list[Instance]:
        """Return the instances in a placement group."""
        return [instance for instance in self.live(now) if instance.launch.placement_group == group.name]

    def reserved(self, reservation: CapacityReservation, now: datetime) -> int:
        """Return how many instances use a reservation."""
        return sum(1 for instance in self.live(now) if instance.launch.capacity_reservation == reservation.id)

    def terminate(self, instance: Instance, ends_at: datetime, reason: tuple[str, str], now: datetime) -> None:
        """Terminate an instance with a state reason; does nothing if its termination was requested before."""
        if instance.ends_at is not None:
            return
        instance.ends_at, instance.reason, instance.reason_at = ends_at, reason, now
        self._terminated.append(instance)

    def sweep(self, now: datetime) -> None:
        """Delete what belongs to terminated instances, and remove instances that were terminated long ago."""
        if not self._terminated:
            return
        later = []
        for instance in self._terminated:
            ends_at = instance.ends_at or now
            if now >= ends_at and not instance.is_swept:
                self._detach_all(instance)
            if now < ends_at + TERMINATED_IS_LISTED_FOR:
                later.append(instance)
            else:
                self.instances.pop(instance.id, None)
        self._terminated = later

    def _detach_all(self, instance: Instance) -> None:
        instance.is_swept = True
        for volume in instance.volumes:
            volume.instance = None
            if volume.spec.delete_on_termination:
                self.volumes.pop(volume.id, None)
        for interface in instance.interfaces:
            interface.instance = None
            if interface.spec.delete_on_termination:
                self.interfaces.pop(interface.id, None)
        instance.volumes, instance.interfaces = [], []
        if instance.spot_request is not None:
            preempted = instance.reason == SPOT_TERMINATED
            instance.spot_request.state = "closed"
            instance.spot_request.status = (
                "instance-terminated-no-capacity" if preempted else "instance-terminated-by-user"
            )


class State:
    """The records of all regions, the conditions that a test has set, and the lock that guards both.

    Attributes:
        timing: How long things take.
        capacity: (zone, instance type) -> how many the zone has in total.
        quotas: (region, quota code) -> the limit in vCPUs or addresses.
        spot_prices: (zone, instance type) -> the changes of the spot price, oldest first.
        limited_subnets: The subnets whose free addresses count. The others have addresses for ten thousand instances, more than a
            real one of their size, unless `limits_all_subnets`.
        region_status: Region -> whether the account may use it; regions that are missing are enabled.
        zones: The account's names of the zones.
        withdrawn: What regions and zones do not sell, although moto's listings have it.
        group_lag: For how long calls do not find a new security group or placement group.
        unusable_keys: Regions whose default key of EBS encryption the identity may not use.
    """

    def __init__(self, now: Callable[[], datetime]) -> None:
        """Start without any records; `now` returns the time of the cloud's clock."""
        self.lock = threading.RLock()
        self.now = now
        self.regions: dict[str, Region] = {}
        self.timing = Timing()
        self.capacity: Limits[int] = Limits()
        self.quotas: Limits[float] = Limits()
        self.spot_prices: dict[tuple[str, str], list[tuple[datetime, float]]] = {}
        self.region_status: dict[str, RegionStatus] = {}
        self.limited_subnets: set[str] = set()
        self.limits_all_subnets = False
        self.zones = ZoneNames()
        self.withdrawn: set[Offering] = set()
        self.group_lag = timedelta(0)
        self.unusable_keys: set[str] = set()
        self._numbers = itertools.count(1)

    def other_account(self) -> "State":
        """Return the state of another account, with the same lock, timing and numbers: ids differ between accounts, too."""
        other = State(self.now)
        other.lock, other.timing, other._numbers = self.lock, self.timing, self._numbers
        other.group_lag = self.group_lag
        return other

    def region(self, name: str) -> Region:
        """Return the records of a region, after a sweep; the caller holds the lock."""
        region = self.regions.setdefault(name, Region(name))
        region.sweep(self.now())
        return region

    def offered(self, region: str) -> Mapping[str, frozenset[str]]:
        """Return instance type -> the zones of a region that sell it to the account."""
        return offered_in(region, self.zones, self.withdrawn)

    def number(self) -> int:
        """Return the next number, for ids and addresses."""
        return next(self._numbers)

    def new_id(self, prefix: str) -> str:
        """Return a new resource id."""
        return f"{prefix}-0{self.number():016x}"

    def available(self, region: Region, zone: str, instance_type: str) -> int | None:
        """Return how many more instances of a type a zone has capacity for; None for any number."""
        limit = self.capacity.get((zone, instance_type))
        if limit is None:
            return None
        used = sum(
            1
            for instance in region.live(self.now())
            if instance.launch.zone == zone
            and instance.launch.instance_type == instance_type
            and instance.launch.capacity_reservation is None
            and not instance.is_stopped
        )
        return limit - used
