"""Uniform scale sets of the local Azure, with the real SDK and over raw HTTP: instances that are parts of their scale set."""

import base64
from typing import Any

import pytest
from azure.core import MatchConditions
from azure.core.exceptions import HttpResponseError

from multicompute.testing import FakeClock
from multicompute_azure.local import AzureLocalCloud
from tests.providers.azure.local.conftest import Sdk
from tests.providers.azure.local.raw_arm import GROUPS, Answer, Arm, Site, scale_set

PARTS = "2018-10-01"
RDMA = "Standard_ND96isr_H100_v5"


def data(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def uniform(subnet: str, count: int = 2, *, properties: dict[str, Any] | None = None, **changes: Any) -> Any:
    """Return the body of a Uniform scale set that the local Azure accepts."""
    body = scale_set(subnet, count, **changes)
    profile = body["properties"]["virtualMachineProfile"]
    del profile["networkProfile"]["networkApiVersion"], profile["storageProfile"]["osDisk"]["deleteOption"]
    nic = profile["networkProfile"]["networkInterfaceConfigurations"][0]["properties"]
    del nic["deleteOption"]
    nic["ipConfigurations"][0]["properties"]["publicIPAddressConfiguration"] = {"name": "ip"}
    profile["userData"] = data("first")
    body["properties"] |= {
        "orchestrationMode": "Uniform",
        "singlePlacementGroup": True,
        "upgradePolicy": {"mode": "Manual"},
        "overprovision": False,
        **(properties or {}),
    }
    return body


@pytest.fixture
def path(site: Site) -> str:
    return f"{site.compute}/virtualMachineScaleSets/gang"


@pytest.fixture
def launched(site: Site, path: str) -> Answer:
    answer = site.arm("PUT", path, uniform(site.subnet))
    assert answer.status == 201
    assert site.outcome(answer)["status"] == "Succeeded"
    return answer


def numbers(sdk: Sdk) -> list[str]:
    return [item.instance_id for item in sdk.compute.virtual_machine_scale_set_vms.list("site", "gang")]


@pytest.mark.usefixtures("launched")
def test_instances_are_listed_below_their_scale_set_and_nowhere_else(sdk: Sdk, site: Site, arm: Arm) -> None:
    vms = sdk.compute.virtual_machine_scale_set_vms
    found = list(vms.list("site", "gang", expand="instanceView"))
    assert [(item.instance_id, item.name, item.zones, item.sku.name) for item in found] == [
        (number, f"gang_{number}", ["1"], found[0].sku.name) for number in ("0", "1")
    ]
    assert {status.code for item in found for status in item.properties.instance_view.statuses} == {
        "ProvisioningState/succeeded",
        "PowerState/running",
    }
    assert len({item.properties.vm_id for item in found}) == 2
    assert all(item.tags == {"team": "nlp"} and item.properties.latest_model_applied for item in found)
    types = {item.type for item in sdk.resources.resources.list()}
    assert types == {"Microsoft.Compute/virtualMachineScaleSets", "Microsoft.Network/virtualNetworks"}
    assert site.machines() == []
    assert arm.all(f"{site.network}/networkInterfaces", version="2024-05-01") == []


@pytest.mark.usefixtures("launched")
def test_interfaces_and_addresses_are_parts_of_the_instances(sdk: Sdk) -> None:
    nics = list(sdk.network.network_interfaces.list_virtual_machine_scale_set_network_interfaces("site", "gang"))
    owners = [nic.virtual_machine.id.rpartition("/")[2] for nic in nics]
    ips = list(sdk.network.public_ip_addresses.list_virtual_machine_scale_set_public_ip_addresses("site", "gang"))
    assert owners == ["0", "1"]
    assert [nic.ip_configurations[0].public_ip_address.id for nic in nics] == [ip.id for ip in ips]
    assert all(ip.ip_address for ip in ips)


@pytest.mark.usefixtures("launched")
def test_tags_of_an_instance_can_not_be_changed(sdk: Sdk, arm: Arm, path: str) -> None:
    vms = sdk.compute.virtual_machine_scale_set_vms
    vms.begin_update("site", "gang", "0", {"location": "eastus", "tags": {"team": "other"}}).result()
    assert vms.get("site", "gang", "0").tags == {"team": "nlp"}
    tags = {"operation": "Merge", "properties": {"tags": {"x": "y"}}}
    scope = f"{path}/virtualMachines/0/providers/Microsoft.Resources/tags/default"
    assert arm("PATCH", scope, tags, version=GROUPS).code == "ResourceNotFound"


@pytest.mark.usefixtures("launched")
def test_user_data_is_that_of_the_model_at_the_launch_and_can_be_changed(sdk: Sdk, site: Site, path: str) -> None:
    vms = sdk.compute.virtual_machine_scale_set_vms
    vms.begin_update("site", "gang", "1", {"location": "eastus", "properties": {"userData": data("own")}}).result()
    change = {"sku": {"capacity": 3}, "properties": {"virtualMachineProfile": {"userData": data("second")}}}
    assert site.outcome(site.arm("PATCH", path, change))["status"] == "Succeeded"
    found = {number: vms.get("site", "gang", number, expand="userData").properties.user_data for number in numbers(sdk)}
    assert found == {"0": data("first"), "1": data("own"), "2": data("second")}
    applied = {item.instance_id: item.properties.latest_model_applied for item in vms.list("site", "gang")}
    assert applied == {"0": False, "1": False, "2": True}
    assert "userData" not in site.arm("GET", path).body["properties"]["virtualMachineProfile"]


@pytest.mark.usefixtures("launched")
def test_deleted_instances_lower_the_capacity_and_their_numbers_are_used_again(
    cloud: AzureLocalCloud, sdk: Sdk, site: Site, path: str
) -> None:
    (before, _) = cloud.running_ids()
    sdk.compute.virtual_machine_scale_sets.begin_delete_instances("site", "gang", {"instanceIds": ["0"]}).result()
    assert site.arm("GET", path).body["sku"]["capacity"] == 1
    assert numbers(sdk) == ["1"]
    site.outcome(site.arm("PATCH", path, {"sku": {"capacity": 2}}))
    assert sorted(numbers(sdk)) == ["0", "1"]
    assert before not in cloud.running_ids(), "the number is the same, and the machine is another one"
    answer = site.arm("POST", f"{path}/delete", {"instanceIds": ["7"]})
    assert (answer.code, answer.body["error"]["target"]) == ("InvalidParameter", "instanceIds")


@pytest.mark.usefixtures("launched")
def test_a_change_of_another_version_than_the_present_one_is_refused(sdk: Sdk, site: Site, path: str) -> None:
    sets = sdk.compute.virtual_machine_scale_sets
    etag = sets.get("site", "gang").etag
    site.arm("PATCH", path, {"tags": {"team": "other"}})
    only = {"etag": etag, "match_condition": MatchConditions.IfNotModified}
    with pytest.raises(HttpResponseError, match="has changed"):
        sets.begin_update("site", "gang", {"sku": {"capacity": 3}}, **only)
    assert len(numbers(sdk)) == 2


@pytest.mark.usefixtures("launched")
def test_an_instance_is_stopped_started_and_deleted_by_its_own_calls(
    cloud: AzureLocalCloud, sdk: Sdk, clock: FakeClock
) -> None:
    vms = sdk.compute.virtual_machine_scale_set_vms
    first, second = cloud.running_ids()
    vms.begin_deallocate("site", "gang", "0").result()
    assert cloud.running_ids() == [second]
    vms.begin_start("site", "gang", "0").result()
    assert cloud.running_ids() == [first, second]
    vms.begin_delete("site", "gang", "1", force_deletion=True).result()
    assert cloud.running_ids() == [first]


def refused(site: Site, path: str, body: Any) -> tuple[str, str]:
    answer = site.arm("PUT", path, body)
    assert answer.status in (400, 409)
    return answer.code, answer.body["error"].get("target", "")


def test_what_only_flexible_scale_sets_have_is_refused(site: Site, path: str) -> None:
    body = uniform(site.subnet)
    body["properties"]["virtualMachineProfile"]["storageProfile"]["osDisk"]["deleteOption"] = "Delete"
    assert refused(site, path, body) == ("InvalidParameter", "osDisk.deleteOption")
    body = uniform(site.subnet, properties={"upgradePolicy": None})
    assert refused(site, path, body) == ("InvalidParameter", "upgradePolicy")
    assert refused(site, path, uniform(site.subnet, 101)) == ("OperationNotAllowed", "sku.capacity")


@pytest.mark.parametrize(
    ("mode", "zones", "count", "accepted"),
    [
        ("Flexible", ["1"], 1, True),
        ("Flexible", ["1"], 2, False),
        ("Flexible", None, 3, True),
        ("Flexible", None, 5, False),
        ("Uniform", ["1"], 1, True),
        ("Uniform", ["1"], 5, True),
        ("Uniform", ["1"], 2, False),
        ("Uniform", None, 5, True),
    ],
)
def test_fault_domains_depend_on_the_mode_and_the_zone(
    site: Site, path: str, mode: str, zones: list[str] | None, count: int, accepted: bool
) -> None:
    body = uniform(site.subnet) if mode == "Uniform" else scale_set(site.subnet)
    body["properties"]["platformFaultDomainCount"] = count
    body["zones"] = zones
    answer = site.arm("PUT", path, {name: value for name, value in body.items() if value is not None})
    assert (answer.status == 201) is accepted
    if not accepted:
        assert answer.body["error"]["target"] == "platformFaultDomainCount"


def test_a_reservation_needs_a_uniform_scale_set_without_a_single_placement_group(
    cloud: AzureLocalCloud, site: Site, path: str
) -> None:
    held = cloud.add_reservation(RDMA, "eastus-1", 2)
    reserved = {"capacityReservation": {"capacityReservationGroup": {"id": held}}}
    body = uniform(site.subnet, size=RDMA)
    body["properties"]["virtualMachineProfile"] |= reserved
    assert refused(site, path, body) == ("OperationNotAllowed", "singlePlacementGroup")
    body["properties"]["singlePlacementGroup"] = False
    assert site.arm("PUT", path, body).status == 201


def test_a_fabric_is_one_uniform_scale_set_in_one_placement_group(cloud: AzureLocalCloud, site: Site) -> None:
    sets = f"{site.compute}/virtualMachineScaleSets"
    bodies = {
        "one": uniform(site.subnet, size=RDMA),
        "two": uniform(site.subnet, size=RDMA),
        "spread": uniform(site.subnet, size=RDMA, properties={"singlePlacementGroup": False}),
        "plain": uniform(site.subnet, size="Standard_D2s_v5"),
        "flexible": scale_set(site.subnet, size=RDMA),
    }
    for name, body in bodies.items():
        assert site.arm("PUT", f"{sets}/{name}", body).status == 201
    found: dict[str, set[str]] = {}
    for node_id in cloud.running_ids():
        name = node_id.partition("/virtualMachineScaleSets/")[2].partition("/")[0] or "flexible"
        found.setdefault(name, set()).add(cloud.fabric_of(node_id).rpartition("/")[2])
    assert found == {"one": {"one"}, "two": {"two"}, "spread": {""}, "plain": {""}, "flexible": {""}}
