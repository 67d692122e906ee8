"""The provider: each method of the seam calls the module of the same job."""

import functools
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Final

from multicompute.clock import Clock, SystemClock
from multicompute.node import Node, Sample
from multicompute.offer import Offer, Quote
from multicompute.provider import (
    TAG_ID,
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
from multicompute.provider_kit.seam import require_selection
from multicompute.provider_kit.vendor_errors import Place
from multicompute_azure._access import access
from multicompute_azure._account import account
from multicompute_azure._addresses import Addresses
from multicompute_azure._availability import Locations, availability
from multicompute_azure._check import check
from multicompute_azure._expiry import set_expiry
from multicompute_azure._launch import Launcher
from multicompute_azure._list import nodes
from multicompute_azure._metrics import metrics
from multicompute_azure._prices import quotes
from multicompute_azure._quotas import quotas
from multicompute_azure._resources import resources
from multicompute_azure._session import Clients
from multicompute_azure._settings import AzureSettings
from multicompute_azure._sizes import Sizes
from multicompute_azure._terminate import terminate

# A new resource is found by its name at once, but Resource Manager's listings may show it minutes later
# (https://learn.microsoft.com/azure/azure-resource-manager/troubleshooting/error-not-found).
_CONSISTENCY_WINDOW: Final = timedelta(minutes=3)
# A refresh is a listing that Compute counts as a costly one. It answers some 800 of those per half hour and subscription, whoever asks
# ("Troubleshooting API throttling errors"), so at this interval four clusters can start at once.
_POLL_INTERVAL: Final = timedelta(seconds=10)
# A machine with eight GPUs takes up to ten minutes from the request to running.
_ATTEMPT_TIMEOUT: Final = timedelta(minutes=15)
# How often an operation is refreshed, and how long a launch waits for it to fail early.
_STEP: Final = timedelta(seconds=1)
_LOCAL_STEP: Final = timedelta(milliseconds=10)
_PATIENCE: Final = timedelta(seconds=10)
_LOCAL_PATIENCE: Final = timedelta(seconds=1)


class AzureProvider:
    """Microsoft Azure, opened; see `multicompute.provider.Provider` for what each method promises.

    Example:
        >>> provider = AzureProvider(Settings(values={"endpoint_url": "http://127.0.0.1:5000"}))
        >>> provider.name
        'azure'
    """

    name: str = "azure"
    # Not EXPIRY: the platform terminates no plain machine at a given time. The node's timer deletes the machine if a managed identity is
    # configured, and otherwise only stops its work, so only the reaper is guaranteed.
    capabilities: frozenset[Capability] = frozenset(
        {
            Capability.SPOT,
            Capability.RESERVATIONS,
            Capability.PLACEMENT,
            Capability.QUOTAS,
            Capability.LIVE_PRICES,
            Capability.AVAILABILITY,
            Capability.METRICS,
            Capability.HEALTH_CHECKS,
            Capability.GLOBAL_LISTING,
            Capability.RESTART,
            Capability.DEPENDENT_RESOURCES,
            Capability.SSH,
        }
    )
    attempt_timeout: timedelta = _ATTEMPT_TIMEOUT

    def __init__(
        self,
        settings: Settings,
        *,
        clock: Clock | None = None,
        step: timedelta | None = None,
        patience: timedelta | None = None,
    ) -> None:
        """Open the provider.

        Args:
            settings: The table `[providers.azure]` and the environment.
            clock: The clock by which operations are waited for.
            step: How long to wait between two refreshes of an operation.
            patience: How long a launch waits for its operations before it leaves the rest to `nodes`.

        Raises:
            AuthError: No subscription was found.
            ConfigError: A setting is malformed, or the endpoint is plain http to another machine.
        """
        read = AzureSettings.of(settings)
        is_local = read.is_local
        self.consistency_window: timedelta = LOCAL_CONSISTENCY_WINDOW if is_local else _CONSISTENCY_WINDOW
        self.poll_interval: timedelta = LOCAL_POLL_INTERVAL if is_local else _POLL_INTERVAL
        step = step or (_LOCAL_STEP if is_local else _STEP)
        patience = patience or (_LOCAL_PATIENCE if is_local else _PATIENCE)
        self._clients = Clients(read, clock or SystemClock(), step=step)
        self.renewal = Renewal(self._clients.renew)
        self._sizes = Sizes(self._clients)
        self._locations = Locations(self._clients)
        self._addresses = Addresses(self._clients)
        self._launcher = Launcher(self._clients, self._sizes, patience=patience)

    @functools.cached_property
    def account(self) -> Account:
        """The account that the credentials belong to."""
        return self.renewal.run(lambda: account(self._clients))

    @renews_credentials
    def launch(self, request: LaunchRequest) -> tuple[Node, ...]:
        """Launch the gang with one scale set per part."""
        return self._launcher.launch(request)

    @renews_credentials
    def nodes(self, selector: Selector) -> tuple[Node, ...]:
        """Return our nodes, by listings of scale sets and of their instances; those that can't start are GONE, with the reason."""
        return nodes(self._clients, self._addresses, selector)

    @renews_credentials
    def resources(self, selector: Selector) -> tuple[Resource, ...]:
        """Return everything of ours that still exists, by tag, and everything in the resource groups of clusters."""
        return resources(self._clients, selector)

    @renews_credentials
    def terminate(self, selector: Selector) -> Teardown:
        """Take one step of a teardown."""
        require_selection(selector, provider=self.name)
        if selector.cluster_id is not None and selector.token is None:
            self._launcher.forget(selector.cluster_id)
        return terminate(self._clients, selector)

    @renews_credentials
    def set_expiry(
        self, selector: Selector, expires_at: datetime | None, *, restore: Mapping[str, str] | None = None
    ) -> None:
        """Write the expiry tag of the selected nodes, which their timers read within a minute; and all tags that were removed."""
        set_expiry(self._clients, selector, expires_at, restore)

    def quotes(self, offers: Sequence[Offer]) -> Mapping[Offer, Quote]:
        """Return today's prices, on demand and spot, as the Retail Prices API lists them for everyone."""
        return quotes(self._clients, offers)

    @renews_credentials
    def quotas(self, region: str, *, reservations: Sequence[str] = ()) -> Quotas:
        """Return the core quotas of the region with what is used, and the named reservations that are in it."""
        return quotas(self._clients, self._sizes, region, reservations)

    @renews_credentials
    def availability(self, region: str) -> Availability:
        """Return whether the subscription has the region, its zones, and the sizes that are not restricted for the subscription."""
        return availability(self._sizes, self._locations, region)

    def spot_prices(self, offers: Sequence[Offer], *, since: datetime) -> Mapping[Offer, tuple[PriceChange, ...]]:
        """Return nothing: they are not read yet, so SPOT_PRICES is not declared."""
        return {}

    @renews_credentials
    def metrics(self, nodes: Sequence[Node], *, since: datetime, until: datetime) -> tuple[Sample, ...]:
        """Return CPU and network as Azure Monitor measures them, and of NVIDIA GPUs what the Telegraf agent sends, where a node runs it."""
        return metrics(self._clients, nodes, since=since, until=until)

    def access(self, node: Node) -> Access:
        """Return how to log in to a node: as `ubuntu`, through Bastion if it has no public address."""
        return access(self._clients.settings, node)

    @renews_credentials
    def host_keys(self, nodes: Sequence[Node]) -> Mapping[str, str]:
        """Return nothing: Azure has no channel on which a machine reports its host key without a right to read its disk or its console."""
        return {}

    @renews_credentials
    def open_ssh(self, region: str, tags: Mapping[str, str]) -> None:
        """Add a rule for the caller's address to the cluster's security group."""
        self._launcher.open_ssh(tags[TAG_ID], Place("azure", region))

    @renews_credentials
    def check(self) -> tuple[Check, ...]:
        """Return whether the subscription answers, and whether the main permissions are there."""
        return check(self._clients)
