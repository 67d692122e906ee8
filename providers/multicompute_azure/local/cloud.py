"""The local Azure: one endpoint on 127.0.0.1, and what a test may prescribe to it and ask of it."""

import tempfile
from collections.abc import Mapping
from datetime import timedelta
from types import MappingProxyType
from typing import Any

from multicompute.clock import Clock, SystemClock
from multicompute.node import Metric
from multicompute.provider import Resource
from multicompute.testing.faults import Faults
from multicompute.testing.local_admin import Admin
from multicompute.testing.local_server import Server
from multicompute_azure.local import hardware, schema
from multicompute_azure.local.admission import REGIONAL, SPOT, Admission, Stockout
from multicompute_azure.local.arm import SUBSCRIPTION, TENANT
from multicompute_azure.local.compute import Compute
from multicompute_azure.local.existing import RESERVED, existing
from multicompute_azure.local.foreign import ForeignResources
from multicompute_azure.local.front import Front
from multicompute_azure.local.groups import Groups
from multicompute_azure.local.listing import Listing
from multicompute_azure.local.machines import Machines
from multicompute_azure.local.monitoring import Monitoring
from multicompute_azure.local.network import Networks
from multicompute_azure.local.operations import Operations
from multicompute_azure.local.routes import Handler
from multicompute_azure.local.scale_sets import ScaleSets
from multicompute_azure.local.state import Group, Item, Machine, State
from multicompute_azure.local.tokens import HEADER, Tokens

_REGION = "eastus"


