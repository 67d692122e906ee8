"""What a launch sends to Azure, and how it handles a gang that starts in part, late or not at all."""

import base64
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from multicompute import errors
from multicompute.node import NodeState
from multicompute.offer import InstanceType, Offer, Part
from multicompute.provider import LaunchRequest, Selector, Settings
from multicompute.provider_kit.vendor_errors import Place
from multicompute.testing import Call
from multicompute_azure._image import find_image
from multicompute_azure._network import NetworkRefs
from multicompute_azure._provider import AzureProvider
from multicompute_azure._scale_set import scale_set_body, unusable_key
from multicompute_azure._settings import AzureSettings
from multicompute_azure._sizes import Size
from multicompute_azure.local import AzureLocalCloud

Request = Callable[..., LaunchRequest]
Open = Callable[..., AzureProvider]
PUT = "virtualMachineScaleSets.createOrUpdate"
HERE = Place("azure", "eastus")
IDENTITY = "/subscriptions/s/resourceGroups/g/providers/Microsoft.ManagedIdentity/userAssignedIdentities/i"
CLUSTER = Selector(region="eastus", cluster_id="id-1")
CPU = InstanceType("azure", "Standard_D2s_v5", vcpus=2, memory_gib=8)
ARM = InstanceType("azure", "Standard_D2ps_v5", vcpus=2, memory_gib=8, arch="arm64")
REFS = NetworkRefs("/subnet", "/nsg")
CAPABILITIES = {"HyperVGenerations": "V1,V2", "PremiumIO": "True", "AcceleratedNetworkingEnabled": "True"}


def body(
    request: LaunchRequest, *, network: NetworkRefs = REFS, identity: str | None = None, **capabilities: str
) -> dict[str, Any]:
    part = request.parts[0]
    image = find_image(part.offer.instance, HERE, named=request.image)
    zones = frozenset({"1", "2", "3"})
    size = Size(part.offer.instance_type, zones=zones, capabilities=CAPABILITIES | capabilities)
    return scale_set_body(
        request,
        part,
        name="tok-0",
        size=size,
        image=image,
        network=network,
        settings=AzureSettings.of(Settings({"identity": identity})),
    )


def profile(request: LaunchRequest, **options: Any) -> dict[str, Any]:
    found: dict[str, Any] = body(request, **options)["properties"]["virtualMachineProfile"]
    return found


# --- what is sent -----------------------------------------------------------------------------------------------------


def test_a_part_is_one_flexible_scale_set_in_one_zone(request_of: Request) -> None:
    sent = body(request_of())
    assert sent["sku"] == {"name": "Standard_ND96isr_H100_v5", "tier": "Standard", "capacity": 2}
    assert sent["zones"] == ["1"]
    assert sent["properties"]["orchestrationMode"] == "Flexible"
    assert sent["properties"]["platformFaultDomainCount"] == 1
    assert "zones" not in body(request_of(parts=(Part(replace(request_of().parts[0].offer, zone=""), 1),)))


def test_everything_is_deleted_with_the_machine(request_of: Request) -> None:
    found = profile(request_of())
    card = found["networkProfile"]["networkInterfaceConfigurations"][0]
    public = card["properties"]["ipConfigurations"][0]["properties"]["publicIPAddressConfiguration"]
    assert found["storageProfile"]["osDisk"]["deleteOption"] == "Delete"
    assert card["properties"]["deleteOption"] == "Delete"
    assert public["properties"]["deleteOption"] == "Delete"
    assert card["tags"] == public["tags"] == request_of().tags


def test_a_private_node_has_no_public_address(request_of: Request) -> None:
    card = profile(request_of(private=True))["networkProfile"]["networkInterfaceConfigurations"][0]
    assert "publicIPAddressConfiguration" not in card["properties"]["ipConfigurations"][0]["properties"]


def test_private_nodes_that_can_not_reach_the_internet_cause_a_warning(
    provider: AzureProvider, request_of: Request, caplog: pytest.LogCaptureFixture
) -> None:
    provider.launch(request_of())
    assert caplog.messages == []
    provider.launch(request_of(cluster_id="id-2", token="b", private=True))
    assert ["NAT gateway" in message for message in caplog.messages] == [True]


def test_a_preempted_spot_node_is_deleted_and_its_price_has_a_limit(request_of: Request, offer: Offer) -> None:
    spot = (Part(replace(offer, purchase="spot"), 2),)
    found = profile(request_of(parts=spot, max_price=20.123456))
    assert (found["priority"], found["evictionPolicy"]) == ("Spot", "Delete")
    assert found["billingProfile"] == {"maxPrice": 20.12346}
    assert profile(request_of(parts=spot))["billingProfile"] == {"maxPrice": -1}
    assert "priority" not in profile(request_of())


