"""The requests that the local Azure refuses, with the format and the codes of Resource Manager."""

import copy
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from multicompute.testing import FakeClock
from multicompute_azure.local import AzureLocalCloud
from tests.providers.azure.local.raw_arm import GROUPS, KEY, NETWORK, SIZE, Arm, Site, scale_set

Change = Callable[[dict[str, Any]], object]
ARM = {"publisher": "Canonical", "offer": "ubuntu-24_04-lts", "sku": "server-arm64"}


def profile(body: dict[str, Any]) -> Any:
    return body["properties"]["virtualMachineProfile"]


def nic(body: dict[str, Any]) -> Any:
    return profile(body)["networkProfile"]["networkInterfaceConfigurations"][0]


@pytest.mark.parametrize(
    ("change", "code", "target"),
    [
        (lambda body: body.update(colour="red"), "InvalidRequestContent", "colour"),
        (lambda body: body["properties"].update(orchestration_mode="Flexible"), "InvalidRequestContent", "properties.orchestration_mode"),
        (lambda body: body["sku"].update(capacity="2"), "InvalidRequestContent", "sku.capacity"),
        (lambda body: body["properties"].update(orchestrationMode="Flex"), "InvalidRequestContent", "properties.orchestrationMode"),
        (lambda body: body["properties"].update(orchestrationMode="Uniform"), "InvalidParameter", "upgradePolicy"),
        (lambda body: body.pop("location"), "InvalidParameter", "location"),
        (lambda body: body.update(tags=["team"]), "InvalidRequestContent", "tags"),
        (lambda body: body.update(tags={"team": 5}), "InvalidRequestContent", "tags.team"),
        (lambda body: body.update(zones="1"), "InvalidRequestContent", "zones"),
        (lambda body: body["properties"].pop("platformFaultDomainCount"), "InvalidParameter", "platformFaultDomainCount"),
        (lambda body: body["properties"].pop("virtualMachineProfile"), "InvalidParameter", "virtualMachineProfile"),
        (lambda body: body["sku"].pop("capacity"), "InvalidParameter", "sku.capacity"),
        (lambda body: body["sku"].update(capacity=1001), "OperationNotAllowed", "sku.capacity"),
        (lambda body: body["sku"].update(name="Standard_Nonsense"), "InvalidParameter", "vmSize"),
        (lambda body: profile(body).pop("osProfile"), "InvalidParameter", "osProfile"),
        (lambda body: profile(body)["osProfile"].update(adminUsername="root"), "InvalidParameter", "adminUsername"),
        (lambda body: profile(body)["osProfile"].update(customData="no base64!"), "InvalidParameter", "customData"),
        (lambda body: profile(body)["osProfile"].pop("linuxConfiguration"), "InvalidParameter", "linuxConfiguration"),
        (lambda body: profile(body).update(securityProfile={"uefiSettings": {"vTpmEnabled": True}}), "InvalidParameter", "securityProfile.uefiSettings"),
        (lambda body: nic(body).pop("name"), "InvalidParameter", "properties.virtualMachineProfile.networkProfile.networkInterfaceConfigurations[0].name"),
        (lambda body: nic(body)["properties"].update(ipConfigurations=[]), "InvalidParameter", "ipConfigurations"),
        (
            lambda body: profile(body)["networkProfile"].pop("networkApiVersion"),
            "InvalidParameter",
            "virtualMachineProfile.networkProfile.networkApiVersion",
        ),
    ],
)  # fmt: skip
def test_a_scale_set_that_does_not_fit_the_model_is_refused_with_the_path_of_the_field(
    cloud: AzureLocalCloud, site: Site, change: Change, code: str, target: str
) -> None:
    body = scale_set(site.subnet)
    change(body)
    answer = site.arm("PUT", f"{site.compute}/virtualMachineScaleSets/gang", body)
    assert answer.status in (400, 409)
    assert (answer.code, answer.body["error"]["target"]) == (code, target)
    assert cloud.running_ids() == []


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (lambda body: body.update(location="atlantis"), "LocationNotAvailableForResourceType"),
        (lambda body: body.update(zones=["4"]), "AvailabilityZoneNotSupported"),
        (lambda body: body.update(tags={"a/b": "c"}), "InvalidTagNameCharacters"),
        (lambda body: body.update(tags={str(number): "" for number in range(51)}), "TagCountExceedsLimit"),
        (lambda body: profile(body)["storageProfile"]["imageReference"].update(sku="1804"), "PlatformImageNotFound"),
        (lambda body: profile(body)["storageProfile"]["imageReference"].update(ARM), "BadRequest"),
        (lambda body: profile(body).update(evictionPolicy="Delete"), "OperationNotAllowed"),
        (lambda body: nic(body)["properties"].update(networkSecurityGroup={"id": "/nowhere"}), "InvalidResourceReference"),
        (lambda body: profile(body)["osProfile"]["linuxConfiguration"]["ssh"]["publicKeys"][0].update(path="/root"), "InvalidParameter"),
        (lambda body: profile(body)["osProfile"]["linuxConfiguration"]["ssh"]["publicKeys"][0].update(keyData="x"), "InvalidParameter"),
    ],
)  # fmt: skip
def test_a_scale_set_that_azure_cannot_create_is_refused_with_azures_code(
    cloud: AzureLocalCloud, site: Site, change: Change, code: str
) -> None:
    body = scale_set(site.subnet)
    change(body)
    assert site.arm("PUT", f"{site.compute}/virtualMachineScaleSets/gang", body).code == code
    assert cloud.running_ids() == []


