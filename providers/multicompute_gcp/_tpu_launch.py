"""Launches TPU slices: a queued resource per part, or plain nodes where a zone has no queue."""

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from typing import Any, Final

import requests
from google.api_core import exceptions as sdk

from multicompute.clock import Clock
from multicompute.errors import CapacityError, MulticomputeError, ThrottledError, TransientError
from multicompute.node import Node, NodeState
from multicompute.offer import Part
from multicompute.provider import LaunchRequest, Selector
from multicompute_gcp._errors import (
    Place,
    place_of,
    refused,
    retryable,
    said_by_status,
    said_in,
    translate_errors,
    unavailable_here,
)
from multicompute_gcp._labels import labels_of, part_name, region_of, request_id
from multicompute_gcp._machine import network_path, network_tag
from multicompute_gcp._network import Network
from multicompute_gcp._session import CALL, Clients
from multicompute_gcp._startup import metadata_of
from multicompute_gcp._teardown import AT_ONCE
from multicompute_gcp._tpu_discover import find, hosts_in
from multicompute_gcp._tpu_teardown import NO_QUEUE, delete_slices
from multicompute_gcp._tpu_types import runtime_of

# How long a launch watches the queue; a slice that is to be had leaves it within seconds, and the rest is seen by listings.
_VERDICT_WITHIN: Final = timedelta(seconds=15)
_LOCAL_VERDICT_WITHIN: Final = timedelta(milliseconds=500)
_LOOK_EVERY: Final = timedelta(seconds=1)
_LOCAL_LOOK_EVERY: Final = timedelta(milliseconds=20)
_TAKEN_BACK_WITHIN: Final = timedelta(seconds=60)
_ZONES_TRIED: Final = 3


