"""The local Google Cloud: Compute Engine, Cloud TPU and Cloud Monitoring on 127.0.0.1, and what a test may prescribe to it and ask of it."""

import tempfile
from collections.abc import Mapping, Sequence
from datetime import timedelta
from types import MappingProxyType
from typing import Any

from multicompute.clock import Clock, SystemClock
from multicompute.node import Metric
from multicompute.provider import Resource
from multicompute.testing.local_admin import Admin
from multicompute.testing.local_server import Server
from multicompute_gcp.local import images, quotas
from multicompute_gcp.local.beside import Beside
from multicompute_gcp.local.calls import Call, Handler
from multicompute_gcp.local.disks import Disks
from multicompute_gcp.local.faults import GcpFaults
from multicompute_gcp.local.foreign import ForeignResources
from multicompute_gcp.local.forwarded import Duration, Forwarded
from multicompute_gcp.local.front import Front
from multicompute_gcp.local.hardware import hardware
from multicompute_gcp.local.instances import Instances
from multicompute_gcp.local.inventory import Inventory
from multicompute_gcp.local.monitoring import Monitoring
from multicompute_gcp.local.network_rules import default_network
from multicompute_gcp.local.operations import Operations
from multicompute_gcp.local.places import Places
from multicompute_gcp.local.records import PROJECT, Reservation
from multicompute_gcp.local.state import State
from multicompute_gcp.local.tpu import Tpu
from multicompute_gcp.local.tpu_queue import Queue
from multicompute_gcp.local.tpu_records import TpuRecords, full_name
from multicompute_gcp.local.tpu_rules import QUOTA_NAMES

_REGION = "us-central1"


