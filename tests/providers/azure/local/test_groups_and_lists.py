"""Resource groups of the local Azure, lists of their resources, and tags."""

from datetime import timedelta

import pytest

from multicompute.testing import FakeClock
from multicompute_azure.local import AzureLocalCloud
from tests.providers.azure.local.raw_arm import GROUPS, NETWORK, Arm, Site


def put_group(arm: Arm, name: str, **tags: str) -> int:
    return arm("PUT", f"/resourceGroups/{name}", {"location": "eastus", "tags": tags}, version=GROUPS).status


def names(arm: Arm, path: str = "/resources", **query: str) -> list[str]:
    return [entry["name"] for entry in arm.all(path, version=GROUPS, **query)]


def test_a_group_is_created_once_and_its_name_is_case_insensitive(arm: Arm) -> None:
    assert put_group(arm, "Fleet") == 201
    assert put_group(arm, "Fleet") == 200
    assert arm("GET", "/resourcegroups/FLEET", version=GROUPS).body["name"] == "Fleet"
    assert arm("HEAD", "/resourcegroups/fleet", version=GROUPS).status == 204
    assert arm("HEAD", "/resourcegroups/other", version=GROUPS).status == 404
    moved = arm("PUT", "/resourceGroups/fleet", {"location": "westus2"}, version=GROUPS)
    assert (moved.status, moved.code) == (409, "InvalidResourceGroupLocation")


def test_groups_are_listed_by_tag_with_their_tags(arm: Arm) -> None:
    for name, team in (("one", "nlp"), ("two", "vision"), ("three", "nlp")):
        put_group(arm, name, team=team)
    assert names(arm, "/resourcegroups") == ["one", "two", "three"]
    found = arm.all("/resourcegroups", version=GROUPS, **{"$filter": "tagName eq 'Team' and tagValue eq 'nlp'"})
    assert [(group["name"], group["tags"]) for group in found] == [("one", {"team": "nlp"}), ("three", {"team": "nlp"})]


def test_a_group_is_deleted_in_steps_with_everything_in_it(
    cloud: AzureLocalCloud, clock: FakeClock, site: Site
) -> None:
    site.launch(2)
    cloud.shutdown_delay = timedelta(minutes=3)
    answer = site.arm("DELETE", site.group, version=GROUPS)
    assert answer.status == 202
    steps = []
    for _ in range(3):
        group = site.arm("GET", site.group, version=GROUPS).body
        steps.append((group["properties"]["provisioningState"], {resource.kind for resource in cloud.alive()}))
        clock.advance("1m")
    assert [state for state, _ in steps] == ["Deleting"] * 3
    assert "virtualMachines" in steps[0][1]
    assert steps[1][1] == {"resourceGroups", "virtualNetworks"}
    assert site.arm("GET", site.group, version=GROUPS).code == "ResourceGroupNotFound"
    assert cloud.alive() == []
    statuses = [site.arm.url("GET", answer.headers["location"]).status for _ in range(2)]
    assert statuses == [202, 200]


def test_deleting_a_group_twice_is_one_deletion(cloud: AzureLocalCloud, clock: FakeClock, site: Site) -> None:
    cloud.shutdown_delay = timedelta(minutes=1)
    first = site.arm("DELETE", site.group, version=GROUPS)
    second = site.arm("DELETE", site.group, version=GROUPS)
    assert first.headers["location"] == second.headers["location"]
    clock.advance("1m")
    assert site.arm("DELETE", site.group, version=GROUPS).status == 404


def test_a_deletion_that_fails_half_way_leaves_the_rest_and_can_be_repeated(cloud: AzureLocalCloud, site: Site) -> None:
    site.launch(2)
    cloud.faults.fail("resourceGroups.delete.operation", "ResourceGroupDeletionBlocked", status=409)
    answer = site.arm("DELETE", site.group, version=GROUPS)
    outcomes = [site.arm.url("GET", answer.headers["location"]) for _ in range(2)]
    assert (outcomes[1].status, outcomes[1].code) == (409, "ResourceGroupDeletionBlocked")
    assert {resource.kind for resource in cloud.alive()} == {"resourceGroups", "virtualNetworks"}
    assert site.arm("GET", site.group, version=GROUPS).body["properties"]["provisioningState"] == "Succeeded"
    site.arm("DELETE", site.group, version=GROUPS)
    assert cloud.alive() == []


