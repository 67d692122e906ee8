"""The GCP provider keeps every promise of the seam for TPU slices too, with and without a queue."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date

import pytest
import requests

from multicompute.offer import InstanceType, Quote
from multicompute.provider import TAG_EXPIRES_AT, Capability, Provider, Settings
from multicompute.testing import FailureKind, FakeClock, LocalCloudHarness, ProviderConformance, Refusal, running
from multicompute_gcp._provider import GcpProvider
from multicompute_gcp.local import GcpLocalCloud

TYPE = InstanceType("gcp", "v6e-8", "tpu-v6e", 8, 32.0, vcpus=180, memory_gib=1440)
# The codes are statuses of google.rpc.
REFUSALS = {
    FailureKind.CAPACITY: Refusal("RESOURCE_EXHAUSTED", 429, 'There is no more capacity in the zone "us-east5-a"'),
    FailureKind.NOT_OFFERED: Refusal(
        "INVALID_ARGUMENT",
        400,
        "The requested accelerator configuration could not be found in the zonal accelerator configurations for us-east5-a.",
    ),
    FailureKind.QUOTA: Refusal(
        "RESOURCE_EXHAUSTED", 429, "Quota limit 'TPUV6E' has been exceeded. Limit: 0 in region us-east5."
    ),
    FailureKind.THROTTLED: Refusal("RESOURCE_EXHAUSTED", 429, "Rate limit of requests per minute exceeded."),
    FailureKind.TRANSIENT: Refusal("UNAVAILABLE", 503, "The service is currently unavailable."),
    # Google's library renews its token after a 401 and repeats the call, twice; the adapter does so once more with new credentials.
    FailureKind.AUTH: Refusal("UNAUTHENTICATED", 401, "Request had invalid authentication credentials.", times=6),
    FailureKind.DENIED: Refusal("PERMISSION_DENIED", 403, "Permission 'tpu.queuedresources.create' denied."),
    FailureKind.INVALID: Refusal("INVALID_ARGUMENT", 400, "Cloud TPU received a bad request."),
    FailureKind.UNKNOWN: Refusal("SOMETHING_NOBODY_HAS_HEARD_OF", 400, "It is what it is."),
}


@contextmanager
def running_harness(create: str, operation: str) -> Iterator[LocalCloudHarness]:
    """Run a local cloud, and yield a harness for a provider that creates slices in one way."""
    clock = FakeClock()
    with running(GcpLocalCloud(clock=clock)) as cloud:
        yield LocalCloudHarness(
            cloud=cloud,
            provider=open_provider(cloud, create, clock),
            clock=clock,
            instance_type=TYPE,
            zones={"us-east5": ("us-east5-a", "us-east5-b"), "europe-west4": ("europe-west4-a", "europe-west4-b")},
            quote=Quote(21.6, date(2026, 9, 17), "test"),
            launch=operation,
            refusals=REFUSALS,
            page_nodes=1001,
            other_account=lambda: open_provider(cloud, create, clock, project="other-project"),
            reach_expiry=lambda: run_timers(cloud),
        )


def open_provider(cloud: GcpLocalCloud, create: str, clock: FakeClock, *, project: str = "") -> Provider:
    """Open a provider, for another project of the cloud if one is named."""
    environment = cloud.add_account(project) if project else cloud.environment
    values = {"endpoint_url": cloud.endpoint_url, "project": project or cloud.project, "api_key": cloud.api_key}
    values |= {"tpu_create": create, "queue_wait": "0.2s"}
    provider = GcpProvider(Settings(values=values, environment=environment), clock=clock)
    # The TPU API has no reservations to read, so nothing can find out how many slices one holds.
    provider.capabilities = provider.capabilities - {Capability.RESERVATIONS}
    return provider


def run_timers(cloud: GcpLocalCloud) -> None:
    """Do what the timer on a real slice does at the expiry in its metadata: it deletes the slice.

    No operating system runs on the local slices. The timer's script has tests of its own.
    """
    url = f"{cloud.endpoint_url}/v2/projects/{cloud.project}/locations/-/nodes"
    for item in requests.get(url, timeout=10).json()["nodes"]:
        if item["metadata"].get(TAG_EXPIRES_AT, "never") != "never":
            cloud.terminate_node(item["name"].rpartition("/")[2])


class TestQueuedTpus(ProviderConformance):
    provider_name = "gcp"

    @pytest.fixture
    def harness(self) -> Iterator[LocalCloudHarness]:
        with running_harness("queued", "tpu.queuedResources.create") as harness:
            yield harness


class TestDirectTpus(ProviderConformance):
    provider_name = "gcp"

    @pytest.fixture
    def harness(self) -> Iterator[LocalCloudHarness]:
        with running_harness("direct", "tpu.nodes.create") as harness:
            yield harness
