"""Machines that start and whose GPUs work: security types, boot disks, plans of images, keys, and groups that are not known yet."""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from fnmatch import fnmatchcase
from typing import Any

import pytest

from multicompute import Cluster, errors
from multicompute.catalog import Catalog
from multicompute.offer import InstanceType, Offer, Part
from multicompute.provider import LaunchRequest
from multicompute.provider_kit.vendor_errors import Place
from multicompute.testing import FakeClock, local_clouds
from multicompute_azure import plugin
from multicompute_azure._image import find_image
from multicompute_azure._names import scale_set_name
from multicompute_azure._provider import AzureProvider
from multicompute_azure.local import AzureLocalCloud

Request = Callable[..., LaunchRequest]
PUT = "virtualMachineScaleSets.createOrUpdate"
NGC = "nvidia:ngc_azure_17_11:ngc-base-version-25_9_1_gen2:latest"
GALLERY = "/subscriptions/00000000-0000-0000-0000-00000000a2e0/resourceGroups/g/providers/Microsoft.Compute/galleries/team/images/torch"
CONFIDENTIAL = InstanceType("azure", "Standard_NCC40ads_H100_v5", "h100-nvl", 1, 94.0, 40, 320)


def machine(cloud: AzureLocalCloud) -> dict[str, Any]:
    """Return the profile of the only machine, with what Azure has filled in."""
    ((_, found), *_) = cloud._state.machines()
    return found.profile


def body(cloud: AzureLocalCloud) -> dict[str, Any]:
    (found,) = cloud._state.items("Microsoft.Compute/virtualMachineScaleSets")
    return found.body


# --- Trusted Launch ---------------------------------------------------------------------------------------------------


def test_secure_boot_does_not_keep_the_drivers_of_a_gpu_image_from_loading(
    cloud: AzureLocalCloud, provider: AzureProvider, request_of: Request
) -> None:
    provider.launch(request_of())
    security = machine(cloud)["securityProfile"]
    assert security["securityType"] == "TrustedLaunch"
    assert security["uefiSettings"]["secureBootEnabled"] is False


@pytest.mark.parametrize(("security", "expected"), [("TrustedLaunchSupported", False), ("", None)])
def test_an_image_of_the_users_never_gets_secure_boot(
    cloud: AzureLocalCloud, provider: AzureProvider, request_of: Request, security: str, expected: bool | None
) -> None:
    cloud.define_image(GALLERY, security=security)
    provider.launch(request_of(image=f"{GALLERY}/versions/1.0.0"))
    found = machine(cloud).get("securityProfile", {}).get("uefiSettings", {}).get("secureBootEnabled")
    assert found is expected


def test_without_the_right_to_read_images_secure_boot_stays_off_too(
    cloud: AzureLocalCloud, provider: AzureProvider, request_of: Request, caplog: pytest.LogCaptureFixture
) -> None:
    cloud.faults.fail("virtualMachineImages.list", "AuthorizationFailed", status=403, message="no", times=None)
    provider.launch(request_of())
    assert machine(cloud)["securityProfile"]["uefiSettings"]["secureBootEnabled"] is False
    assert any("plan of the image is not known" in message for message in caplog.messages)


def test_an_image_is_read_once_per_region(cloud: AzureLocalCloud, provider: AzureProvider, request_of: Request) -> None:
    provider.launch(request_of())
    provider.launch(request_of(token="second"))
    assert cloud.faults.count("virtualMachineImages.get") == 1


# --- boot disks -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "placement"),
    [("Standard_B8ms", None), ("Standard_F8s_v2", "CacheDisk"), ("Standard_D2s_v5", None)],
)
def test_a_boot_disk_on_the_machine_leaves_the_space_that_trusted_launch_keeps(
    cloud: AzureLocalCloud, provider: AzureProvider, request_of: Request, offer: Offer, name: str, placement: str | None
) -> None:
    # A B8ms has 64 GiB, of which 63 are left; the default boot disk of a machine without GPUs has 64.
    plain = replace(offer, instance=InstanceType("azure", name, vcpus=2, memory_gib=8))
    assert len(provider.launch(request_of(parts=(Part(plain, 1),)))) == 1
    found = machine(cloud)["storageProfile"]["osDisk"].get("diffDiskSettings")
    assert found == (None if placement is None else {"option": "Local", "placement": placement})


