"""The provider: hands each method of the seam to the module that does it."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Final

from multicompute.clock import Clock, SystemClock
from multicompute.errors import InvalidRequestError
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
    expiry_tag,
)
from multicompute_azure._access import AzureSettings
from multicompute_azure._check import checks
from multicompute_azure._discover import Discovery
from multicompute_azure._expiry import set_expiry
from multicompute_azure._inventory import Inventory
from multicompute_azure._launch import Launcher
from multicompute_azure._metrics import metrics
from multicompute_azure._pending import Pending
from multicompute_azure._quotas import quotas
from multicompute_azure._session import Clients
from multicompute_azure._sizes import Sizes
from multicompute_azure._teardown import Deleter

# What was made is found by name at once, but Resource Manager's listings follow by up to some minutes
# (https://learn.microsoft.com/azure/azure-resource-manager/troubleshooting/error-not-found).
_CONSISTENCY_WINDOW: Final = timedelta(minutes=3)
_LOCAL_CONSISTENCY_WINDOW: Final = timedelta(seconds=5)
# A look is a listing that Compute counts as a costly one; of those it has answered some 800 per half hour and subscription, whoever asked
# ("Troubleshooting API throttling errors"), so that four clusters can come up at once.
_POLL_INTERVAL: Final = timedelta(seconds=10)
_LOCAL_POLL_INTERVAL: Final = timedelta(milliseconds=50)
# A machine with eight GPUs takes Azure up to ten minutes from being asked for to running.
_ATTEMPT_TIMEOUT: Final = timedelta(minutes=15)
# How often an operation is looked at, and for how long a launch waits for it to fail early.
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
    # Not EXPIRY: the platform ends no plain machine at a given time. The node's own timer has it deleted where a managed identity is
    # configured, and else only stops its work; the reaper is what holds.
    capabilities: frozenset[Capability] = frozenset(
        {
            Capability.SPOT,
            Capability.RESERVATIONS,
            Capability.PLACEMENT,
            Capability.QUOTAS,
            Capability.METRICS,
            Capability.HEALTH_CHECKS,
            Capability.GLOBAL_LISTING,
            Capability.DEPENDENT_RESOURCES,
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
        """Open it.

        Args:
            settings: the table `[providers.azure]` and the environment.
            clock: by which operations are waited for.
            step: how long to wait between two looks at an operation.
            patience: for how long a launch waits for its operation before it leaves the rest to `nodes`.
        """
        read = AzureSettings.of(settings)
        local = read.is_local
        self.consistency_window: timedelta = _LOCAL_CONSISTENCY_WINDOW if local else _CONSISTENCY_WINDOW
        self.poll_interval: timedelta = _LOCAL_POLL_INTERVAL if local else _POLL_INTERVAL
        self._clients = Clients(read, clock or SystemClock(), step=step or (_LOCAL_STEP if local else _STEP))
        pending = Pending()
        self._sizes = Sizes(self._clients)
        self._discovery = Discovery(self._clients, pending)
        self._inventory = Inventory(self._clients)
        self._undertaker = Deleter(self._clients, self._discovery, self._inventory)
        self._launcher = Launcher(
            self._clients,
            self._discovery,
            pending,
            self._sizes,
            patience=patience or (_LOCAL_PATIENCE if local else _PATIENCE),
        )

    def launch(self, request: LaunchRequest) -> tuple[Node, ...]:
        """Launch the gang with one scale set per part."""
        return self._launcher.launch(request)

    def nodes(self, selector: Selector) -> tuple[Node, ...]:
        """Our nodes, by the listings of scale sets and of their instances; those that can't come are shown as gone, with the reason."""
        return self._discovery.nodes(selector)

    def resources(self, selector: Selector) -> tuple[Resource, ...]:
        """Everything of ours that still exists."""
        return tuple(self._inventory.resources(selector))

    def terminate(self, selector: Selector) -> Teardown:
        """One step of a teardown."""
        if selector.cluster_id is None and selector.token is None:
            raise InvalidRequestError(
                "azure: terminate: the selector names neither a cluster nor an attempt, so it would mean everybody's",
                provider=self.name,
                code="NoSelection",
                hint="name a cluster",
            )
        if selector.cluster_id is not None and selector.token is None:
            self._launcher.forget(selector.cluster_id)
        return self._undertaker.step(selector)

    def set_expiry(self, selector: Selector, expires_at: datetime | None) -> None:
        """Write the expiry tag of the selected nodes, which their timers read within a minute."""
        set_expiry(self._clients, self._discovery, self._inventory, selector, expiry_tag(expires_at))

    def quotes(self, offers: Sequence[Offer]) -> Mapping[Offer, Quote]:
        """Nothing: Azure's price list is not part of Resource Manager, and its offers come from the tables."""
        return {}

    def quotas(self, region: str, *, reservations: Sequence[str] = ()) -> Quotas:
        """The core quotas of the region less what is used, and the named reservations that are there."""
        return quotas(self._clients, self._sizes, region, reservations)

    def metrics(self, nodes: Sequence[Node], *, since: datetime, until: datetime) -> tuple[Sample, ...]:
        """What Azure Monitor has of CPU and network, and of GPUs where the Telegraf agent sends it."""
        return metrics(self._clients, nodes, since, until)

    def check(self) -> tuple[Check, ...]:
        """Ask whether the subscription answers, and whether the main rights are there."""
        return checks(self._clients)