def test_a_gang_with_a_fabric_is_a_uniform_scale_set_in_one_placement_group(request_of: Request) -> None:
    sent = body(request_of(fabric=True))["properties"]
    assert (sent["orchestrationMode"], sent["singlePlacementGroup"], sent["platformFaultDomainCount"]) == (
        "Uniform",
        True,
        1,
    )
    # Nothing is bought in addition, and no machine that runs is changed with the model or removed before a newer one.
    assert (sent["overprovision"], sent["upgradePolicy"]) == (False, {"mode": "Manual"})
    assert sent["scaleInPolicy"] == {"rules": ["NewestVM"]}
    assert "singlePlacementGroup" not in body(request_of())["properties"]


def test_there_is_never_a_password_and_without_a_key_no_login_is_possible(request_of: Request) -> None:
    system = profile(request_of())["osProfile"]
    assert "adminPassword" not in system
    assert system["linuxConfiguration"]["disablePasswordAuthentication"] is True
    assert system["linuxConfiguration"]["ssh"]["publicKeys"][0]["keyData"] == unusable_key("tok")
    assert unusable_key("tok") != unusable_key("other")
    with_key = profile(request_of(ssh_public_key="ssh-ed25519 AAAA me"))["osProfile"]["linuxConfiguration"]
    assert with_key["ssh"]["publicKeys"][0]["keyData"] == "ssh-ed25519 AAAA me"


def test_the_same_request_sends_the_same_body(request_of: Request) -> None:
    assert body(request_of(setup="echo hi")) == body(request_of(setup="echo hi"))


def test_the_nodes_get_the_configured_identity(request_of: Request) -> None:
    assert body(request_of(), identity=IDENTITY)["identity"] == {
        "type": "UserAssigned",
        "userAssignedIdentities": {IDENTITY: {}},
    }
    assert "identity" not in body(request_of())


@pytest.mark.parametrize(
    ("instance", "image"),
    [
        (CPU, "Canonical:ubuntu-24_04-lts:server"),
        (ARM, "Canonical:ubuntu-24_04-lts:server-arm64"),
        (InstanceType("azure", "Standard_ND96isr_H100_v5", "h100", 8), "microsoft-dsvm:ubuntu-hpc:2204"),
        (InstanceType("azure", "Standard_ND40rs_v2", "v100-32gb", 8), "microsoft-dsvm:ubuntu-hpc:2204-v100"),
        (InstanceType("azure", "Standard_ND96isr_MI300X_v5", "mi300x", 8), "microsoft-dsvm:ubuntu-hpc:2204-rocm"),
    ],
)
def test_each_kind_of_machine_gets_the_image_for_it(instance: InstanceType, image: str) -> None:
    found = find_image(instance, HERE, named=None).reference
    assert f"{found['publisher']}:{found['offer']}:{found['sku']}" == image


@pytest.mark.parametrize(
    "name",
    [
        "Standard_NV36ads_A10_v5",
        "Standard_NC8ads_A10_v4",
        "Standard_NG32ads_V620_v1",
        "Standard_NP10s",
        "Standard_NC144ds_xl_RTXPRO6000BSE_v6",
    ],
)
def test_a_machine_without_a_default_image_needs_one_in_the_request(name: str) -> None:
    instance = InstanceType("azure", name, "a10", 1)
    with pytest.raises(errors.InvalidRequestError, match="no default image") as caught:
        find_image(instance, HERE, named=None)
    assert caught.value.scope == "type"
    assert find_image(instance, HERE, named="a:b:c:1.0").reference["sku"] == "c"


@pytest.mark.parametrize(
    ("named", "key"),
    [
        ("/subscriptions/s/resourceGroups/g/providers/Microsoft.Compute/images/i", "id"),
        ("/CommunityGalleries/g/images/i/versions/1", "communityGalleryImageId"),
        ("/sharedGalleries/g/images/i/versions/1", "sharedGalleryImageId"),
    ],
)
def test_an_image_can_be_named_by_its_id(named: str, key: str) -> None:
    assert find_image(CPU, HERE, named=named).reference == {key: named}


def test_an_image_of_another_cloud_is_refused_for_azure_only() -> None:
    with pytest.raises(errors.InvalidRequestError, match="ami-1") as caught:
        find_image(CPU, HERE, named="ami-1")
    assert caught.value.scope == "region"