class GcpLocalCloud:
    """Google Cloud on 127.0.0.1: Compute Engine, Cloud TPU and Cloud Monitoring over HTTP, as strict as Google's, with faults on demand.

    Without further ado everything that the offer tables know is there in any number, at once. Each instance of this class is a
    project of its own. Where google-api-python-client is installed, every request is held against Google's own schemas.

    Attributes:
        faults: what goes wrong next, by the names of Google's methods ("instances.bulkInsert", "tpu.queuedResources.create",
            or the full ids), and a record of all calls. A code in capitals ("QUOTA_EXCEEDED") is the error of an operation that was
            accepted, with `status` as its HTTP status (200: without one); any other is a refusal. For TPUs the status tells: 200 is
            an operation that fails.
        lag: how long lists do not show what was just made.
        boot_delay: how long instances and slices take to run.
        operation_delay, operation_polls: how long an operation takes, and how often a look at it finds it running beside that.
        shutdown_delay: how long a deletion takes.
        ghost_time: how long instances that were made on the way to a stockout live on after it.
        stockout_has_status: whether an operation that ended in a stockout has an HTTP status; without one it looks like a success.
        stockout_is_upfront: whether bulkInsert refuses with insufficientCapacity instead of failing later.
        tpu_fails_without_capacity: whether a queued resource without capacity fails at once instead of waiting.
        unreachable: zones that lists over all zones can't reach at the moment.
        largest_page_of_points: so many points of time series are on a page at most.

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
    ghost_time = Duration("_state.timing.ghost")
    stockout_has_status = Forwarded[bool]("_state.stockout_has_status")
    stockout_is_upfront = Forwarded[bool]("_state.stockout_is_upfront")
    tpu_fails_without_capacity = Forwarded[bool]("_tpus.fails_without_capacity")
    unreachable = Forwarded[set[str]]("_state.unreachable")
    largest_page_of_points = Forwarded[int]("_monitoring.largest_page")

    def __init__(self, *, clock: Clock | None = None) -> None:
        """Make a local cloud that is not started.

        Args:
            clock: by which everything here passes; the machine's by default.
        """
        self.faults = GcpFaults()
        self._clock = clock or SystemClock()
        self._state = State(self._clock.now)
        self._tpus = TpuRecords(self._state)
        self._queue = Queue(self._tpus)
        self._state.settle = self._queue.serve
        self._operations = Operations(self._state, self._clock)
        self._inventory = Inventory(self._state, self._tpus)
        self._monitoring = Monitoring(self._state, self._inventory)
        self._foreign = ForeignResources(self._state)
        self._handlers: Mapping[str, Handler] = {}
        self._server: Server | None = None
        self._folder: tempfile.TemporaryDirectory[str] | None = None

    @property
    def endpoint_url(self) -> str:
        """The one URL of both APIs; only after `start`."""
        if self._server is None:
            raise RuntimeError("the local Google Cloud is not started")
        return self._server.url

    @property
    def project(self) -> str:
        """The id of its one project."""
        return PROJECT

    @property
    def environment(self) -> Mapping[str, str]:
        """The variables with which any process reaches it, and can't reach the user's own account."""
        url = self.endpoint_url
        return MappingProxyType(
            {
                "MULTICOMPUTE_GCP__ENDPOINT_URL": url,
                "MULTICOMPUTE_GCP__TPU_ENDPOINT_URL": url,
                "MULTICOMPUTE_GCP__PROJECT": PROJECT,
                "GOOGLE_CLOUD_PROJECT": PROJECT,
                "GCLOUD_PROJECT": PROJECT,
                "CLOUDSDK_CORE_PROJECT": PROJECT,
                # No key file, no gcloud login and no metadata server: there is nothing to authenticate with.
                "GOOGLE_APPLICATION_CREDENTIALS": "",
                "CLOUDSDK_CONFIG": self._folder.name if self._folder else "",
                "NO_GCE_CHECK": "true",
                "NO_PROXY": "127.0.0.1,localhost",
                "no_proxy": "127.0.0.1,localhost",
            }
        )

    def start(self) -> None:
        """Begin to serve."""
        if self._server is not None:
            return
        default_network(self._state, "default", sorted(hardware().regions()))
        handlers: dict[str, Handler] = {**Instances(self._state, self._operations).handlers(), **images.handlers()}
        handlers |= Disks(self._state, self._operations).handlers()
        handlers |= Beside(self._state, self._operations).handlers()
        handlers |= Places(self._state).handlers()
        handlers |= self._operations.handlers()
        handlers |= Tpu(self._tpus, self._queue).handlers()
        handlers |= self._monitoring.handlers()
        self._handlers = handlers
        admin = Admin(self.faults, self.alive, self._commands())
        front = Front(
            self._state,
            self.faults,
            self._clock,
            self._operations,
            handlers,
            self._operations.waits(),
            admin,
            self._failed_tpu_operation,
        )
        server = Server(front)
        server.start()
        self._folder = tempfile.TemporaryDirectory(prefix="gcp-local-")
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
        self._tpus.clear()
        self._monitoring.clear()
        self._foreign.forget()

    def _commands(self) -> Mapping[str, Any]:
        return {
            "capacity": self.set_capacity,
            "quota": self.set_quota,
            "preempt": self.preempt,
            "impair": self.impair,
            "delays": self.set_delays,
        }

    def _failed_tpu_operation(self, call: Call, code: int, message: str) -> dict[str, Any]:
        zone = call.path["zone"]
        name = call.query.get("queuedResourceId") or call.query.get("nodeId") or call.path.get("node", "")
        verb = call.operation.rsplit(".", 1)[-1]
        operation = self._tpus.begin(zone, verb, full_name(zone, "nodes", name), failure=(code, message))
        return operation.as_json(self._state.now())

    # --- what a test prescribes ---------------------------------------------------------------------------------------

    def set_delays(self, *, lag: float = 0, boot: float = 0, operation: float = 0, shutdown: float = 0) -> None:
        """Set lag and delays in seconds, for processes that come by HTTP."""
        self.lag, self.boot_delay = timedelta(seconds=lag), timedelta(seconds=boot)
        self.operation_delay, self.shutdown_delay = timedelta(seconds=operation), timedelta(seconds=shutdown)

    def set_capacity(self, instance_type: str, zone: str, nodes: int | None) -> None:
        """Say how many of something a zone has in all, those that run included; None for any number.

        Args:
            instance_type: a machine type, a TPU slice type, or an accelerator type ("nvidia-tesla-t4"), which then counts
                accelerators, whatever machine they are on.

        Raises:
            ValueError: it is not offered in the zone, so that the call would change nothing.
        """
        places = [hardware().machine_types.get(instance_type), hardware().slices.get(instance_type)]
        offered = any(kind is not None and zone in kind.zones for kind in places)
        if not offered and instance_type not in hardware().gpus_in(zone):
            raise ValueError(f"{instance_type} is not offered in {zone}")
        with self._state.lock:
            if nodes is None:
                self._state.capacity.pop((zone, instance_type), None)
            else:
                self._state.capacity[zone, instance_type] = nodes

    def set_quota(self, metric: str, region: str, value: float) -> None:
        """Say how much a quota allows.

        Args:
            metric: as regions.get has it ("NVIDIA_L4_GPUS"), "NVIDIA_H100_GPUS" and the like for those that count by family,
                "GPUS_ALL_REGIONS", or a TPU quota ("TPUV5PPerProjectPerZoneForTPUAPI").
            region: the region; "global" for a quota of the project; the zone for a TPU quota.

        Raises:
            ValueError: there is no such quota.
        """
        if metric not in quotas.METRICS and metric not in QUOTA_NAMES:
            raise ValueError(f"quota {metric!r}: there are {', '.join(sorted(quotas.METRICS | QUOTA_NAMES))}")
        with self._state.lock:
            self._state.quotas[metric, region] = value

    def add_network(self, name: str, regions: list[str] | None = None) -> None:
        """Make a network, with a subnetwork of its name in each of these regions (all by default)."""
        with self._state.lock:
            default_network(self._state, name, regions or sorted(hardware().regions()))

    def add_reservation(
        self,
        instance_type: str,
        zone: str,
        nodes: int,
        *,
        name: str = "",
        tags: Mapping[str, str] | None = None,
        policies: Sequence[str] = (),
    ) -> str:
        """Make a specific reservation with capacity of its own, placed by these policies; returns its name."""
        machine = hardware().machine_types.get(instance_type)
        if machine is None or zone not in machine.zones:
            raise ValueError(f"{instance_type} is not offered in {zone}")
        with self._state.lock:
            reservation = Reservation(
                name=name or f"reservation-{self._state.number()}",
                id=self._state.new_id(),
                zone=zone,
                machine_type=instance_type,
                total=nodes,
                labels=dict(tags or {}),
                created_at=self._state.now(),
                policies=tuple(policies),
            )
            self._state.zone(zone).reservations.put(reservation)
        return reservation.name

    def pass_time(self, duration: timedelta) -> None:
        """Let time pass in this cloud: time limits, delays and waits of the queue run out."""
        with self._state.lock:
            self._state.offset += duration
            self._state.catch_up()

    # --- what happens without being asked for -------------------------------------------------------------------------

    def preempt(self, instance_id: str) -> None:
        """Let Google take a spot instance or a spot slice back.

        An instance is deleted or stopped, as it was set to be, and an operation tells of it. A slice stays as PREEMPTED; when it was
        the last one of its queued resource, that is suspended, and its slices are deleted.

        Args:
            instance_id: the name of an instance, or of a slice with or without the number of a host ("slice/0").

        Raises:
            ValueError: there is no such spot instance or slice.
        """
        with self._state.lock:
            node = self._inventory.node(instance_id)
            if node is not None and node.spot:
                self._queue.preempt(node)
                return
            instance = self._inventory.instance(instance_id)
            if not instance.host.spot:
                raise ValueError(f"{instance_id} is no spot instance")
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
        """Let Google find something wrong with an instance, or with a slice and so with all its hosts.

        Args:
            node_id: the name of an instance, or of a slice with or without the number of a host ("slice/0").
            trouble: of an instance "REPAIRING" (the default), or why it needs maintenance ("FAILURE_GPU_XID"); of a slice its health,
                by default "TIMEOUT". "" for well again.
        """
        with self._state.lock:
            node = self._inventory.node(node_id)
            if node is not None:
                node.health = "TIMEOUT" if trouble is None else trouble or "HEALTHY"
            else:
                self._inventory.instance(node_id).trouble = "REPAIRING" if trouble is None else trouble

    def measure(self, node_id: str, load: Mapping[Metric, float], *, minutes: int = 3) -> None:
        """Let this have been measured in each of the last minutes, of accelerator 0 where it is about one.

        An instance has then an Ops Agent that has sent what is about GPUs; what a TPU is not measured for (its temperature) is left out.

        Args:
            node_id: the name of an instance, or a host of a slice ("slice/0").
            load: what was measured, in the unit of the metric.
            minutes: in how many of the last minutes.

        Raises:
            ValueError: there is no such instance or slice.
        """
        with self._state.lock:
            self._monitoring.measure(node_id, load, minutes)

    def end_instance(self, instance_id: str) -> None:
        """Let an instance, or a slice, be deleted as if from outside, at once."""
        with self._state.lock:
            node = self._inventory.node(instance_id)
            if node is not None:
                self._tpus.delete_node(node, self._state.now())
                self._queue.note_deletion(node, self._state.now())
            else:
                self._state.delete_instance(self._inventory.instance(instance_id), self._state.now())

    def stop_instance(self, instance_id: str) -> None:
        """Let an instance be stopped as if from outside: it exists, and does not run."""
        with self._state.lock:
            self._state.stop_instance(self._inventory.instance(instance_id))

    def fail_queued_resource(self, name: str, code: int, message: str, *, leaves_nodes: bool = False) -> None:
        """Let a queued resource fail, whatever it has come to.

        Args:
            code: a number of google.rpc.Code.
            leaves_nodes: whether the slices that it has made stay, as they may for a while.
        """
        with self._state.lock:
            self._queue.fail(self._inventory.queued(name), code, message, leaves_nodes=leaves_nodes)

    # --- what there is ------------------------------------------------------------------------------------------------

    def running_ids(self) -> list[str]:
        """The names of all instances, and of all hosts of slices, that run, foreign resources left out, in the order of their making."""
        with self._state.lock:
            self._state.catch_up()
            return [one.id for one in self._inventory.running() if not self._foreign.is_one(one)]

    def startup_script(self, instance_id: str) -> str:
        """The startup script that an instance or a slice was given."""
        with self._state.lock:
            return self._inventory.metadata(instance_id).get("startup-script", "")

    def alive(self) -> list[Resource]:
        """Everything of any owner that exists, in every zone: what the project would be billed for, and what lies beside it.

        Left out is what the harness itself put there: networks, reservations and the foreign resources of `seed_foreign`.
        """
        kept = (resource for resource in self._everything() if not self._foreign.is_one(resource))
        return sorted(kept, key=lambda resource: (resource.region, resource.kind, resource.id))

    def _everything(self) -> list[Resource]:
        with self._state.lock:
            self._state.catch_up()
            return list(self._inventory.resources())

    def seed_foreign(self, region: str = _REGION) -> None:
        """Put foreign resources into a region: resources of the project that are not ours, and some of another owner of this package."""
        self._foreign.seed(region, self._handlers, self._everything)

    def foreign_intact(self) -> bool:
        """Whether every foreign resource still lives, with the labels that it had."""
        return self._foreign.are_intact(self._everything())
