"""The provider: hands each method of the seam to the module that does it, region by region."""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final, TypeVar

from multicompute.clock import Clock, SystemClock
from multicompute.errors import InvalidRequestError
from multicompute.node import Node, Sample
from multicompute.offer import Offer, Quote
from multicompute.provider import (
    TAG_EXPIRES_AT,
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
from multicompute_aws._access import AwsSettings
from multicompute_aws._check import checks
from multicompute_aws._discover import alive, nodes, resources
from multicompute_aws._errors import Place, translate_errors
from multicompute_aws._launch import Launcher
from multicompute_aws._metrics import metrics
from multicompute_aws._prices import quotes
from multicompute_aws._quotas import quotas
from multicompute_aws._session import Clients
from multicompute_aws._teardown import tear_down

if TYPE_CHECKING:
    from mypy_boto3_ec2 import EC2Client

Answer = TypeVar("Answer")

# What EC2 did may take "up to about five minutes" to be seen by the next call ("Eventual consistency in the Amazon EC2 API", EC2
# developer guide). On loopback a local cloud answers, which lags for seconds at most, if a test asks for it.
_CONSISTENCY_WINDOW: Final = timedelta(minutes=5)
_LOCAL_CONSISTENCY_WINDOW: Final = timedelta(seconds=5)
_POLL_INTERVAL: Final = timedelta(seconds=3)
_LOCAL_POLL_INTERVAL: Final = timedelta(milliseconds=50)
# An instance with eight GPUs takes minutes from pending to running; one that takes ten does not come.
_ATTEMPT_TIMEOUT: Final = timedelta(minutes=10)
_REGIONS_AT_ONCE: Final = 8
# The most resources that one CreateTags call takes.
_TAGGED_AT_ONCE: Final = 1000


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
            Capability.EXPIRY,
            Capability.METRICS,
            Capability.HEALTH_CHECKS,
            Capability.DEPENDENT_RESOURCES,
        }
    )
    attempt_timeout: timedelta = _ATTEMPT_TIMEOUT

    def __init__(self, settings: Settings, *, clock: Clock | None = None) -> None:
        read = AwsSettings.of(settings)
        self.consistency_window: timedelta = _LOCAL_CONSISTENCY_WINDOW if read.is_local else _CONSISTENCY_WINDOW
        self.poll_interval: timedelta = _LOCAL_POLL_INTERVAL if read.is_local else _POLL_INTERVAL
        self._clients = Clients(read)
        self._launcher = Launcher(self._clients)
        self._clock = clock or SystemClock()

    def launch(self, request: LaunchRequest) -> tuple[Node, ...]:
        """Launch the gang with one RunInstances call per part."""
        return self._launcher.launch(request)

    def nodes(self, selector: Selector) -> tuple[Node, ...]:
        """Our nodes, by one filtered listing per region; those terminated within the last hour too, with their reason."""
        return tuple(node for found in self._in_regions(selector, nodes) for node in found)

    def resources(self, selector: Selector) -> tuple[Resource, ...]:
        """Everything of ours that still exists, by tag."""
        return tuple(item for found in self._in_regions(selector, resources) for item in found)

    def terminate(self, selector: Selector) -> Teardown:
        """One step of a teardown in every region meant."""
        if selector.cluster_id is None and selector.token is None:
            raise InvalidRequestError(
                "aws: terminate: the selector names neither a cluster nor an attempt, so it would mean everybody's",
                provider=self.name,
                code="NoSelection",
                hint="name a cluster",
            )
        if selector.cluster_id is not None and selector.token is None:
            self._launcher.forget(selector.cluster_id)
        steps = self._in_regions(selector, tear_down)
        remaining = tuple(item for step in steps for item in step.remaining)
        return Teardown(remaining, "; ".join(step.waiting_for for step in steps if step.waiting_for))

    def set_expiry(self, selector: Selector, expires_at: datetime | None) -> None:
        """Write the expiry tag of the selected instances, which their timers read within a minute."""
        tag = {"Key": TAG_EXPIRES_AT, "Value": expiry_tag(expires_at)}

        def retag(ec2: "EC2Client", selector: Selector, place: Place) -> None:
            ids = [item["InstanceId"] for item in alive(ec2, selector, place)]
            for start in range(0, len(ids), _TAGGED_AT_ONCE):
                with translate_errors("CreateTags", place):
                    ec2.create_tags(Resources=ids[start : start + _TAGGED_AT_ONCE], Tags=[tag])  # type: ignore[list-item]

        self._in_regions(selector, retag)

    def quotes(self, offers: Sequence[Offer]) -> Mapping[Offer, Quote]:
        """Today's prices: on demand from the price list, spot from the spot price history."""
        return quotes(self._clients, offers, now=self._clock.now())

    def quotas(self, region: str, *, reservations: Sequence[str] = ()) -> Quotas:
        """The vCPU quotas of the region less what runs, and the named reservations that are there."""
        return quotas(self._clients, region, reservations)

    def metrics(self, nodes: Sequence[Node], *, since: datetime, until: datetime) -> tuple[Sample, ...]:
        """CPU and network as EC2 measures them; of NVIDIA GPUs what the CloudWatch agent publishes, where a node runs it."""
        return metrics(self._clients, nodes, since=since, until=until, now=self._clock.now())

    def check(self) -> tuple[Check, ...]:
        """Ask who we are, and whether the main rights are there."""
        return checks(self._clients)

    def _in_regions(self, selector: Selector, step: "Callable[[EC2Client, Selector, Place], Answer]") -> list[Answer]:
        """Do `step` in the selected region, or in all of them, some at a time, in the order of their names."""
        regions = (selector.region,) if selector.region else self._clients.regions()

        def one(region: str) -> Answer:
            return step(self._clients.ec2(region), selector, Place(region))

        if len(regions) == 1:
            return [one(regions[0])]
        with ThreadPoolExecutor(_REGIONS_AT_ONCE, thread_name_prefix="multicompute-aws") as pool:
            return list(pool.map(one, regions))
