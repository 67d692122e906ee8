"""Launches a gang: what lies around it first, then one scale set per part in one PUT each, all or nothing."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any, Final

from azure.core import MatchConditions

from multicompute.errors import MulticomputeError, ProviderError, ThrottledError, TransientError
from multicompute.node import Node, NodeState
from multicompute.offer import Part
from multicompute.provider import TAG_ATTEMPT, LaunchRequest
from multicompute_azure._discover import Discovery, ScaleSet
from multicompute_azure._errors import Place, Said, is_gone, refusal, retryable, translate_errors
from multicompute_azure._image import image_for
from multicompute_azure._names import canonical, scale_set_name
from multicompute_azure._network import Network, Room
from multicompute_azure._pending import Pending
from multicompute_azure._reserved import Reservations
from multicompute_azure._scaleset import SINGLE_GROUP_NODES, scale_set
from multicompute_azure._session import Clients
from multicompute_azure._sizes import Sizes
from multicompute_azure._tags import check_tags
from multicompute_azure._teardown import delete_scale_set

_EXISTS: Final = ("PreconditionFailed", "HTTP412", "ResourceAlreadyExists")
_LIVE: Final = (NodeState.PENDING, NodeState.RUNNING)


@dataclass(frozen=True, slots=True)
class _Asked:
    """A part whose scale set was asked for, now or by an earlier launch of the same token."""

    part: Part
    place: Place
    group: str
    name: str
    id: str
    token: str


@dataclass(slots=True)
class _Busy:
    """A token that is being launched, and by how many threads."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    waiting: int = 0


