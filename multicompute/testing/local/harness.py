"""The conformance suite's harness for a provider that has a local cloud."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import NamedTuple

from multicompute.clock import Clock, SystemClock
from multicompute.node import Metric, Node
from multicompute.offer import InstanceType, Offer, Purchase, Quote
from multicompute.provider import Provider, Resource
from multicompute.testing.local.cloud import LocalCloud
from multicompute.testing.provider_harness import FailureKind


class Refusal(NamedTuple):
    """The refusal of a launch in the vendor's words."""

    code: str
    status: int
    message: str
    times: int = 1
    """The number of refused calls: more than one if the SDK repeats the call by itself."""


def _never_expires() -> None:
    raise NotImplementedError("the provider does not declare EXPIRY")


@dataclass
class LocalCloudHarness:
    """A `ProviderHarness` for a provider that has a local cloud: all that differs between providers is data.

    Attributes:
        cloud: The local cloud, which runs.
        provider: The provider under test, connected to the cloud.
        instance_type: The instance type to launch.
        zones: Region -> two of its zones, for two regions.
        quote: The price of every offer.
        launch: The operation that launches nodes, by its name in faults.
        refusals: The refusals of a launch.
        page_nodes: How many nodes are more than one page of a listing.
        clock: The clock of the cloud.
        other_account: Opens a provider with the credentials of another account of the cloud.
        reach_expiry: Does what a node's timer or the cloud does at the expiry of each node.
    """

    cloud: LocalCloud
    provider: Provider
    instance_type: InstanceType
    zones: Mapping[str, tuple[str, str]]
    quote: Quote
    launch: str
    refusals: Mapping[FailureKind, Refusal]
    page_nodes: int
    other_account: Callable[[], Provider]
    clock: Clock = field(default_factory=SystemClock)
    reach_expiry: Callable[[], None] = _never_expires

    def offer(self, purchase: Purchase = "on_demand", *, zone: int = 0, region: int = 0) -> Offer:
        """Return the offer of the instance type in a zone; see `ProviderHarness.offer`."""
        name = list(self.zones)[region]
        return Offer(self.instance_type, name, self.zones[name][zone], purchase, self.quote)

    def alive(self) -> Sequence[Resource]:
        """Return everything that exists, except foreign resources."""
        return self.cloud.alive()

    def limit_capacity(self, offer: Offer, nodes: int) -> None:
        """Limit the capacity of the offer's zone."""
        self.cloud.set_capacity(offer.instance_type, offer.zone, nodes)

    def refuse_launch(self, kind: FailureKind) -> None:
        """Refuse the next launch."""
        code, status, message, times = self.refusals[kind]
        self.cloud.faults.fail(self.launch, code, status=status, message=message, times=times)

    def lose_launch_answer(self) -> None:
        """Close the connection of the next launch before its response."""
        self.cloud.faults.lose_answer(self.launch)

    def delay_listing(self) -> None:
        """Omit new nodes from listings for a while."""
        self.cloud.lag = timedelta(milliseconds=300)

    def add_foreign(self) -> None:
        """Create foreign resources."""
        self.cloud.seed_foreign()

    def foreign_intact(self) -> bool:
        """Return whether every foreign resource is unchanged."""
        return self.cloud.foreign_intact()

    def stop(self, node_id: str) -> None:
        """Stop a node."""
        self.cloud.stop_node(node_id)

    def remove_tags(self, node_id: str) -> None:
        """Remove all tags of a node."""
        self.cloud.remove_tags(node_id)

    def protect(self, node_id: str) -> None:
        """Protect a node from deletion."""
        self.cloud.protect(node_id)

    def unprotect(self, node_id: str) -> None:
        """Remove the protection of a node."""
        self.cloud.protect(node_id, is_protected=False)

    def preempt(self, node_id: str) -> None:
        """Take a spot node back."""
        self.cloud.preempt(node_id)

    def measure(self, node: Node, load: Mapping[Metric, float]) -> None:
        """Add measurements of a node."""
        self.cloud.measure(node.id, load)

    def impair(self, node: Node) -> None:
        """Make the cloud's health check of a node fail."""
        self.cloud.impair(node.id)

    def reserve(self, offer: Offer, nodes: int) -> str:
        """Add a reservation for an offer."""
        return self.cloud.add_reservation(offer.instance_type, offer.zone, nodes)