class TpuLauncher:
    """Launches slices."""

    def __init__(self, clients: Clients, network: Network, clock: Clock, *, queue_wait: timedelta) -> None:
        self._clients = clients
        self._network = network
        self._clock = clock
        self._queue_wait = queue_wait
        is_local = clients.settings.is_local
        self._look_every = _LOCAL_LOOK_EVERY if is_local else _LOOK_EVERY
        self._verdict_within = min(_LOCAL_VERDICT_WITHIN if is_local else _VERDICT_WITHIN, 2 * queue_wait)
        self._zones: dict[tuple[str, str], tuple[str, ...]] = {}

    def launch(self, request: LaunchRequest) -> tuple[Node, ...]:
        """Launch all parts of `request`, or none; see `Provider.launch`."""
        labels_of(request.tags)
        placed = self._placed(request)
        if placed != [request]:
            # A launch whose zone was open is in one of them, and must not be made again in another.
            zones = {node.zone for node in hosts_in(find(self._clients, _of(request), Place(request.region)))}
            placed = [choice for choice in placed if zones <= {part.offer.zone for part in choice.parts}] or placed
        for choice in placed[:-1]:
            try:
                return self._all(choice)
            except CapacityError:
                continue
        return self._all(placed[-1])

    def _placed(self, request: LaunchRequest) -> list[LaunchRequest]:
        if all(part.offer.zone for part in request.parts):
            return [request]
        place = place_of(next(part for part in request.parts if not part.offer.zone))
        zones = self._zones_of(place)
        if not zones:
            text = "no zone of the region has this slice type"
            raise unavailable_here(
                text, code="NoZone", place=place, scope="region", hint="try another region", is_offered=False
            )
        return [_in_zone(request, zone) for zone in zones[:_ZONES_TRIED]]

    def _zones_of(self, place: Place) -> tuple[str, ...]:
        """The zones of the region that say that they have the slice type."""
        key = (place.region, place.instance_type)
        if key not in self._zones:
            listed = self._clients.pages(self._clients.tpu_url("-").removesuffix("/-"), "locations.list", place)
            zones = [str(item.get("locationId")) for page in listed for item in page.get("locations", ())]
            self._zones[key] = tuple(
                zone for zone in sorted(zones) if region_of(zone) == place.region and self._is_sold(zone, place)
            )
        return self._zones[key]

    def _is_sold(self, zone: str, place: Place) -> bool:
        pages = self._clients.pages(self._clients.tpu_url(zone, "acceleratorTypes"), "acceleratorTypes.list", place)
        return any(
            item.get("type") == place.instance_type for page in pages for item in page.get("acceleratorTypes", ())
        )

    def _all(self, request: LaunchRequest) -> tuple[Node, ...]:
        self._network.open_ssh(request, place_of(request.parts[0]))
        try:
            pending = [
                operation for index, part in enumerate(request.parts) for operation in self._start(request, index, part)
            ]
            return self._verdict(request, pending)
        except (ThrottledError, TransientError):
            raise
        except MulticomputeError as error:
            self._take_back(request, error)
            raise

    def _start(self, request: LaunchRequest, index: int, part: Part) -> list[str]:
        """Ask for a part; returns the names of the operations that have begun."""
        if self._clients.settings.tpu_create == "direct":
            return self._direct(request, index, part)
        place, name = place_of(part), part_name(request.token, index)
        call = {
            "parent": self._parent(place),
            "queued_resource_id": name,
            "request_id": request_id("tpu", request.token, str(index), place.zone),
            "queued_resource": self._queued(request, part, name),
        }
        with translate_errors("queuedResources.create", place):
            try:
                operation = self._clients.tpu().create_queued_resource(request=call, **CALL)
            except sdk.Conflict as error:
                if _code(error) != "ALREADY_EXISTS":
                    raise
                return []
            except sdk.GoogleAPICallError as error:
                if _code(error) not in NO_QUEUE:
                    raise
                return self._direct(request, index, part)
        return [str(operation.operation.name)]

    def _direct(self, request: LaunchRequest, index: int, part: Part) -> list[str]:
        """Make the nodes of a part without a queue; one of our name that exists is ours, for names are made from tokens."""
        place = place_of(part)
        bought = {
            "spot": part.offer.purchase == "spot" and part.reservation is None,
            "reserved": part.reservation is not None,
        }

        def create(node_id: str) -> str:
            # Each is told to delete itself when the lease has ended: there is nothing that they have in common.
            node = self._node(request, part, self._clients.tpu_url(place.zone, "nodes", node_id))
            return self._create_node(place, node_id, {**node, "scheduling_config": bought})

        first, *others = _node_ids(part_name(request.token, index), part)
        # A refusal of the first ends it before anything is made. A lost answer does not: it has been made, perhaps, and a launch must
        # not stay half made because of that.
        asked = [_asked(lambda: create(first))]
        with ThreadPoolExecutor(AT_ONCE, thread_name_prefix="multicompute-gcp") as pool:
            asked += [pool.submit(create, node_id) for node_id in others]
        return [task.result() for task in asked if task.exception() is not None or task.result()]

    def _create_node(self, place: Place, node_id: str, node: dict[str, Any]) -> str:
        call = {"parent": self._parent(place), "node_id": node_id, "node": node}
        with translate_errors("nodes.create", place):
            try:
                return str(self._clients.tpu().create_node(request=call, **CALL).operation.name)
            except sdk.Conflict as error:
                if _code(error) != "ALREADY_EXISTS":
                    raise
                return ""

    def _parent(self, place: Place) -> str:
        return f"projects/{self._clients.project}/locations/{place.zone}"

    def _queued(self, request: LaunchRequest, part: Part, name: str) -> dict[str, Any]:
        place = place_of(part)
        node = self._node(request, part, self._clients.tpu_url(place.zone, "queuedResources", name) + "?force=true")
        spec: dict[str, Any] = {"parent": self._parent(place), "node": node}
        if part.nodes == 1:
            spec["node_id"] = name
        else:
            spec["multislice_params"] = {"node_count": part.nodes, "node_id_prefix": name}
        longest = request.attempt_timeout or self._queue_wait
        wait = {"seconds": int(longest.total_seconds()), "nanos": longest.microseconds * 1000}
        queued: dict[str, Any] = {"tpu": {"node_spec": [spec]}, "queueing_policy": {"valid_until_duration": wait}}
        if part.reservation is not None:
            named = part.reservation
            queued["reservation_name"] = named if "/" in named else f"{self._parent(place)}/reservations/{named}"
            queued["guaranteed"] = {}
        elif part.offer.purchase == "spot":
            queued["spot"] = {}
        return queued

    def _node(self, request: LaunchRequest, part: Part, delete_url: str) -> dict[str, Any]:
        """The description of a slice; its timer asks for `delete_url` to be deleted."""
        settings, project, region = self._clients.settings, self._clients.project, part.offer.region
        network: dict[str, Any] = {"enable_external_ips": not request.private}
        network["network"] = network_path(settings, project=project)
        if settings.subnetwork:
            named = settings.subnetwork
            network["subnetwork"] = (
                named if "/" in named else f"projects/{project}/regions/{region}/subnetworks/{named}"
            )
        node: dict[str, Any] = {
            "accelerator_type": part.offer.instance_type,
            "runtime_version": runtime_of(part.offer.instance, request.image),
            "labels": labels_of(request.tags),
            "metadata": metadata_of(request, delete_url=delete_url, of_slice=True),
            "network_config": network,
            "tags": [network_tag(request.cluster_id)],
        }
        if settings.service_account:
            # With all scopes: what it may do is up to its roles, and it needs one to delete itself when the lease has ended.
            node["service_account"] = {"email": settings.service_account}
        return node

    def _verdict(self, request: LaunchRequest, operations: list[str]) -> tuple[Node, ...]:
        """Watch until it is known whether there is capacity, or for some seconds."""
        selector = _of(request)
        place = place_of(request.parts[0])
        end = self._clock.now() + self._verdict_within
        while True:
            operations = [name for name in operations if not is_over(self._clients, name, "create", place)]
            found = find(self._clients, selector, place)
            hosts = hosts_in(found)
            for node in hosts:
                if node.state is NodeState.GONE or node.cause:
                    raise _failed(node, request)
            is_queued = any((node.reason or "").startswith(("ACCEPTED", "CREATING", "WAITING")) for node in hosts)
            if (hosts and not is_queued and not operations) or self._clock.now() >= end:
                return _whole(request, hosts)
            self._clock.sleep(self._look_every)

    def _take_back(self, request: LaunchRequest, error: MulticomputeError) -> None:
        """Delete what a refused launch has made (I4).

        Raises:
            TransientError: that failed or takes longer, so that slices of this token may live; the engine repeats the launch.
        """
        place = Place(request.region)
        selector = _of(request)
        end = self._clock.now() + _TAKEN_BACK_WITHIN
        try:
            while delete_slices(self._clients, selector, place).remaining:
                if self._clock.now() >= end:
                    raise retryable(
                        "slices of a refused launch are still being deleted", code=error.code or "", place=place
                    )
                self._clock.sleep(self._look_every)
        except MulticomputeError as failure:
            raise TransientError(
                f"{error.message}; and what it had made could not be taken back: {failure.message}",
                provider="gcp",
                region=request.region,
                code=failure.code,
                hint="the same request may be sent again with the same token",
            ) from error