def test_the_boot_disk_of_an_h100_machine_is_on_its_own_disk(
    cloud: AzureLocalCloud, provider: AzureProvider, request_of: Request
) -> None:
    provider.launch(request_of())
    assert machine(cloud)["storageProfile"]["osDisk"]["diffDiskSettings"]["placement"] == "ResourceDisk"


# --- confidential sizes -----------------------------------------------------------------------------------------------


def test_a_confidential_size_is_not_in_plans_unless_it_is_named() -> None:
    with local_clouds("azure"):
        plan = Cluster.plan(gpus=1, allow_surplus=True, type="h100-nvl", spot=True, regions=["eastus2"])
        assert {candidate.instance_type for candidate in plan.candidates} == {
            "Standard_NC40ads_H100_v5",
            "Standard_NC80adis_H100_v5",
        }
        named = Cluster.plan(
            gpus=1, type="Standard_NCC40ads_H100_v5", spot=True, regions=["eastus2"], image="/images/confidential"
        )
        assert {candidate.instance_type for candidate in named.candidates} == {"Standard_NCC40ads_H100_v5"}


def test_a_confidential_size_without_an_image_is_refused_before_anything_is_created(
    cloud: AzureLocalCloud, provider: AzureProvider, request_of: Request, offer: Offer
) -> None:
    confidential = replace(offer, instance=CONFIDENTIAL, region="eastus2", zone="eastus2-1")
    with pytest.raises(errors.InvalidRequestError, match="confidential") as caught:
        provider.launch(request_of(parts=(Part(confidential, 1),)))
    assert caught.value.scope == "type"
    assert cloud.alive() == []


def test_a_confidential_size_starts_from_an_image_for_it(
    cloud: AzureLocalCloud, provider: AzureProvider, request_of: Request, offer: Offer
) -> None:
    confidential = replace(offer, instance=CONFIDENTIAL, region="eastus2", zone="eastus2-1")
    image = "Canonical:ubuntu-24_04-lts:cvm:latest"
    assert len(provider.launch(request_of(parts=(Part(confidential, 1),), image=image))) == 1
    assert machine(cloud)["securityProfile"]["securityType"] == "ConfidentialVM"


# --- images -----------------------------------------------------------------------------------------------------------


def test_the_plan_of_a_marketplace_image_is_looked_up_and_sent(
    cloud: AzureLocalCloud, provider: AzureProvider, request_of: Request
) -> None:
    assert len(provider.launch(request_of(image=NGC))) == 2
    assert body(cloud)["plan"] == {
        "name": "ngc-base-version-25_9_1_gen2",
        "publisher": "nvidia",
        "product": "ngc_azure_17_11",
    }


def test_the_plan_of_a_gallery_image_is_looked_up_and_sent(
    cloud: AzureLocalCloud, provider: AzureProvider, request_of: Request
) -> None:
    plan = {"name": "base", "publisher": "vendor", "product": "torch"}
    cloud.define_image(GALLERY, plan=plan)
    assert len(provider.launch(request_of(image=GALLERY))) == 2
    assert body(cloud)["plan"] == plan


def test_a_plan_that_may_not_be_read_is_named_by_the_refusal(
    cloud: AzureLocalCloud, provider: AzureProvider, request_of: Request
) -> None:
    cloud.faults.fail("virtualMachineImages.list", "AuthorizationFailed", status=403, message="no")
    with pytest.raises(errors.InvalidRequestError) as caught:
        provider.launch(request_of(image=NGC))
    assert (caught.value.code, caught.value.scope) == ("VMMarketplaceInvalidInput", "region")
    assert "plan" in (caught.value.hint or "")