class Launcher:
    """Launches gangs; what it looked up or made for one launch serves the next."""

    def __init__(
        self, clients: Clients, discovery: Discovery, pending: Pending, sizes: Sizes, *, patience: timedelta
    ) -> None:
        self._clients = clients
        self._discovery = discovery
        self._pending = pending
        self._sizes = sizes
        self._patience = patience
        self._network = Network(clients)
        self._reservations = Reservations(clients)
        self._busy: dict[str, _Busy] = {}
        self._lock = threading.Lock()

    def launch(self, request: LaunchRequest) -> tuple[Node, ...]:
        """Launch all parts of `request`, or none; see `Provider.launch`."""
        check_tags(request.tags)
        with self._alone(request.token):
            asked: list[_Asked] = []
            try:
                for index, part in enumerate(request.parts):
                    asked.append(self._ask(request, index, part))
                return self._arrived(asked)
            except (ThrottledError, TransientError):
                # Not known what became of it: the engine repeats the launch, and finds what was made by its name.
                raise
            except MulticomputeError:
                left = self._take_back(asked)
                if not left:
                    raise
                # They live, so that the refusal would be no truth yet: the engine sees lost nodes with their cause, and drains them.
                return left

    def forget(self, cluster_id: str) -> None:
        """Forget what was made for a cluster that is torn down."""
        self._network.forget(cluster_id)

    # --- asking -------------------------------------------------------------------------------------------------------

    def _ask(self, request: LaunchRequest, index: int, part: Part) -> _Asked:
        """Ask for the scale set of one part, unless an earlier launch of the token did."""
        place = place_of(part)
        group, name = self._network.group_of(request.cluster_id, place.region), scale_set_name(request.token, index)
        asked = _Asked(part, place, group, name, self._id(group, name), request.token)
        if self._exists(asked, request):
            return asked
        size = self._sizes.checked(place)
        named = self._reservations.checked(part, place) if part.reservation else None
        image = image_for(part.offer.instance, place, named=request.image)
        room = self._network.room(request, place)
        around = room.around
        if request.fabric and part.reservation is None and not _is_one_group(request):
            around = replace(around, proximity_group=self._network.proximity_group(group, request, place))
        bought = part if named is None else replace(part, reservation=named)
        body = scale_set(request, bought, size=size, image=image, around=around, settings=self._clients.settings)
        self._put(asked, body, request, room)
        return asked

    def _put(self, asked: _Asked, body: dict[str, Any], request: LaunchRequest, room: Room) -> None:
        operation = self._clients.operation()
        sets = self._clients.compute.virtual_machine_scale_sets
        try:
            with translate_errors("create the scale set", asked.place):
                # Only where it does not exist: should two launches of one token race, one buys and the other is told.
                sets.begin_create_or_update(  # type: ignore[call-overload]
                    room.group, asked.name, body, polling=operation, etag="*", match_condition=MatchConditions.IfMissing
                )
        except MulticomputeError as error:
            if error.code in _EXISTS:
                return
            if is_gone(error.code):
                # The group was deleted by somebody since it was made: the repeated launch makes it again.
                self._network.forget(request.cluster_id)
                raise retryable(
                    f"the resource group {room.group} is not there", error.code or "", asked.place
                ) from error
            raise
        self._pending.add(asked.id, operation)

    def _exists(self, asked: _Asked, request: LaunchRequest) -> bool:
        found = self._discovery.scale_set(asked.group, asked.name, asked.place)
        if found is None:
            return False
        if found.tags.get(TAG_ATTEMPT) != request.token:
            raise ProviderError(
                f"{asked.place}: a scale set {asked.name} exists in {asked.group} and is not ours",
                provider="azure",
                region=asked.place.region,
                code="ResourceAlreadyExists",
                hint="delete it",
            )
        if found.state.lower() == "deleting":
            raise retryable(f"the scale set {asked.name} of this token is being deleted", "Conflict", asked.place)
        return True

    @contextmanager
    def _alone(self, token: str) -> Iterator[None]:
        """Let one launch of a token run at a time in this process."""
        with self._lock:
            busy = self._busy.setdefault(token, _Busy())
            busy.waiting += 1
        try:
            with busy.lock:
                yield
        finally:
            with self._lock:
                busy.waiting -= 1
                if not busy.waiting:
                    self._busy.pop(token, None)

    def _id(self, group: str, name: str) -> str:
        subscription = self._clients.subscription
        kind = "Microsoft.Compute/virtualMachineScaleSets"
        return canonical(
            f"/subscriptions/{subscription}/resourceGroups/{group}/providers/{kind}/{name}",
            self._clients.settings.resource_group,
        )

    # --- arriving -----------------------------------------------------------------------------------------------------

    def _arrived(self, asked: list[_Asked]) -> tuple[Node, ...]:
        """Wait a few seconds for the operations to end, as a lack of capacity often makes them; then list, and leave the rest to `nodes`.

        Raises:
            MulticomputeError: an operation failed within that time.
        """
        clock = self._clients.clock
        deadline = clock.now() + self._patience
        while self._is_under_way(asked) and clock.now() < deadline:
            clock.sleep(self._clients.step)
        nodes: dict[str, list[Node]] = {}
        while True:
            for item in asked:
                if len(nodes.get(item.id, ())) < item.part.nodes:
                    nodes[item.id] = self._seen(item)
            if all(len(nodes[item.id]) >= item.part.nodes for item in asked) or clock.now() >= deadline:
                return tuple(node for item in asked for node in nodes[item.id])
            clock.sleep(self._clients.step)

    def _is_under_way(self, asked: list[_Asked]) -> bool:
        """Look at each operation once; raises what one failed with."""
        for item in asked:
            failure = self._pending.failure(item.id, item.place)
            if failure is not None:
                raise refusal(failure, operation="create the scale set", place=item.place)
        return any(self._pending.of(item.id) is not None for item in asked)

    def _seen(self, item: _Asked) -> list[Node]:
        """The instances of a part that exist by now, with what only the launch knows of them."""
        nodes = self._discovery.nodes_of(self._scale_set(item))
        # The listing has looked at the operation too.
        failure = self._pending.known_failure(item.id)
        if failure is not None:
            raise refusal(failure, operation="create the scale set", place=item.place)
        lost = next((node for node in nodes if node.state not in _LIVE and node.cause not in ("", "preemption")), None)
        if lost is not None:
            code, _, message = (lost.reason or "").partition(": ")
            raise refusal(Said(code, message), operation="create the scale set", place=item.place)
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

    def _scale_set(self, item: _Asked) -> ScaleSet:
        """The scale set of a part: as it was asked for while its operation is under way, else as Azure has it."""
        if self._pending.of(item.id) is None:
            found = self._discovery.scale_set(item.group, item.name, item.place)
            if found is not None:
                return found
        offer, tags = item.part.offer, {TAG_ATTEMPT: item.token}
        is_spot = offer.purchase == "spot"
        return ScaleSet(
            item.id, item.group, item.name, offer.region, "", item.part.nodes, offer.instance.name, is_spot, tags
        )

    def _take_back(self, asked: list[_Asked]) -> tuple[Node, ...]:
        """Delete the scale sets of a gang that can't be had whole, failed ones with billed machines in them too.

        Returns:
            The nodes that are still there after a few seconds: lost ones, which the engine drains. None of them is no proof of nothing
            for a listing that lags, so that scale sets are asked for by name.
        """
        clock = self._clients.clock
        deadline = clock.now() + self._patience
        for item in asked:
            delete_scale_set(self._clients, item.group, item.name, item.place)
        while True:
            sets = [self._discovery.scale_set(item.group, item.name, item.place) for item in asked]
            left = [found for found in sets if found is not None]
            if not left:
                return ()
            if clock.now() >= deadline:
                return tuple(node for found in left for node in self._discovery.nodes_of(found))
            clock.sleep(self._clients.step)


def place_of(part: Part) -> Place:
    """Where a part is launched."""
    offer = part.offer
    return Place(offer.region, offer.zone, offer.instance.name, offer.purchase)


def _is_one_group(request: LaunchRequest) -> bool:
    """Whether the gang is one scale set that is small enough for a single placement group, which keeps to one InfiniBand fabric."""
    return len(request.parts) == 1 and request.parts[0].nodes <= SINGLE_GROUP_NODES