def test_a_group_whose_network_is_used_from_another_group_is_not_deleted(
    cloud: AzureLocalCloud, site: Site, arm: Arm
) -> None:
    other = Site(arm, "other")
    other.subnet = site.subnet
    assert other.launch(1).status == 201
    answer = arm("DELETE", site.group, version=GROUPS)
    arm.url("GET", answer.headers["location"])
    assert arm.url("GET", answer.headers["location"]).code == "ResourceGroupDeletionBlocked"
    assert arm("HEAD", site.group, version=GROUPS).status == 204


def test_a_list_is_paged_and_its_pages_are_complete(cloud: AzureLocalCloud, site: Site) -> None:
    cloud.page_size = 7
    site.launch(20)
    first = site.arm("GET", f"{site.compute}/virtualMachines").body
    assert len(first["value"]) == 7
    assert "$skiptoken" in first["nextLink"] or "%24skiptoken" in first["nextLink"]
    assert len({machine["id"] for machine in site.machines()}) == 20
    assert len(names(site.arm)) == 20 * 3 + 2


def test_a_page_is_no_longer_than_requested(site: Site) -> None:
    site.launch(5)
    answer = site.arm("GET", "/resources", version=GROUPS, **{"$top": "3"})
    assert len(answer.body["value"]) == 3
    assert site.arm("GET", "/resources", version=GROUPS, **{"$top": "none"}).code == "InvalidTopInQueryString"


def test_resources_are_found_by_one_tag_and_then_shown_without_tags(cloud: AzureLocalCloud, site: Site) -> None:
    site.launch(1)
    by_tag = {"$filter": "tagName eq 'team' and tagValue eq 'nlp'"}
    found = site.arm.all("/resources", version=GROUPS, **by_tag)
    assert len(found) == 4
    assert not any("tags" in entry for entry in found)
    cloud.tags_with_tag_filter = True
    assert all(entry["tags"] == {"team": "nlp"} for entry in site.arm.all("/resources", version=GROUPS, **by_tag))
    assert names(site.arm, **{"$filter": "tagName eq 'team' and tagValue eq 'NLP'"}) == []
    assert len(names(site.arm, **{"$filter": "startswith(tagName, 'te')"})) == 4


def test_resources_are_found_by_type_by_name_and_by_group(site: Site, arm: Arm) -> None:
    Site(arm, "other")
    site.launch(1)
    assert names(arm, **{"$filter": "resourceType eq 'Microsoft.Compute/virtualMachineScaleSets'"}) == ["gang"]
    both = "resourceType eq 'Microsoft.Compute/virtualMachineScaleSets' or resourceType eq 'Microsoft.Network/virtualNetworks'"
    assert names(arm, **{"$filter": both}) == ["net", "net", "gang"]
    assert names(arm, **{"$filter": "substringof('gan', name) and resourceGroup eq 'other'"}) == []
    assert names(arm, "/resourceGroups/other/resources") == ["net"]
    expanded = arm.all(
        "/resourceGroups/other/resources", version=GROUPS, **{"$expand": "createdTime,provisioningState"}
    )
    assert expanded[0]["createdTime"] == "2027-01-01T00:00:00.000000Z"


@pytest.mark.parametrize(
    "text",
    [
        "tagName eq 'a' and tagValue eq 'b' and resourceType eq 'c'",
        "tagName eq 'a' and tagName eq 'b'",
        "tagValue eq 'b'",
        "tagName eq a",
        "colour eq 'red'",
    ],
)
def test_a_filter_that_azure_can_not_apply_is_refused(arm: Arm, text: str) -> None:
    answer = arm("GET", "/resources", version=GROUPS, **{"$filter": text})
    assert (answer.status, answer.code) == (400, "InvalidFilterInQueryString")


def test_lists_omit_a_new_resource_for_the_lag_but_it_can_be_read(
    cloud: AzureLocalCloud, clock: FakeClock, site: Site
) -> None:
    cloud.lag = timedelta(seconds=30)
    site.launch(2)
    assert site.machines() == []
    assert len(cloud.running_ids()) == 2
    path = cloud.running_ids()[0].partition(cloud.subscription_id)[2]
    assert site.arm("GET", path).status == 200
    clock.advance("30s")
    assert len(site.machines()) == 2