def is_over(clients: Clients, name: str, operation: str, place: Place) -> bool:
    """Whether an operation has ended; raises what it ended in."""
    base = clients.tpu_url("-").partition("/projects/")[0]
    answer = clients.get(f"{base}/{name}", "operations.get", place)
    if answer is None or not answer.get("done"):
        return answer is None
    if answer.get("error"):
        raise refused(said_by_status(answer["error"]), operation=operation, place=place)
    return True


def _of(request: LaunchRequest) -> Selector:
    return Selector(region=request.region, cluster_id=request.cluster_id, token=request.token)


def _node_ids(name: str, part: Part) -> list[str]:
    return [name] if part.nodes == 1 else [f"{name}-{number}" for number in range(part.nodes)]


def _whole(request: LaunchRequest, hosts: Sequence[Node]) -> tuple[Node, ...]:
    """What is listed, and the hosts of each slice that was accepted and is not listed yet."""
    listed = {host.id.partition("/")[0] for host in hosts}
    hidden = (
        Node(
            id=f"{node_id}/{worker}",
            rank=-1,
            provider="gcp",
            instance_type=part.offer.instance_type,
            region=part.offer.region,
            zone=part.offer.zone,
            state=NodeState.PENDING,
            token=request.token,
        )
        for index, part in enumerate(request.parts)
        for node_id in _node_ids(part_name(request.token, index), part)
        if node_id not in listed
        for worker in range(part.offer.instance.hosts)
    )
    return (*hosts, *hidden)


def _failed(node: Node, request: LaunchRequest) -> MulticomputeError:
    """The error for a slice that ended before the launch was over."""
    code, _, message = (node.reason or "").partition(": ")
    part = next((part for part in request.parts if part.offer.zone == node.zone), request.parts[0])
    number = {"code": 8, "message": message}
    said = said_by_status(number)._replace(code=code or "RESOURCE_EXHAUSTED")
    return refused(said, operation="queuedResources.create", place=place_of(part))


def _code(error: sdk.GoogleAPICallError) -> str:
    return said_in(error.response if isinstance(error.response, requests.Response) else None).code


def _asked(call: Callable[[], str]) -> Future[str]:
    """The outcome of a call that was answered, or whose answer was lost; a refusal is raised."""
    outcome: Future[str] = Future()
    try:
        outcome.set_result(call())
    except MulticomputeError as error:
        if not isinstance(error.__cause__, requests.RequestException):
            raise
        outcome.set_exception(error)
    return outcome


def _in_zone(request: LaunchRequest, zone: str) -> LaunchRequest:
    parts = tuple(
        part if part.offer.zone else replace(part, offer=replace(part.offer, zone=zone)) for part in request.parts
    )
    return replace(request, parts=parts)
