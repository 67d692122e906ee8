"""The provider: each method of the seam calls the module of the same job."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Final

from multicompute.clock import Clock, SystemClock
from multicompute.errors import WrongAccountError
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
    expiry_tag,
)
from multicompute.provider_kit.endpoints import LOCAL_CONSISTENCY_WINDOW, LOCAL_POLL_INTERVAL
from multicompute.provider_kit.renewal import Renewal, renews_credentials
from multicompute.provider_kit.seam import require_selection
from multicompute.provider_kit.vendor_errors import Place
from multicompute_aws._access import access, host_keys
from multicompute_aws._account import account
from multicompute_aws._availability import availability
from multicompute_aws._check import check
from multicompute_aws._expiry import set_expiry
from multicompute_aws._launch import Launcher
from multicompute_aws._list import nodes, resources
from multicompute_aws._metrics import metrics
from multicompute_aws._prices import quotes, spot_prices
from multicompute_aws._quotas import quotas
from multicompute_aws._session import Clients
from multicompute_aws._settings import AwsSettings
from multicompute_aws._terminate import terminate

# The effect of a call may take "up to about five minutes" to be visible to the next call ("Eventual consistency in the Amazon EC2 API",
# EC2 developer guide).
_CONSISTENCY_WINDOW: Final = timedelta(minutes=5)
_POLL_INTERVAL: Final = timedelta(seconds=3)
# An instance with eight GPUs takes minutes from pending to running; one that takes ten does not come up.
_ATTEMPT_TIMEOUT: Final = timedelta(minutes=10)
# A bare metal instance tests its hardware first: 77 of them needed up to 14 minutes until they answered, see
# https://gitlab.com/testing-farm/infrastructure/-/merge_requests/1526. Nothing is published on the instances of UltraServers.
_ATTEMPT_TIMEOUTS: Final[Mapping[str, timedelta]] = {
    "*.metal*": timedelta(minutes=30),
    "p6e-*": timedelta(minutes=30),
    "trn2u.*": timedelta(minutes=30),
}


class AwsProvider:
    """Amazon Web Services, opened; see `multicompute.provider.Provider` for what each method promises.

    Example:
        >>> provider = AwsProvider(Settings(values={"endpoint_url": "http://127.0.0.1:5000"}))
        >>> provider.name
        'aws'
    """

    name: str = "aws"
    capabilities: frozenset[Capability] = frozenset(
        {
            Capability.SPOT,
            Capability.RESERVATIONS,
            Capability.PLACEMENT,
            Capability.QUOTAS,
            Capability.LIVE_PRICES,
            Capability.SPOT_PRICES,
            Capability.AVAILABILITY,
            Capability.EXPIRY,
            Capability.METRICS,
            Capability.HEALTH_CHECKS,
            Capability.RESTART,
            Capability.DEPENDENT_RESOURCES,
            Capability.SSH,
        }
    )
    attempt_timeout: timedelta = _ATTEMPT_TIMEOUT
    attempt_timeouts: Mapping[str, timedelta] = _ATTEMPT_TIMEOUTS

    def __init__(self, settings: Settings, *, clock: Clock | None = None) -> None:
        read = AwsSettings.of(settings)
        self.consistency_window: timedelta = LOCAL_CONSISTENCY_WINDOW if read.is_local else _CONSISTENCY_WINDOW
        self.poll_interval: timedelta = LOCAL_POLL_INTERVAL if read.is_local else _POLL_INTERVAL
        self._clients = Clients(read)
        self._launcher = Launcher(self._clients)
        self._clock = clock or SystemClock()
        self._account: Account | None = None
        self.renewal = Renewal(self._renew)

    @property
    @renews_credentials
    def account(self) -> Account:
        """The account that the credentials belong to."""
        if self._account is None:
            self._account = account(self._clients)
        return self._account

    def _renew(self) -> None:
        """Read the credentials again from their source; those of another account are not used.

        Raises:
            WrongAccountError: A call that began in one account must not be repeated in another, where nothing of it exists.
        """
        renewed = Clients(self._clients.settings)
        if self._account is not None:
            found = account(renewed)
            if not found.is_same(self._account):
                raise WrongAccountError(
                    f"the credentials were replaced by those of {found.label}, in place of {self._account.label}",
                    provider=self.name,
                    hint="restore the credentials of that account, or start a new process to use the other one",
                )
        self._clients.replace_by(renewed)

    @renews_credentials
    def launch(self, request: LaunchRequest) -> tuple[Node, ...]:
        """Launch the gang with one RunInstances call per part, or start its stopped instances."""
        with self._clients.refusal_of_region(request.region):
            return self._launcher.restart(request) if request.restart else self._launcher.launch(request)

    @renews_credentials
    def nodes(self, selector: Selector) -> tuple[Node, ...]:
        """Return our nodes, by one filtered listing per region, with those terminated within the last hour and their reason."""
        return nodes(self._clients, selector, self._launcher.addresses)

    @renews_credentials
    def resources(self, selector: Selector) -> tuple[Resource, ...]:
        """Return everything of ours that still exists, by tag."""
        return resources(self._clients, selector)

    @renews_credentials
    def terminate(self, selector: Selector) -> Teardown:
        """Take one step of a teardown in every region that is selected."""
        require_selection(selector, provider=self.name)
        if selector.cluster_id is not None and selector.token is None:
            self._launcher.forget(selector.cluster_id)
        return terminate(self._clients, selector)

    @renews_credentials
    def set_expiry(
        self, selector: Selector, expires_at: datetime | None, *, restore: Mapping[str, str] | None = None
    ) -> None:
        """Write the expiry tag of the selected instances, which their timers read within a minute."""
        set_expiry(self._clients, selector, expiry_tag(expires_at), restore or {})

    @renews_credentials
    def quotes(self, offers: Sequence[Offer]) -> Mapping[Offer, Quote]:
        """Return today's prices: on demand from the price list, spot from the spot price history."""
        return quotes(self._clients, offers, now=self._clock.now())

    @renews_credentials
    def quotas(self, region: str, *, reservations: Sequence[str] = ()) -> Quotas:
        """Return the vCPU quotas of the region with what is used, and the named reservations that are in it."""
        return quotas(self._clients, region, reservations)

    @renews_credentials
    def availability(self, region: str) -> Availability:
        """Return whether the region is enabled, its zones, and the zones that sell each type with accelerators."""
        return availability(self._clients, region)

    @renews_credentials
    def spot_prices(self, offers: Sequence[Offer], *, since: datetime) -> Mapping[Offer, tuple[PriceChange, ...]]:
        """Return how spot prices have changed, from the spot price history, which has the last 90 days."""
        return spot_prices(self._clients, offers, since=since)

    @renews_credentials
    def metrics(self, nodes: Sequence[Node], *, since: datetime, until: datetime) -> tuple[Sample, ...]:
        """Return CPU and network as EC2 measures them, and of NVIDIA GPUs what the CloudWatch agent publishes, where a node runs it."""
        return metrics(self._clients, nodes, since=since, until=until, now=self._clock.now())

    def access(self, node: Node) -> Access:
        """Return how to log in to a node: as `ubuntu`, through Session Manager if it has no public address."""
        return access(self._clients.settings, node)

    @renews_credentials
    def host_keys(self, nodes: Sequence[Node]) -> Mapping[str, str]:
        """Return the host keys on the consoles of the nodes."""
        return host_keys(self._clients, nodes)

    @renews_credentials
    def open_ssh(self, region: str, tags: Mapping[str, str]) -> None:
        """Add rules for the caller's address to the cluster's own security groups."""
        self._launcher.open_ssh(tags[TAG_ID], Place("aws", region))

    @renews_credentials
    def check(self) -> tuple[Check, ...]:
        """Return who we are, and whether the main rights are there."""
        return check(self._clients)
