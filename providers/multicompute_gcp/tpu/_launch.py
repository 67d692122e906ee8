"""Launches a gang of TPU slices: one queued resource per part, or nodes without a queue."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, Final

import requests
from google.api_core import exceptions as sdk

from multicompute.clock import Clock
from multicompute.errors import MulticomputeError
from multicompute.node import Node, NodeState
from multicompute.offer import Part
from multicompute.provider import LaunchRequest
from multicompute.provider_kit.calls import in_parallel
from multicompute.provider_kit.vendor_errors import Place, VendorAnswer
from multicompute_gcp._boot import metadata_of
from multicompute_gcp._errors import answer_of, refusal, translate_errors
from multicompute_gcp._gang import AT_ONCE, OpenZones, attempt_of, deleting_on_refusal
from multicompute_gcp._interfaces import subnetwork_path
from multicompute_gcp._list import pending_node
from multicompute_gcp._names import part_name, region_of, request_id, slice_names
from multicompute_gcp._network import Network, network_tag
from multicompute_gcp._reservations import queue_reservation
from multicompute_gcp._session import CALL, Clients
from multicompute_gcp._tags import exact_tags_text, labels_of
from multicompute_gcp.tpu._list import EXACT_TAGS, find, hosts_in, nodes, zone_of
from multicompute_gcp.tpu._operations import is_finished
from multicompute_gcp.tpu._terminate import NO_QUEUE, terminate
from multicompute_gcp.tpu._types import runtime_of
from multicompute_gcp.tpu._zones import slice_types, zones

# How long a launch watches the queue. If there is capacity, a slice leaves the queue within seconds; later changes are seen by listings.
_WATCHED_FOR: Final = timedelta(seconds=15)
_LOCAL_WATCHED_FOR: Final = timedelta(milliseconds=500)
# Without a queue, a lack of capacity is the error of the operation, which takes longer; no listing shows it afterwards.
_DIRECT_FACTOR: Final = 8
_POLL_INTERVAL: Final = timedelta(seconds=1)
_LOCAL_POLL_INTERVAL: Final = timedelta(milliseconds=20)
_IN_QUEUE: Final = ("ACCEPTED", "CREATING", "WAITING")


class TpuLauncher:
    """A launcher of gangs of slices, which keeps the zones that it has read for the next launch."""

    def __init__(self, clients: Clients, network: Network, clock: Clock, *, queue_wait: timedelta) -> None:
        self._clients = clients
        self._network = network
        self._clock = clock
        self._queue_wait = queue_wait
        self._zones = OpenZones(self._find_zones, kind="slice type")
        is_local = clients.settings.is_local
        self._poll_interval = _LOCAL_POLL_INTERVAL if is_local else _POLL_INTERVAL
        self._watched_for = min(_LOCAL_WATCHED_FOR if is_local else _WATCHED_FOR, 2 * queue_wait)

    def launch(self, request: LaunchRequest) -> tuple[Node, ...]:
        """Launch all parts of `request`, or none; see `Provider.launch`."""
        return self._zones.launch(request, self._launch, used_zones=self._used_zones)

    def restart(self, request: LaunchRequest) -> tuple[Node, ...]:
        """Start the stopped slices of an earlier launch; those with several hosts can't be stopped."""
        place, selector = Place("gcp", request.region), replace(attempt_of(request), tokens=(request.token,))
        clients = self._clients

        def start(item: dict[str, Any]) -> None:
            zone = Place("gcp", request.region, zone_of(item), str(item.get("acceleratorType", "")))
            with translate_errors("nodes.start", zone):
                name = str(clients.tpu().start_node(request={"name": str(item["name"])}, **CALL).operation.name)
            end = self._clock.now() + self._watched_for
            while not is_finished(clients, name, "nodes.start", zone) and self._clock.now() < end:
                self._clock.sleep(self._poll_interval)

        stopped = [item for item in find(clients, selector, place).nodes if item.get("state") == "STOPPED"]
        in_parallel(start, stopped, at_once=AT_ONCE)
        return tuple(nodes(clients, selector, place))

    def _find_zones(self, place: Place) -> Iterator[str]:
        """Yield the zones of the region that sell the slice type to this project."""
        for zone in zones(self._clients, place):
            if region_of(zone) == place.region and place.instance_type in slice_types(self._clients, zone, place):
                yield zone

    def _used_zones(self, request: LaunchRequest) -> set[str]:
        found = find(self._clients, attempt_of(request), Place("gcp", request.region))
        return {node.zone for node in hosts_in(found)}

    def _launch(self, request: LaunchRequest) -> tuple[Node, ...]:
        def delete(_end: datetime) -> bool:
            if terminate(self._clients, attempt_of(request), Place("gcp", request.region)).is_done:
                return False
            self._clock.sleep(self._poll_interval)
            return True

        self._network.prepare(request, Place.of(request.parts[0].offer))
        with deleting_on_refusal(request, self._clock, delete):
            started = [self._start(request, index, part) for index, part in enumerate(request.parts)]
            return self._watch(request, [operation for operations in started for operation in operations])

    def _start(self, request: LaunchRequest, index: int, part: Part) -> list[str]:
        """Request a part, and return the names of the operations that have started."""
        if self._clients.settings.tpu_create == "direct":
            return self._create_nodes(request, index, part)
        place = Place.of(part.offer)
        call = {
            "parent": self._clients.tpu_name(place.zone),
            "queued_resource_id": part_name(request.token, index),
            "request_id": request_id("tpu", request.token, str(index), place.zone),
            "queued_resource": self._queued_resource(request, index, part),
        }
        with translate_errors("queuedResources.create", place):
            try:
                operation = self._clients.tpu().create_queued_resource(request=call, **CALL)
            except sdk.GoogleAPICallError as error:
                code = answer_of(error).label
                if code in NO_QUEUE:
                    return self._create_nodes(request, index, part)
                if code != "ALREADY_EXISTS":
                    raise
                # Names are made from tokens, so an earlier launch with this token has created it.
                return []
        return [str(operation.operation.name)]

    def _create_nodes(self, request: LaunchRequest, index: int, part: Part) -> list[str]:
        """Create the nodes of a part without a queue, and return the names of the operations that have started."""
        place = Place.of(part.offer)
        scheduling = {
            "spot": part.offer.purchase == "spot" and part.reservation is None,
            "reserved": part.reservation is not None,
        }

        def create(node_id: str) -> str:
            # The timer of each deletes its own node: there is nothing that they have in common.
            node = self._node(request, part, self._clients.tpu_name(place.zone, "nodes", node_id))
            return self._create_node(place, node_id, {**node, "scheduling_config": scheduling})

        return [name for name in _create_all(create, slice_names(request, index, part)) if name]

    def _create_node(self, place: Place, node_id: str, node: dict[str, Any]) -> str:
        """Create a node, and return the name of the operation; "" if an earlier launch with this token has created it."""
        call = {"parent": self._clients.tpu_name(place.zone), "node_id": node_id, "node": node}
        with translate_errors("nodes.create", place):
            try:
                return str(self._clients.tpu().create_node(request=call, **CALL).operation.name)
            except sdk.Conflict as error:
                if answer_of(error).code != "ALREADY_EXISTS":
                    raise
                return ""

    def _queued_resource(self, request: LaunchRequest, index: int, part: Part) -> dict[str, Any]:
        """Return the description of the queued resource for a part."""
        zone, name = part.offer.zone, part_name(request.token, index)
        parent = self._clients.tpu_name(zone)
        node = self._node(request, part, self._clients.tpu_name(zone, "queuedResources", name), force=True)
        spec: dict[str, Any] = {"parent": parent, "node": node}
        if part.nodes == 1:
            spec["node_id"] = name
        else:
            spec["multislice_params"] = {"node_count": part.nodes, "node_id_prefix": name}
        wait = request.attempt_timeout or self._queue_wait
        valid = {"seconds": int(wait.total_seconds()), "nanos": wait.microseconds * 1000}
        queued: dict[str, Any] = {"tpu": {"node_spec": [spec]}, "queueing_policy": {"valid_until_duration": valid}}
        if part.reservation is not None:
            place, project = Place.of(part.offer), self._clients.project
            queued["reservation_name"] = queue_reservation(part.reservation, place, project=project)
            queued["guaranteed"] = {}
        elif part.offer.purchase == "spot":
            queued["spot"] = {}
        return queued

    def _node(self, request: LaunchRequest, part: Part, deleted: str, *, force: bool = False) -> dict[str, Any]:
        """Return the description of a slice, whose timer deletes the resource named `deleted`."""
        settings, project = self._clients.settings, self._clients.project
        network: dict[str, Any] = {"enable_external_ips": not request.private}
        if path := self._network.path(Place.of(part.offer)):
            network["network"] = path
        if settings.subnetwork:
            network["subnetwork"] = subnetwork_path(settings.subnetwork, project=project, region=part.offer.region)
        delete_url = self._clients.tpu_url(deleted) + ("?force=true" if force else "")
        node: dict[str, Any] = {
            "accelerator_type": part.offer.instance_type,
            "runtime_version": runtime_of(part.offer.instance, request.image),
            "labels": labels_of(request.tags),
            "metadata": {
                **metadata_of(request, delete_url=delete_url, of_slice=True),
                EXACT_TAGS: exact_tags_text(request.tags),
            },
            "network_config": network,
            "tags": [network_tag(request.cluster_id)],
        }
        if settings.service_account:
            # It gets all scopes, so its roles decide what it may do; it needs one that allows to delete the slice at the end of the lease.
            node["service_account"] = {"email": settings.service_account}
        return node

    def _watch(self, request: LaunchRequest, operations: list[str]) -> tuple[Node, ...]:
        """Return the hosts as soon as it is known that there is capacity for them, or after some seconds."""
        place = Place.of(request.parts[0].offer)
        is_direct = self._clients.settings.tpu_create == "direct"
        end = self._clock.now() + self._watched_for * (_DIRECT_FACTOR if is_direct else 1)
        while True:
            # Read before the listing: an answer that takes long must not be the last one if it may show an earlier state.
            is_last = self._clock.now() >= end
            operations = [name for name in operations if not is_finished(self._clients, name, "create", place)]
            hosts = hosts_in(find(self._clients, attempt_of(request), place))
            for node in hosts:
                if node.state is NodeState.GONE or node.cause:
                    raise _failure(node, request)
            is_queued = any((node.reason or "").startswith(_IN_QUEUE) for node in hosts)
            if (hosts and not is_queued and not operations) or is_last:
                return (*hosts, *_unlisted_hosts(request, hosts))
            self._clock.sleep(self._poll_interval)