def test_a_size_is_refused_in_a_region_that_does_not_sell_it(arm: Arm) -> None:
    site = Site(arm, region="northeurope")
    answer = arm(
        "PUT",
        f"{site.compute}/virtualMachineScaleSets/gang",
        scale_set(site.subnet, location="northeurope", size=SIZE, zones=[]),
    )
    assert (answer.code, answer.body["error"]["target"]) == ("InvalidParameter", "vmSize")


def test_a_zone_is_refused_in_a_region_without_zones(arm: Arm) -> None:
    site = Site(arm, region="westus")
    body = scale_set(site.subnet, location="westus", size="Standard_D2s_v5")
    assert arm("PUT", f"{site.compute}/virtualMachineScaleSets/gang", body).code == "AvailabilityZoneNotSupported"


def test_read_only_fields_are_accepted_and_ignored(site: Site) -> None:
    body = scale_set(site.subnet)
    body["id"] = "/somewhere"
    body["properties"]["provisioningState"] = "Whatever"
    answer = site.arm("PUT", f"{site.compute}/virtualMachineScaleSets/gang", body)
    assert answer.status == 201
    assert answer.body["properties"]["provisioningState"] == "Creating"


@pytest.mark.parametrize(
    ("version", "code"), [("", "MissingApiVersionParameter"), ("2015-01-01", "InvalidApiVersionParameter")]
)
def test_a_request_needs_the_api_version_of_the_sdk(site: Site, version: str, code: str) -> None:
    answer = site.arm("GET", f"{site.compute}/virtualMachines", version=version)
    assert (answer.status, answer.code) == (400, code)


def test_another_subscription_is_not_found(cloud: AzureLocalCloud, arm: Arm) -> None:
    answer = arm.url("GET", f"/subscriptions/11111111-0000-0000-0000-000000000000/resourcegroups?api-version={GROUPS}")
    assert (answer.status, answer.code) == (404, "SubscriptionNotFound")


@pytest.mark.parametrize(
    ("method", "path"), [("GET", "/providers/Microsoft.Nothing/things"), ("POST", "/resourceGroups/x"), ("PUT", "")]
)
def test_an_unknown_operation_is_refused(arm: Arm, method: str, path: str) -> None:
    answer = arm(method, path)
    assert (answer.status, answer.code) == (404, "InvalidResourceType")


def test_a_body_that_is_not_json_is_refused(site: Site) -> None:
    answer = site.arm("PUT", f"{site.compute}/virtualMachineScaleSets/gang", b"{not json")
    assert (answer.status, answer.code) == (400, "InvalidRequestContent")