def test_an_image_in_a_subscription_that_can_not_be_seen_does_not_end_the_launch(
    cloud: AzureLocalCloud, provider: AzureProvider, request_of: Request
) -> None:
    theirs = GALLERY.replace("00000000-0000-0000-0000-00000000a2e0", "11111111-0000-0000-0000-000000000000")
    assert len(provider.launch(request_of(image=theirs))) == 2


@pytest.mark.parametrize("name", ["Standard_ND128isr_NDR_GB200_v6", "Standard_ND128isr_GB300_v6"])
def test_a_size_without_a_default_image_is_refused_for_itself_only(offer: Offer, name: str) -> None:
    instance = InstanceType("azure", name, "gb200", 4, 186.0, 128, 864, arch="arm64", fabric="infiniband")
    place = Place.of(replace(offer, instance=instance))
    with pytest.raises(errors.InvalidRequestError, match="no default image") as caught:
        find_image(instance, place, named=None)
    assert (caught.value.scope, caught.value.code) == ("type", "NoDefaultImage")
    assert find_image(instance, place, named=GALLERY).reference == {"id": GALLERY}


def test_the_plug_in_names_exactly_the_sizes_without_a_default_image() -> None:
    assert plugin.tables is not None
    catalog = Catalog({"azure": plugin.tables})
    for instance in (found for name in catalog.instance_names() for found in catalog.instances(name)):
        is_confidential = instance.name.startswith("Standard_NCC")
        place = Place("azure", "eastus", instance_type=instance.name)
        try:
            find_image(instance, place, named=None, is_confidential=is_confidential)
            is_refused = False
        except errors.InvalidRequestError:
            is_refused = True
        assert any(fnmatchcase(instance.name, glob) for glob in plugin.image_required) is is_refused, instance.name


# --- keys, names and groups -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["ecdsa-sha2-nistp256", "sk-ssh-ed25519@openssh.com", "ssh-dss"])
def test_a_key_that_azure_does_not_accept_is_refused_before_anything_is_created(
    cloud: AzureLocalCloud, provider: AzureProvider, request_of: Request, kind: str
) -> None:
    with pytest.raises(errors.InvalidRequestError, match=kind) as caught:
        provider.launch(request_of(ssh_public_key=f"{kind} AAAA me"))
    assert caught.value.scope == "account"
    assert "ssh-keygen -t ed25519" in (caught.value.hint or "")
    assert cloud.faults.calls == []


def test_a_scale_set_has_a_name_of_at_most_44_characters(provider: AzureProvider, request_of: Request) -> None:
    assert len(scale_set_name("T" * 80, 0)) == 44
    assert len(provider.launch(request_of(token="T" * 80))) == 2


def test_a_group_that_is_not_known_right_after_its_creation_is_waited_for(
    cloud: AzureLocalCloud, provider: AzureProvider, request_of: Request, clock: FakeClock
) -> None:
    cloud.group_lag = timedelta(seconds=20)
    with pytest.raises(errors.TransientError, match="not known yet") as caught:
        provider.launch(request_of())
    assert caught.value.code == "ResourceGroupNotFound"
    clock.advance(timedelta(seconds=30))
    assert len(provider.launch(request_of())) == 2


def test_a_configured_group_that_does_not_exist_is_not_waited_for(
    open_with: Callable[..., AzureProvider], request_of: Request
) -> None:
    with pytest.raises(errors.ProviderError, match="ResourceGroupNotFound"):
        open_with(resource_group="no-such-group").launch(request_of())


def test_reserved_machines_are_in_a_scale_set_without_a_single_placement_group(
    cloud: AzureLocalCloud, provider: AzureProvider, request_of: Request, offer: Offer
) -> None:
    held = cloud.add_reservation(offer.instance_type, "eastus-1", 2)
    provider.launch(request_of(parts=(Part(offer, 2, reservation=held),)))
    assert body(cloud)["properties"]["singlePlacementGroup"] is False
