"""The harness in which the conformance suite tests the fake provider; an example for harnesses of other providers."""

from collections.abc import Mapping, Sequence
from datetime import date, timedelta

from multicompute.node import Metric, Node
from multicompute.offer import InstanceType, Offer, Purchase, Quote
from multicompute.provider import Provider, Quota, Resource
from multicompute.testing.clock import FakeClock
from multicompute.testing.fake.provider import FakeProvider
from multicompute.testing.provider_harness import FailureKind

_TYPE = InstanceType("fake", "big.8", "h100", 8, 80.0, vcpus=96, memory_gib=1024, fabric="fast")
_QUOTE = Quote(10.0, date(2026, 11, 1), "test")


class FakeHarness:
    """A `ProviderHarness` for a fake cloud with one instance type in two zones of each region."""

    page_nodes = 250

    def __init__(self, provider: FakeProvider | None = None) -> None:
        """Test `provider`, which must be called "fake"; by default one with every capability."""
        self.clock = FakeClock()
        self.fake = provider or FakeProvider("fake")
        self.fake.clock = self.clock
        self.provider: Provider = self.fake
        self.fake.set_quota(Quota("all big ones", "*", "on_demand", ("big.*",), limit=100_000, used=0))

    def offer(self, purchase: Purchase = "on_demand", *, zone: int = 0, region: int = 0) -> Offer:
        """Return the offer of the instance type in a zone."""
        return Offer(_TYPE, f"region-{region}", f"region-{region}{'ab'[zone]}", purchase, _QUOTE)

    def alive(self) -> Sequence[Resource]:
        """Return everything that exists, except foreign resources."""
        return self.fake.alive()

    def limit_capacity(self, offer: Offer, nodes: int) -> None:
        """Limit the capacity of the offer's zone."""
        self.fake.set_capacity(offer.instance_type, offer.zone, nodes)

    def refuse_launch(self, kind: FailureKind) -> None:
        """Refuse the next launch."""
        self.fake.faults.fail("launch", "UnheardOf" if kind is FailureKind.UNKNOWN else kind.value)

    def lose_launch_answer(self) -> None:
        """Lose the answer to the next launch."""
        self.fake.faults.lose_answer("launch")

    def delay_listing(self) -> None:
        """Omit new nodes from listings for a while."""
        self.fake.lag = timedelta(seconds=30)

    def add_foreign(self) -> None:
        """Create foreign resources."""
        self.fake.add_foreign()

    def foreign_intact(self) -> bool:
        """Return whether every foreign resource is unchanged."""
        return self.fake.foreign_intact()

    def other_account(self) -> Provider:
        """Return a fake provider without resources."""
        return FakeProvider("fake", clock=self.clock, account="other")

    def stop(self, node_id: str) -> None:
        """Stop a node."""
        self.fake.stop(node_id)

    def remove_tags(self, node_id: str) -> None:
        """Remove all tags of a node."""
        self.fake.remove_tags(node_id)

    def protect(self, node_id: str) -> None:
        """Protect a node from deletion."""
        self.fake.protect(node_id)

    def unprotect(self, node_id: str) -> None:
        """Remove the protection of a node."""
        self.fake.protect(node_id, is_protected=False)

    def reach_expiry(self) -> None:
        """Advance the clock past the expiry of the nodes."""
        self.clock.advance("90m")

    def preempt(self, node_id: str) -> None:
        """Take a spot node back."""
        self.fake.preempt(node_id)

    def measure(self, node: Node, load: Mapping[Metric, float]) -> None:
        """Let some minutes pass in which the node has this load."""
        self.fake.set_load(node.id, load)
        self.clock.advance("5m")

    def impair(self, node: Node) -> None:
        """Make the cloud's health check of a node fail."""
        self.fake.impair(node.id)

    def reserve(self, offer: Offer, nodes: int) -> str:
        """Add a reservation for an offer."""
        return self.fake.add_reservation(offer, nodes)