def test_a_credential_that_is_not_a_bearer_token_is_refused(arm: Arm) -> None:
    arm.headers["Authorization"] = "Basic bWU6c2VjcmV0"
    answer = arm("GET", "/resourcegroups", version=GROUPS)
    assert (answer.status, answer.code) == (401, "InvalidAuthenticationToken")


def test_nothing_can_be_created_in_a_group_that_does_not_exist_or_is_being_deleted(
    cloud: AzureLocalCloud, site: Site
) -> None:
    cloud.shutdown_delay = timedelta(minutes=3)
    missing = site.arm(
        "PUT",
        "/resourceGroups/none/providers/Microsoft.Network/networkSecurityGroups/x",
        {"location": "eastus"},
        version=NETWORK,
    )
    assert (missing.status, missing.code) == (404, "ResourceGroupNotFound")
    site.arm("DELETE", site.group, version=GROUPS)
    going = site.launch()
    assert (going.status, going.code) == (409, "ResourceGroupBeingDeleted")
    again = site.arm("PUT", site.group, {"location": "eastus"}, version=GROUPS)
    assert again.code == "ResourceGroupBeingDeleted"


def test_the_fixed_properties_of_a_scale_set_cannot_be_changed(site: Site) -> None:
    site.launch()
    for changes in ({"location": "westus2"}, {"zones": ["2"]}, {"profile": {"priority": "Spot"}}):
        answer = site.launch(**copy.deepcopy(changes))
        assert answer.status == 409
        assert answer.code in ("InvalidResourceLocation", "PropertyChangeNotAllowed")


def test_a_resource_in_use_is_not_deleted(site: Site) -> None:
    group = f"{site.network}/networkSecurityGroups/wall"
    made = site.arm("PUT", group, {"location": "eastus"}, version=NETWORK).body["id"]
    body = scale_set(site.subnet, 1)
    nic(body)["properties"]["networkSecurityGroup"] = {"id": made}
    site.arm("PUT", f"{site.compute}/virtualMachineScaleSets/gang", body)
    interface = site.arm.all(f"{site.network}/networkInterfaces", version=NETWORK)[0]["name"]
    disk = site.arm.all(f"{site.compute}/disks", version="2026-03-02")[0]["name"]
    expected = {
        group: ("InUseNetworkSecurityGroupCannotBeDeleted", NETWORK),
        f"{site.network}/virtualNetworks/net": ("InUseSubnetCannotBeDeleted", NETWORK),
        f"{site.network}/virtualNetworks/net/subnets/nodes": ("InUseSubnetCannotBeDeleted", NETWORK),
        f"{site.network}/networkInterfaces/{interface}": ("NicInUse", NETWORK),
        f"{site.compute}/disks/{disk}": ("OperationNotAllowed", "2026-03-02"),
    }
    assert {
        path: (site.arm("DELETE", path, version=version).code, version) for path, (_, version) in expected.items()
    } == expected


def test_an_interface_stays_reserved_for_its_machine_for_three_minutes(
    cloud: AzureLocalCloud, clock: FakeClock, site: Site
) -> None:
    cloud.nic_reservation = timedelta(seconds=180)
    body = scale_set(site.subnet, 1)
    del nic(body)["properties"]["deleteOption"]
    site.arm("PUT", f"{site.compute}/virtualMachineScaleSets/gang", body)
    site.arm("DELETE", f"{site.compute}/virtualMachineScaleSets/gang")
    path = f"{site.network}/networkInterfaces/{site.arm.all(f'{site.network}/networkInterfaces', version=NETWORK)[0]['name']}"
    assert site.arm("DELETE", path, version=NETWORK).code == "NicReservedForAnotherVm"
    clock.advance("3m")
    assert site.arm("DELETE", path, version=NETWORK).status == 202