def _create_all(create: Callable[[str], str], names: Sequence[str]) -> list[str]:
    """Return what `create` returns for each name.

    The first call is made alone: if it is refused, nothing has been created. If only its answer was lost, the node may exist, so the
    others are created, too, before the error is raised: otherwise the gang would stay incomplete until the launch is repeated.
    """
    first, *others = names
    try:
        created = [create(first)]
    except MulticomputeError as error:
        if isinstance(error.__cause__, requests.RequestException):
            with suppress(MulticomputeError):
                in_parallel(create, others, at_once=AT_ONCE)
        raise
    return created + in_parallel(create, others, at_once=AT_ONCE)


def _unlisted_hosts(request: LaunchRequest, hosts: Sequence[Node]) -> Iterator[Node]:
    """Yield the hosts of each slice that was accepted and is not listed yet."""
    listed = {host.id.partition("/")[0] for host in hosts}
    for index, part in enumerate(request.parts):
        for name in slice_names(request, index, part):
            if name not in listed:
                for worker in range(part.offer.instance.hosts):
                    # The accelerators and the price of the offer are those of the slice, not of a host.
                    node = pending_node(f"{name}/{worker}", request, part)
                    yield replace(node, accelerators=0.0, hourly_cost=0.0)


def _failure(node: Node, request: LaunchRequest) -> MulticomputeError:
    """Return the error for a slice that ended while it was watched."""
    code, _, message = (node.reason or "").partition(": ")
    part = next((part for part in request.parts if part.offer.zone == node.zone), request.parts[0])
    answer = VendorAnswer(code or "RESOURCE_EXHAUSTED", message)
    return refusal(answer, "queuedResources.create", Place.of(part.offer))
