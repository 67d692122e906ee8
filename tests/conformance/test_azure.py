"""The Azure provider keeps every promise of the seam: the real SDK, over HTTP, against the local cloud."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import date, timedelta

import pytest

from multicompute.clock import SystemClock
from multicompute.node import Metric, Node
from multicompute.offer import InstanceType, Offer, Purchase, Quote
from multicompute.provider import Provider, Resource, Settings
from multicompute.testing import FailureKind, ProviderConformance
from multicompute_azure import plugin
from multicompute_azure.local import AzureLocalCloud

TYPE = InstanceType(
    "azure", "Standard_ND96isr_H100_v5", "h100", 8, 80.0, vcpus=96, memory_gib=1900, fabric="infiniband"
)
REGIONS = ("eastus", "westus2")
# As Azure words them: code, HTTP status, message.
REFUSALS = {
    FailureKind.CAPACITY: (
        "SkuNotAvailable",
        409,
        "Following SKUs have failed for Capacity Restrictions: Standard_ND96isr_H100_v5",
    ),
    FailureKind.NOT_OFFERED: (
        "InvalidParameter",
        400,
        "The requested VM size Standard_ND96isr_H100_v5 is not available in the current region.",
    ),
    FailureKind.QUOTA: (
        "OperationNotAllowed",
        409,
        "Operation could not be completed as it results in exceeding approved standardNDSH100v5Family Cores quota.",
    ),
    FailureKind.THROTTLED: ("TooManyRequests", 429, "The request is being throttled."),
    FailureKind.TRANSIENT: ("InternalServerError", 500, "An unexpected error occurred."),
    FailureKind.AUTH: ("ExpiredAuthenticationToken", 401, "The access token expiry is in the past."),
    FailureKind.DENIED: ("AuthorizationFailed", 403, "The client does not have authorization to perform action."),
    FailureKind.INVALID: ("InvalidParameter", 400, "The value of a parameter is invalid."),
    FailureKind.UNKNOWN: ("SomethingNobodyHasHeardOf", 400, "It is what it is."),
}
LAUNCH = "virtualMachineScaleSets.createOrUpdate"


class AzureWorld:
    page_nodes = 250

    def __init__(self, cloud: AzureLocalCloud) -> None:
        self.cloud = cloud
        self.clock = SystemClock()
        values = {"endpoint_url": cloud.endpoint_url, "subscription_id": cloud.subscription_id}
        self.provider: Provider = plugin.open(Settings(values=values, environment=cloud.environment))

    def offer(self, purchase: Purchase = "on_demand", *, zone: int = 0, region: int = 0) -> Offer:
        quote = Quote(98.32, date(2026, 6, 18), "test")
        return Offer(TYPE, REGIONS[region], f"{REGIONS[region]}-{zone + 1}", purchase, quote)

    def alive(self) -> Sequence[Resource]:
        return self.cloud.alive()

    def limit_capacity(self, offer: Offer, nodes: int) -> None:
        self.cloud.set_capacity(offer.instance_type, offer.zone, nodes)

    def refuse_launch(self, kind: FailureKind) -> None:
        code, status, message = REFUSALS[kind]
        self.cloud.faults.fail(LAUNCH, code, status=status, message=message)

    def lose_launch_answer(self) -> None:
        self.cloud.faults.lose_answer(LAUNCH)

    def delay_listing(self) -> None:
        self.cloud.lag = timedelta(milliseconds=300)

    def add_foreign(self) -> None:
        self.cloud.seed_foreign()

    def foreign_intact(self) -> bool:
        return self.cloud.foreign_intact()

    def reach_expiry(self) -> None:
        raise AssertionError("Azure ends no plain machine by itself, and the provider does not declare that it does")

    def preempt(self, node_id: str) -> None:
        self.cloud.preempt(node_id)

    def measure(self, node: Node, load: Mapping[Metric, float]) -> None:
        self.cloud.measure(node.id, load)

    def impair(self, node: Node) -> None:
        self.cloud.impair(node.id)

    def reserve(self, offer: Offer, nodes: int) -> str:
        return self.cloud.add_reservation(offer.instance_type, offer.zone, nodes)


class TestAzureProvider(ProviderConformance):
    provider_name = "azure"

    @pytest.fixture
    def world(self) -> Iterator[AzureWorld]:
        cloud = AzureLocalCloud()
        cloud.start()
        try:
            yield AzureWorld(cloud)
        finally:
            cloud.stop()