def test_trusted_launch_is_requested_if_type_and_image_support_it(request_of: Request, offer: Offer) -> None:
    plain = request_of(parts=(Part(replace(offer, instance=CPU), 1),))
    assert profile(plain)["securityProfile"]["securityType"] == "TrustedLaunch"
    assert "securityProfile" not in profile(plain, TrustedLaunchDisabled="True")
    assert "securityProfile" not in profile(plain, CpuArchitectureType="Arm64")
    assert "securityProfile" not in profile(request_of())


def test_a_boot_disk_that_fits_on_the_machines_own_disk_is_there(request_of: Request) -> None:
    space = {"EphemeralOSDiskSupported": "True", "MaxResourceVolumeMB": str(1000 * 1024)}
    disk = profile(request_of(), **space)["storageProfile"]["osDisk"]
    assert disk["diffDiskSettings"] == {"option": "Local", "placement": "ResourceDisk"}
    assert disk["caching"] == "ReadOnly"
    managed = profile(request_of(disk_gib=500.5), **space)["storageProfile"]["osDisk"]
    assert (managed["diskSizeGB"], managed["managedDisk"]) == (501, {"storageAccountType": "Premium_LRS"})
    assert "diffDiskSettings" not in profile(request_of())["storageProfile"]["osDisk"]


# --- the outcome ------------------------------------------------------------------------------------------------------


def test_a_launch_is_two_lookups_four_puts_and_listings(
    cloud: AzureLocalCloud, provider: AzureProvider, request_of: Request
) -> None:
    provider.launch(request_of())
    calls = [call.operation for call in cloud.faults.calls]
    assert [name for name in calls if name.endswith("createOrUpdate")] == [
        "resourceGroups.createOrUpdate",
        "networkSecurityGroups.createOrUpdate",
        "virtualNetworks.createOrUpdate",
        PUT,
    ]
    before = len(cloud.faults.calls)
    provider.launch(request_of(token="second"))
    again = [call.operation for call in cloud.faults.calls[before:]]
    assert [name for name in again if name.endswith("createOrUpdate")] == [PUT]
    assert "skus.list" not in again


def test_the_number_of_calls_does_not_grow_with_the_nodes(
    cloud: AzureLocalCloud, provider: AzureProvider, request_of: Request, offer: Offer
) -> None:
    provider.launch(request_of(parts=(Part(offer, 64),)))
    before = len(cloud.faults.calls)
    assert all(node.public_ip for node in provider.nodes(CLUSTER))
    # Scale sets and instances; network interfaces and addresses once.
    assert len(cloud.faults.calls) - before == 4
    before = len(cloud.faults.calls)
    assert len([node for node in provider.nodes(CLUSTER) if node.public_ip]) == 64
    assert len(cloud.faults.calls) - before == 2


def test_a_launch_lists_its_instances_once_however_long_the_operation_takes(
    cloud: AzureLocalCloud, provider: AzureProvider, request_of: Request
) -> None:
    cloud.boot_delay = timedelta(milliseconds=150)
    assert len(provider.launch(request_of())) == 2
    assert cloud.faults.count("virtualMachines.list") == 1
    assert cloud.faults.count("networkInterfaces.list") == 0


def test_ssh_is_open_only_with_a_key_and_only_from_the_caller(
    cloud: AzureLocalCloud, provider: AzureProvider, request_of: Request
) -> None:
    provider.launch(request_of(ssh_public_key="ssh-ed25519 AAAA me"))
    rules = _security_rules(provider, "id-1")
    assert [(rule["destinationPortRange"], rule["sourceAddressPrefixes"]) for rule in rules] == [
        ("22", ["127.0.0.1/32"])
    ]
    provider.launch(request_of(cluster_id="id-2", token="b"))
    assert _security_rules(provider, "id-2") == []
    provider.launch(request_of(cluster_id="id-3", token="c", private=True, ssh_public_key="ssh-ed25519 AAAA me"))
    assert _security_rules(provider, "id-3") == []


def _security_rules(provider: AzureProvider, cluster_id: str) -> list[dict[str, Any]]:
    network: Any = provider._clients.network
    groups = list(network.network_security_groups.list(f"multicompute-{cluster_id}-eastus"))
    return [rule["properties"] for rule in groups[0]["properties"].get("securityRules") or ()]


