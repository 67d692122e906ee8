"""The quota rule: which quota a candidate does not fit into, and how much of it the candidate needs."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import date
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from multicompute import Cluster, errors
from multicompute.engine.provision.quota import short_quota
from multicompute.offer import InstanceType, Offer, Part, Quote
from multicompute.provider import Quota
from multicompute.testing import FakeCloud, fake_cloud
from tests.unit.engine.spread import allow_one_node_per_zone

QUOTA = Quota("Big instances", "r1", "on_demand", ("big.*",), limit=0, used=0)


def part(region: str = "r1", *, nodes: int = 8, hosts: int = 1) -> Part:
    instance = InstanceType("p", "big.8x", "h100", 8, 80, 192, hosts=hosts)
    return Part(Offer(instance, region, f"{region}a", "on_demand", Quote(10.0, date(2026, 7, 1), "a list")), nodes)


@given(used=st.integers(0, 2000), limit=st.integers(0, 2000), nodes=st.integers(1, 20))
def test_a_quota_is_short_exactly_when_less_is_left_than_needed(used: int, limit: int, nodes: int) -> None:
    quota = replace(QUOTA, limit=limit, used=used)
    short = short_quota([quota], [part(nodes=nodes)])
    assert short == ((quota, nodes * 192) if nodes * 192 > limit - used else None)


@pytest.mark.parametrize("changes", [{"region": "r2"}, {"purchase": "spot"}, {"families": ("small.*",)}])
def test_a_quota_for_something_else_does_not_matter(changes: dict[str, Any]) -> None:
    assert short_quota([replace(QUOTA, **changes)], [part()]) is None


@pytest.mark.parametrize(("unit", "needed"), [("vcpus", 8 * 192), ("accelerators", 64), ("nodes", 8)])
def test_a_quota_counts_in_its_own_unit(unit: str, needed: float) -> None:
    quota = replace(QUOTA, limit=needed - 1, unit=unit)
    assert short_quota([quota], [part()]) == (quota, needed)


@pytest.mark.parametrize(("unit", "needed"), [("vcpus", 2 * 16 * 192), ("accelerators", 16), ("nodes", 2)])
def test_the_vcpus_of_every_host_of_a_slice_count(unit: str, needed: float) -> None:
    quota = replace(QUOTA, limit=needed - 1, unit=unit)
    assert short_quota([quota], [part(nodes=2, hosts=16)]) == (quota, needed)


def test_a_quota_without_a_region_counts_the_parts_in_every_region() -> None:
    quota = replace(QUOTA, region="", limit=8 * 192, unit="vcpus")
    assert short_quota([quota], [part("r1")]) is None
    assert short_quota([quota], [part("r1"), part("r2", nodes=1)]) == (quota, 9 * 192)


@pytest.fixture(name="cloud")
def _cloud() -> Iterator[FakeCloud]:
    with fake_cloud("aws") as cloud:
        yield cloud


def test_a_gang_that_spreads_is_not_launched_when_its_second_region_has_no_quota(cloud: FakeCloud) -> None:
    allow_one_node_per_zone(cloud, "us-east-1", "us-east-2")
    launches = cloud.aws.faults.count("launch")
    cloud.aws.set_quota(Quota("P instances", "us-east-2", "on_demand", ("p*",), limit=100, used=0))
    with pytest.raises(errors.QuotaError, match="100 allowed"):
        Cluster.request(
            gpus=64,
            type="p5.48xlarge",
            regions=["us-east-1", "us-east-2"],
            placement="cloud",
            interconnect="any",
        )
    assert cloud.aws.faults.count("launch") == launches
    assert cloud.alive() == []
