"""What others can do in the local Azure: lock, deny, deallocate, rotate secrets, close regions; each as Azure documents it."""

from datetime import timedelta

import pytest

from multicompute_azure.local import AzureLocalCloud
from tests.providers.azure.local.raw_arm import GROUPS, SIZE, Arm, Site

OTHER = "00000000-0000-0000-0000-00000000b0b0"


def path_of(cloud: AzureLocalCloud, resource_id: str) -> str:
    return resource_id.partition(cloud.subscription_id)[2]


def test_a_lock_refuses_to_delete_its_resource_and_the_group_and_names_the_locked_scope(
    cloud: AzureLocalCloud, site: Site
) -> None:
    # "Lock your resources to protect your infrastructure", and the text of az in AZ-104 labs: (ScopeLocked) ... are locked: '<scope>'.
    site.launch(2)
    locked, other = cloud.running_ids()
    cloud.protect(locked)
    for path in (path_of(cloud, locked), site.group):
        refused = site.arm("DELETE", path, version=GROUPS if path == site.group else "2026-04-01")
        assert (refused.status, refused.code) == (409, "ScopeLocked")
        assert f"following scope(s) are locked: '{locked}'" in refused.message
    assert site.arm("DELETE", path_of(cloud, other)).status == 202
    tags = {"location": "eastus", "tags": {"a": "b"}}
    assert site.arm("PUT", path_of(cloud, locked), tags).status == 200, "CanNotDelete allows changes"


def test_a_readonly_lock_of_a_group_refuses_changes_of_what_is_in_it(cloud: AzureLocalCloud, site: Site) -> None:
    cloud.protect(f"/subscriptions/{cloud.subscription_id}{site.group}", kind="ReadOnly")
    refused = site.launch(1)
    assert (refused.status, refused.code) == (409, "ScopeLocked")
    assert site.machines() == []


def test_a_deletion_of_a_scale_set_leaves_a_locked_machine_and_fails(cloud: AzureLocalCloud, site: Site) -> None:
    site.launch(3)
    locked = cloud.running_ids()[1]
    cloud.protect(locked)
    status = site.outcome(site.arm("DELETE", f"{site.compute}/virtualMachineScaleSets/gang"))
    assert (status["status"], status["error"]["code"]) == ("Failed", "ScopeLocked")
    assert cloud.running_ids() == [locked]


def test_a_policy_that_denies_deletion_answers_403(cloud: AzureLocalCloud, site: Site) -> None:
    # "Azure Policy definitions denyAction effect": "The request is returned as a 403 (Forbidden)".
    site.launch(1)
    (machine,) = cloud.running_ids()
    cloud.protect(machine, kind="denyAction")
    refused = site.arm("DELETE", path_of(cloud, machine))
    assert (refused.status, refused.code) == (403, "RequestDisallowedByPolicy")
    cloud.protect(machine, is_protected=False)
    assert site.arm("DELETE", path_of(cloud, machine)).status == 202


def test_a_deallocated_machine_needs_capacity_to_start_and_one_that_was_shut_down_does_not(
    cloud: AzureLocalCloud, site: Site
) -> None:
    # "States and billing status of Azure Virtual Machines": stopped keeps its host, deallocated gives it away.
    site.launch(2)
    deallocated, down = cloud.running_ids()
    cloud.stop_node(deallocated)
    cloud.shut_down(down)
    assert [item.id for item in cloud.alive() if item.kind == "virtualMachines" and item.billable] == [down]
    cloud.set_capacity(SIZE, "eastus-1", 1)
    assert site.outcome(site.arm("POST", f"{path_of(cloud, down)}/start"))["status"] == "Succeeded"
    status = site.outcome(site.arm("POST", f"{path_of(cloud, deallocated)}/start"))
    assert (status["status"], status["error"]["code"]) == ("Failed", "ZonalAllocationFailed")
    cloud.set_capacity(SIZE, "eastus-1", 2)
    assert site.outcome(site.arm("POST", f"{path_of(cloud, deallocated)}/start"))["status"] == "Succeeded"
    assert set(cloud.running_ids()) == {down, deallocated}


