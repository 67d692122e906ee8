"""Fourth keeps every promise of the seam, with its own SDK, over HTTP, on its local cloud."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import date, timedelta

import pytest
from fourth_cloud.local import FourthLocalCloud

from fourth_cloud import plugin
from multicompute.node import Metric, Node
from multicompute.offer import InstanceType, Offer, Purchase, Quote
from multicompute.provider import Provider, Resource, Settings
from multicompute.testing import FailureKind, FakeClock, ProviderConformance

TYPE = InstanceType("fourth", "h100x8", "h100", 8, 80.0, vcpus=192, memory_gib=1920, fabric="infiniband")
REGIONS = ("north-1", "west-1")
CODES = {
    FailureKind.CAPACITY: "out_of_stock",
    FailureKind.NOT_OFFERED: "not_sold_here",
    FailureKind.QUOTA: "quota_exceeded",
    FailureKind.THROTTLED: "rate_limited",
    FailureKind.TRANSIENT: "internal",
    FailureKind.AUTH: "unauthorized",
    FailureKind.DENIED: "forbidden",
    FailureKind.INVALID: "invalid_request",
    FailureKind.UNKNOWN: "teapot",
}


class FourthHarness:
    page_nodes = 101

    def __init__(self, cloud: FourthLocalCloud, clock: FakeClock) -> None:
        self.cloud = cloud
        self.clock = clock
        self.provider: Provider = plugin.open(Settings(environment=cloud.environment))

    def offer(self, purchase: Purchase = "on_demand", *, zone: int = 0, region: int = 0) -> Offer:
        quote = Quote(19.12, date(2026, 11, 20), "test")
        return Offer(TYPE, REGIONS[region], f"{REGIONS[region]}{'ab'[zone]}", purchase, quote)

    def alive(self) -> Sequence[Resource]:
        return self.cloud.alive()

    def limit_capacity(self, offer: Offer, nodes: int) -> None:
        self.cloud.set_capacity(offer.instance_type, offer.zone, nodes)

    def refuse_launch(self, kind: FailureKind) -> None:
        self.cloud.faults.fail("CreateServers", CODES[kind], message="the vendor's words")

    def lose_launch_answer(self) -> None:
        self.cloud.faults.lose_answer("CreateServers")

    def delay_listing(self) -> None:
        self.cloud.lag = timedelta(milliseconds=300)

    def add_foreign(self) -> None:
        self.cloud.seed_foreign()

    def foreign_intact(self) -> bool:
        return self.cloud.foreign_intact()

    def other_account(self) -> Provider:
        return plugin.open(Settings(environment=self.cloud.add_account("other")))

    def stop(self, node_id: str) -> None:
        self.cloud.stop_node(node_id)

    def remove_tags(self, node_id: str) -> None:
        self.cloud.remove_tags(node_id)

    def protect(self, node_id: str) -> None:
        self.cloud.protect(node_id)

    def unprotect(self, node_id: str) -> None:
        self.cloud.protect(node_id, is_protected=False)

    def reach_expiry(self) -> None:
        self.clock.advance("90m")

    def preempt(self, node_id: str) -> None:
        self.cloud.preempt(node_id)

    def measure(self, node: Node, load: Mapping[Metric, float]) -> None:
        raise AssertionError("not called: METRICS is not declared")

    def impair(self, node: Node) -> None:
        raise AssertionError("not called: HEALTH_CHECKS is not declared")

    def reserve(self, offer: Offer, nodes: int) -> str:
        raise NotImplementedError("Fourth has no reservations, and does not declare them")


class TestFourthProvider(ProviderConformance):
    provider_name = "fourth"

    @pytest.fixture
    def harness(self) -> Iterator[FourthHarness]:
        # The cloud runs in virtual time: everything in it takes time, and no test waits.
        clock = FakeClock()
        cloud = FourthLocalCloud(clock=clock)
        cloud.start()
        try:
            yield FourthHarness(cloud, clock)
        finally:
            cloud.stop()