class AzureLocalCloud:
    """Azure on 127.0.0.1: Resource Manager, compute and network in memory, checked against the SDK's own models.

    Without further ado everything is there in any number. Each instance of this class is a subscription of its own.

    Attributes:
        faults: what goes wrong next, by operations ("virtualMachineScaleSets.createOrUpdate"), and a record of all calls. A fault
            of "<operation>.operation" breaks the long-running operation that a call starts, after half of it was done.
        subscription_id: the one subscription that exists.
    """

    name = "azure"
    subscription_id = SUBSCRIPTION

    def __init__(self, *, clock: Clock | None = None) -> None:
        """Make a local cloud that is not started.

        Args:
            clock: by which lag and delays pass; the machine's by default.

        Raises:
            ModuleNotFoundError: the SDK's packages are not installed, against whose models requests are held.
        """
        schema.require_models()
        self.faults = Faults()
        self._clock = clock or SystemClock()
        self._state = State(self._clock.now)
        self._listing = Listing(self._state)
        self._operations = Operations(self._state)
        self._admission = Admission(self._state)
        self._machines = Machines(self._state, self._listing, self._operations)
        self._networks = Networks(self._state, self._listing, self._operations)
        self._compute = Compute(self._state, self._listing, self._operations, self._admission)
        self._scale_sets = ScaleSets(
            self._state, self._listing, self._operations, self._admission, self._machines, self._networks
        )
        self._monitoring = Monitoring(self._state, self._listing)
        self._foreign = ForeignResources(self._state, self._machines)
        self._server: Server | None = None
        self._folder: tempfile.TemporaryDirectory[str] | None = None

    @property
    def endpoint_url(self) -> str:
        """The one URL of everything; only after `start`."""
        if self._server is None:
            raise RuntimeError("the local Azure is not started")
        return self._server.url

    @property
    def environment(self) -> Mapping[str, str]:
        """The variables with which any process reaches it, and can't reach the user's own subscription."""
        url = self.endpoint_url
        variables = {
            "MULTICOMPUTE_AZURE__ENDPOINT_URL": url,
            "MULTICOMPUTE_AZURE__SUBSCRIPTION_ID": SUBSCRIPTION,
            "AZURE_SUBSCRIPTION_ID": SUBSCRIPTION,
            "AZURE_TENANT_ID": TENANT,
            # azure-identity takes no authority over http, but asks this endpoint of a managed identity as it is.
            "IDENTITY_ENDPOINT": f"{url}/msi/token",
            "IDENTITY_HEADER": HEADER,
            # Past secrets and logins of the user's. They can't be blanked out: an empty one counts as set, and breaks.
            "AZURE_TOKEN_CREDENTIALS": "ManagedIdentityCredential",
            "AZURE_CONFIG_DIR": self._folder.name if self._folder is not None else "",
            "NO_PROXY": "127.0.0.1,localhost",
            "no_proxy": "127.0.0.1,localhost",
        }
        return MappingProxyType(variables)

    def start(self) -> None:
        """Begin to serve; takes some milliseconds."""
        if self._server is not None:
            return
        handlers: dict[str, Handler] = {
            **Groups(self._state, self._listing, self._operations).handlers(),
            **self._networks.handlers(),
            **self._compute.handlers(),
            **self._machines.handlers(),
            **self._scale_sets.handlers(),
            **self._monitoring.handlers(),
        }
        admin = Admin(self.faults, self.alive, self._commands())
        tokens = Tokens(self._clock.now)
        front = Front(self._state, self.faults, self._clock, handlers, self._operations, tokens, admin)
        server = Server(front)
        server.start()
        self._folder = tempfile.TemporaryDirectory(prefix="azure-local-")
        self._server = server

    def stop(self) -> None:
        """Stop to serve and forget everything; again is no difference."""
        if self._server is None:
            return
        self._server.stop()
        self._server = None
        if self._folder is not None:
            self._folder.cleanup()
            self._folder = None
        self._state.clear()
        self._monitoring.clear()
        self._foreign.forget()

    def _commands(self) -> Mapping[str, Any]:
        return {
            "capacity": self.set_capacity,
            "quota": self.set_quota,
            "restrict": self.restrict,
            "preempt": self.preempt,
            "delays": self.set_delays,
            "reserve": self.add_reservation,
            "measure": self.measure,
            "impair": self.impair,
        }

    @property
    def lag(self) -> timedelta:
        """How long what was just made is missing from lists; and what is gone still in Resource Manager's."""
        return self._state.lag

    @lag.setter
    def lag(self, duration: timedelta) -> None:
        self._state.lag = duration

    @property
    def boot_delay(self) -> timedelta:
        """How long a machine, and the scale set that makes it, is being created."""
        return self._state.boot_delay

    @boot_delay.setter
    def boot_delay(self, duration: timedelta) -> None:
        self._state.boot_delay = duration

    @property
    def shutdown_delay(self) -> timedelta:
        """How long a deletion takes; a resource group goes in three steps, each a third of it."""
        return self._state.shutdown_delay

    @shutdown_delay.setter
    def shutdown_delay(self, duration: timedelta) -> None:
        self._state.shutdown_delay = duration

    @property
    def operation_delay(self) -> timedelta:
        """How long any other long-running operation takes."""
        return self._state.operation_delay

    @operation_delay.setter
    def operation_delay(self, duration: timedelta) -> None:
        self._state.operation_delay = duration

    @property
    def operation_polls(self) -> int:
        """How many times the status of an operation is "InProgress" at least, however quick it is."""
        return self._state.operation_polls

    @operation_polls.setter
    def operation_polls(self, polls: int) -> None:
        self._state.operation_polls = polls

    @property
    def retry_after(self) -> timedelta:
        """What answers about operations tell the caller to wait."""
        return self._operations.retry_after

    @retry_after.setter
    def retry_after(self, duration: timedelta) -> None:
        self._operations.retry_after = duration

    @property
    def nic_reservation(self) -> timedelta:
        """How long an interface is kept for its machine after that is gone: 180 seconds in Azure, none here by default."""
        return self._state.nic_reservation

    @nic_reservation.setter
    def nic_reservation(self, duration: timedelta) -> None:
        self._state.nic_reservation = duration

    @property
    def partial(self) -> bool:
        """Whether a scale set that finds too little capacity fails with the machines in it that it found, billed. It does."""
        return self._scale_sets.partial

    @partial.setter
    def partial(self, value: bool) -> None:
        self._scale_sets.partial = value

    @property
    def stockout(self) -> Stockout:
        """How a lack of capacity is told; see `Admission`."""
        return self._admission.stockout

    @stockout.setter
    def stockout(self, value: Stockout) -> None:
        self._admission.stockout = value

    @property
    def page_size(self) -> int:
        """How many entries a page of a list has."""
        return self._listing.page_size

    @page_size.setter
    def page_size(self, entries: int) -> None:
        self._listing.page_size = entries

    @property
    def tags_with_tag_filter(self) -> bool:
        """Whether a list of resources that was filtered by a tag shows tags. By its documentation Azure's does not."""
        return self._listing.tags_with_tag_filter

    @tags_with_tag_filter.setter
    def tags_with_tag_filter(self, value: bool) -> None:
        self._listing.tags_with_tag_filter = value

    def set_delays(self, *, lag: float = 0, boot: float = 0, shutdown: float = 0, operation: float = 0) -> None:
        """Set lag and delays in seconds, for processes that come by HTTP."""
        self.lag, self.boot_delay = timedelta(seconds=lag), timedelta(seconds=boot)
        self.shutdown_delay, self.operation_delay = timedelta(seconds=shutdown), timedelta(seconds=operation)

    def set_capacity(self, size: str, place: str, nodes: int | None) -> None:
        """Say how many of a size a place has in all, those that run included; None for any number.

        Args:
            place: a region ("eastus") or a zone ("eastus-1").

        Raises:
            ValueError: there is no such size or place, or the place does not sell it, so that the call would change nothing.
        """
        key = (place, hardware.sold(size, place))
        with self._state.lock:
            if nodes is None:
                self._state.capacity.pop(key, None)
            else:
                self._state.capacity[key] = nodes

    def set_quota(self, quota: str, region: str, value: float) -> None:
        """Say how many cores a quota allows: "cores", "lowPriorityCores", a family, or the family of a size.

        Raises:
            ValueError: there is no such quota or region.
        """
        hardware.region_of(region)
        size = hardware.size_of(quota)
        known = {name.lower() for name in (REGIONAL, SPOT, *(each.family for each in hardware.sizes().values()))}
        name = (size.family if size is not None else quota).lower()
        if name not in known:
            raise ValueError(f"quota {quota!r}: there are {', '.join(sorted(known))}")
        with self._state.lock:
            self._state.quotas[region, name] = int(value)

    def restrict(self, size: str, place: str, *, is_restricted: bool = True) -> None:
        """Say that the subscription may not have a size in a region or zone, as its list of SKUs then tells.

        Raises:
            ValueError: there is no such size or place, or the place does not sell it.
        """
        key = (place, hardware.sold(size, place))
        with self._state.lock:
            (self._state.restrictions.add if is_restricted else self._state.restrictions.discard)(key)

    def add_reservation(self, size: str, place: str, nodes: int, *, tags: Mapping[str, str] | None = None) -> str:
        """Make a capacity reservation with capacity of its own; returns the id of its capacity reservation group.

        Args:
            place: a region ("eastus") or a zone ("eastus-1").
        """
        name, region = hardware.sold(size, place), hardware.region_of(place)
        found = hardware.sizes()[name.lower()]
        group = f"{RESERVED}-{region}"
        with self._state.lock:
            self._state.groups.setdefault(group, Group(group, region, {}, self._state.now()))
            zone = place.removeprefix(region).removeprefix("-")
            return self._compute.reserve(group, region, zone, found, nodes, dict(tags or {}))

    def preempt(self, vm_id: str) -> None:
        """Let Azure take a spot machine back: it is deleted or deallocated, as its eviction policy says.

        Raises:
            ValueError: there is no such spot machine.
        """
        with self._state.lock:
            item, machine = self._find(vm_id)
            if not machine.spot:
                raise ValueError(f"{vm_id} is no spot machine")
            self._machines.evict(item)

    def measure(self, vm_id: str, load: Mapping[Metric, float], *, accelerator: int = 0, minutes: int = 3) -> None:
        """Let this have been measured of a machine in each of the last minutes.

        What is about accelerators is what a Telegraf agent on it has sent; without any of it the machine has no agent.

        Args:
            load: what was measured, in the unit of the metric; by name ("cpu") too.
            accelerator: which accelerator it is about, as far as it is about one.
            minutes: in how many of the last minutes.
        """
        with self._state.lock:
            known = {Metric(name): value for name, value in load.items()}
            self._monitoring.measure(self._find(vm_id)[0], known, gpu=accelerator, minutes=minutes)

    def impair(self, vm_id: str, state: str = "Unavailable", context: str = "Platform Initiated") -> None:
        """Let Resource Health find a machine "Unavailable", "Degraded" or "Unknown", or "Available" again; `context` says through whom."""
        with self._state.lock:
            self._monitoring.impair(self._find(vm_id)[0], state, context)

    def end_instance(self, vm_id: str) -> None:
        """Let a machine be deleted as if from outside, at once."""
        with self._state.lock:
            self._machines.end(self._find(vm_id)[0])

    def stop_instance(self, vm_id: str) -> None:
        """Let a machine be stopped as if from outside: it exists and is billed, and does not run."""
        with self._state.lock:
            self._find(vm_id)[1].power = "stopped"

    def custom_data(self, vm_id: str) -> str:
        """The custom data that a machine was given, in base64 as it was sent."""
        with self._state.lock:
            owner = self._state.find(self._find(vm_id)[1].scale_set)
            return str(owner.body.get("_customData", "")) if owner is not None else ""

    def _find(self, vm_id: str) -> tuple[Item, Machine]:
        self._state.settle()
        item = self._state.find(vm_id)
        if item is None or item.machine is None:
            # A name alone will do: it is the last part of every machine's id.
            named = (found for found, _ in self._state.machines() if found.name.lower() == vm_id.lower())
            item = next(named, None)
        if item is None or item.machine is None:
            raise ValueError(f"{vm_id}: no such virtual machine")
        return item, item.machine

    def running_ids(self) -> list[str]:
        """The ids of all machines of any owner that run, foreign resources left out, in the order in which they were made."""
        with self._state.lock:
            self._state.settle()
            found = [item for item, _ in self._state.machines() if self._machines.is_running(item)]
            return [item.id for item in sorted(found, key=lambda item: item.number) if item.id not in self._foreign.ids]

    def alive(self) -> list[Resource]:
        """Everything of any owner that exists, in every region: what the subscription would be billed for, and what lies beside it.

        Left out is what the harness itself put there: reservations, the groups that they are in, and the foreign resources of
        `seed_foreign`.
        """
        with self._state.lock:
            self._state.settle()
            found = [resource for resource in existing(self._state) if resource.id not in self._foreign.ids]
        return sorted(found, key=lambda resource: (resource.region, resource.kind, resource.id))

    def seed_foreign(self, region: str = _REGION, resource_group: str = "") -> None:
        """Put foreign resources into a region: resources that are not ours, and some of another owner of this package.

        Args:
            resource_group: put them into this group instead of groups of their own.
        """
        with self._state.lock:
            self._foreign.seed(region, resource_group)

    def foreign_intact(self) -> bool:
        """Whether every foreign resource still lives, with the tags that it had."""
        with self._state.lock:
            self._state.settle()
            return self._foreign.are_intact()
