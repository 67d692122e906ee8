"""Scale sets on the local Azure: what they create, how they fail, and how that is reported."""

from datetime import timedelta
from typing import Any

import pytest

from multicompute.testing import FakeClock
from multicompute_azure.local import AzureLocalCloud
from tests.providers.azure.local.raw_arm import SIZE, Arm, Site, scale_set

ZONE = "eastus-1"
SPOT = {"priority": "Spot", "evictionPolicy": "Delete", "billingProfile": {"maxPrice": -1}}


def kinds(cloud: AzureLocalCloud) -> dict[str, int]:
    found: dict[str, int] = {}
    for resource in cloud.alive():
        found[resource.kind] = found.get(resource.kind, 0) + 1
    return found


def test_a_scale_set_creates_machines_with_disks_interfaces_and_addresses(cloud: AzureLocalCloud, site: Site) -> None:
    answer = site.launch(3)
    assert answer.status == 201
    assert answer.body["properties"]["provisioningState"] == "Creating"
    assert site.outcome(answer)["status"] == "Succeeded"
    found = kinds(cloud)
    assert (found["virtualMachines"], found["disks"], found["networkInterfaces"]) == (3, 3, 3)
    nics = site.arm.all(f"{site.network}/networkInterfaces", version="2026-03-01")
    addresses = [nic["properties"]["ipConfigurations"][0]["properties"]["privateIPAddress"] for nic in nics]
    assert addresses == ["10.0.0.4", "10.0.0.5", "10.0.0.6"]
    assert len(cloud.running_ids()) == 3


def test_machines_boot_for_the_boot_delay(cloud: AzureLocalCloud, clock: FakeClock, site: Site) -> None:
    cloud.boot_delay = timedelta(minutes=2)
    answer = site.launch()
    assert {machine["properties"]["provisioningState"] for machine in site.machines()} == {"Creating"}
    assert site.arm.url("GET", answer.headers["azure-asyncoperation"]).body["status"] == "InProgress"
    clock.advance("3m")
    assert {machine["properties"]["provisioningState"] for machine in site.machines()} == {"Succeeded"}
    assert site.outcome(answer)["status"] == "Succeeded"


def test_a_repeated_put_creates_no_machine_and_a_larger_one_creates_the_missing_ones(site: Site) -> None:
    site.launch(2)
    first = {machine["id"] for machine in site.machines()}
    again = site.launch(2)
    assert again.status == 200
    assert {machine["id"] for machine in site.machines()} == first
    site.launch(4)
    assert len(site.machines()) == 4


def test_tags_of_a_scale_set_reach_machines_and_disks_but_not_interfaces_and_addresses(
    cloud: AzureLocalCloud, site: Site
) -> None:
    body: Any = {
        "name": "ip",
        "properties": {"subnet": {"id": site.subnet}, "publicIPAddressConfiguration": {"name": "public"}},
    }
    nic = {"name": "nic", "properties": {"primary": True, "ipConfigurations": [body]}}
    site.launch(
        1, profile={"networkProfile": {"networkApiVersion": "2020-11-01", "networkInterfaceConfigurations": [nic]}}
    )
    tags = {resource.kind: dict(resource.tags) for resource in cloud.alive()}
    assert tags["virtualMachines"] == tags["disks"] == {"team": "nlp"}
    assert tags["networkInterfaces"] == tags["publicIPAddresses"] == {}


def test_a_resource_without_the_delete_option_outlives_its_machine(cloud: AzureLocalCloud, site: Site) -> None:
    image = {"publisher": "microsoft-dsvm", "offer": "ubuntu-hpc", "sku": "2204", "version": "latest"}
    site.launch(1, profile={"storageProfile": {"imageReference": image, "osDisk": {"createOption": "FromImage"}}})
    assert site.arm("DELETE", f"{site.compute}/virtualMachineScaleSets/gang").status == 202
    found = kinds(cloud)
    assert "virtualMachines" not in found and "networkInterfaces" not in found
    assert found["disks"] == 1


def test_a_lack_of_capacity_fails_the_operation_and_leaves_billed_machines_in_a_failed_scale_set(
    cloud: AzureLocalCloud, site: Site
) -> None:
    cloud.set_capacity(SIZE, ZONE, 2)
    answer = site.launch(3)
    assert answer.status == 201
    outcome = site.outcome(answer)
    assert (outcome["status"], outcome["error"]["code"]) == ("Failed", "ZonalAllocationFailed")
    scale_set = site.arm("GET", f"{site.compute}/virtualMachineScaleSets/gang").body
    assert scale_set["properties"]["provisioningState"] == "Failed"
    assert scale_set["sku"]["capacity"] == 3
    assert len(cloud.running_ids()) == 2


def test_a_lack_of_capacity_leaves_nothing_without_partial_success(cloud: AzureLocalCloud, site: Site) -> None:
    cloud.partial = False
    cloud.set_capacity(SIZE, ZONE, 2)
    assert site.outcome(site.launch(3))["status"] == "Failed"
    assert cloud.running_ids() == []


