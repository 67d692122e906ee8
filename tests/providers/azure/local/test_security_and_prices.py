"""The security types, boot disks and plans that the local Azure refuses, and its price list, in raw HTTP."""

from typing import Any
from urllib.parse import urlencode

import pytest

from multicompute_azure.local import AzureLocalCloud
from tests.providers.azure.local.raw_arm import Answer, Arm, Site

TRUSTED = {"securityType": "TrustedLaunch", "uefiSettings": {"secureBootEnabled": False, "vTpmEnabled": True}}
CONFIDENTIAL = {"securityType": "ConfidentialVM", "uefiSettings": {"secureBootEnabled": True, "vTpmEnabled": True}}
UBUNTU = {"publisher": "Canonical", "offer": "ubuntu-24_04-lts", "sku": "server", "version": "latest"}
NGC = {"publisher": "nvidia", "offer": "ngc_azure_17_11", "sku": "ngc-base-version-25_9_1_gen2", "version": "latest"}


def storage(image: dict[str, str], *, gib: int = 64, placement: str = "") -> dict[str, Any]:
    disk: dict[str, Any] = {"createOption": "FromImage", "diskSizeGB": gib}
    if placement:
        disk |= {"caching": "ReadOnly", "diffDiskSettings": {"option": "Local", "placement": placement}}
    return {"imageReference": image, "osDisk": disk}


@pytest.mark.parametrize(
    ("size", "security", "words"),
    [
        ("Standard_D2s_v5", {"securityType": "Standard"}, "UseStandardSecurityType"),
        ("Standard_D2s_v5", CONFIDENTIAL, "'ConfidentialVM' security type"),
        ("Standard_NCC40ads_H100_v5", None, "'<NULL>' security type"),
        ("Standard_NCC40ads_H100_v5", TRUSTED, "'TrustedLaunch' security type"),
    ],
)
def test_a_security_type_that_the_size_or_the_subscription_does_not_have_is_refused(
    arm: Arm, size: str, security: dict[str, Any] | None, words: str
) -> None:
    site = Site(arm, region="eastus2")
    profile = {"storageProfile": storage(UBUNTU), **({"securityProfile": security} if security else {})}
    answer = site.launch(1, size=size, profile=profile, location="eastus2")
    assert (answer.status, answer.code) == (400, "BadRequest")
    assert words in answer.message


def test_without_a_security_profile_a_machine_gets_trusted_launch_with_secure_boot(site: Site) -> None:
    site.launch(1)
    (found,) = site.machines()
    assert found["properties"]["securityProfile"]["uefiSettings"] == {"secureBootEnabled": True, "vTpmEnabled": True}


def test_trusted_launch_needs_an_image_that_supports_it(site: Site) -> None:
    image = {"id": "/subscriptions/s/resourceGroups/g/providers/Microsoft.Compute/images/i"}
    answer = site.launch(1, profile={"storageProfile": storage(image), "securityProfile": TRUSTED})
    assert answer.code == "BadRequest"
    assert "Trusted Launch Supported Gen2 OS Image" in answer.message


@pytest.mark.parametrize(
    ("size", "gib", "placement", "is_accepted"),
    [
        ("Standard_B8ms", 63, "ResourceDisk", True),
        ("Standard_B8ms", 64, "ResourceDisk", False),
        ("Standard_B8ms", 29, "CacheDisk", True),
        ("Standard_B8ms", 30, "CacheDisk", False),
        ("Standard_D2s_v5", 30, "ResourceDisk", False),
        ("Standard_ND96isr_H100_v5", 200, "CacheDisk", False),
    ],
)
def test_a_boot_disk_on_the_machine_has_the_space_that_the_sku_says_without_that_of_trusted_launch(
    site: Site, size: str, gib: int, placement: str, is_accepted: bool
) -> None:
    answer = site.launch(1, size=size, profile={"storageProfile": storage(UBUNTU, gib=gib, placement=placement)})
    assert (answer.status < 300) is is_accepted
    assert is_accepted or answer.code == "InvalidParameter"


def test_a_plan_is_needed_exactly_where_an_image_is_sold_with_one(site: Site) -> None:
    plan = {"name": NGC["sku"], "publisher": "nvidia", "product": NGC["offer"]}
    without = site.launch(1, "a", profile={"storageProfile": storage(NGC)})
    wrong = site.launch(1, "b", profile={"storageProfile": storage(NGC)}, plan={**plan, "name": "other"})
    needless = site.launch(1, "c", profile={"storageProfile": storage(UBUNTU)}, plan=plan)
    assert [answer.code for answer in (without, wrong, needless)] == ["VMMarketplaceInvalidInput"] * 3
    assert site.launch(1, "d", profile={"storageProfile": storage(NGC)}, plan=plan).status == 201


def test_a_name_of_more_than_44_characters_is_refused(site: Site) -> None:
    assert site.launch(1, "x" * 45).code == "InvalidParameter"
    assert site.launch(1, "x" * 44).status == 201


# --- the price list ---------------------------------------------------------------------------------------------------


def prices(arm: Arm, text: str, **query: str) -> Answer:
    return arm.url("GET", f"/api/retail/prices?{urlencode({'$filter': text, **query})}")


def test_the_price_list_has_every_kind_of_row_that_a_reader_must_tell_apart(arm: Arm) -> None:
    rows = prices(arm, "armRegionName eq 'EASTUS' and armSkuName eq 'standard_nd96isr_h100_v5'").body["Items"]
    assert {row["type"] for row in rows} == {"Consumption", "DevTestConsumption", "Reservation"}
    assert {row["skuName"].rpartition("v5 ")[2] for row in rows if " " in row["skuName"]} >= {"Spot", "Low Priority"}
    assert any(row["productName"].endswith(" Windows") for row in rows)
    assert any(row["retailPrice"] == 0 for row in rows)
    years = [row for row in rows if row.get("reservationTerm") == "1 Year"]
    assert years[0]["retailPrice"] > 100_000 and years[0]["unitOfMeasure"] == "1 Hour"


def test_the_price_list_has_pages_with_links(cloud: AzureLocalCloud, arm: Arm) -> None:
    cloud.prices_page_size = 7
    text = "armRegionName eq 'eastus' and armSkuName eq 'Standard_ND96isr_H100_v5'"
    answer, found = prices(arm, text), []
    while True:
        found += answer.body["Items"]
        assert answer.body["Count"] == len(answer.body["Items"])
        if answer.body["NextPageLink"] is None:
            break
        answer = arm.url("GET", answer.body["NextPageLink"])
    assert len(found) > 14
    assert prices(arm, text, **{"$skip": "1000"}).body["Items"] == []


@pytest.mark.parametrize("text", ["not(contains(skuName, 'Spot'))", "colour eq 'red'", "armSkuName like 'x'"])
def test_a_filter_that_the_price_list_does_not_understand_is_refused(arm: Arm, text: str) -> None:
    assert prices(arm, text).status == 400


def test_the_price_list_filters_by_parts_of_names(arm: Arm) -> None:
    region = "armRegionName eq 'eastus' and armSkuName eq 'Standard_ND96isr_H100_v5' and priceType eq 'Consumption'"
    spot = prices(arm, f"{region} and contains(skuName, 'Spot')").body["Items"]
    rest = prices(arm, f"{region} and contains(skuName, 'Spot') eq false").body["Items"]
    assert {row["skuName"].endswith("Spot") for row in spot} == {True}
    assert {row["skuName"].endswith("Spot") for row in rest} == {False}
