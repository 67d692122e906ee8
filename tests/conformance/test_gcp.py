"""The GCP provider keeps every promise of the seam for virtual machines: the real SDK, over HTTP, against the local cloud."""

from collections.abc import Iterator
from datetime import date

import pytest
import requests

from multicompute.offer import InstanceType, Quote
from multicompute.provider import TAG_EXPIRES_AT, Provider, Settings
from multicompute.testing import FailureKind, FakeClock, LocalCloudHarness, ProviderConformance, Refusal, running
from multicompute_gcp._provider import GcpProvider
from multicompute_gcp.local import GcpLocalCloud

TYPE = InstanceType("gcp", "a3-highgpu-8g", "h100", 8, 80.0, vcpus=208, memory_gib=1872, fabric="gpudirect-tcpx")
# Codes in capitals arrive in an operation.
REFUSALS = {
    FailureKind.CAPACITY: Refusal(
        "ZONE_RESOURCE_POOL_EXHAUSTED",
        503,
        "The zone 'us-central1-a' does not have enough resources available to fulfill the request.",
    ),
    FailureKind.NOT_OFFERED: Refusal(
        "invalid",
        400,
        (
            "Invalid value for field 'resource.instanceProperties.machineType': 'a3-highgpu-8g'. "
            "Machine type with name 'a3-highgpu-8g' does not exist in zone 'us-central1-a'."
        ),
    ),
    FailureKind.QUOTA: Refusal(
        "quotaExceeded", 403, "Quota 'NVIDIA_H100_GPUS' exceeded. Limit: 8.0 in region us-central1."
    ),
    FailureKind.THROTTLED: Refusal("rateLimitExceeded", 403, "Rate Limit Exceeded"),
    FailureKind.TRANSIENT: Refusal("backendError", 503, "Backend Error"),
    # Google's library renews its token after a 401 and repeats the call, twice; the adapter does so once more with new credentials.
    FailureKind.AUTH: Refusal("authError", 401, "Invalid Credentials", times=6),
    FailureKind.DENIED: Refusal(
        "forbidden", 403, "Required 'compute.instances.create' permission for 'projects/local'"
    ),
    FailureKind.INVALID: Refusal("invalid", 400, "Invalid value for field 'resource.instanceProperties.labels'"),
    FailureKind.UNKNOWN: Refusal("somethingNobodyHasHeardOf", 400, "It is what it is."),
}


def run_timers(cloud: GcpLocalCloud) -> None:
    """Do what the timer on a real machine does at the expiry in its metadata: it powers the machine off.

    No operating system runs on the local machines. The timer's script has tests of its own.
    """
    base = f"{cloud.endpoint_url}/compute/v1/projects/{cloud.project}"
    listed = requests.get(f"{base}/aggregated/instances", timeout=10).json()
    for scope in listed["items"].values():
        for item in scope.get("instances", ()):
            metadata = {entry["key"]: entry["value"] for entry in item["metadata"]["items"]}
            if metadata.get(TAG_EXPIRES_AT, "never") != "never":
                cloud.stop_node(item["name"])


def open_other(cloud: GcpLocalCloud, clock: FakeClock) -> Provider:
    """Open a provider for another project of the cloud."""
    environment = cloud.add_account("other-project")
    values = {"endpoint_url": cloud.endpoint_url, "project": environment["GOOGLE_CLOUD_PROJECT"]}
    return GcpProvider(Settings(values=values, environment=environment), clock=clock)


class TestGcpProvider(ProviderConformance):
    provider_name = "gcp"

    @pytest.fixture
    def harness(self) -> Iterator[LocalCloudHarness]:
        clock = FakeClock()
        with running(GcpLocalCloud(clock=clock)) as cloud:
            values = {"endpoint_url": cloud.endpoint_url, "project": cloud.project, "api_key": cloud.api_key}
            yield LocalCloudHarness(
                cloud=cloud,
                provider=GcpProvider(Settings(values=values, environment=cloud.environment), clock=clock),
                clock=clock,
                instance_type=TYPE,
                zones={
                    "us-central1": ("us-central1-a", "us-central1-c"),
                    "europe-west4": ("europe-west4-b", "europe-west4-c"),
                },
                quote=Quote(88.49, date(2026, 8, 3), "test"),
                launch="instances.bulkInsert",
                refusals=REFUSALS,
                # The largest page of Compute Engine has 500 instances.
                page_nodes=501,
                other_account=lambda: open_other(cloud, clock),
                reach_expiry=lambda: run_timers(cloud),
            )
