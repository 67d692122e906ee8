"""The provider: each method of the seam calls the modules of the same job, for instances and for TPU slices."""

import functools
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Final

from multicompute.clock import Clock, SystemClock
from multicompute.node import Node, Sample
from multicompute.offer import Offer, Quote
from multicompute.provider import (
    Access,
    Account,
    Availability,
    Capability,
    Check,
    LaunchRequest,
    PriceChange,
    Quotas,
    Resource,
    Selector,
    Settings,
    Teardown,
)
from multicompute.provider_kit.endpoints import LOCAL_CONSISTENCY_WINDOW, LOCAL_POLL_INTERVAL
from multicompute.provider_kit.renewal import Renewal, renews_credentials
from multicompute.provider_kit.seam import merge_teardowns, require_selection
from multicompute.provider_kit.vendor_errors import Place, invalid_request
from multicompute_gcp import _expiry, _list, _terminate
from multicompute_gcp._access import access, host_keys
from multicompute_gcp._account import account
from multicompute_gcp._availability import Places
from multicompute_gcp._check import check
from multicompute_gcp._errors import unless_disabled
from multicompute_gcp._launch import Launcher
from multicompute_gcp._metrics import metrics
from multicompute_gcp._network import Network
from multicompute_gcp._quotas import quotas
from multicompute_gcp._session import Clients
from multicompute_gcp._settings import GcpSettings
from multicompute_gcp.prices._current import CurrentPrices
from multicompute_gcp.tpu import _expiry as tpu_expiry
from multicompute_gcp.tpu import _list as tpu_list
from multicompute_gcp.tpu import _terminate as tpu_terminate
from multicompute_gcp.tpu._launch import TpuLauncher
from multicompute_gcp.tpu._types import is_slice, is_slice_type
from multicompute_gcp.tpu._workers import Workers

