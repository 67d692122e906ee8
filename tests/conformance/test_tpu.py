"""The GCP provider keeps every promise of the seam for TPU slices too, with and without a queue."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import date, timedelta

import pytest
import requests

from multicompute.clock import SystemClock
from multicompute.node import Metric, Node
from multicompute.offer import InstanceType, Offer, Purchase, Quote
from multicompute.provider import TAG_EXPIRES_AT, Capability, Provider, Resource, Settings
from multicompute.testing import FailureKind, ProviderConformance
from multicompute_gcp import plugin
from multicompute_gcp.local import GcpLocalCloud

TYPE = InstanceType("gcp", "v6e-8", "tpu-v6e", 8, 32.0, vcpus=180, memory_gib=1440)
ZONES = (("us-east5-a", "us-east5-b"), ("europe-west4-a", "europe-west4-b"))
# As the TPU API words them: status of google.rpc, HTTP status, message.
REFUSALS = {
    FailureKind.CAPACITY: ("RESOURCE_EXHAUSTED", 429, 'There is no more capacity in the zone "us-east5-a"'),
    FailureKind.NOT_OFFERED: (
        "INVALID_ARGUMENT",
        400,
        "The requested accelerator configuration could not be found in the zonal accelerator configurations for us-east5-a.",
    ),
    FailureKind.QUOTA: (
        "RESOURCE_EXHAUSTED",
        429,
        "Quota limit 'TPUV6E' has been exceeded. Limit: 0 in region us-east5.",
    ),
    FailureKind.THROTTLED: ("RESOURCE_EXHAUSTED", 429, "Rate limit of requests per minute exceeded."),
    FailureKind.TRANSIENT: ("UNAVAILABLE", 503, "The service is currently unavailable."),
    FailureKind.AUTH: ("UNAUTHENTICATED", 401, "Request had invalid authentication credentials."),
    FailureKind.DENIED: ("PERMISSION_DENIED", 403, "Permission 'tpu.queuedresources.create' denied."),
    FailureKind.INVALID: ("INVALID_ARGUMENT", 400, "Cloud TPU received a bad request."),
    FailureKind.UNKNOWN: ("SOMETHING_NOBODY_HAS_HEARD_OF", 400, "It is what it is."),
}


class TpuWorld:
    page_nodes = 1001

    def __init__(self, cloud: GcpLocalCloud, create: str) -> None:
        self.cloud = cloud
        self.clock = SystemClock()
        self.operation = "tpu.nodes.create" if create == "direct" else "tpu.queuedResources.create"
        values = {
            "endpoint_url": cloud.endpoint_url,
            "project": cloud.project,
            "tpu_create": create,
            "queue_wait": "0.2s",
        }
        self.provider: Provider = plugin.open(Settings(values=values, environment=cloud.environment))
        # The TPU API tells nothing of reservations, so that what one holds can't be known.
        self.provider.capabilities = self.provider.capabilities - {Capability.RESERVATIONS}

    def offer(self, purchase: Purchase = "on_demand", *, zone: int = 0, region: int = 0) -> Offer:
        name = ZONES[region][zone]
        return Offer(TYPE, name.rpartition("-")[0], name, purchase, Quote(21.6, date(2026, 9, 17), "test"))

    def alive(self) -> Sequence[Resource]:
        return self.cloud.alive()

    def limit_capacity(self, offer: Offer, nodes: int) -> None:
        self.cloud.set_capacity(offer.instance_type, offer.zone, nodes)

    def refuse_launch(self, kind: FailureKind) -> None:
        code, status, message = REFUSALS[kind]
        # Google's library renews its token after a 401 and asks again, twice: one such answer is no refusal yet.
        times = 3 if status == 401 else 1
        self.cloud.faults.fail(self.operation, code, status=status, message=message, times=times)

    def lose_launch_answer(self) -> None:
        self.cloud.faults.lose_answer(self.operation)

    def delay_listing(self) -> None:
        self.cloud.lag = timedelta(milliseconds=300)

    def add_foreign(self) -> None:
        self.cloud.seed_foreign()

    def foreign_intact(self) -> bool:
        return self.cloud.foreign_intact()

    def reach_expiry(self) -> None:
        # No system runs in the local slices, so this does what the timer of a real one does when the time in its metadata has come.
        listed = requests.get(
            f"{self.cloud.endpoint_url}/v2/projects/{self.cloud.project}/locations/-/nodes", timeout=10
        )
        for item in listed.json()["nodes"]:
            if item["metadata"].get(TAG_EXPIRES_AT, "never") != "never":
                self.cloud.terminate_node(item["name"].rpartition("/")[2])

    def preempt(self, node_id: str) -> None:
        self.cloud.preempt(node_id)

    def measure(self, node: Node, load: Mapping[Metric, float]) -> None:
        self.cloud.measure(node.id, load)

    def impair(self, node: Node) -> None:
        self.cloud.impair(node.id)

    def reserve(self, offer: Offer, nodes: int) -> str:
        raise NotImplementedError("not declared")


class TestQueuedTpus(ProviderConformance):
    provider_name = "gcp"

    @pytest.fixture
    def world(self) -> Iterator[TpuWorld]:
        cloud = GcpLocalCloud()
        cloud.start()
        try:
            yield TpuWorld(cloud, "queued")
        finally:
            cloud.stop()


class TestDirectTpus(ProviderConformance):
    provider_name = "gcp"

    @pytest.fixture
    def world(self) -> Iterator[TpuWorld]:
        cloud = GcpLocalCloud()
        cloud.start()
        try:
            yield TpuWorld(cloud, "direct")
        finally:
            cloud.stop()
