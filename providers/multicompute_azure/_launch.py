"""Launches a gang: first what its machines need, then one scale set per part in one PUT each, all or nothing."""

import threading
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any, Final
from weakref import WeakValueDictionary

from azure.core import MatchConditions

from multicompute.errors import MulticomputeError, ThrottledError, TransientError
from multicompute.node import Node, NodeState
from multicompute.offer import Part
from multicompute.provider import TAG_ATTEMPT, TAG_ID, LaunchRequest, Selector
from multicompute.provider_kit.vendor_errors import Place, VendorAnswer, retryable
from multicompute_azure._errors import failed_operation, foreign_resource, is_gone, translate_errors
from multicompute_azure._fabric import (
    begin_join,
    enlarged,
    fabric_set,
    has_joined,
    on_fabric,
    require_fabric,
    withdraw,
)
from multicompute_azure._image import find_image
from multicompute_azure._image_details import ImageDetails
from multicompute_azure._list import nodes_of, scale_sets
from multicompute_azure._login import check_login_key
from multicompute_azure._names import interface_name, scale_set_name
from multicompute_azure._network import Network
from multicompute_azure._reservations import require_reservation
from multicompute_azure._restart import start_again
from multicompute_azure._scale_set import scale_set_body
from multicompute_azure._session import Clients
from multicompute_azure._sets import SCALE_SETS, ScaleSet, find_scale_set
from multicompute_azure._sizes import Sizes
from multicompute_azure._tags import check_tags
from multicompute_azure._terminate import delete_scale_set

_CREATE: Final = "virtualMachineScaleSets.createOrUpdate"
_EXISTS: Final = ("PreconditionFailed", "HTTP412", "ResourceAlreadyExists")
_CHANGED: Final = ("PreconditionFailed", "HTTP412", "Conflict")
_LIVE: Final = (NodeState.PENDING, NodeState.RUNNING)


@dataclass(frozen=True, slots=True)
class _Launched:
    """A part whose scale set was requested, now or by an earlier launch with the same token.

    Attributes:
        part: The part.
        requested: Its scale set, as it was requested.
        token: The token, if its nodes are only some of those of the scale set; "" if they are all.
    """

    part: Part
    requested: ScaleSet
    token: str = ""

    @property
    def place(self) -> Place:
        return Place.of(self.part.offer)

    def own(self, nodes: list[Node]) -> list[Node]:
        """Return those nodes of the scale set that belong to the launch."""
        return [node for node in nodes if node.token == self.token] if self.token else nodes


