"""Launches a gang of instances, all or nothing: one bulkInsert per part, or what flex-start needs."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from google.api_core import exceptions as sdk

from multicompute.clock import Clock
from multicompute.errors import InvalidRequestError, ThrottledError, TransientError
from multicompute.node import Node
from multicompute.offer import InstanceType, Part
from multicompute.provider import LaunchRequest
from multicompute.provider_kit.calls import in_parallel
from multicompute.provider_kit.vendor_errors import Place, VendorAnswer, retryable
from multicompute_gcp._boot import metadata_of
from multicompute_gcp._errors import is_unbound, refusal, translate_errors
from multicompute_gcp._flex import GroupLauncher, is_flex_start, single_insert
from multicompute_gcp._gang import AT_ONCE, OpenZones, attempt_of, deleting_on_refusal
from multicompute_gcp._groups import delete as delete_groups
from multicompute_gcp._image import disk_type_of, image_of
from multicompute_gcp._interfaces import gpu_subnetworks, interfaces
from multicompute_gcp._limits import MAX_FLEX_START, MAX_RUN, MIN_FLEX_START, MIN_RUN
from multicompute_gcp._list import ATTACHED, instances, nodes, pending_node, to_node, zone_of
from multicompute_gcp._names import bulk_insert_id, instance_names, last_segment, region_of
from multicompute_gcp._network import Network, network_tag
from multicompute_gcp._operations import Outcome, wait
from multicompute_gcp._placement import check_domain, needs_policy
from multicompute_gcp._reservations import HeldReservation, find_reservation
from multicompute_gcp._session import CALL, Clients
from multicompute_gcp._settings import GcpSettings
from multicompute_gcp._tags import description_of, labels_of
from multicompute_gcp._terminate import delete_instances

if TYPE_CHECKING:
    from google.cloud.compute_v1 import Operation

# Whether there is capacity is known within seconds, when instances are assigned to hosts; booting takes longer, and listings show it.
_ALLOCATED_WITHIN: Final = timedelta(seconds=45)
_EXISTS: Final = ("alreadyExists", "RESOURCE_ALREADY_EXISTS")
# For a framework, a container or two and checkpoints.
_DEFAULT_DISK_GIB: Final = 200
_DEFAULT_PLAIN_DISK_GIB: Final = 50
# What a node needs to write logs and metrics and to read its data; with none of these it could change the project.
_NODE_SCOPES: Final = (
    "https://www.googleapis.com/auth/devstorage.read_write",
    "https://www.googleapis.com/auth/logging.write",
    "https://www.googleapis.com/auth/monitoring.write",
)


class Launcher:
    """A launcher of gangs of instances, which keeps the zones that it has read for the next launch."""

    def __init__(self, clients: Clients, network: Network, clock: Clock, *, queue_wait: timedelta) -> None:
        self._clients = clients
        self._network = network
        self._clock = clock
        self._queue_wait = queue_wait
        self._flex_groups = GroupLauncher(clients, network, clock)
        self._zones = OpenZones(self._find_zones, kind="machine type")
        self._failures: Counter[str] = Counter()

    def launch(self, request: LaunchRequest) -> tuple[Node, ...]:
        """Launch all parts of `request`, or none; see `Provider.launch`."""
        return self._zones.launch(request, self._launch, used_zones=self._used_zones)

    def restart(self, request: LaunchRequest) -> tuple[Node, ...]:
        """Start the stopped instances of an earlier launch, and resume those that were suspended."""
        clients, service = self._clients, self._clients.instances()
        place, selector = Place("gcp", request.region), replace(attempt_of(request), tokens=(request.token,))
        # https://cloud.google.com/compute/docs/instances/suspend-resume-instance: a suspended instance is resumed and not started.
        calls = {
            "TERMINATED": ("instances.start", service.start_unary),
            "STOPPED": ("instances.start", service.start_unary),
            "SUSPENDED": ("instances.resume", service.resume_unary),
        }

        def start(item: dict[str, Any]) -> None:
            zone = Place("gcp", request.region, zone_of(item), last_segment(item.get("machineType", "")))
            operation, call = calls[item["status"]]
            where = {"project": clients.project, "zone": zone.zone, "instance": str(item["name"])}
            with translate_errors(operation, zone):
                started = call(request=where, **CALL)
            outcome = wait(clients, started, zone, clock=self._clock, at_most=_ALLOCATED_WITHIN)
            if outcome.error is not None:
                raise refusal(outcome.error, operation, zone)

        stopped = [item for item in instances(clients, selector, place) if item.get("status") in calls]
        in_parallel(start, stopped, at_once=AT_ONCE)
        return tuple(nodes(clients, selector, place))

    def _find_zones(self, place: Place) -> set[str]:
        listed = self._clients.aggregated("machineTypes", place, filter=f'name = "{place.instance_type}"')
        zones = {zone_of(item) for item in listed if item.get("name") == place.instance_type}
        return {zone for zone in zones if region_of(zone) == place.region}

    def _used_zones(self, request: LaunchRequest) -> set[str]:
        place = Place("gcp", request.region)
        used = {zone_of(item) for item in instances(self._clients, attempt_of(request), place)}
        return used | self._flex_groups.used_zones(request) if any(map(is_flex_start, request.parts)) else used

    def _launch(self, request: LaunchRequest) -> tuple[Node, ...]:
        region = Place("gcp", request.region)
        self._network.prepare(request, Place.of(request.parts[0].offer))
        self._warn_without_fabric(request)
        zones = {part.offer.zone for part in request.parts}
        outcomes: list[Callable[[], list[Node]]] = []
        running: list[Operation] = []

        def delete(end: datetime) -> bool:
            # After a stockout, instances may still be created and deleted; those that a listing shows are deleted here.
            for operation in running:
                wait(self._clients, operation, region, clock=self._clock, at_most=end - self._clock.now())
            left = delete_groups(self._clients, attempt_of(request), region, zones=zones) if has_groups else []
            existing, running[:], _ = delete_instances(self._clients, attempt_of(request), region, zones=zones)
            return bool(existing or left)

        has_groups = any(map(_is_flex_gang, request.parts))
        with deleting_on_refusal(request, self._clock, delete):
            for index, part in enumerate(request.parts):
                outcomes.append(self._start(request, index, part, running))
            return tuple(node for outcome in outcomes for node in outcome())

    def _warn_without_fabric(self, request: LaunchRequest) -> None:
        for part in request.parts if request.fabric else ():
            if not gpu_subnetworks(part.offer.instance, part.offer.zone, self._clients.settings):
                remedy = "name its subnetworks in [providers.gcp] gpu_subnetworks"
                request.warn(f"{Place.of(part.offer)}: the nodes are close together, but have no fabric: {remedy}")

    def _start(
        self, request: LaunchRequest, index: int, part: Part, running: "list[Operation]"
    ) -> Callable[[], list[Node]]:
        """Request a part, add its operation to `running`, and return the function that waits for its nodes."""
        names = instance_names(request, index, part)
        if _is_flex_gang(part):
            self._flex_groups.start(request, index, part, self._properties(request, part, (), None))
            return lambda: self._flex_groups.outcome(request, index, part)
        if is_flex_start(part):
            operation = single_insert(
                self._clients,
                request,
                part,
                names[0],
                self._properties(request, part, (), None),
                failures=self._failures[request.token],
                wait=self._queue_wait,
            )
        else:
            operation = self._bulk_insert(request, index, part)
        running += [operation] if operation is not None else []
        return lambda: self._outcome(request, part, names, operation)

    def _properties(
        self, request: LaunchRequest, part: Part, policies: Sequence[str], held: HeldReservation | None
    ) -> dict[str, Any]:
        clients, now = self._clients, self._clock.now()
        settings, project = clients.settings, clients.project
        return instance_properties(request, part, settings, project=project, policies=policies, held=held, now=now)

    def _bulk_insert(self, request: LaunchRequest, index: int, part: Part) -> "Operation | None":
        """Request a part; None if instances of these names exist, which only an earlier launch with this token can have created."""
        held = find_reservation(self._clients, part.reservation, Place.of(part.offer)) if part.reservation else None
        try:
            return self._bulk_insert_into(request, index, part, held)
        except InvalidRequestError as error:
            if held is None or held.is_bound or not is_unbound(error):
                raise
            # A reservation of another project that could not be read.
            self._failures[request.token] += 1
            return self._bulk_insert_into(request, index, part, replace(held, is_bound=True))

    def _bulk_insert_into(
        self, request: LaunchRequest, index: int, part: Part, held: HeldReservation | None
    ) -> "Operation | None":
        place, clients = Place.of(part.offer), self._clients
        policies = held.policies if held is not None else ()
        if request.fabric and (held is None or needs_policy(held, place.instance_type)):
            check_domain(part, place)
            policies = (self._network.placement_policy(request, place),)
        body = {
            "count": part.nodes,
            "min_count": part.nodes,
            "per_instance_properties": {name: {} for name in instance_names(request, index, part)},
            "instance_properties": self._properties(request, part, policies, held),
        }
        call = {
            "project": clients.project,
            "zone": place.zone,
            "request_id": bulk_insert_id(request.token, index, place.zone, self._failures[request.token]),
            "bulk_insert_instance_resource_resource": body,
        }
        with translate_errors("instances.bulkInsert", place):
            try:
                return clients.instances().bulk_insert_unary(request=call, **CALL)
            except sdk.Conflict as error:
                if "already exists" not in str(error.message):
                    raise
                return None

    def _outcome(
        self, request: LaunchRequest, part: Part, names: list[str], operation: "Operation | None"
    ) -> list[Node]:
        """Return the nodes of a part as soon as it is known that there is capacity for them."""
        place = Place.of(part.offer)
        outcome = Outcome(is_done=True, error=VendorAnswer("alreadyExists"))
        if operation is not None:
            outcome = wait(self._clients, operation, place, clock=self._clock, at_most=_ALLOCATED_WITHIN)
        if outcome.error is None:
            return [pending_node(name, request, part) for name in names]
        if outcome.error.code in _EXISTS:
            return self._launched_before(request, part, names, place)
        call = "instances.insert" if is_flex_start(part) else "instances.bulkInsert"
        error = refusal(outcome.error, call, place)
        if isinstance(error, (ThrottledError, TransientError)):
            # For the same request id, Google would only report this failure again. The names keep the part from being bought twice.
            self._failures[request.token] += 1
        raise error

    def _launched_before(self, request: LaunchRequest, part: Part, names: list[str], place: Place) -> list[Node]:
        """Return the nodes of an earlier launch with this token, whose request id Google has forgotten."""
        found = {item["name"]: item for item in instances(self._clients, attempt_of(request), place)}
        if not set(names) <= set(found):
            text = "launched before with this token, but not listed yet"
            raise retryable(text, code="alreadyExists", place=place)
        return [to_node(found[name], part) for name in names]


def _is_flex_gang(part: Part) -> bool:
    return is_flex_start(part) and part.nodes > 1


def instance_properties(
    request: LaunchRequest,
    part: Part,
    settings: GcpSettings,
    *,
    project: str,
    policies: Sequence[str],
    held: HeldReservation | None,
    now: datetime,
) -> dict[str, Any]:
    """Return the `instanceProperties` of a bulkInsert, which has the names of types where a single insert has their URLs."""
    instance = part.offer.instance
    properties: dict[str, Any] = {
        "machine_type": instance.name,
        "description": description_of(request.tags),
        "labels": labels_of(request.tags),
        "tags": {"items": [network_tag(request.cluster_id)]},
        "disks": [_boot_disk(request, instance), *_local_ssds(held)],
        "network_interfaces": interfaces(request, part, settings, project=project),
        "scheduling": scheduling(request, part, settings, held=held, now=now),
        "metadata": {"items": [{"key": key, "value": value} for key, value in metadata_of(request).items()]},
        "reservation_affinity": _affinity(held),
    }
    if not request.image:
        # Without secure boot, which would refuse drivers that are built on the node. An image of the user may not support UEFI, and is then
        # refused with any of these options; if it does, they are the default.
        properties["shielded_instance_config"] = {"enable_vtpm": True, "enable_integrity_monitoring": True}
    if instance.attached and instance.accelerator:
        kind = ATTACHED.get(instance.accelerator, f"nvidia-{instance.accelerator}")
        properties["guest_accelerators"] = [{"accelerator_type": kind, "accelerator_count": int(instance.accelerators)}]
    if held is not None and held.cpu_platform:
        properties["min_cpu_platform"] = held.cpu_platform
    if settings.service_account:
        properties["service_accounts"] = [{"email": settings.service_account, "scopes": list(_NODE_SCOPES)}]
    if policies:
        properties["resource_policies"] = list(policies)
    return properties


def default_disk_gib(accelerator: str) -> int:
    """Return the size of the boot disk of a machine type with this accelerator."""
    return _DEFAULT_DISK_GIB if accelerator else _DEFAULT_PLAIN_DISK_GIB


def _boot_disk(request: LaunchRequest, instance: InstanceType) -> dict[str, Any]:
    size = default_disk_gib(instance.accelerator) if request.disk_gib is None else -int(-request.disk_gib // 1)
    return {
        "boot": True,
        # Otherwise it outlives the instance, is billed, and blocks the name.
        "auto_delete": True,
        "initialize_params": {
            "source_image": image_of(instance, request.image),
            "disk_size_gb": size,
            "disk_type": disk_type_of(instance),
            "description": description_of(request.tags),
            "labels": labels_of(request.tags),
        },
    }


def _local_ssds(held: HeldReservation | None) -> list[dict[str, Any]]:
    """Return the local SSDs that the instances of a reservation must have."""
    return [
        {
            "type_": "SCRATCH",
            "auto_delete": True,
            # The default of both (AllocatedInstancePropertiesReservedDisk.interface, AttachedDisk.interface in compute.v1).
            "interface": disk.get("interface", "SCSI"),
            "initialize_params": {"disk_type": "local-ssd"},
        }
        for disk in (held.local_ssds if held is not None else ())
    ]


def scheduling(
    request: LaunchRequest, part: Part, settings: GcpSettings, *, held: HeldReservation | None, now: datetime
) -> dict[str, Any]:
    """Return how the part is bought, and when Compute Engine itself deletes it.

    That limit can't be changed while an instance runs (setScheduling is for stopped ones), but a lease can be extended. So the limit is
    `extension_room` later than the lease, for a node that can't stop itself; the timer on the node is exact. A lease that is longer than
    possible is not shortened: Compute Engine refuses it.
    """
    instance, purchase = part.offer.instance, part.offer.purchase
    properties: dict[str, Any] = {"automatic_restart": False, "provisioning_model": "STANDARD"}
    if instance.accelerator or (purchase == "spot" and held is None):
        # Neither an instance with GPUs nor a spot instance can be moved to another host.
        properties["on_host_maintenance"] = "TERMINATE"
    lease = None if request.expires_at is None else request.expires_at - now
    limit = None if lease is None else max(lease, min(lease + settings.extension_room, MAX_RUN), MIN_RUN)
    if held is not None:
        properties["provisioning_model"] = "RESERVATION_BOUND" if held.is_bound else "STANDARD"
        # No sample of Google's has a limit for bound instances, which end with the reservation; the timer on the node is exact.
        limit = None if held.is_bound else limit
    elif purchase == "spot":
        properties["provisioning_model"] = "SPOT"
    elif purchase == "flex_start":
        limit = MAX_FLEX_START if lease is None else max(lease, MIN_FLEX_START)
        properties["provisioning_model"] = "FLEX_START"
    if limit is not None:
        properties["max_run_duration"] = {"seconds": int(limit.total_seconds())}
    if limit is not None or properties["provisioning_model"] != "STANDARD":
        properties["instance_termination_action"] = "DELETE"
    return properties


def _affinity(held: HeldReservation | None) -> dict[str, Any]:
    if held is None:
        # By default, Compute Engine would use up any reservation of the project that matches, which others may have made for themselves.
        return {"consume_reservation_type": "NO_RESERVATION"}
    return {
        "consume_reservation_type": "SPECIFIC_RESERVATION",
        "key": "compute.googleapis.com/reservation-name",
        "values": [held.name],
    }