def test_a_full_subnet_refuses_more_addresses(arm: Arm) -> None:
    site = Site(arm, prefix="10.0.0.0/28")
    assert site.launch(11).status == 201
    assert site.launch(1, "more").code == "SubnetIsFull"
    arm("DELETE", f"{site.compute}/virtualMachineScaleSets/gang")
    assert site.launch(11, "again").status == 201


@pytest.mark.parametrize(
    ("subnets", "code"),
    [
        ([("a", "10.1.0.0/24")], "NetcfgSubnetRangeOutsideVnet"),
        ([("a", "10.0.0.0/24"), ("b", "10.0.0.128/25")], "NetcfgSubnetRangesOverlap"),
        ([("a", "10.0.0.1/24")], "InvalidAddressPrefixFormat"),
    ],
)
def test_subnets_must_be_in_their_network_and_not_overlap(arm: Arm, subnets: list[tuple[str, str]], code: str) -> None:
    arm("PUT", "/resourceGroups/site", {"location": "eastus"}, version=GROUPS)
    given = [{"name": name, "properties": {"addressPrefix": prefix}} for name, prefix in subnets]
    properties = {"addressSpace": {"addressPrefixes": ["10.0.0.0/16"]}, "subnets": given}
    body = {"location": "eastus", "properties": properties}
    answer = arm("PUT", "/resourceGroups/site/providers/Microsoft.Network/virtualNetworks/net", body, version=NETWORK)
    assert answer.code == code


def test_a_put_of_a_network_without_a_subnet_deletes_it_unless_it_is_in_use(site: Site) -> None:
    network = f"{site.network}/virtualNetworks/net"
    bare = {"location": "eastus", "properties": {"addressSpace": {"addressPrefixes": ["10.0.0.0/16"]}}}
    site.launch(1)
    assert site.arm("PUT", network, bare, version=NETWORK).code == "InUseSubnetCannotBeDeleted"
    site.arm("DELETE", f"{site.compute}/virtualMachineScaleSets/gang")
    assert site.arm("PUT", network, bare, version=NETWORK).body["properties"]["subnets"] == []


def test_security_rules_need_priorities_of_their_own(arm: Arm) -> None:
    arm("PUT", "/resourceGroups/site", {"location": "eastus"}, version=GROUPS)

    def codes(*priorities: int) -> str:
        rule = {"protocol": "Tcp", "access": "Allow", "direction": "Inbound", "sourceAddressPrefix": "*"}
        rules = [
            {"name": f"r{number}", "properties": rule | {"priority": value}} for number, value in enumerate(priorities)
        ]
        body = {"location": "eastus", "properties": {"securityRules": rules}}
        path = "/resourceGroups/site/providers/Microsoft.Network/networkSecurityGroups/wall"
        answer = arm("PUT", path, body, version=NETWORK)
        return "" if answer.status == 201 else answer.code

    assert codes(99) == "SecurityRuleInvalidPriority"
    assert codes(100, 100) == "SecurityRuleConflict"
    assert codes(100, 101) == ""


def test_a_resource_that_is_not_provisioned_cannot_be_used(
    cloud: AzureLocalCloud, clock: FakeClock, site: Site
) -> None:
    cloud.operation_delay = timedelta(minutes=1)
    made = site.arm("PUT", f"{site.network}/networkSecurityGroups/wall", {"location": "eastus"}, version=NETWORK)
    assert made.body["properties"]["provisioningState"] == "Updating"
    body = scale_set(site.subnet, 1)
    nic(body)["properties"]["networkSecurityGroup"] = {"id": made.body["id"]}
    path = f"{site.compute}/virtualMachineScaleSets/gang"
    assert site.arm("PUT", path, body).code == "ReferencedResourceNotProvisioned"
    clock.advance("1m")
    assert site.arm("PUT", path, body).status == 201


def test_a_password_is_accepted_instead_of_a_key(site: Site) -> None:
    system = {"computerNamePrefix": "node", "adminUsername": "ubuntu", "adminPassword": "not-Kept-1"}
    answer = site.launch(1, profile={"osProfile": system})
    assert answer.status == 201
    assert "not-Kept-1" not in str(answer.body) and KEY not in str(answer.body)