def test_a_place_without_any_capacity_refuses_at_once(cloud: AzureLocalCloud, site: Site) -> None:
    cloud.set_capacity(SIZE, ZONE, 0)
    answer = site.launch(1)
    assert (answer.status, answer.code) == (409, "SkuNotAvailable")
    assert site.launch(1, zones=["2"]).status == 201


def test_capacity_of_a_region_counts_its_zones_together(cloud: AzureLocalCloud, site: Site) -> None:
    cloud.set_capacity(SIZE, "eastus", 2)
    assert site.outcome(site.launch(1, "one"))["status"] == "Succeeded"
    assert site.outcome(site.launch(1, "two", zones=["2"]))["status"] == "Succeeded"
    outcome = site.outcome(site.launch(1, "three", zones=[]))
    assert outcome["error"]["code"] == "AllocationFailed"


@pytest.mark.parametrize(
    ("stockout", "code"),
    [
        ("SkuNotAvailable", "SkuNotAvailable"),
        ("AllocationFailed", "ZonalAllocationFailed"),
        ("OverconstrainedAllocationRequest", "OverconstrainedZonalAllocationRequest"),
    ],
)
def test_a_lack_of_capacity_can_be_reported_in_each_of_azures_ways(
    cloud: AzureLocalCloud, site: Site, stockout: Any, code: str
) -> None:
    cloud.stockout = stockout
    cloud.set_capacity(SIZE, ZONE, 1)
    answer = site.launch(2)
    told = answer.code if answer.status == 409 else site.outcome(answer)["error"]["code"]
    assert told == code


def test_colocated_machines_without_capacity_are_overconstrained(cloud: AzureLocalCloud, site: Site) -> None:
    group = f"{site.compute}/proximityPlacementGroups/close"
    assert site.arm("PUT", group, {"location": "eastus"}).status == 201
    cloud.set_capacity(SIZE, ZONE, 1)
    properties = {"proximityPlacementGroup": {"id": f"/subscriptions/{cloud.subscription_id}{group}"}}
    body = site.launch(2, properties=_with(site, properties))
    assert site.outcome(body)["error"]["code"] == "OverconstrainedZonalAllocationRequest"
    refused = site.arm("DELETE", group)
    assert (refused.status, refused.code) == (409, "OperationNotAllowed")


def _with(site: Site, properties: dict[str, Any]) -> Any:
    return scale_set(site.subnet)["properties"] | properties


@pytest.mark.parametrize(
    ("quota", "spot", "words"),
    [
        ("Standard_ND96isr_H100_v5", False, "standardNDSH100v5Family Cores"),
        ("cores", False, "Total Regional Cores"),
        ("lowPriorityCores", True, "LowPriorityCores"),
    ],
)
def test_a_launch_beyond_a_quota_is_refused_and_usages_shows_the_quota(
    cloud: AzureLocalCloud, site: Site, quota: str, spot: bool, words: str
) -> None:
    cloud.set_quota(quota, "eastus", 200)
    profile = SPOT if spot else {}
    assert site.launch(2, "fits", profile=profile).status == 201
    answer = site.launch(1, "too-much", profile=profile)
    assert (answer.status, answer.code) == (409, "OperationNotAllowed")
    assert f"exceeding approved {words} quota" in answer.message
    assert (
        "Current Limit: 200, Current Usage: 192, Additional Required: 96, (Minimum) New Limit Required: 288"
        in answer.message
    )
    usages = site.arm.all("/providers/Microsoft.Compute/locations/eastus/usages")
    name = "standardNDSH100v5Family" if quota == SIZE else quota
    assert [(usage["currentValue"], usage["limit"]) for usage in usages if usage["name"]["value"] == name] == [
        (192, 200)
    ]


def test_spot_machines_do_not_count_against_the_quotas_of_others(cloud: AzureLocalCloud, site: Site) -> None:
    cloud.set_quota("cores", "eastus", 0)
    assert site.launch(1, profile=SPOT).status == 201


def test_a_restricted_size_is_shown_in_the_skus_and_refused(cloud: AzureLocalCloud, site: Site) -> None:
    cloud.restrict(SIZE, "eastus")
    skus = site.arm.all(
        "/providers/Microsoft.Compute/skus", version="2021-07-01", **{"$filter": "location eq 'eastus'"}
    )
    found = {sku["name"]: sku["restrictions"] for sku in skus}
    assert found[SIZE][0]["reasonCode"] == "NotAvailableForSubscription"
    assert found["Standard_D2s_v5"] == []
    answer = site.launch(1)
    assert (answer.status, answer.code) == (409, "SkuNotAvailable")


