"""What a project can use: zones, machine types, and slice types, also where TPUs are not sold to it."""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

import pytest

from multicompute import errors
from multicompute.offer import InstanceType, Offer, Part
from multicompute.provider import LaunchRequest, Selector
from multicompute_gcp._provider import GcpProvider
from multicompute_gcp.local import GcpLocalCloud
from tests.providers.gcp.teardown import tear_down

Request = Callable[..., LaunchRequest]
V6E = InstanceType("gcp", "v6e-8", "tpu-v6e", 8)
LISTINGS = ("zones.list", "machineTypes.aggregatedList", "tpu.locations.list")


def test_a_region_has_its_zones_and_the_types_that_each_sells(provider: GcpProvider) -> None:
    found = provider.availability("us-east5")
    assert (found.refused, found.notes) == ("", ())
    assert found.zones == {f"us-east5-{letter}": f"us-east5-{letter}" for letter in "abc"}
    assert found.offered is not None
    assert {"us-east5-a", "us-east5-b"} <= set(found.offered["v6e-8"])
    assert "us-east5-a" in found.offered["a3-highgpu-8g"] or "a3-highgpu-8g" not in found.offered


def test_what_one_call_returns_for_all_regions_is_read_once(cloud: GcpLocalCloud, provider: GcpProvider) -> None:
    provider.availability("us-central1")
    calls = [cloud.faults.count(listing) for listing in LISTINGS]
    for region in ("us-east5", "europe-west4", "us-east5"):
        assert provider.availability(region).offered
    assert [cloud.faults.count(listing) for listing in LISTINGS] == calls
    provider._clock.sleep(timedelta(hours=1))
    provider.availability("us-east5")
    assert all(cloud.faults.count(listing) > count for listing, count in zip(LISTINGS, calls, strict=True))


def test_a_zone_that_answers_403_sells_no_tpus_to_the_project(cloud: GcpLocalCloud, provider: GcpProvider) -> None:
    cloud.unauthorized_tpu_zones = {"us-east5-a"}
    found = provider.availability("us-east5")
    assert found.offered is not None
    assert "us-east5-a" not in found.offered["v6e-8"]
    assert found.notes == ()
    # It still has machines.
    assert found.zones is not None
    assert "us-east5-a" in found.zones


def test_a_region_in_which_every_zone_refuses_tpus_is_not_unknown(cloud: GcpLocalCloud, provider: GcpProvider) -> None:
    cloud.unauthorized_tpu_zones = {"us-east5-a", "us-east5-b", "us-east5-c"}
    found = provider.availability("us-east5")
    assert found.offered is not None
    assert not any(name.startswith("v6e") for name in found.offered)


def test_a_region_without_zones_is_refused(provider: GcpProvider) -> None:
    assert "has no zone there" in provider.availability("mars-north1").refused


@pytest.mark.parametrize("listing", [*LISTINGS, "tpu.acceleratorTypes.list"])
def test_a_part_that_can_not_be_read_is_unknown_and_a_note(
    cloud: GcpLocalCloud, provider: GcpProvider, listing: str
) -> None:
    message = "Permission denied on resource"
    code = "PERMISSION_DENIED" if listing.startswith("tpu.") else "forbidden"
    cloud.faults.fail(listing, code, status=403, message=message, times=None)
    found = provider.availability("us-east5")
    assert (found.refused, len(found.notes)) == ("", 1)
    assert message in found.notes[0]
    assert None in (found.zones, found.offered)


def test_a_project_without_the_tpu_api_has_machines_and_no_slices(cloud: GcpLocalCloud, provider: GcpProvider) -> None:
    message = "Cloud TPU API has not been used in project 1 before or it is disabled."
    cloud.faults.fail("tpu.locations.list", "SERVICE_DISABLED", status=403, message=message, times=None)
    found = provider.availability("us-central1")
    assert found.offered is not None
    assert "a3-highgpu-8g" in found.offered
    assert not any(name.startswith(("v5", "v6")) for name in found.offered)
    assert "TPU API is not enabled" in found.notes[0]


def test_a_project_without_compute_engine_is_told_how_to_enable_it(cloud: GcpLocalCloud, provider: GcpProvider) -> None:
    cloud.faults.fail("zones.list", "accessNotConfigured", status=403, message="not enabled", times=None)
    with pytest.raises(errors.AccessDeniedError, match="gcloud services enable compute"):
        provider.availability("us-central1")


def test_a_slice_without_a_zone_is_launched_where_tpus_are_sold_to_the_project(
    cloud: GcpLocalCloud, provider: GcpProvider, request_of: Request, offer: Offer
) -> None:
    cloud.unauthorized_tpu_zones = {"us-east5-a"}
    part = Part(replace(offer, instance=V6E, region="us-east5", zone=""), 1)
    (node,) = provider.launch(request_of(parts=(part,)))
    assert node.zone != "us-east5-a"


def test_a_zone_that_sells_no_tpus_to_the_project_costs_that_zone_only(
    cloud: GcpLocalCloud, provider: GcpProvider, request_of: Request, offer: Offer
) -> None:
    cloud.unauthorized_tpu_zones = {"us-east5-a"}
    part = Part(replace(offer, instance=V6E, region="us-east5", zone="us-east5-a"), 1)
    with pytest.raises(errors.CapacityError) as caught:
        provider.launch(request_of(parts=(part,)))
    assert (caught.value.scope, caught.value.is_offered) == ("zone", False)
    assert cloud.alive() == []


def test_a_teardown_ends_although_a_zone_of_the_region_refuses_tpus(
    cloud: GcpLocalCloud, provider: GcpProvider, request_of: Request, offer: Offer
) -> None:
    cloud.unauthorized_tpu_zones = {"us-east5-a"}
    part = Part(replace(offer, instance=V6E, region="us-east5", zone="us-east5-b"), 1)
    provider.launch(request_of(parts=(part,)))
    tear_down(provider, Selector(cluster_id="id-1", token="tok", region="us-east5", node_ids=("tok-0/0",)))
    assert cloud.alive() == []
