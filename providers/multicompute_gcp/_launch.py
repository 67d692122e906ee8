"""Launches gangs of virtual machines: one bulkInsert per part, all or nothing, and takes back what a refusal leaves behind."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from google.api_core import exceptions as sdk

from multicompute.clock import Clock
from multicompute.errors import CapacityError, MulticomputeError, ThrottledError, TransientError
from multicompute.node import Node
from multicompute.offer import Part
from multicompute.provider import LaunchRequest, Selector
from multicompute_gcp._discover import instances, pending_node, to_node
from multicompute_gcp._errors import Place, Said, log, place_of, refused, retryable, translate_errors, unavailable_here
from multicompute_gcp._labels import bulk_id, labels_of, last_of, region_of
from multicompute_gcp._machine import names_of, properties
from multicompute_gcp._network import Network
from multicompute_gcp._operation import wait
from multicompute_gcp._reserved import Reservations
from multicompute_gcp._session import CALL, Clients
from multicompute_gcp._teardown import delete_machines

if TYPE_CHECKING:
    from google.cloud.compute_v1 import Operation

# Whether there is capacity shows within seconds, when machines get their hosts; booting them takes longer, and is watched by listings.
_VERDICT_WITHIN: Final = timedelta(seconds=45)
_TAKEN_BACK_WITHIN: Final = timedelta(seconds=60)
# An offer of no zone in particular is asked for in so many, one after the other.
_ZONES_TRIED: Final = 3
_EXISTS: Final = ("alreadyExists", "RESOURCE_ALREADY_EXISTS")


class Launcher:
    """Launches gangs of machines; what it looked up for one launch serves the next."""

    def __init__(self, clients: Clients, network: Network, clock: Clock) -> None:
        self._clients = clients
        self._network = network
        self._clock = clock
        self._reservations = Reservations(clients)
        self._zones: dict[tuple[str, str], tuple[str, ...]] = {}
        self._failures: Counter[str] = Counter()

    def launch(self, request: LaunchRequest) -> tuple[Node, ...]:
        """Launch all parts of `request`, or none; see `Provider.launch`."""
        labels_of(request.tags)
        placed = self._placed(request)
        if placed != [request]:
            # A launch whose zone was open is in one of them, and must not be made again in another.
            found = self._listed(request)
            if found:
                zones = {node.zone for node in found}
                placed = [choice for choice in placed if zones <= {part.offer.zone for part in choice.parts}] or placed
        for choice in placed[:-1]:
            try:
                return self._all(choice)
            except CapacityError:
                continue
        return self._all(placed[-1])

    def _listed(self, request: LaunchRequest) -> list[Node]:
        selector = Selector(region=request.region, cluster_id=request.cluster_id, token=request.token)
        return [to_node(item) for item in instances(self._clients, selector, Place(request.region))]

    def _placed(self, request: LaunchRequest) -> list[LaunchRequest]:
        """The request with a zone for every part; several where the offer leaves the zone open."""
        if all(part.offer.zone for part in request.parts):
            return [request]
        place = place_of(next(part for part in request.parts if not part.offer.zone))
        zones = self._zones_of(place)
        if not zones:
            raise unavailable_here(
                "no zone of the region has this machine type",
                code="NoZone",
                place=place,
                scope="region",
                hint="another region may have it",
                is_offered=False,
            )
        return [_in_zone(request, zone) for zone in zones[:_ZONES_TRIED]]

    def _zones_of(self, place: Place) -> tuple[str, ...]:
        key = (place.region, place.instance_type)
        if key not in self._zones:
            listed = self._clients.aggregated("machineTypes", place, filter=f'name = "{place.instance_type}"')
            zones = {last_of(str(item.get("zone", ""))) for item in listed if item.get("name") == place.instance_type}
            self._zones[key] = tuple(sorted(zone for zone in zones if region_of(zone) == place.region))
        return self._zones[key]

    def _all(self, request: LaunchRequest) -> tuple[Node, ...]:
        self._network.open_ssh(request, place_of(request.parts[0]))
        if request.fabric and not self._clients.settings.gpu_subnetworks:
            text = "%s: the nodes are close together, and on one interface each: name the fabric's subnetworks, gpu_subnetworks"
            log.warning(text, place_of(request.parts[0]))
        started: list[tuple[Part, list[str], Operation | None]] = []
        try:
            for index, part in enumerate(request.parts):
                started.append((part, names_of(request, index, part), self._start(request, index, part)))
            nodes = [
                node for part, names, operation in started for node in self._outcome(request, part, names, operation)
            ]
        except (ThrottledError, TransientError):
            # Not known what became of it: the engine repeats the launch, and finds the earlier parts by their request ids.
            raise
        except MulticomputeError as error:
            self._take_back(request, [operation for _, _, operation in started if operation is not None], error)
            raise
        return tuple(nodes)

    def _start(self, request: LaunchRequest, index: int, part: Part) -> "Operation | None":
        """Ask for a part; None where machines of these names exist already, which only we can have made."""
        place, clients = place_of(part), self._clients
        reserved = self._reservations.find(part.reservation, place) if part.reservation else None
        policies = reserved.policies if reserved is not None else ()
        if request.fabric and reserved is None:
            policies = (self._network.placement(request, place),)
        body = {
            "count": part.nodes,
            "min_count": part.nodes,
            "per_instance_properties": {name: {} for name in names_of(request, index, part)},
            "instance_properties": properties(
                request,
                part,
                clients.settings,
                project=clients.project,
                policies=policies,
                reserved=reserved,
                now=self._clock.now(),
            ),
        }
        call = {
            "project": clients.project,
            "zone": place.zone,
            "request_id": bulk_id(request.token, index, place.zone, self._failures[request.token]),
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
        place = place_of(part)
        said: Said | None = Said("alreadyExists", "")
        if operation is not None:
            _, said = wait(self._clients, operation, place, clock=self._clock, at_most=_VERDICT_WITHIN)
        if said is None:
            return [pending_node(name, request, part, place.zone) for name in names]
        if said.code in _EXISTS:
            return self._already(request, part, names, place)
        error = refused(said, operation="instances.bulkInsert", place=place)
        if isinstance(error, (ThrottledError, TransientError)):
            # Under the same request id Google would only tell of this failure again. The names keep it from being bought twice.
            self._failures[request.token] += 1
        raise error

    def _already(self, request: LaunchRequest, part: Part, names: list[str], place: Place) -> list[Node]:
        """The nodes that a launch under this token made so long ago that its request id is forgotten."""
        selector = Selector(region=place.region, cluster_id=request.cluster_id, token=request.token)
        found = {item["name"]: item for item in instances(self._clients, selector, place)}
        if not set(names) <= set(found):
            raise retryable("launched before under this token, but not all listed", code="alreadyExists", place=place)
        return [to_node(found[name], part) for name in names]

    def _take_back(self, request: LaunchRequest, operations: "Iterable[Operation]", error: MulticomputeError) -> None:
        """Delete whatever a refused launch has made: its other parts, and the ghosts that a stockout may leave (I4).

        Raises:
            TransientError: that failed or takes longer, so that nodes of this token may live; the engine repeats the launch.
        """
        place = Place(request.region)
        selector = Selector(region=request.region, cluster_id=request.cluster_id, token=request.token)
        zones = {part.offer.zone for part in request.parts}
        end = self._clock.now() + _TAKEN_BACK_WITHIN
        try:
            for operation in operations:
                wait(self._clients, operation, place, clock=self._clock, at_most=end - self._clock.now())
            while left := delete_machines(self._clients, selector, place, zones=zones):
                for operation in left.operations:
                    wait(self._clients, operation, place, clock=self._clock, at_most=end - self._clock.now())
                if self._clock.now() >= end:
                    raise retryable(
                        "machines of a refused launch are still being deleted", code=error.code or "", place=place
                    )
        except MulticomputeError as failure:
            raise TransientError(
                f"{error.message}; and what it had made could not be taken back: {failure.message}",
                provider="gcp",
                region=request.region,
                code=failure.code,
                hint="the same request may be sent again with the same token",
            ) from error


def _in_zone(request: LaunchRequest, zone: str) -> LaunchRequest:
    parts = tuple(
        part if part.offer.zone else replace(part, offer=replace(part.offer, zone=zone)) for part in request.parts
    )
    return replace(request, parts=parts)