def test_a_machine_that_is_started_again_boots(cloud: AzureLocalCloud, site: Site) -> None:
    cloud.boot_delay = timedelta(0)
    site.launch(1)
    (machine,) = cloud.running_ids()
    cloud.stop_node(machine)
    cloud.boot_delay = timedelta(minutes=2)
    cloud.start_node(machine)
    view = site.arm("GET", f"{path_of(cloud, machine)}/instanceView").body
    assert [status["code"] for status in view["statuses"]] == ["ProvisioningState/updating", "PowerState/starting"]


def test_another_subscription_has_its_own_resources(cloud: AzureLocalCloud, arm: Arm, site: Site) -> None:
    site.launch(1)
    assert cloud.add_account(OTHER)["AZURE_SUBSCRIPTION_ID"] == OTHER
    url = f"/subscriptions/{OTHER}/resourceGroups"
    assert arm.url("GET", f"{url}?api-version={GROUPS}").body == {"value": []}
    made = arm.url("PUT", f"{url}/theirs?api-version={GROUPS}", {"location": "eastus"})
    assert made.body["id"] == f"/subscriptions/{OTHER}/resourceGroups/theirs"
    assert [group["name"] for group in arm.all("/resourceGroups", version=GROUPS)] == ["site"]
    assert made.body["id"] in {item.id for item in cloud.alive()}


def test_a_subscription_that_no_test_has_added_does_not_exist(arm: Arm) -> None:
    answer = arm.url("GET", f"/subscriptions/{OTHER}/resourceGroups?api-version={GROUPS}")
    assert (answer.status, answer.code) == (404, "SubscriptionNotFound")


@pytest.mark.parametrize("code", ["ExpiredAuthenticationToken", "InvalidAuthenticationToken"])
def test_after_a_rotation_requests_without_a_new_token_are_rejected(
    cloud: AzureLocalCloud, arm: Arm, code: str
) -> None:
    assert arm("GET", "/resourceGroups", version=GROUPS).status == 200
    cloud.rotate_credentials(code=code)
    missing = arm("GET", "/resourceGroups", version=GROUPS)
    assert (missing.status, missing.code) == (401, "AuthenticationFailed")
    arm.headers["Authorization"] = "Bearer of-before"
    rejected = arm("GET", "/resourceGroups", version=GROUPS)
    assert (rejected.status, rejected.code) == (401, code)


@pytest.mark.parametrize("code", ["RequestDisallowedByPolicy", "RequestDisallowedByAzure"])
def test_a_closed_region_refuses_what_is_new_and_not_what_exists(
    cloud: AzureLocalCloud, site: Site, arm: Arm, code: str
) -> None:
    site.launch(1)
    cloud.close_region("eastus", code)
    refused = arm("PUT", "/resourceGroups/new", {"location": "East US"}, version=GROUPS)
    assert (refused.status, refused.code) == (403, code)
    assert site.launch(1, "more").code == code
    assert site.arm("DELETE", f"{site.compute}/virtualMachineScaleSets/gang").status == 202


def test_an_image_is_only_where_it_is_replicated(cloud: AzureLocalCloud, site: Site) -> None:
    image = f"{site.compute}/galleries/g/images/i"
    name = f"/subscriptions/{cloud.subscription_id}{image}/versions/1.0.0"
    cloud.replicate_image(name, "westus3")
    storage = {"storageProfile": {"imageReference": {"id": name}, "osDisk": {"createOption": "FromImage"}}}
    refused = site.launch(1, profile=storage)
    assert (refused.status, refused.code) == (404, "GalleryImageNotFound")
    cloud.replicate_image(name, "westus3", "eastus")
    assert site.launch(1, profile=storage).status == 201
