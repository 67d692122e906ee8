"""The provider: hands each method of the seam to the module that does it, for virtual machines and for TPU slices."""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Final, TypeVar

from multicompute.clock import Clock, SystemClock
from multicompute.errors import InvalidRequestError, MulticomputeError
from multicompute.node import Node, Sample
from multicompute.offer import Offer, Quote
from multicompute.provider import (
    Capability,
    Check,
    LaunchRequest,
    Quotas,
    Resource,
    Selector,
    Settings,
    Teardown,
)
from multicompute_gcp import _discover, _tpu_discover
from multicompute_gcp._access import GcpSettings
from multicompute_gcp._check import checks
from multicompute_gcp._errors import Place
from multicompute_gcp._launch import Launcher
from multicompute_gcp._lease import move_machines, move_slices
from multicompute_gcp._metrics import metrics
from multicompute_gcp._network import Network, beside
from multicompute_gcp._quotas import quotas
from multicompute_gcp._session import Clients
from multicompute_gcp._teardown import delete_beside, tear_down
from multicompute_gcp._tpu_launch import TpuLauncher
from multicompute_gcp._tpu_teardown import delete_slices
from multicompute_gcp._tpu_types import is_tpu, looks_like_slice
from multicompute_gcp._tpu_workers import Workers

Answer = TypeVar("Answer")

# Compute Engine shows within seconds what was made. A local cloud has no such delay but what a test sets.
_CONSISTENCY_WINDOW: Final = timedelta(minutes=2)
_LOCAL_CONSISTENCY_WINDOW: Final = timedelta(seconds=5)
_POLL_INTERVAL: Final = timedelta(seconds=5)
_LOCAL_POLL_INTERVAL: Final = timedelta(milliseconds=50)
# A machine with eight GPUs boots in minutes; a TPU request that waits longer than this in the queue counts as a lack of capacity.
_ATTEMPT_TIMEOUT: Final = timedelta(minutes=10)


