"""The GCP provider keeps every promise of the seam for virtual machines: the real SDK, over HTTP, against the local cloud."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import date, timedelta

import pytest
import requests

from multicompute.clock import SystemClock
from multicompute.node import Metric, Node
from multicompute.offer import InstanceType, Offer, Purchase, Quote
from multicompute.provider import TAG_EXPIRES_AT, Provider, Resource, Settings
from multicompute.testing import FailureKind, ProviderConformance
from multicompute_gcp import plugin
from multicompute_gcp.local import GcpLocalCloud

TYPE = InstanceType("gcp", "a3-highgpu-8g", "h100", 8, 80.0, vcpus=208, memory_gib=1872, fabric="gpudirect-tcpx")
ZONES = (("us-central1-a", "us-central1-c"), ("europe-west4-b", "europe-west4-c"))
# As Compute Engine words them: code, HTTP status, message; in capitals what arrives inside an operation.
REFUSALS = {
    FailureKind.CAPACITY: (
        "ZONE_RESOURCE_POOL_EXHAUSTED",
        503,
        "The zone 'us-central1-a' does not have enough resources available to fulfill the request.",
    ),
    FailureKind.NOT_OFFERED: (
        "invalid",
        400,
        (
            "Invalid value for field 'resource.instanceProperties.machineType': 'a3-highgpu-8g'. "
            "Machine type with name 'a3-highgpu-8g' does not exist in zone 'us-central1-a'."
        ),
    ),
    FailureKind.QUOTA: ("quotaExceeded", 403, "Quota 'NVIDIA_H100_GPUS' exceeded. Limit: 8.0 in region us-central1."),
    FailureKind.THROTTLED: ("rateLimitExceeded", 403, "Rate Limit Exceeded"),
    FailureKind.TRANSIENT: ("backendError", 503, "Backend Error"),
    FailureKind.AUTH: ("authError", 401, "Invalid Credentials"),
    FailureKind.DENIED: ("forbidden", 403, "Required 'compute.instances.create' permission for 'projects/local'"),
    FailureKind.INVALID: ("invalid", 400, "Invalid value for field 'resource.instanceProperties.labels'"),
    FailureKind.UNKNOWN: ("somethingNobodyHasHeardOf", 400, "It is what it is."),
}


class GcpWorld:
    # Compute Engine's largest page has 500.
    page_nodes = 501

    def __init__(self, cloud: GcpLocalCloud) -> None:
        self.cloud = cloud
        self.clock = SystemClock()
        values = {"endpoint_url": cloud.endpoint_url, "project": cloud.project}
        self.provider: Provider = plugin.open(Settings(values=values, environment=cloud.environment))

    def offer(self, purchase: Purchase = "on_demand", *, zone: int = 0, region: int = 0) -> Offer:
        name = ZONES[region][zone]
        return Offer(TYPE, name.rpartition("-")[0], name, purchase, Quote(88.49, date(2026, 8, 3), "test"))

    def alive(self) -> Sequence[Resource]:
        return self.cloud.alive()

    def limit_capacity(self, offer: Offer, nodes: int) -> None:
        self.cloud.set_capacity(offer.instance_type, offer.zone, nodes)

    def refuse_launch(self, kind: FailureKind) -> None:
        code, status, message = REFUSALS[kind]
        # Google's library renews its token after a 401 and asks again, twice: one such answer is no refusal yet.
        times = 3 if status == 401 else 1
        self.cloud.faults.fail("instances.bulkInsert", code, status=status, message=message, times=times)

    def lose_launch_answer(self) -> None:
        self.cloud.faults.lose_answer("instances.bulkInsert")

    def delay_listing(self) -> None:
        self.cloud.lag = timedelta(milliseconds=300)

    def add_foreign(self) -> None:
        self.cloud.seed_foreign()

    def foreign_intact(self) -> bool:
        return self.cloud.foreign_intact()

    def reach_expiry(self) -> None:
        # No system runs in the local machines, so this does what the timer of a real one does when the time in its metadata has
        # come: it powers the machine off. The timer's script has tests of its own.
        base = f"{self.cloud.endpoint_url}/compute/v1/projects/{self.cloud.project}"
        listed = requests.get(f"{base}/aggregated/instances", timeout=10).json()
        for scope in listed["items"].values():
            for item in scope.get("instances", ()):
                metadata = {entry["key"]: entry["value"] for entry in item["metadata"]["items"]}
                if metadata.get(TAG_EXPIRES_AT, "never") != "never":
                    self.cloud.stop_node(item["name"])

    def preempt(self, node_id: str) -> None:
        self.cloud.preempt(node_id)

    def measure(self, node: Node, load: Mapping[Metric, float]) -> None:
        self.cloud.measure(node.id, load)

    def impair(self, node: Node) -> None:
        self.cloud.impair(node.id)

    def reserve(self, offer: Offer, nodes: int) -> str:
        return self.cloud.add_reservation(offer.instance_type, offer.zone, nodes)


class TestGcpProvider(ProviderConformance):
    provider_name = "gcp"

    @pytest.fixture
    def world(self) -> Iterator[GcpWorld]:
        cloud = GcpLocalCloud()
        cloud.start()
        try:
            yield GcpWorld(cloud)
        finally:
            cloud.stop()
