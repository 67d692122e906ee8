"""Single resources of the local Azure, and the operations on a single machine."""

from typing import Any

import pytest

from multicompute_azure.local import AzureLocalCloud
from tests.providers.azure.local.raw_arm import DISKS, GROUPS, NETWORK, SIZE, Arm, Site

SPOT = {"priority": "Spot", "evictionPolicy": "Deallocate"}


def below(cloud: AzureLocalCloud, identifier: str) -> str:
    """Return the path of a resource below the subscription."""
    return identifier.partition(cloud.subscription_id)[2]


@pytest.mark.parametrize(
    ("action", "power", "billable"), [("deallocate", "deallocated", False), ("powerOff", "stopped", True)]
)
def test_a_machine_is_stopped_and_started_again(
    cloud: AzureLocalCloud, site: Site, action: str, power: str, billable: bool
) -> None:
    site.launch(1)
    identifier = cloud.running_ids()[0]
    path = below(cloud, identifier)
    answer = site.arm("POST", f"{path}/{action}")
    assert answer.status == 202
    assert site.outcome(answer)["status"] == "Succeeded"
    codes = [status["code"] for status in site.arm("GET", f"{path}/instanceView").body["statuses"]]
    assert codes[1] == f"PowerState/{power}"
    assert [resource.billable for resource in cloud.alive() if resource.id == identifier] == [billable]
    assert site.arm("POST", f"{path}/start").status == 202
    assert cloud.running_ids() == [identifier]


def test_a_caller_can_simulate_an_eviction_of_a_spot_machine_only(cloud: AzureLocalCloud, site: Site) -> None:
    site.launch(1, "spot", profile=SPOT)
    site.launch(1, "plain")
    spot, plain = (below(cloud, identifier) for identifier in cloud.running_ids())
    assert site.arm("POST", f"{spot}/simulateEviction").status == 204
    assert site.arm("POST", f"{plain}/simulateEviction").code == "OperationNotAllowed"
    assert [below(cloud, identifier) for identifier in cloud.running_ids()] == [plain]


def test_a_deletion_of_a_machine_can_fail_and_then_it_is_still_billed(cloud: AzureLocalCloud, site: Site) -> None:
    site.launch(1)
    path = below(cloud, cloud.running_ids()[0])
    cloud.faults.fail("virtualMachines.delete.operation", "InternalExecutionError", status=500)
    assert site.outcome(site.arm("DELETE", path))["error"]["code"] == "InternalExecutionError"
    assert site.machines()[0]["properties"]["provisioningState"] == "Failed"
    site.arm("DELETE", path)
    assert site.machines() == []


def test_an_interface_takes_an_address_of_its_subnet_and_gives_it_back(cloud: AzureLocalCloud, site: Site) -> None:
    address = site.arm(
        "PUT",
        f"{site.network}/publicIPAddresses/door",
        {"location": "eastus", "sku": {"name": "Standard"}},
        version=NETWORK,
    )
    assert address.body["properties"]["ipAddress"].startswith("20.")
    config = {
        "name": "ip",
        "properties": {"subnet": {"id": site.subnet}, "publicIPAddress": {"id": address.body["id"]}},
    }
    path = f"{site.network}/networkInterfaces/card"
    body: Any = {"location": "eastus", "properties": {"ipConfigurations": [config]}}
    for _ in range(2):
        made = site.arm("PUT", path, body, version=NETWORK)
        assert made.body["properties"]["ipConfigurations"][0]["properties"]["privateIPAddress"] == "10.0.0.4"
    used = site.arm("DELETE", f"{site.network}/publicIPAddresses/door", version=NETWORK)
    assert used.code == "PublicIPAddressCannotBeDeleted"
    assert site.arm("DELETE", path, version=NETWORK).status == 202
    assert site.arm("DELETE", f"{site.network}/publicIPAddresses/door", version=NETWORK).status == 202
    assert [resource.kind for resource in cloud.alive()] == ["resourceGroups", "virtualNetworks"]


