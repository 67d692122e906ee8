"""What a subscription can use in a region: its locations, zones by their physical ids, and sizes without those that are restricted."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from multicompute import errors
from multicompute.offer import Offer, Part
from multicompute.provider import LaunchRequest
from multicompute_azure._provider import AzureProvider
from multicompute_azure.local import AzureLocalCloud

Request = Callable[..., LaunchRequest]
SIZE = "Standard_ND96isr_H100_v5"


def test_sizes_and_zones_of_a_region_are_those_of_the_subscription(
    cloud: AzureLocalCloud, provider: AzureProvider
) -> None:
    found = provider.availability("eastus")
    assert found.refused == "" and found.notes == ()
    # Zone 1 of a subscription may be any physical zone.
    assert found.zones == {"eastus-az2": "eastus-1", "eastus-az3": "eastus-2", "eastus-az1": "eastus-3"}
    assert found.offered is not None
    assert found.offered[SIZE] == ("eastus-1", "eastus-2", "eastus-3")
    assert "Standard_ND96isr_H200_v5" not in found.offered


def test_a_size_that_is_restricted_for_the_subscription_is_not_offered_there(
    cloud: AzureLocalCloud, provider: AzureProvider
) -> None:
    cloud.restrict(SIZE, "eastus-1")
    cloud.restrict("Standard_NC40ads_H100_v5", "eastus")
    found = provider.availability("eastus").offered
    assert found is not None
    assert found[SIZE] == ("eastus-2", "eastus-3")
    assert "Standard_NC40ads_H100_v5" not in found


def test_a_location_that_the_subscription_does_not_have_is_refused_with_the_reason(
    cloud: AzureLocalCloud, provider: AzureProvider
) -> None:
    cloud.locations = frozenset({"westus3"})
    found = provider.availability("eastus")
    assert (found.refused, found.offered) == ("the subscription does not have this location", None)
    assert provider.availability("westus3").refused == ""


def test_a_launch_in_a_location_that_the_subscription_does_not_have_costs_only_that_region(
    cloud: AzureLocalCloud, provider: AzureProvider, request_of: Request
) -> None:
    cloud.locations = frozenset({"westus3"})
    with pytest.raises(errors.AccessDeniedError) as caught:
        provider.launch(request_of())
    assert (caught.value.code, caught.value.scope) == ("LocationNotAvailableForResourceGroup", "region")


def test_a_region_without_zones_offers_its_sizes_without_a_zone(provider: AzureProvider) -> None:
    found = provider.availability("northcentralus")
    assert found.zones == {}
    assert found.offered and set(found.offered.values()) == {("",)}


def test_a_size_that_no_zone_sells_is_launched_for_the_region(
    cloud: AzureLocalCloud, provider: AzureProvider, request_of: Request, offer: Offer
) -> None:
    cloud.sell_without_zones(SIZE, "eastus")
    found = provider.availability("eastus").offered
    assert found is not None and offer.zone in found[SIZE]
    assert len(provider.launch(request_of(parts=(Part(replace(offer, zone="eastus-2"), 2),)))) == 2


def test_what_may_not_be_read_is_a_note_and_not_an_empty_answer(
    cloud: AzureLocalCloud, provider: AzureProvider
) -> None:
    cloud.faults.fail("subscriptions.listLocations", "AuthorizationFailed", status=403, message="no")
    cloud.faults.fail("skus.list", "AuthorizationFailed", status=403, message="no")
    found = provider.availability("eastus")
    assert (found.refused, found.zones, found.offered) == ("", None, None)
    assert len(found.notes) == 2


def test_the_locations_are_read_once_for_all_regions(cloud: AzureLocalCloud, provider: AzureProvider) -> None:
    for region in ("eastus", "westus2", "westus3"):
        provider.availability(region)
    assert cloud.faults.count("subscriptions.listLocations") == 1
    with pytest.raises(errors.ThrottledError):
        cloud.faults.throttle("skus.list")
        provider.availability("uksouth")