@pytest.mark.parametrize("stockout", ["SkuNotAvailable", "AllocationFailed", "OverconstrainedAllocationRequest"])
@pytest.mark.parametrize("left", [0, 1])
def test_every_form_of_no_capacity_is_a_capacity_error_and_leaves_nothing_behind(
    cloud: AzureLocalCloud, provider: AzureProvider, request_of: Request, offer: Offer, stockout: Any, left: int
) -> None:
    cloud.stockout = stockout
    cloud.set_capacity(offer.instance_type, "eastus-1", left)
    with pytest.raises(errors.CapacityError) as caught:
        provider.launch(request_of(fabric=True))
    assert caught.value.scope == "zone"
    assert caught.value.vendor_message
    assert cloud.running_ids() == []
    assert not any(item.billable for item in cloud.alive())


def test_a_late_lack_of_capacity_shows_as_lost_nodes_with_their_cause(
    cloud: AzureLocalCloud, open_with: Open, request_of: Request, offer: Offer
) -> None:
    provider = open_with()
    provider._launcher._patience = timedelta(milliseconds=1)
    cloud.boot_delay = timedelta(milliseconds=150)
    cloud.set_capacity(offer.instance_type, "eastus-1", 2)
    assert len(provider.launch(request_of(parts=(Part(offer, 3),)))) <= 3
    lost = _wait_for_lost(provider)
    assert [node.cause for node in lost] == ["capacity"]
    assert lost[0].reason and "Failed" in lost[0].reason
    # Another process knows the state of the scale set, but not the result of its operation.
    other = open_with()
    assert [node.cause for node in other.nodes(CLUSTER) if node.state is NodeState.GONE] == ["capacity"]
    with pytest.raises(errors.CapacityError):
        other.launch(request_of(parts=(Part(offer, 3),)))
    assert cloud.running_ids() == []


def _wait_for_lost(provider: AzureProvider) -> list[Any]:
    clock = provider._clients.clock
    deadline = clock.now() + timedelta(seconds=5)
    while clock.now() < deadline:
        lost = [node for node in provider.nodes(CLUSTER) if node.state is NodeState.GONE]
        if lost:
            return lost
        clock.sleep(timedelta(milliseconds=20))
    raise AssertionError("no node was lost")


def test_a_failed_launch_whose_deletion_takes_long_returns_the_lost_nodes(
    cloud: AzureLocalCloud, provider: AzureProvider, request_of: Request, offer: Offer
) -> None:
    provider._launcher._patience = timedelta(milliseconds=50)
    cloud.shutdown_delay = timedelta(seconds=60)
    cloud.set_capacity(offer.instance_type, "eastus-1", 1)
    nodes = provider.launch(request_of(fabric=True))
    assert nodes
    assert not any(node.state in (NodeState.PENDING, NodeState.RUNNING) for node in nodes)
    assert {node.cause for node in nodes} == {"capacity"}


def test_slow_nodes_are_pending_and_the_launch_does_not_wait_for_them(
    cloud: AzureLocalCloud, provider: AzureProvider, request_of: Request
) -> None:
    provider._launcher._patience = timedelta(milliseconds=50)
    cloud.boot_delay = timedelta(seconds=60)
    clock = provider._clients.clock
    started = clock.now()
    nodes = provider.launch(request_of())
    assert clock.now() - started < timedelta(seconds=5)
    assert [node.state for node in nodes] == [NodeState.PENDING, NodeState.PENDING]


def test_an_operation_that_fails_with_an_unknown_code_is_no_capacity_error_and_leaves_nothing_running(
    cloud: AzureLocalCloud, provider: AzureProvider, request_of: Request
) -> None:
    cloud.faults.fail(f"{PUT}.operation", "SomethingElse", message="Something else happened.")
    with pytest.raises(errors.ProviderError, match="SomethingElse") as caught:
        provider.launch(request_of())
    assert type(caught.value) is errors.ProviderError
    assert cloud.running_ids() == []


def test_reserved_nodes_come_from_their_group_and_are_never_bought_as_spot(
    cloud: AzureLocalCloud, provider: AzureProvider, request_of: Request, offer: Offer
) -> None:
    held = cloud.add_reservation(offer.instance_type, "eastus-1", 1)
    spot = replace(offer, purchase="spot")
    found = profile(request_of(parts=(Part(spot, 1, reservation=held),)))
    assert found["capacityReservation"] == {"capacityReservationGroup": {"id": held}}
    assert "priority" not in found
    with pytest.raises(errors.CapacityError, match="reservation"):
        provider.launch(request_of(parts=(Part(replace(offer, zone="eastus-2"), 1, reservation=held),)))
    with pytest.raises(errors.CapacityError, match="reservation"):
        provider.launch(request_of(token="b", parts=(Part(offer, 1, reservation="no-such-group"),)))