def test_a_standard_address_is_static_and_an_interface_needs_a_subnet(site: Site) -> None:
    dynamic = {"location": "eastus", "sku": {"name": "Standard"}, "properties": {"publicIPAllocationMethod": "Dynamic"}}
    answer = site.arm("PUT", f"{site.network}/publicIPAddresses/door", dynamic, version=NETWORK)
    assert answer.code == "StandardSkuPublicIPAddressesMustBeStatic"
    path = f"{site.network}/networkInterfaces/card"
    without = {"location": "eastus", "properties": {"ipConfigurations": [{"name": "ip", "properties": {}}]}}
    assert site.arm("PUT", path, without, version=NETWORK).code == "SubnetRequired"
    empty = {"location": "eastus", "properties": {"ipConfigurations": []}}
    assert site.arm("PUT", path, empty, version=NETWORK).code == "NetworkInterfaceMustHaveAtLeastOneIpConfiguration"


def test_a_subnet_is_created_read_and_deleted_below_its_network(site: Site) -> None:
    subnets = f"{site.network}/virtualNetworks/net/subnets"
    overlapping = {"properties": {"addressPrefix": "10.0.1.0/24"}}
    assert site.arm("PUT", f"{subnets}/more", overlapping, version=NETWORK).code == "NetcfgSubnetRangesOverlap"
    assert site.arm("DELETE", f"{subnets}/nodes", version=NETWORK).status == 202
    assert site.arm("PUT", f"{subnets}/more", overlapping, version=NETWORK).status == 201
    assert site.arm("GET", f"{subnets}/more", version=NETWORK).body["properties"]["addressPrefix"] == "10.0.1.0/24"
    assert [entry["name"] for entry in site.arm.all(subnets, version=NETWORK)] == ["more"]
    orphan = site.arm("PUT", f"{site.network}/virtualNetworks/none/subnets/x", overlapping, version=NETWORK)
    assert orphan.code == "ParentResourceNotFound"


def test_a_capacity_reservation_is_billed_and_cannot_be_deleted_while_it_is_used(
    cloud: AzureLocalCloud, site: Site
) -> None:
    group = f"{site.compute}/capacityReservationGroups/held"
    assert site.arm("PUT", group, {"location": "eastus", "zones": ["1"]}).status == 201
    profile = {
        "capacityReservation": {"capacityReservationGroup": {"id": f"/subscriptions/{cloud.subscription_id}{group}"}}
    }
    assert site.launch(1, profile=profile).code == "OperationNotAllowed"
    body = {"location": "eastus", "zones": ["1"], "sku": {"name": SIZE, "capacity": 1}}
    path = f"{group}/capacityReservations/one"
    assert site.arm("PUT", path, body).status == 201
    assert [resource.kind for resource in cloud.alive() if resource.billable] == ["capacityReservations"]
    assert site.launch(1, profile=profile).status == 201
    assert site.arm("DELETE", group).code == "OperationNotAllowed"
    assert site.arm("DELETE", path).code == "OperationNotAllowed"
    site.arm("DELETE", f"{site.compute}/virtualMachineScaleSets/gang")
    assert site.arm("DELETE", path).status == 202
    assert site.arm("DELETE", group).status == 200


def test_a_disk_that_was_left_behind_can_be_deleted(cloud: AzureLocalCloud, site: Site) -> None:
    image = {"publisher": "microsoft-dsvm", "offer": "ubuntu-hpc", "sku": "2204", "version": "latest"}
    site.launch(1, profile={"storageProfile": {"imageReference": image}})
    site.arm("DELETE", f"{site.compute}/virtualMachineScaleSets/gang")
    disk = site.arm.all(f"{site.compute}/disks", version=DISKS)[0]
    assert disk["properties"]["diskState"] == "Unattached"
    assert site.arm("DELETE", below(cloud, disk["id"]), version=DISKS).status == 202
    assert [resource.kind for resource in cloud.alive() if resource.billable] == []


def test_a_scale_set_is_resized_and_tagged_by_a_patch(cloud: AzureLocalCloud, site: Site) -> None:
    site.launch(2)
    path = f"{site.compute}/virtualMachineScaleSets/gang"
    assert site.arm("PATCH", path, {"tags": {"team": "vision"}}).body["tags"] == {"team": "vision"}
    for capacity in (3, 1):
        assert site.arm("PATCH", path, {"sku": {"capacity": capacity}}).status == 200
        assert len(cloud.running_ids()) == capacity
    assert site.arm("PATCH", path, {"properties": {"singlePlacementGroup": False}}).code == "OperationNotAllowed"


def test_names_are_separate_in_each_subscription_and_group(arm: Arm, site: Site) -> None:
    Site(arm, "other")
    arm("DELETE", "/resourceGroups/other", version=GROUPS)
    assert arm("HEAD", site.group, version=GROUPS).status == 204
