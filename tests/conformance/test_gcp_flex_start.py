"""The GCP provider keeps every promise of the seam for flex-start gangs too, which are managed instance groups with a resize request."""

from collections.abc import Iterator
from datetime import date

import pytest

from multicompute.offer import InstanceType, Offer, Purchase, Quote
from multicompute.provider import Settings
from multicompute.testing import FakeClock, LocalCloudHarness, ProviderConformance, running
from multicompute_gcp._provider import GcpProvider
from multicompute_gcp.local import GcpLocalCloud
from tests.conformance.test_gcp import REFUSALS, open_other, run_timers

# A type without built-in disks: what those cost with flex-start is not known, so others have no price of today.
TYPE = InstanceType("gcp", "a2-highgpu-8g", "a100", 8, 40.0, vcpus=96, memory_gib=680)


class FlexStartHarness(LocalCloudHarness):
    """A harness whose nodes are flex-start wherever a test does not ask for another purchase."""

    def offer(self, purchase: Purchase = "on_demand", *, zone: int = 0, region: int = 0) -> Offer:
        return super().offer("flex_start" if purchase == "on_demand" else purchase, zone=zone, region=region)


class TestGcpFlexStart(ProviderConformance):
    provider_name = "gcp"

    @pytest.fixture
    def harness(self) -> Iterator[LocalCloudHarness]:
        clock = FakeClock()
        with running(GcpLocalCloud(clock=clock)) as cloud:
            # How a request waits has tests of its own.
            cloud.resize_fails_without_capacity = True
            values = {"endpoint_url": cloud.endpoint_url, "project": cloud.project, "api_key": cloud.api_key}
            yield FlexStartHarness(
                cloud=cloud,
                provider=GcpProvider(Settings(values=values, environment=cloud.environment), clock=clock),
                clock=clock,
                instance_type=TYPE,
                zones={
                    "us-central1": ("us-central1-a", "us-central1-c"),
                    "europe-west4": ("europe-west4-a", "europe-west4-b"),
                },
                quote=Quote(29.39, date(2026, 8, 3), "test"),
                launch="instanceGroupManagerResizeRequests.insert",
                refusals=REFUSALS,
                page_nodes=501,
                other_account=lambda: open_other(cloud, clock),
                reach_expiry=lambda: run_timers(cloud),
            )
