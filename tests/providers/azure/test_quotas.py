"""Quotas, reservations and the checks of `doctor`: what can't be read is a note."""

from collections.abc import Callable

from multicompute.offer import Offer, Part
from multicompute.provider import LaunchRequest
from multicompute_azure._provider import AzureProvider
from multicompute_azure.local import AzureLocalCloud

Request = Callable[..., LaunchRequest]


def test_quotas_name_the_sizes_that_count_against_them(
    cloud: AzureLocalCloud, provider: AzureProvider, request_of: Request, offer: Offer
) -> None:
    cloud.set_quota(offer.instance_type, "eastus", 960)
    cloud.set_quota("lowPriorityCores", "eastus", 96)
    provider.launch(request_of())
    found = provider.quotas("eastus").quotas
    of_family = [quota for quota in found if quota.purchase == "on_demand" and offer.instance_type in quota.families]
    assert [(quota.limit, quota.used, quota.unit) for quota in of_family] == [(960, 192, "vcpus")]
    spot = [quota for quota in found if quota.purchase == "spot"]
    assert [(quota.limit, quota.used, quota.families) for quota in spot] == [(96, 0, ("*",))]
    assert [quota.families for quota in found if quota.name and quota.families == ("*",)] == [("*",), ("*",)]


def test_the_free_nodes_of_a_reservation_take_two_calls_for_any_number_of_nodes(
    cloud: AzureLocalCloud, provider: AzureProvider, request_of: Request, offer: Offer
) -> None:
    held = cloud.add_reservation(offer.instance_type, "eastus-1", 3)
    provider.launch(request_of(parts=(Part(offer, 1, reservation=held),)))
    before = len(cloud.faults.calls)
    found = provider.quotas("eastus", reservations=[held]).reservations
    assert [(item.id, item.zone, item.instance_type, item.available) for item in found] == [
        (held, "eastus-1", offer.instance_type, 2)
    ]
    asked = [call.operation for call in cloud.faults.calls[before:] if call.operation.startswith("capacity")]
    assert asked == ["capacityReservationGroups.get", "capacityReservations.list"]
    assert provider.quotas("westus2", reservations=[held, "no-such-group"]).reservations == ()


def test_quotas_that_can_not_be_read_are_a_note(cloud: AzureLocalCloud, provider: AzureProvider) -> None:
    cloud.faults.fail("usages.list", "AuthorizationFailed", status=403, message="no")
    answer = provider.quotas("eastus")
    assert answer.quotas == ()
    assert "could not be read" in answer.notes[0]


def test_the_doctor_names_a_missing_permission_and_the_next_step(
    cloud: AzureLocalCloud, provider: AzureProvider
) -> None:
    cloud.faults.fail("virtualNetworks.listAll", "AuthorizationFailed", status=403, message="no")
    bad = [finding for finding in provider.check() if not finding.ok]
    assert [finding.name for finding in bad] == ["list networks"]
    assert "azure-role.json" in bad[0].hint
    cloud.faults.fail("resourceGroups.list", "ExpiredAuthenticationToken", status=401, message="no")
    assert [(finding.name, finding.ok) for finding in provider.check()] == [("subscription", False)]


def test_a_configured_group_that_does_not_exist_fails_the_check(open_with: Callable[..., AzureProvider]) -> None:
    found = open_with(resource_group="no-such-group").check()
    assert [(finding.name, finding.ok) for finding in found] == [("subscription", False)]
    assert "no-such-group" in found[0].detail