def test_a_preempted_machine_is_deleted_or_deallocated_as_its_policy_says(cloud: AzureLocalCloud, site: Site) -> None:
    site.launch(2, "deleting", profile=SPOT)
    site.launch(2, "keeping", profile=SPOT | {"evictionPolicy": "Deallocate"})
    deleted, _, kept, _ = cloud.running_ids()
    cloud.preempt(deleted)
    cloud.preempt(kept)
    views = {machine["id"]: machine for machine in site.machines()}
    assert deleted not in views
    view = site.arm("GET", kept.partition(cloud.subscription_id)[2], **{"$expand": "instanceView"}).body["properties"][
        "instanceView"
    ]
    assert [status["code"] for status in view["statuses"]] == ["ProvisioningState/succeeded", "PowerState/deallocated"]
    assert kinds(cloud)["disks"] == 3
    assert [resource.billable for resource in cloud.alive() if resource.id == kept] == [False]


def test_only_a_spot_machine_can_be_preempted(cloud: AzureLocalCloud, site: Site) -> None:
    site.launch(1)
    with pytest.raises(ValueError, match="not a spot machine"):
        cloud.preempt(cloud.running_ids()[0])


def test_a_maximum_price_below_the_spot_price_is_refused(site: Site) -> None:
    answer = site.launch(1, profile=SPOT | {"billingProfile": {"maxPrice": 0.01}})
    assert (answer.status, answer.code) == (409, "SpotPriceGreaterThanProvidedMaxPrice")


def test_the_deletion_of_a_machine_reduces_the_capacity_of_its_scale_set(cloud: AzureLocalCloud, site: Site) -> None:
    site.launch(3)
    name = site.machines()[0]["name"]
    assert site.arm("DELETE", f"{site.compute}/virtualMachines/{name}").status == 202
    assert site.arm("GET", f"{site.compute}/virtualMachineScaleSets/gang").body["sku"]["capacity"] == 2
    assert site.arm("DELETE", f"{site.compute}/virtualMachines/{name}").status == 204


def test_a_reservation_has_capacity_of_its_own_and_shows_its_users(cloud: AzureLocalCloud, site: Site) -> None:
    group = cloud.add_reservation(SIZE, ZONE, 2)
    cloud.set_capacity(SIZE, ZONE, 0)
    profile = {"capacityReservation": {"capacityReservationGroup": {"id": group}}}
    assert site.outcome(site.launch(2, profile=profile))["status"] == "Succeeded"
    path = f"{group.partition(cloud.subscription_id)[2]}/capacityReservations"
    reservation = site.arm.all(path)[0]
    assert len(reservation["properties"]["virtualMachinesAssociated"]) == 2
    assert site.launch(1, "more", profile=profile).code == "SkuNotAvailable"


def test_a_machine_that_was_stopped_from_outside_exists_and_does_not_run(cloud: AzureLocalCloud, site: Site) -> None:
    site.launch(2)
    stopped, ended = cloud.running_ids()
    cloud.stop_node(stopped)
    cloud.terminate_node(ended)
    assert cloud.running_ids() == []
    assert [machine["id"] for machine in site.machines()] == [stopped]


def test_custom_data_can_be_read_by_the_test_but_not_through_the_api(
    cloud: AzureLocalCloud, site: Site, arm: Arm
) -> None:
    site.launch(1)
    assert cloud.boot_script(cloud.running_ids()[0]) == "aGVsbG8="
    assert "aGVsbG8=" not in str(arm("GET", f"{site.compute}/virtualMachineScaleSets/gang").body)


def test_a_put_with_if_none_match_creates_a_scale_set_and_changes_none(site: Site, cloud: AzureLocalCloud) -> None:
    site.arm.headers["If-None-Match"] = "*"
    assert site.launch(1).status == 201
    again = site.launch(3)
    assert (again.status, again.code) == (412, "PreconditionFailed")
    assert len(cloud.running_ids()) == 1
    site.arm.headers["If-None-Match"] = '"1"'
    assert site.launch(1, name="other").code == "InvalidParameter"


def test_the_instance_view_shows_the_usage_of_a_reservation(site: Site, cloud: AzureLocalCloud) -> None:
    group = cloud.add_reservation(SIZE, ZONE, 2)
    path = group.partition(cloud.subscription_id)[2]
    assert "instanceView" not in site.arm("GET", path).body["properties"]
    [view] = site.arm("GET", path, **{"$expand": "instanceView"}).body["properties"]["instanceView"][
        "capacityReservations"
    ]
    assert view["utilizationInfo"] == {"currentCapacity": 2, "virtualMachinesAllocated": []}
    [listed] = site.arm.all(f"{path}/capacityReservations")
    assert "instanceView" not in listed["properties"]


def test_a_reservation_excludes_colocated_launches_and_launches_elsewhere(site: Site, cloud: AzureLocalCloud) -> None:
    group = cloud.add_reservation(SIZE, "eastus", 2)
    profile = {"capacityReservation": {"capacityReservationGroup": {"id": group}}}
    assert site.launch(1, profile=profile).code == "OperationNotAllowed"
    body = scale_set(site.subnet, 1, profile=profile, zones=[])
    body["properties"]["singlePlacementGroup"] = True
    path = f"{site.compute}/virtualMachineScaleSets/gang"
    assert "single placement group" in site.arm("PUT", path, body).message
    del body["properties"]["singlePlacementGroup"]
    assert site.arm("PUT", path, body).status == 201
    assert len(cloud.running_ids()) == 1
