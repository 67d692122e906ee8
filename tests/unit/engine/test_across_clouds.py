"""A request fails over from cloud to cloud in the order of the plan, and reports its tries in this order."""

from collections.abc import Iterator

import pytest

from multicompute import Cluster, errors
from multicompute.testing import FakeCloud, fake_cloud


@pytest.fixture(name="cloud")
def _cloud() -> Iterator[FakeCloud]:
    with fake_cloud("aws", "gcp", "azure") as cloud:
        yield cloud


def launches(cloud: FakeCloud) -> dict[str, int]:
    return {name: provider.faults.count("launch") for name, provider in cloud.providers.items()}


def test_without_capacity_in_one_cloud_the_next_cheapest_is_tried(cloud: FakeCloud) -> None:
    for place in ("us-*", "eu-*", "ap-*", "ca-*", "sa-*", "me-*", "af-*", "il-*", "mx-*"):
        cloud.aws.set_capacity("p5*", place, 0)
    plan = Cluster.plan(gpus=64, type="h100")
    best_elsewhere = next(candidate for candidate in plan if candidate.provider != "aws")
    with Cluster.request(gpus=64, type="h100", interconnect="rdma") as cluster:
        assert cluster.provider == best_elsewhere.provider
        assert launches(cloud)["aws"] > 0
        tried = [event.data["provider"] for event in cluster.events() if event.kind == "attempt"]
        # Everything cheaper was tried first, and nothing more expensive.
        assert tried[-1] == cluster.provider
        assert set(tried[:-1]) == {"aws"}
    assert cloud.alive() == []


def test_without_capacity_anywhere_the_error_counts_the_tries_and_has_each_in_order(cloud: FakeCloud) -> None:
    cloud.set_capacity("*", "*", 0)
    with pytest.raises(errors.CapacityError) as caught:
        Cluster.request(gpus=64, type="h100", name="nowhere", timeout="10h")
    attempts, count = caught.value.attempts, sum(launches(cloud).values())
    assert {"aws", "gcp", "azure"} == {attempt.provider for attempt in attempts}
    assert len(attempts) == count
    first, *others = str(caught.value).splitlines()
    assert first == f"no capacity for 64 x h100 in any of {count} tries: {count} no capacity (capacity)"
    assert len(others) == 1
    events = [event.message for event in Cluster.get("nowhere").events() if event.kind == "capacity"]
    assert list(map(str, attempts)) == events
    assert cloud.alive() == []


def test_a_remembered_outage_saves_later_requests_the_calls(cloud: FakeCloud) -> None:
    cloud.set_capacity("*", "*", 0)
    with pytest.raises(errors.CapacityError):
        Cluster.request(gpus=64, type="h100", timeout="10h")
    before = launches(cloud)
    with pytest.raises(errors.CapacityError):
        Cluster.request(gpus=64, type="h100", timeout="10h")
    assert launches(cloud) == before


def test_clouds_that_are_not_requested_are_not_called(cloud: FakeCloud) -> None:
    cloud.set_capacity("*", "*", 0)
    with pytest.raises(errors.CapacityError):
        Cluster.request(gpus=64, type="h100", clouds=["gcp"], timeout="10h")
    assert launches(cloud)["aws"] == launches(cloud)["azure"] == 0