def test_reserved_nodes_are_requested_in_the_zone_of_the_reservation_and_without_a_placement_group(
    cloud: AzureLocalCloud, provider: AzureProvider, request_of: Request, offer: Offer
) -> None:
    zonal = cloud.add_reservation(offer.instance_type, "eastus-1", 2)
    regional = cloud.add_reservation(offer.instance_type, "eastus", 2)
    anywhere = replace(offer, zone="")
    # Azure allows no placement group with a reservation, and no zone with a reservation that has none.
    parts = (Part(offer, 2, reservation=zonal), Part(anywhere, 2, reservation=regional), Part(offer, 1))
    assert len(provider.launch(request_of(parts=parts))) == 5
    for wrong in (Part(offer, 1, reservation=regional), Part(anywhere, 1, reservation=zonal)):
        with pytest.raises(errors.CapacityError, match="reservation"):
            provider.launch(request_of(token="b", parts=(wrong,)))


@pytest.mark.parametrize("tags", [{}, {"team": "other"}, {"multicompute-attempt": "another"}])
def test_a_foreign_scale_set_of_our_name_is_not_changed(
    cloud: AzureLocalCloud, provider: AzureProvider, request_of: Request, tags: dict[str, str]
) -> None:
    provider.launch(request_of())
    with cloud._state.lock:
        (theirs,) = cloud._state.items("Microsoft.Compute/virtualMachineScaleSets")
        theirs.tags = dict(tags)
        profile = theirs.body["properties"]["virtualMachineProfile"]["networkProfile"]
        profile["networkInterfaceConfigurations"] = [{**profile["networkInterfaceConfigurations"][0], "name": "nic"}]
    with pytest.raises(errors.ProviderError, match="not ours"):
        provider.launch(request_of())
    assert len(cloud.running_ids()) == 2


def test_two_processes_that_launch_one_token_at_the_same_time_buy_once(
    cloud: AzureLocalCloud, open_with: Open, request_of: Request
) -> None:
    slow, quick = open_with(), open_with()
    has_asked, may_go_on = threading.Event(), threading.Event()

    def hold_the_first(_: Call) -> None:
        if not has_asked.is_set():
            has_asked.set()
            assert may_go_on.wait(30)

    # The slow one has found no scale set yet when the quick one creates it, so its own PUT is refused by the condition.
    cloud.faults.hook("skus.list", hold_the_first)
    with ThreadPoolExecutor(1) as pool:
        late = pool.submit(slow.launch, request_of())
        assert has_asked.wait(30)
        first = quick.launch(request_of())
        may_go_on.set()
        assert {node.id for node in late.result()} == {node.id for node in first}
    assert cloud.faults.count(PUT) == 2
    assert len(cloud.running_ids()) == 2


def test_a_foreign_resource_group_of_our_name_is_not_changed(
    cloud: AzureLocalCloud, provider: AzureProvider, request_of: Request
) -> None:
    resources: Any = provider._clients.resources
    resources.resource_groups.create_or_update("multicompute-id-1-eastus", {"location": "eastus", "tags": {"a": "b"}})
    with pytest.raises(errors.ProviderError, match="not ours"):
        provider.launch(request_of())
    assert [(item.kind, item.tags) for item in cloud.alive()] == [("resourceGroups", {"a": "b"})]


def test_the_script_of_a_node_arrives_as_it_was_written(
    cloud: AzureLocalCloud, provider: AzureProvider, request_of: Request
) -> None:
    nodes = provider.launch(request_of(setup='echo "it\'s $HOME"', expires_at=datetime(2027, 1, 1, tzinfo=UTC)))
    script = base64.b64decode(cloud.boot_script(nodes[0].id)).decode()
    encoded = base64.b64encode(b'#!/bin/bash\necho "it\'s $HOME"\n').decode()
    assert encoded in script


def test_a_repeated_launch_finds_its_scale_set_without_tags(
    cloud: AzureLocalCloud, provider: AzureProvider, request_of: Request
) -> None:
    first = provider.launch(request_of())
    with cloud._state.lock:
        for item in cloud._state.items("Microsoft.Compute/virtualMachineScaleSets"):
            item.tags.clear()
    assert {node.id for node in provider.launch(request_of())} == {node.id for node in first}
    assert cloud.faults.count("virtualMachineScaleSets.createOrUpdate") == 1
