"""The world in which the conformance suite tests the fake provider: a model for those of other providers."""

from collections.abc import Mapping, Sequence
from datetime import date, timedelta

from multicompute.node import Metric, Node
from multicompute.offer import InstanceType, Offer, Purchase, Quote
from multicompute.provider import Provider, Quota, Resource
from multicompute.testing.clock import FakeClock
from multicompute.testing.fake import FakeProvider
from multicompute.testing.provider_harness import FailureKind

_TYPE = InstanceType("fake", "big.8", "h100", 8, 80.0, vcpus=96, memory_gib=1024, fabric="fast")
_QUOTE = Quote(10.0, date(2026, 11, 1), "test")


class FakeWorld:
    """A fake cloud with an instance type in two zones of each region; an example of a `ProviderHarness`."""

    page_nodes = 250

    def __init__(self, provider: FakeProvider | None = None) -> None:
        """Run in `provider`, which must be called "fake"; by default in one that can do everything."""
        self.clock = FakeClock()
        self.fake = provider or FakeProvider("fake")
        self.fake.clock = self.clock
        self.provider: Provider = self.fake
        self.fake.set_quota(Quota("all big ones", "*", "on_demand", ("big.*",), limit=100_000, used=0))

    def offer(self, purchase: Purchase = "on_demand", *, zone: int = 0, region: int = 0) -> Offer:
        return Offer(_TYPE, f"region-{region}", f"region-{region}{'ab'[zone]}", purchase, _QUOTE)

    def alive(self) -> Sequence[Resource]:
        return self.fake.alive()

    def limit_capacity(self, offer: Offer, nodes: int) -> None:
        self.fake.set_capacity(offer.instance_type, offer.zone, nodes)

    def refuse_launch(self, kind: FailureKind) -> None:
        self.fake.faults.fail("launch", "UnheardOf" if kind is FailureKind.UNKNOWN else kind.value)

    def lose_launch_answer(self) -> None:
        self.fake.faults.lose_answer("launch")

    def delay_listing(self) -> None:
        self.fake.lag = timedelta(seconds=30)

    def add_foreign(self) -> None:
        self.fake.add_foreign()

    def foreign_intact(self) -> bool:
        return self.fake.foreign_intact()

    def reach_expiry(self) -> None:
        self.clock.advance("90m")

    def preempt(self, node_id: str) -> None:
        self.fake.preempt(node_id)

    def measure(self, node: Node, load: Mapping[Metric, float]) -> None:
        self.fake.set_load(node.id, load)
        self.clock.advance("5m")

    def impair(self, node: Node) -> None:
        self.fake.impair(node.id)

    def reserve(self, offer: Offer, nodes: int) -> str:
        return self.fake.add_reservation(offer, nodes)