class GcpProvider:
    """Google Cloud, opened; see `multicompute.provider.Provider` for what each method promises.

    Example:
        >>> provider = GcpProvider(Settings(values={"endpoint_url": "http://127.0.0.1:5000"}))
        >>> provider.name
        'gcp'
    """

    name: str = "gcp"
    capabilities: frozenset[Capability] = frozenset(
        {
            Capability.SPOT,
            Capability.FLEX_START,
            Capability.RESERVATIONS,
            Capability.PLACEMENT,
            Capability.QUOTAS,
            Capability.EXPIRY,
            Capability.METRICS,
            Capability.HEALTH_CHECKS,
            Capability.GLOBAL_LISTING,
            Capability.DEPENDENT_RESOURCES,
        }
    )
    attempt_timeout: timedelta = _ATTEMPT_TIMEOUT

    def __init__(self, settings: Settings, *, clock: Clock | None = None) -> None:
        read = GcpSettings.of(settings)
        self.consistency_window: timedelta = _LOCAL_CONSISTENCY_WINDOW if read.is_local else _CONSISTENCY_WINDOW
        self.poll_interval: timedelta = _LOCAL_POLL_INTERVAL if read.is_local else _POLL_INTERVAL
        self._clock = clock or SystemClock()
        self._clients = Clients(read)
        self._network = Network(self._clients, self._clock)
        self._workers = Workers(self._clients)
        self._machines = Launcher(self._clients, self._network, self._clock)
        wait = read.queue_wait or self.attempt_timeout
        self._slices = TpuLauncher(self._clients, self._network, self._clock, queue_wait=wait)

    def launch(self, request: LaunchRequest) -> tuple[Node, ...]:
        """Launch the gang with one bulkInsert, or one queued resource, per part.

        Raises:
            InvalidRequestError: the parts are of both kinds.
        """
        kinds = {is_tpu(part.offer.instance) for part in request.parts}
        if len(kinds) > 1:
            raise InvalidRequestError(
                "gcp: a gang of machines and TPU slices can't be launched as one",
                provider=self.name,
                region=request.region,
                code="MixedGang",
                hint="name one type",
            )
        return self._slices.launch(request) if kinds == {True} else self._machines.launch(request)

    def nodes(self, selector: Selector) -> tuple[Node, ...]:
        """Our nodes, by one filtered listing of machines, and where slices may be meant by two of those."""
        place = Place(selector.region or "")
        found: list[Node] = []
        if _may_be_machines(selector):
            found += _discover.nodes(self._clients, selector, place)
        if _may_be_slices(selector):
            found += self._of_tpus([], lambda: _tpu_discover.nodes(self._clients, selector, place))
        return tuple(found)

    def resources(self, selector: Selector) -> tuple[Resource, ...]:
        """Everything of ours that still exists, by label, and by name and description what takes no labels."""
        place, clients = Place(selector.region or ""), self._clients
        found = _discover.resources(clients, selector, place) + beside(clients, selector, place)
        none: list[Resource] = []
        slices = self._of_tpus(none, lambda: _tpu_discover.resources(_tpu_discover.find(clients, selector, place)))
        return tuple(found + slices)

    def terminate(self, selector: Selector) -> Teardown:
        """One step of a teardown: machines, disks and slices, and after them what lies beside them."""
        if selector.cluster_id is None and selector.token is None:
            raise InvalidRequestError(
                "gcp: terminate: the selector names neither a cluster nor an attempt, so it would mean everybody's",
                provider=self.name,
                code="NoSelection",
                hint="name a cluster",
            )
        if selector.cluster_id is not None and selector.token is None:
            self._network.forget(selector.cluster_id)
        place = Place(selector.region or "")
        steps = [self._of_tpus(Teardown(), lambda: delete_slices(self._clients, selector, place))]
        steps.append(tear_down(self._clients, selector, place))
        if not any(step.remaining for step in steps):
            return delete_beside(self._clients, selector, place)
        remaining = tuple(item for step in steps for item in step.remaining)
        return Teardown(remaining, "; ".join(step.waiting_for for step in steps if step.waiting_for))

    def set_expiry(self, selector: Selector, expires_at: datetime | None) -> None:
        """Move the end in the labels and in the metadata, which the nodes' timers read within a minute.

        Raises:
            InvalidRequestError: Compute Engine ends one of the machines earlier, see `extension_room`.
        """
        place = Place(selector.region or "")
        if _may_be_machines(selector):
            move_machines(self._clients, selector, expires_at, place, clock=self._clock)
        if _may_be_slices(selector):
            self._of_tpus(None, lambda: move_slices(self._clients, selector, expires_at, place, clock=self._clock))

    def quotes(self, offers: Sequence[Offer]) -> Mapping[Offer, Quote]:
        """Nothing: Google's price list has no price of a machine, only of its parts, which the offer tables add up."""
        return {}

    def quotas(self, region: str, *, reservations: Sequence[str] = ()) -> Quotas:
        """The region's own figures, and the named reservations that are there."""
        return quotas(self._clients, region, reservations)

    def metrics(self, nodes: Sequence[Node], *, since: datetime, until: datetime) -> tuple[Sample, ...]:
        """What Cloud Monitoring has, in one call for each of its metrics and a hundred nodes."""
        return metrics(self._clients, self._workers, nodes, since, until)

    def check(self) -> tuple[Check, ...]:
        """Ask for the project, and whether the main rights are there."""
        return checks(self._clients)

    def _of_tpus(self, none: Answer, look: Callable[[], Answer]) -> Answer:
        """What the TPU API answers; `none` where the project has never enabled it."""
        try:
            return look()
        except MulticomputeError as error:
            if _tpu_discover.is_disabled(error.code):
                return none
            raise


def _may_be_machines(selector: Selector) -> bool:
    """Whether virtual machines may be meant: hosts of slices have a "/" in their ids, and slice types names of their own."""
    by_id = not selector.node_ids or any("/" not in node_id for node_id in selector.node_ids)
    by_type = not selector.instance_types or not all(map(looks_like_slice, selector.instance_types))
    return by_id and by_type


def _may_be_slices(selector: Selector) -> bool:
    by_id = not selector.node_ids or any("/" in node_id for node_id in selector.node_ids)
    by_type = not selector.instance_types or any(map(looks_like_slice, selector.instance_types))
    return by_id and by_type
