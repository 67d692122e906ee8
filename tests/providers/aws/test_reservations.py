"""Capacity reservations and blocks: their tenancy, their end, and what they take from the quotas."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta

import pytest

from multicompute import errors
from multicompute.offer import Offer, Part
from multicompute.provider import Settings
from multicompute.testing import FakeClock, running
from multicompute.testing.provider_harness import launch_request
from multicompute_aws._provider import AwsProvider
from multicompute_aws.local import AwsLocalCloud
from tests.conformance.test_aws import harness_of

P_QUOTA = "L-417A185B"


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def cloud(clock: FakeClock) -> Iterator[AwsLocalCloud]:
    with running(AwsLocalCloud(clock=clock)) as cloud:
        yield cloud


@pytest.fixture
def provider(cloud: AwsLocalCloud, clock: FakeClock) -> AwsProvider:
    return AwsProvider(Settings({"regions": ["us-east-1"]}, cloud.environment), clock=clock)


@pytest.fixture
def h100(cloud: AwsLocalCloud, clock: FakeClock) -> Offer:
    return harness_of(cloud, clock, page_nodes=1).offer()


@pytest.mark.parametrize("tenancy", ["default", "dedicated"])
def test_instances_have_the_tenancy_of_their_reservation(
    cloud: AwsLocalCloud, provider: AwsProvider, h100: Offer, tenancy: str
) -> None:
    held = cloud.add_reservation("p5.48xlarge", "us-east-1a", 2, tenancy=tenancy)  # type: ignore[arg-type]
    request = replace(launch_request(h100), parts=(Part(h100, 2, reservation=held),))
    assert len(provider.launch(request)) == 2


def test_unused_reservations_take_vcpus_from_the_quota_of_on_demand_instances(
    cloud: AwsLocalCloud, provider: AwsProvider, h100: Offer
) -> None:
    cloud.set_quota(P_QUOTA, "us-east-1", 3 * 192)
    held = cloud.add_reservation("p5.48xlarge", "us-east-1a", 2)
    cloud.add_reservation("p5.48xlarge", "us-east-1a", 4, is_block=True)
    assert _used(provider) == 2 * 192
    with pytest.raises(errors.QuotaError):
        provider.launch(launch_request(h100))
    # What is launched into the reservation counts once.
    provider.launch(replace(launch_request(h100), parts=(Part(h100, 2, reservation=held),)))
    assert _used(provider) == 2 * 192


def _used(provider: AwsProvider) -> float:
    return next(quota.used for quota in provider.quotas("us-east-1").quotas if "On-Demand P" in quota.name)


@pytest.mark.parametrize(
    ("instance_type", "zone", "margin"),
    [("p5.48xlarge", "us-east-1a", 30), ("trn2u.48xlarge", "us-east-2b", 60)],
)
def test_a_block_ends_for_its_nodes_before_its_own_end(
    cloud: AwsLocalCloud, clock: FakeClock, instance_type: str, zone: str, margin: int
) -> None:
    end = clock.now() + timedelta(days=1)
    block = cloud.add_reservation(instance_type, zone, 2, is_block=True, ends_at=end)
    dated = cloud.add_reservation(instance_type, zone, 2, ends_at=end)
    provider = AwsProvider(Settings(environment=cloud.environment), clock=clock)
    first, second = provider.quotas(zone[:-1], reservations=[block, dated]).reservations
    assert first.ends_at == end - timedelta(minutes=margin)
    # Instances in a reservation that is no block run on after its end.
    assert second.ends_at is None
