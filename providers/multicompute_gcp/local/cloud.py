"""The local Google Cloud: Compute Engine, Cloud TPU, Cloud Monitoring and Cloud Billing on 127.0.0.1, and what a test can do with them."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from multicompute.clock import Clock, SystemClock
from multicompute.offer import Purchase
from multicompute.provider import Resource
from multicompute.testing.faults import Faults
from multicompute.testing.local.admin import PREFIX, Admin
from multicompute.testing.local.chassis import Chassis
from multicompute.testing.local.fault_injection import FaultInjector
from multicompute.testing.local.foreign import ForeignResources
from multicompute.testing.local.forwarded import Duration, Forwarded
from multicompute.testing.local.measurements import Load
from multicompute.testing.local.shells import PREFIX as SHELLS
from multicompute.testing.local.shells import Shells
from multicompute_gcp.local import foreign, images, quotas
from multicompute_gcp.local.app import GcpApp
from multicompute_gcp.local.billing import API_KEY, Billing
from multicompute_gcp.local.calls import Call, Handler
from multicompute_gcp.local.credentials import Keys
from multicompute_gcp.local.disks import Disks
from multicompute_gcp.local.faults import GcpFaults
from multicompute_gcp.local.groups import Groups
from multicompute_gcp.local.hardware import hardware
from multicompute_gcp.local.instances import Instances
from multicompute_gcp.local.inventory import Inventory
from multicompute_gcp.local.monitoring import Monitoring
from multicompute_gcp.local.networks import add_nat, add_network
from multicompute_gcp.local.offerings import Offerings
from multicompute_gcp.local.operations import Operations
from multicompute_gcp.local.other_resources import OtherResources
from multicompute_gcp.local.pending import PendingInstances
from multicompute_gcp.local.projects import Projects
from multicompute_gcp.local.records import PROJECT, Reservation, ReservationTerms
from multicompute_gcp.local.reservations import Reservations
from multicompute_gcp.local.state import State
from multicompute_gcp.local.templates import Templates
from multicompute_gcp.local.tpu import Tpu
from multicompute_gcp.local.tpu_queue import Queue
from multicompute_gcp.local.tpu_records import TpuRecords, full_name
from multicompute_gcp.local.tpu_rules import QUOTA_NAMES

_REGION = "us-central1"


class GcpLocalCloud:
    """Google Cloud on 127.0.0.1: Compute Engine, Cloud TPU, Cloud Monitoring and the price lists of Cloud Billing over HTTP, as strict as Google's.

    Each instance of this class is a project of its own. Without further settings it has everything in the offer tables, in any
    number and at once. If google-api-python-client is installed, every request is checked against Google's own schemas. See
    `multicompute.testing.LocalCloud` for the members that every local cloud has.

    Attributes:
        faults: The faults that wait for calls, and a record of all calls. Methods have Google's names ("instances.bulkInsert",
            "tpu.queuedResources.create", or the full ids). A code in capitals ("QUOTA_EXCEEDED") makes the operation that the
            method begins fail, with `status` as its HTTP status (200 for none); any other code refuses the call. For TPUs the
            status decides: 200 makes the operation fail.
        lag: How long lists omit a new resource.
        boot_delay: How long instances and slices take until they run.
        operation_delay: How long an operation takes.
        operation_polls: How many times an operation also reports that it runs.
        shutdown_delay: How long a deletion takes.
        ghost_time: How long instances that a stockout leaves behind exist after it.
        stockout_has_status: Whether an operation that ends in a stockout has an HTTP status; without one it looks like a success.
        stockout_is_upfront: Whether bulkInsert refuses with insufficientCapacity instead of failing later.
        unauthorized_tpu_zones: The zones that the project may not use for TPUs, although they are listed.
        role: The permissions of the caller; None for all.
        used_permissions: The permissions that calls have needed so far.
        lost_while_created: The codes of operations that fail because Google preempts one of the spot instances that they create; each
            is used once.
        tpu_fails_without_capacity: Whether a queued resource without capacity fails at once instead of waiting.
        resize_fails_without_capacity: Whether a resize request without capacity fails at once instead of waiting.
        unreachable: The zones that lists over all zones cannot reach.
        largest_page_of_points: The largest number of points on a page of time series.
        largest_page_of_skus: The largest number of SKUs on a page of a price list.
        api_key: The only API key that Cloud Billing accepts.

    Example:
        >>> cloud = GcpLocalCloud()
        >>> cloud.start()
        >>> cloud.set_capacity("a3-highgpu-8g", "us-central1-a", 0)
        >>> cloud.alive()
        []
        >>> cloud.stop()
    """

    name = "gcp"
    lag = Duration("_state.timing.lag")
    boot_delay = Duration("_state.timing.boot")
    operation_delay = Duration("_state.timing.operation")
    operation_polls = Forwarded[int]("_state.timing.polls")
    shutdown_delay = Duration("_state.timing.shutdown")
    ghost_time = Duration("_state.ghost_time")
    stockout_has_status = Forwarded[bool]("_state.stockout_has_status")
    stockout_is_upfront = Forwarded[bool]("_state.stockout_is_upfront")
    unauthorized_tpu_zones = Forwarded[set[str]]("_tpus.unauthorized")
    role = Forwarded[frozenset[str] | None]("_state.role")
    used_permissions = Forwarded[set[str]]("_state.used_permissions")
    lost_while_created = Forwarded[list[str]]("_state.lost_while_created")
    tpu_fails_without_capacity = Forwarded[bool]("_tpus.fails_without_capacity")
    resize_fails_without_capacity = Forwarded[bool]("_groups.fails_without_capacity")
    unreachable = Forwarded[set[str]]("_state.unreachable")
    largest_page_of_points = Forwarded[int]("_monitoring.largest_page")
    largest_page_of_skus = Forwarded[int]("_billing.largest_page")
    api_key: str = API_KEY

    def __init__(self, *, clock: Clock | None = None) -> None:
        """Create a local cloud that is not started.

        Args:
            clock: The clock of everything in the cloud; the machine's by default.
        """
        self._clock = clock = clock or SystemClock()
        self._keys = Keys()
        self._accounts: dict[str, GcpLocalCloud] = {}
        self.faults: Faults = GcpFaults()
        self._injector = FaultInjector(self.faults, clock)
        self._chassis = Chassis("Google Cloud")
        self._shells = Shells(self)
        self._state = State(clock.now)
        self._tpus = TpuRecords(self._state)
        self._queue = Queue(self._tpus)
        self._operations = Operations(self._state, clock)
        self._groups = Groups(self._state, self._operations)
        self._pending = PendingInstances(self._state, self._operations)
        self._state.settle = self._settle
        self._inventory = Inventory(self._state, self._tpus)
        self._monitoring = Monitoring(self._state, self._inventory)
        self._billing = Billing(self._state)
        self._foreign = ForeignResources(self._everything)
        self._handlers: Mapping[str, Handler] = {
            **Instances(self._state, self._operations, self._pending).handlers(),
            **Templates(self._state, self._operations).handlers(),
            **self._groups.handlers(),
            **images.handlers(),
            **Disks(self._state, self._operations).handlers(),
            **OtherResources(self._state, self._operations).handlers(),
            **Reservations(self._state).handlers(),
            **Offerings(self._state).handlers(),
            **self._operations.handlers(),
            **Tpu(self._tpus, self._queue).handlers(),
            **self._monitoring.handlers(),
            **self._billing.handlers(),
        }

    # --- the server ---------------------------------------------------------------------------------------------------

    @property
    def endpoint_url(self) -> str:
        """The URL of all APIs; only after `start`."""
        return self._chassis.endpoint_url

    @property
    def project(self) -> str:
        """The id of the project."""
        return PROJECT

    @property
    def environment(self) -> Mapping[str, str]:
        """The environment variables that connect any process to this cloud, and to no account of the user's."""
        return self._environment_of(PROJECT)

    def _environment_of(self, project: str) -> Mapping[str, str]:
        url = self.endpoint_url
        return self._chassis.environment(
            {
                "MULTICOMPUTE_GCP__ENDPOINT_URL": url,
                "MULTICOMPUTE_GCP__TPU_ENDPOINT_URL": url,
                "MULTICOMPUTE_GCP__BILLING_ENDPOINT_URL": url,
                "MULTICOMPUTE_GCP__API_KEY": API_KEY,
                "MULTICOMPUTE_GCP__PROJECT": project,
                "GOOGLE_CLOUD_PROJECT": project,
                "GCLOUD_PROJECT": project,
                "CLOUDSDK_CORE_PROJECT": project,
                # No key file, no gcloud login and no metadata server: nothing to authenticate with.
                "GOOGLE_APPLICATION_CREDENTIALS": "",
                "CLOUDSDK_CONFIG": str(self._chassis.folder),
                "NO_GCE_CHECK": "true",
            }
        )

    def start(self) -> None:
        """Start the server and return when it answers; does nothing if it runs."""
        if self._chassis.is_running:
            return
        self._projects = Projects(self._application(), self._keys)
        self._chassis.start({"/": self._projects, PREFIX: Admin(self), SHELLS: self._shells})

    def _application(self) -> GcpApp:
        add_network(self._state, "default", sorted(hardware().regions()))
        return GcpApp(self._state, self._injector, self._operations, self._handlers, self._failed_tpu_operation)

    def stop(self) -> None:
        """Stop the server and delete everything in the cloud; does nothing if the server does not run."""
        self._shells.stop()
        self._chassis.stop()
        parts = (
            self._state,
            self._pending,
            self._tpus,
            self._monitoring,
            self._billing,
            self._foreign,
            self._keys,
            self._accounts,
        )
        for part in parts:
            part.clear()

    def _settle(self) -> None:
        for queue in (self._queue.grant_waiting, self._pending.settle, self._groups.settle):
            queue()

    def _failed_tpu_operation(self, call: Call, code: int, message: str) -> dict[str, Any]:
        zone = call.path["zone"]
        name = call.query.get("queuedResourceId") or call.query.get("nodeId") or call.path.get("node", "")
        verb = call.operation.rsplit(".", 1)[-1]
        operation = self._tpus.begin(zone, verb, full_name(zone, "nodes", name), failure=(code, message))
        return operation.as_json(self._state.now())

    # --- conditions ---------------------------------------------------------------------------------------------------

    def set_delays(self, *, lag: float = 0, boot: float = 0, shutdown: float = 0, operation: float = 0) -> None:
        """Set `lag`, `boot_delay`, `shutdown_delay` and `operation_delay` in seconds."""
        self._state.timing.set_seconds(lag=lag, boot=boot, shutdown=shutdown, operation=operation)

    def set_capacity(self, instance_type: str, place: str, nodes: int | None) -> None:
        """Limit how many of something a zone has; see `LocalCloud.set_capacity`.

        Args:
            instance_type: A machine type, a TPU slice type, or an accelerator type ("nvidia-tesla-t4"); the limit of an
                accelerator type counts accelerators on machines of any type.
            place: The zone.
            nodes: How many in total; None for no limit.

        Raises:
            ValueError: The zone does not offer it.
        """
        kinds = [hardware().machine_types.get(instance_type), hardware().slices.get(instance_type)]
        is_offered = any(kind is not None and place in kind.zones for kind in kinds)
        if not is_offered and instance_type not in hardware().gpus_in(place):
            raise ValueError(f"{instance_type} is not offered in {place}")
        with self._state.lock:
            self._state.capacity.set(place, instance_type, nodes)

    def set_price(
        self, instance_type: str, region: str, hourly_usd: float | None, *, purchase: Purchase = "on_demand"
    ) -> None:
        """Set what a machine type or a slice type costs; see `LocalCloud.set_price`.

        Google has no price of machine types: the price of the GPU, chip or core changes, and so does that of every type that has it.

        Raises:
            ValueError: The region does not offer the type, its parts have no such price, the other parts cost more, or the price is
                None: a list of parts can't omit one type.
        """
        if hourly_usd is None:
            raise ValueError(f"{instance_type}: Google's price list has parts of machines, so it can't omit one type")
        with self._state.lock:
            self._billing.set_price(instance_type, region, hourly_usd, purchase)

    def set_quota(self, quota: str, region: str, value: float) -> None:
        """Limit what the project may use; see `LocalCloud.set_quota`.

        Args:
            quota: A metric of regions.get ("NVIDIA_L4_GPUS"); "NVIDIA_H100_GPUS" and the like for accelerators that count by
                family; "GPUS_ALL_REGIONS"; or a TPU quota ("TPUV5PPerProjectPerZoneForTPUAPI").
            region: The region; "global" for a quota of the project; the zone for a TPU quota.
            value: The limit.

        Raises:
            ValueError: Google has no such quota.
        """
        if quota not in quotas.METRICS and quota not in QUOTA_NAMES:
            raise ValueError(f"quota {quota!r}: must be one of {', '.join(sorted(quotas.METRICS | QUOTA_NAMES))}")
        with self._state.lock:
            self._state.quotas.set(quota, region, value)

    def add_network(
        self,
        name: str,
        regions: list[str] | None = None,
        *,
        has_internet: bool = True,
        rdma_zone: str = "",
        subnetworks: Sequence[str] = (),
        project: str = PROJECT,
    ) -> None:
        """Add a network with subnetworks in each region.

        Args:
            name: Its name.
            regions: The regions of its subnetworks; all by default.
            has_internet: Whether it has a default route to the internet.
            rdma_zone: The zone of its RDMA network profile; "" for a regular network.
            subnetworks: The names of its subnetworks in each region; its own name by default.
            project: The project that owns it; a network of another project is shared with this one.
        """
        with self._state.lock:
            add_network(
                self._state,
                name,
                regions or sorted(hardware().regions()),
                has_internet=has_internet,
                rdma_zone=rdma_zone,
                subnetworks=subnetworks,
                project=project,
            )

    def add_nat(self, network: str, region: str) -> None:
        """Add a Cloud NAT for all subnetworks of a network in a region."""
        with self._state.lock:
            add_nat(self._state, network, region)

    def add_reservation(
        self,
        instance_type: str,
        place: str,
        nodes: int,
        *,
        tags: Mapping[str, str] | None = None,
        name: str = "",
        policies: Sequence[str] = (),
        ends_at: datetime | None = None,
        terms: ReservationTerms | None = None,
    ) -> str:
        """Add a specific reservation; see `LocalCloud.add_reservation`.

        Args:
            instance_type: The machine type, or a TPU slice type.
            place: The zone.
            nodes: How many machines or slices it holds.
            tags: Its labels.
            name: Its name; a new one by default.
            policies: The names of the placement policies that its machines must have.
            ends_at: When it is deleted, with the instances that are bound to it; None for never.
            terms: Its other terms; None for those of most reservations.

        Returns:
            The name of the reservation; the path of one of another project.

        Raises:
            ValueError: The zone does not offer the machine type.
        """
        machine = hardware().machine_types.get(instance_type) or hardware().slices.get(instance_type)
        if machine is None or place not in machine.zones:
            raise ValueError(f"{instance_type} is not offered in {place}")
        terms = terms or ReservationTerms()
        with self._state.lock:
            name = name or f"reservation-{self._state.number()}"
            reservation = Reservation(
                name=f"projects/{terms.owner}/reservations/{name}" if terms.owner else name,
                id=self._state.new_id(),
                zone=place,
                machine_type=instance_type,
                total=nodes,
                labels=dict(tags or {}),
                created_at=self._state.now(),
                policies=tuple(policies),
                ends_at=ends_at,
                terms=terms,
            )
            self._state.zone(place).reservations.add(reservation)
        return reservation.name

    def pass_time(self, duration: timedelta) -> None:
        """Move this cloud's clock forward, so that time limits, delays and queue deadlines pass."""
        with self._state.lock:
            self._state.offset += duration
            self._state.catch_up()

    # --- outside actors -----------------------------------------------------------------------------------------------

    def preempt(self, node_id: str) -> None:
        """Take a spot instance or a spot slice back; see `LocalCloud.preempt`.

        An instance is deleted or stopped, according to its termination action, and an operation reports it. A slice stays as
        PREEMPTED; when it was the last slice of its queued resource, the queued resource is suspended and its slices deleted.

        Args:
            node_id: The name of an instance, or of a slice with or without the number of a host ("slice/0").

        Raises:
            ValueError: No spot instance or slice has this name.
        """
        with self._state.lock:
            node = self._inventory.node(node_id)
            if node is not None and node.spot:
                self._queue.preempt(node)
                return
            instance = self._inventory.instance(node_id)
            if not instance.host.spot:
                raise ValueError(f"{node_id} is not a spot instance")
            self._operations.begin(
                "compute.instances.preempted",
                instance.scope,
                instance.body["selfLink"],
                instance.id,
                done_at=self._state.now(),
                user="system",
                message="Instance was preempted.",
            )
            if instance.action == "DELETE":
                self._state.delete_instance(instance, self._state.now())
            else:
                self._state.stop_instance(instance)

    def impair(self, node_id: str, *, trouble: str | None = None) -> None:
        """Make Google find something wrong with an instance, or with a slice and so with all its hosts.

        Args:
            node_id: The name of an instance, or of a slice with or without the number of a host ("slice/0").
            trouble: For an instance "REPAIRING" (the default), or a reason for maintenance ("FAILURE_GPU_XID"); for a slice its
                health, by default "TIMEOUT". "" makes it healthy again.
        """
        with self._state.lock:
            node = self._inventory.node(node_id)
            if node is not None:
                node.health = "TIMEOUT" if trouble is None else trouble or "HEALTHY"
            else:
                self._inventory.instance(node_id).trouble = "REPAIRING" if trouble is None else trouble

    def measure(self, node_id: str, load: Load, *, minutes: int = 3) -> None:
        """Add measurements for each of the last minutes; accelerator metrics are about accelerator 0.

        An instance then has an Ops Agent that has sent the GPU metrics. A metric that TPUs do not have, such as the temperature,
        is ignored for a slice.

        Args:
            node_id: The name of an instance, or a host of a slice ("slice/0").
            load: Metric -> its value, in the metric's unit.
            minutes: For how many minutes.

        Raises:
            ValueError: No instance or slice has this name.
        """
        with self._state.lock:
            self._monitoring.measure(node_id, load, minutes)

    def terminate_node(self, node_id: str) -> None:
        """Delete an instance or a slice at once; see `LocalCloud.terminate_node`."""
        with self._state.lock:
            node, now = self._inventory.node(node_id), self._state.now()
            if node is not None:
                self._tpus.delete_node(node, now)
                self._queue.note_deletion(node, now)
            else:
                self._state.delete_instance(self._inventory.instance(node_id), now)

    def stop_node(self, node_id: str) -> None:
        """Stop an instance, or a slice with one host; see `LocalCloud.stop_node`."""
        with self._state.lock:
            if (node := self._inventory.node(node_id)) is not None:
                self._tpus.stop_node(node)
            else:
                self._state.stop_instance(self._inventory.instance(node_id))

    def power_off(self, node_id: str) -> None:
        """Stop an instance from inside, which leaves it TERMINATED, as a stop through the API does."""
        self.stop_node(node_id)

    def suspend_node(self, node_id: str) -> None:
        """Suspend an instance, as a user can in Google's console."""
        with self._state.lock:
            instance = self._inventory.instance(node_id)
            self._state.stop_instance(instance)
            instance.is_suspended = True

    def start_node(self, node_id: str) -> None:
        """Start a stopped instance or slice, or resume a suspended instance; see `LocalCloud.start_node`."""
        with self._state.lock:
            if (node := self._inventory.node(node_id)) is not None:
                self._tpus.start_node(node)
            else:
                self._state.start_instance(self._inventory.instance(node_id))

    def remove_tags(self, node_id: str) -> None:
        """Remove all labels of an instance and its disks, or of a slice; see `LocalCloud.remove_tags`."""
        with self._state.lock:
            if (node := self._inventory.node(node_id)) is not None:
                node.body = {**node.body, "labels": {}}
                return
            instance = self._inventory.instance(node_id)
            instance.relabel({})
            for disk, _ in instance.disks:
                disk.labels = {}

    def protect(self, node_id: str, *, is_protected: bool = True) -> None:
        """Set the deletion protection of an instance; see `LocalCloud.protect`. TPU slices have none."""
        with self._state.lock:
            if self._inventory.node(node_id) is not None:
                raise NotImplementedError("Cloud TPU has no protection from deletion")
            self._inventory.instance(node_id).protect(is_protected=is_protected)

    def add_account(self, account: str) -> Mapping[str, str]:
        """Add a project without resources; see `LocalCloud.add_account`."""
        other = GcpLocalCloud(clock=self._clock)
        other.faults, other._injector = self.faults, self._injector
        self._accounts[account] = other
        self._projects.add(account, other._application())
        return self._environment_of(account)

    def add_key(self, path: Path) -> str:
        """Create a key of a service account and write it to a file, which the setting `credentials_file` may name.

        From then on, every call needs the token of a key.

        Returns:
            The id of the key.
        """
        return self._keys.add(path, endpoint=self.endpoint_url)

    def revoke_key(self, key_id: str) -> None:
        """Reject a key and all tokens that were issued for it, as after the key was rotated and its account was disabled."""
        self._keys.revoke(key_id)

    def expire_tokens(self) -> None:
        """Reject all tokens that were issued so far, as an hour later."""
        self._keys.expire_tokens()

    def fail_queued_resource(self, name: str, code: int, message: str, *, leaves_nodes: bool = False) -> None:
        """Make a queued resource fail, whatever its state.

        Args:
            name: The name of the queued resource.
            code: A number of google.rpc.Code.
            message: The error message.
            leaves_nodes: Whether its slices stay, as they can for a while.
        """
        with self._state.lock:
            self._queue.fail(self._inventory.queued(name), code, message, leaves_nodes=leaves_nodes)

    def fail_resize_request(self, name: str, code: str, message: str) -> None:
        """Make a resize request that waits in the queue fail; `code` is one of Compute Engine's operations ("QUOTA_EXCEEDED").

        Raises:
            ValueError: No resize request with this name waits.
        """
        with self._state.lock:
            self._groups.fail(name, {"code": code, "message": message})

    # --- what exists --------------------------------------------------------------------------------------------------

    def running_ids(self) -> list[str]:
        """Return the names of the instances and slice hosts that run; see `LocalCloud.running_ids`."""
        with self._state.lock:
            self._state.catch_up()
            return [one.id for one in self._inventory.running() if not self._foreign.has(one.kind, one.region, one.id)]

    def boot_script(self, node_id: str) -> str:
        """Return the startup script of an instance or a slice."""
        with self._state.lock:
            return self._inventory.metadata(node_id).get("startup-script", "")

    def authorized_keys(self, node_id: str) -> list[str]:
        """Return the keys in the metadata of an instance or a slice, without the user; see `LocalCloud.authorized_keys`."""
        with self._state.lock:
            lines = self._inventory.metadata(node_id).get("ssh-keys", "").splitlines()
        return [line.partition(":")[2] for line in lines]

    def alive(self) -> list[Resource]:
        """Return everything that exists in every zone; see `LocalCloud.alive`.

        Networks, reservations and foreign resources are left out.
        """
        return self._foreign.others()

    def _everything(self) -> Iterable[Resource]:
        with self._state.lock:
            self._state.catch_up()
            return list(self._inventory.resources())

    def seed_foreign(self, region: str = _REGION) -> None:
        """Create foreign resources in a region; see `LocalCloud.seed_foreign`."""
        with self._foreign.registering(), self._state.lock:
            foreign.seed(region, self._handlers)

    def foreign_intact(self) -> bool:
        """Return whether every foreign resource still exists with its labels."""
        return self._foreign.are_intact()