def test_a_deleted_resource_stays_in_the_list_of_resources_for_the_lag(
    cloud: AzureLocalCloud, clock: FakeClock, site: Site
) -> None:
    site.launch(1)
    cloud.lag = timedelta(seconds=30)
    clock.advance("1m")
    site.arm("DELETE", f"{site.compute}/virtualMachineScaleSets/gang")
    assert "gang" in names(site.arm)
    assert site.arm.all(f"{site.compute}/virtualMachineScaleSets") == []
    clock.advance("30s")
    assert names(site.arm) == ["net"]


def test_machines_are_listed_by_scale_set_with_their_run_time_status(site: Site) -> None:
    site.launch(1, "one")
    answer = site.launch(2, "two")
    by_set = {"$filter": f"'virtualMachineScaleSet/id' eq '{answer.body['id']}'"}
    found = site.machines(**by_set, **{"$expand": "instanceView"})
    assert [machine["properties"]["instanceView"]["statuses"][1]["code"] for machine in found] == [
        "PowerState/running"
    ] * 2
    assert site.arm("GET", f"{site.compute}/virtualMachines", **{"$expand": "instanceView"}).code == "InvalidParameter"
    everywhere = site.arm.all("/providers/Microsoft.Compute/virtualMachines", statusOnly="true")
    assert all("instanceView" in machine["properties"] for machine in everywhere)


def test_tags_are_merged_replaced_and_deleted_at_any_scope(cloud: AzureLocalCloud, site: Site) -> None:
    site.launch(1)
    machine = cloud.running_ids()[0].partition(cloud.subscription_id)[2]
    for scope in (site.group, machine):
        path = f"{scope}/providers/Microsoft.Resources/tags/default"

        def patch(operation: str, path: str = path, **tags: str) -> dict[str, str]:
            body = {"operation": operation, "properties": {"tags": tags}}
            found: dict[str, str] = site.arm("PATCH", path, body, version=GROUPS).body["properties"]["tags"]
            return found

        assert patch("Replace", a="1") == {"a": "1"}
        assert patch("Merge", b="2") == {"a": "1", "b": "2"}
        assert patch("Delete", a="1") == {"b": "2"}
        assert site.arm("GET", path, version=GROUPS).body["properties"]["tags"] == {"b": "2"}


def test_tags_of_a_machine_are_replaced_by_a_patch_of_it(cloud: AzureLocalCloud, site: Site) -> None:
    site.launch(1)
    path = cloud.running_ids()[0].partition(cloud.subscription_id)[2]
    assert site.arm("PATCH", path, {"tags": {"team": "vision"}}).body["tags"] == {"team": "vision"}
    assert site.arm("GET", path).body["tags"] == {"team": "vision"}
    assert site.arm("PATCH", f"{site.network}/virtualNetworks/net", {"tags": {"a": "b"}}, version=NETWORK).body[
        "tags"
    ] == {"a": "b"}


def test_images_skus_and_the_subscription_can_be_read(arm: Arm) -> None:
    image = "/providers/Microsoft.Compute/locations/eastus/publishers/microsoft-dsvm/artifacttypes/vmimage/offers/ubuntu-hpc/skus"
    newest = arm("GET", f"{image}/2204/versions", **{"$top": "1", "$orderby": "name desc"}).body
    assert [version["name"] for version in newest] == ["22.04.2026030201"]
    assert arm("GET", f"{image}/2204/versions/{newest[0]['name']}").body["properties"]["architecture"] == "x64"
    assert arm("GET", f"{image}/0000/versions").code == "ImageNotFound"
    skus = arm.all("/providers/Microsoft.Compute/skus", version="2021-07-01", **{"$filter": "location eq 'eastus'"})
    sku = next(sku for sku in skus if sku["name"] == "Standard_ND96isr_H100_v5")
    assert (sku["family"], sku["locationInfo"][0]["zones"]) == ("standardNDSH100v5Family", ["1", "2", "3"])
    assert {"name": "vCPUs", "value": "96"} in sku["capabilities"]
    assert arm("GET", "", version="2022-12-01").body["state"] == "Enabled"
    assert "eastus" in [region["name"] for region in arm("GET", "/locations", version="2022-12-01").body["value"]]