# Compute Engine shows within seconds what was created.
_CONSISTENCY_WINDOW: Final = timedelta(minutes=2)
_POLL_INTERVAL: Final = timedelta(seconds=5)
# An instance with eight GPUs boots in minutes; a TPU request that waits longer than this in the queue counts as a lack of capacity.
_ATTEMPT_TIMEOUT: Final = timedelta(minutes=10)
# The hosts of a large slice become ready together: a pod of 256 chips or more takes longer than ten minutes (unproven how much longer).
_POD_TIMEOUTS: Final = {
    f"{family}-{chips}": timedelta(minutes=30)
    for family in ("v*", "tpu*")
    for chips in ("[2-9][0-9][0-9]", "[0-9][0-9][0-9][0-9]*")
}


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
            Capability.LIVE_PRICES,
            Capability.AVAILABILITY,
            Capability.EXPIRY,
            Capability.METRICS,
            Capability.HEALTH_CHECKS,
            Capability.GLOBAL_LISTING,
            Capability.DEPENDENT_RESOURCES,
            Capability.SSH,
            Capability.RESTART,
        }
    )
    attempt_timeout: timedelta = _ATTEMPT_TIMEOUT
    attempt_timeouts: Mapping[str, timedelta] = _POD_TIMEOUTS

    def __init__(self, settings: Settings, *, clock: Clock | None = None) -> None:
        read = GcpSettings.of(settings)
        self.consistency_window: timedelta = LOCAL_CONSISTENCY_WINDOW if read.is_local else _CONSISTENCY_WINDOW
        self.poll_interval: timedelta = LOCAL_POLL_INTERVAL if read.is_local else _POLL_INTERVAL
        self._clock = clock or SystemClock()
        self._clients = Clients(read)
        self.renewal: Renewal = Renewal(self._clients.forget_credentials)
        self._places = Places(self._clients, self._clock, self.renewal)
        self._prices = CurrentPrices(self._clients, self._clock)
        self._network = Network(self._clients, self._clock)
        self._workers = Workers(self._clients)
        wait = read.queue_wait or self.attempt_timeout
        self._instances = Launcher(self._clients, self._network, self._clock, queue_wait=wait)
        self._slices = TpuLauncher(self._clients, self._network, self._clock, queue_wait=wait)

    @functools.cached_property
    def account(self) -> Account:
        """The account that the credentials belong to."""
        return self.renewal.run(lambda: account(self._clients))

    @renews_credentials
    def launch(self, request: LaunchRequest) -> tuple[Node, ...]:
        """Launch the gang with one bulkInsert, flex-start request or queued resource per part.

        Raises:
            InvalidRequestError: The gang has both instances and slices.
        """
        are_slices = {is_slice(part.offer.instance) for part in request.parts}
        if len(are_slices) > 1:
            text, place = "a gang can't have both instances and TPU slices", Place("gcp", request.region)
            raise invalid_request(text, code="MixedGang", place=place, hint="name one type")
        launcher = self._slices if are_slices == {True} else self._instances
        return launcher.restart(request) if request.restart else launcher.launch(request)

    @renews_credentials
    def nodes(self, selector: Selector) -> tuple[Node, ...]:
        """Return our nodes, by one filtered listing of instances, and by two listings of slices if the selector allows slices."""
        place, clients = Place("gcp", selector.region or ""), self._clients
        found: list[Node] = []
        if _may_be_instances(selector):
            found += _list.nodes(clients, selector, place)
        if _may_be_slices(selector):
            found += unless_disabled([], lambda: tpu_list.nodes(clients, selector, place))
        return tuple(found)

    @renews_credentials
    def resources(self, selector: Selector) -> tuple[Resource, ...]:
        """Return everything of ours that still exists, by label, or by name and description where there are no labels."""
        place, clients = Place("gcp", selector.region or ""), self._clients
        found = _list.resources(clients, selector, place)
        found += unless_disabled([], lambda: tpu_list.resources(clients, selector, place))
        return tuple(found)

    @renews_credentials
    def terminate(self, selector: Selector) -> Teardown:
        """Take one step of a teardown: instances, disks and slices, and then what they used."""
        require_selection(selector, provider=self.name)
        if selector.cluster_id is not None and selector.token is None:
            self._network.forget(selector.cluster_id)
        place, clients = Place("gcp", selector.region or ""), self._clients
        slices = unless_disabled(Teardown(), lambda: tpu_terminate.terminate(clients, selector, place))
        step = merge_teardowns([slices, self._instances_step(_terminate.terminate, selector, place)])
        return self._instances_step(_terminate.delete_dependents, selector, place) if step.is_done else step

    def _instances_step(
        self, step: Callable[[Clients, Selector, Place], Teardown], selector: Selector, place: Place
    ) -> Teardown:
        """Return a step for what belongs to Compute Engine; nothing, if the project never used it and no instance is known."""
        if any("/" not in node_id for node_id in (*selector.known_ids, *selector.node_ids, *selector.only)):
            return step(self._clients, selector, place)
        return unless_disabled(Teardown(), lambda: step(self._clients, selector, place))

    @renews_credentials
    def set_expiry(
        self, selector: Selector, expires_at: datetime | None, *, restore: Mapping[str, str] | None = None
    ) -> None:
        """Write the expiry to the labels and to the metadata, which the nodes' timers read within a minute.

        Raises:
            InvalidRequestError: Compute Engine deletes one of the instances earlier, see the setting `extension_room`.
        """
        place, clients, clock = Place("gcp", selector.region or ""), self._clients, self._clock
        if _may_be_instances(selector):
            _expiry.set_expiry(clients, selector, expires_at, place, clock=clock, restore=restore)
        if _may_be_slices(selector):
            change = functools.partial(tpu_expiry.set_expiry, clock=clock, restore=restore)
            unless_disabled(None, lambda: change(clients, selector, expires_at, place))

    @renews_credentials
    def quotes(self, offers: Sequence[Offer]) -> Mapping[Offer, Quote]:
        """Return today's prices, composed of the rates of the list, which has all 32,000 SKUs on 7 pages; they are kept for an hour."""
        return self._prices.quotes(offers)

    def quotas(self, region: str, *, reservations: Sequence[str] = ()) -> Quotas:
        """Return Compute Engine's quotas of the region with what is used, and the named reservations that are in it."""
        return quotas(self._clients, region, reservations, renewal=self.renewal)

    def availability(self, region: str) -> Availability:
        """Return the zones and types that the project can use, by three calls for all regions and one for each zone with TPUs."""
        return self._places.availability(region)

    def spot_prices(self, offers: Sequence[Offer], *, since: datetime) -> Mapping[Offer, tuple[PriceChange, ...]]:
        """Return nothing: they are not read yet, so SPOT_PRICES is not declared."""
        return {}

    @renews_credentials
    def metrics(self, nodes: Sequence[Node], *, since: datetime, until: datetime) -> tuple[Sample, ...]:
        """Return what Cloud Monitoring has, by one call for each of its metrics and a hundred nodes."""
        return metrics(self._clients, self._workers, nodes, since=since, until=until)

    def access(self, node: Node) -> Access:
        """Return how to log in to a node: as `ubuntu`, through IAP if it has no public address."""
        return access(self._clients.settings, node)

    @renews_credentials
    def host_keys(self, nodes: Sequence[Node]) -> Mapping[str, str]:
        """Return the host keys that the guest agents of instances have published."""
        return host_keys(self._clients, nodes)

    @renews_credentials
    def open_ssh(self, region: str, tags: Mapping[str, str]) -> None:
        """Create the cluster's firewall rule for the caller's address."""
        self._network.open_ssh(Place("gcp", region), tags)

    def check(self) -> tuple[Check, ...]:
        """Return whether the project exists, and whether the main permissions are there."""
        return check(self._clients, self._prices, renewal=self.renewal)


def _may_be_instances(selector: Selector) -> bool:
    """Return whether the selector allows instances: the ids of hosts of slices contain "/", and slice types have names of their own."""
    ids = selector.only or selector.node_ids
    by_id = not ids or any("/" not in node_id for node_id in ids)
    by_type = not selector.instance_types or not all(map(is_slice_type, selector.instance_types))
    return by_id and by_type


def _may_be_slices(selector: Selector) -> bool:
    ids = selector.only or selector.node_ids
    by_id = not ids or any("/" in node_id for node_id in ids)
    by_type = not selector.instance_types or any(map(is_slice_type, selector.instance_types))
    return by_id and by_type