class Launcher:
    """A launcher of gangs, which keeps what it has read or created for the next launch.

    Args:
        clients: The SDK's clients.
        sizes: The sizes of each region.
        patience: How long a launch waits for its operations.
    """

    def __init__(self, clients: Clients, sizes: Sizes, *, patience: timedelta) -> None:
        self._clients = clients
        self._sizes = sizes
        self._patience = patience
        self._images = ImageDetails(clients)
        self._network = Network(clients)
        self._launching: WeakValueDictionary[str, threading.Lock] = WeakValueDictionary()
        self._lock = threading.Lock()

    def launch(self, request: LaunchRequest) -> tuple[Node, ...]:
        """Launch all parts of `request`, or none, or start them again; see `Provider.launch`."""
        if request.restart:
            return self._restart(request)
        check_tags(request.tags)
        check_login_key(request.ssh_public_key, Place("azure", request.region))
        self._network.require_ssh(request, Place.of(request.parts[0].offer))
        if on_fabric(request):
            require_fabric(request)
        with self._lock_of(request.token):
            launched: list[_Launched] = []
            try:
                for index, part in enumerate(request.parts):
                    launched.append(self._launch_part(request, index, part))
                return self._wait(launched)
            except (ThrottledError, TransientError):
                # The outcome is not known. The engine repeats the launch, which finds what was created by its name.
                raise
            except MulticomputeError:
                left = self._roll_back(launched)
                if not left:
                    raise
                # Nodes still exist, so the refusal must not be reported yet: the engine lists them as lost, with the cause, and terminates them.
                return left

    def _restart(self, request: LaunchRequest) -> tuple[Node, ...]:
        """Start the stopped machines of an earlier launch, and return all of its nodes."""
        launched = [_Launched(part, self._requested(request, index, part)) for index, part in enumerate(request.parts)]
        if on_fabric(request):
            # It may have enlarged the scale set of another launch.
            selector = Selector(region=request.region, cluster_id=request.cluster_id, token=request.token)
            shared = [item for item in scale_sets(self._clients, selector) if item.is_shared]
            launched += [_Launched(request.parts[0], item, request.token) for item in shared]

        def listed() -> tuple[Node, ...]:
            found = [(item, self._find(item)) for item in launched]
            return tuple(
                node
                for item, own in found
                if own is not None
                for node in _priced(item.own(nodes_of(self._clients, own)), item)
            )

        start_again(self._clients, listed(), patience=self._patience)
        return listed()

    def open_ssh(self, cluster_id: str, place: Place) -> None:
        """Open port 22 of a cluster's nodes to the caller."""
        self._network.open_ssh(cluster_id, place)

    def forget(self, cluster_id: str) -> None:
        """Forget what was created for a cluster that is torn down."""
        self._network.forget(cluster_id)

    def _lock_of(self, token: str) -> threading.Lock:
        """Return the lock with which only one thread of this process launches a token at a time; it exists while a thread has it."""
        with self._lock:
            return self._launching.setdefault(token, threading.Lock())

    # --- creating -----------------------------------------------------------------------------------------------------

    def _launch_part(self, request: LaunchRequest, index: int, part: Part) -> _Launched:
        """Create the scale set of one part, unless an earlier launch with the token did."""
        if on_fabric(request) and request.peers:
            return self._join(request, part)
        launched = _Launched(part, self._requested(request, index, part))
        place = launched.place
        if self._exists(launched, request):
            return launched
        size = self._sizes.require(place)
        if part.reservation:
            part = replace(part, reservation=require_reservation(self._clients, place, part.reservation, part.nodes))
        image = find_image(part.offer.instance, place, named=request.image, is_confidential=size.is_confidential)
        image = self._images.described(image, place)
        network = self._network.refs(request, place)
        settings = self._clients.settings
        name = launched.requested.name
        body = scale_set_body(request, part, name=name, size=size, image=image, network=network, settings=settings)
        self._create(launched, body, request)
        return launched

    def _join(self, request: LaunchRequest, part: Part) -> _Launched:
        """Add the nodes to the scale set of the cluster's other nodes, unless an earlier launch with the token did."""
        group = self._network.group_of(request.cluster_id, request.region)
        owner = fabric_set(self._clients, request, group)
        nodes = nodes_of(self._clients, owner)
        if has_joined(owner, nodes, request.token):
            return _Launched(part, owner, request.token)
        wanted = enlarged(owner, nodes, request)
        place = Place.of(part.offer)
        if part.reservation:
            require_reservation(self._clients, place, part.reservation, part.nodes)
        self._network.refs(request, place)
        try:
            begin_join(self._clients, owner, wanted, request)
        except MulticomputeError as error:
            if error.code not in _CHANGED:
                raise
            text = f"the scale set {owner.name} has changed since it was read"
            raise retryable(text, code=error.code or "", place=place) from error
        return _Launched(part, wanted, request.token)

    def _requested(self, request: LaunchRequest, index: int, part: Part) -> ScaleSet:
        offer, group = part.offer, self._network.group_of(request.cluster_id, part.offer.region)
        name = scale_set_name(request.token, index)
        return ScaleSet(
            id=self._clients.canonical(self._clients.id_of(group, SCALE_SETS, name)),
            group=group,
            name=name,
            region=offer.region,
            state="",
            capacity=part.nodes,
            instance_type=offer.instance_type,
            is_spot=offer.purchase == "spot",
            tags={TAG_ATTEMPT: request.token, TAG_ID: request.cluster_id},
            is_uniform=on_fabric(request),
        )

    def _exists(self, launched: _Launched, request: LaunchRequest) -> bool:
        found, place = self._find(launched), launched.place
        if found is None:
            return False
        # Others can remove its tags; the name of its interfaces is that of our body.
        untagged = request.token if found.interface == interface_name(found.name) else ""
        if found.tags.get(TAG_ATTEMPT, untagged) != request.token:
            raise foreign_resource("scale set", found.name, place)
        if found.is_being_deleted:
            text = f"the scale set {found.name} of this token is being deleted"
            raise retryable(text, code="Conflict", place=place)
        return True

    def _find(self, launched: _Launched) -> ScaleSet | None:
        requested = launched.requested
        return find_scale_set(self._clients, requested.group, requested.name, launched.place)

    def _create(self, launched: _Launched, body: Any, request: LaunchRequest) -> None:
        requested, operation = launched.requested, self._clients.operation()
        create: Any = self._clients.compute.virtual_machine_scale_sets.begin_create_or_update
        # Only if it does not exist: if two processes launch the same token, the second one is refused.
        only_new = {"etag": "*", "match_condition": MatchConditions.IfMissing}
        try:
            with translate_errors(_CREATE, launched.place):
                create(requested.group, requested.name, body, polling=operation, **only_new)
        except MulticomputeError as error:
            if error.code in _EXISTS:
                return
            if is_gone(error.code):
                # The group was deleted since it was created: the repeated launch creates it again.
                self._network.forget(request.cluster_id)
                text = f"the resource group {requested.group} does not exist any more"
                raise retryable(text, code=error.code or "", place=launched.place) from error
            raise
        self._clients.launches.add(requested.id, operation)

    # --- waiting ------------------------------------------------------------------------------------------------------

    def _wait(self, launched: list[_Launched]) -> tuple[Node, ...]:
        """Wait a few seconds for the operations, which is long enough for most refusals, then list once; `nodes` reports the rest.

        Raises:
            MulticomputeError: An operation failed within that time.
        """
        clock = self._clients.clock
        deadline = clock.now() + self._patience
        while self._is_under_way(launched) and clock.now() < deadline:
            clock.sleep(self._clients.step)
        nodes: dict[str, list[Node]] = {}
        while True:
            for item in launched:
                if len(nodes.get(item.requested.id, ())) < item.part.nodes:
                    nodes[item.requested.id] = self._nodes(item)
            is_complete = all(len(nodes[item.requested.id]) >= item.part.nodes for item in launched)
            if is_complete or clock.now() >= deadline:
                return tuple(node for item in launched for node in nodes[item.requested.id])
            clock.sleep(self._clients.step)

    def _is_under_way(self, launched: list[_Launched]) -> bool:
        """Refresh each operation once, and return whether one has not ended.

        Raises:
            MulticomputeError: An operation failed.
        """
        launches = self._clients.launches
        for item in launched:
            _raise_if_failed(launches.refresh(item.requested.id, item.place), item)
        return any(launches.is_under_way(item.requested.id) for item in launched)

    def _nodes(self, item: _Launched) -> list[Node]:
        """Return the instances of a part that exist by now, with what only the launch knows of them.

        Raises:
            MulticomputeError: The operation, or an instance, has failed.
        """
        launches, requested = self._clients.launches, item.requested
        # While the operation is under way, Azure's answer would be the scale set as it was requested, so no call is needed.
        found = None if launches.is_under_way(requested.id) else self._find(item)
        nodes = item.own(nodes_of(self._clients, found or requested))
        # The listing has also refreshed the operation.
        _raise_if_failed(launches.known_failure(requested.id), item)
        lost = next((node for node in nodes if node.state not in _LIVE and node.cause not in ("", "preemption")), None)
        if lost is not None:
            code, _, message = (lost.reason or "").partition(": ")
            _raise_if_failed(VendorAnswer(code, message), item)
        return _priced(nodes, item)

    def _roll_back(self, launched: list[_Launched]) -> tuple[Node, ...]:
        """Delete the scale sets of a gang that can't be complete, including billed machines in failed ones.

        Returns:
            The nodes that still exist after a few seconds. The scale sets are read by their names, because a listing may lag (I4).
        """
        clock = self._clients.clock
        deadline = clock.now() + self._patience
        for item in launched:
            if not item.token:
                delete_scale_set(self._clients, item.requested)
        while True:
            left = [(item, found) for item in launched if (found := self._find(item)) is not None]
            parts = [self._left(item, found) for item, found in left]
            if all(nodes is None for nodes in parts):
                return ()
            if clock.now() >= deadline:
                return tuple(node for nodes in parts for node in nodes or ())
            clock.sleep(self._clients.step)

    def _left(self, item: _Launched, found: ScaleSet) -> list[Node] | None:
        """Return the nodes of a part that is rolled back and still exists; None if others share its scale set and no node is left in it."""
        if item.token:
            return withdraw(self._clients, found, item.token) or None
        return nodes_of(self._clients, found)


def _priced(nodes: list[Node], item: _Launched) -> list[Node]:
    """Return the nodes of a part with what only its offer has."""
    offer = item.part.offer
    return [
        replace(
            node,
            zone=node.zone or offer.zone,
            accelerators=offer.instance.accelerators,
            hourly_cost=offer.hourly_cost,
        )
        for node in nodes
    ]


def _raise_if_failed(failure: VendorAnswer | None, item: _Launched) -> None:
    if failure is not None:
        raise failed_operation(failure, _CREATE, item.place)
