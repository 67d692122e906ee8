"""Lists of the local Compute Engine: filters, pages, all zones at once, lag, and unreachable zones."""

from typing import Any

import pytest

from multicompute.testing.clock import FakeClock
from multicompute_gcp.local import GcpLocalCloud
from tests.providers.gcp.local.bare_google import ZONE, Api, seconds


@pytest.mark.parametrize(
    ("expression", "found"),
    [
        ("labels.team=nlp", 3),
        ('labels.team="nlp"', 3),
        ("labels.team = 'nlp'", 3),
        ("labels.team=vision", 0),
        ("labels.team:*", 3),
        ("labels.owner:*", 0),
        ("NOT labels.owner:*", 3),
        ("labels.owner != me", 3),
        ("labels.team=nlp labels.rank=1", 1),
        ("(labels.team=nlp) (labels.rank=1)", 1),
        ("labels.team=nlp AND labels.rank=1", 1),
        ("labels.rank=1 OR labels.rank=2", 2),
        ("labels.team=nlp AND (labels.rank=1 OR labels.rank=2)", 2),
        # OR binds stronger than AND.
        ("labels.rank=1 OR labels.rank=2 AND labels.team=vision", 0),
        ("name=gang-1-1", 1),
        ("name eq gang-.*", 3),
        ('name ne ".*-1-1"', 2),
        ("name:gang-1*", 1),
        ("status=RUNNING", 3),
        ("status != RUNNING", 0),
        ("scheduling.automaticRestart = true", 3),
        ("scheduling.preemptible = false", 3),
        ('machineType : "a3-highgpu-8g"', 3),
        ("labels.rank >= 2", 2),
        ("labels.rank < 2", 1),
    ],
)
def test_filters_select_by_labels_and_fields(api: Api, launch: Any, expression: str, found: int) -> None:
    for rank in (1, 2, 3):
        launch(1, pattern=f"gang-{rank}-#", labels={"team": "nlp", "rank": str(rank)})
    assert len(api.names(expression)) == found


@pytest.mark.parametrize(
    "wrong", ["labels.team", "=x", "(labels.a=b", "labels.a==b", "name eq [", "a=b name eq x", "a ! b"]
)
def test_a_malformed_filter_is_refused(api: Api, wrong: str) -> None:
    status, reason, message = api.refused("GET", "aggregated/instances", filter=wrong)
    assert (status, reason) == (400, "invalid")
    assert "Invalid list filter expression" in message


def test_pages_span_zones_and_end(api: Api, launch: Any) -> None:
    launch(3)
    launch(2, zone="europe-west4-b", pattern="euro-#")
    found: list[str] = []
    token, pages = "", 0
    while token or not pages:
        page = api.compute("GET", "aggregated/instances", maxResults="2", **({"pageToken": token} if token else {}))
        found += [one["name"] for scope in page["items"].values() for one in scope.get("instances", [])]
        token, pages = page.get("nextPageToken", ""), pages + 1
    assert found == ["euro-1", "euro-2", "gang-0001", "gang-0002", "gang-0003"]
    assert pages == 3


def test_a_deletion_between_two_pages_does_not_change_the_next_page(api: Api, launch: Any) -> None:
    launch(4)
    first = api.compute("GET", f"zones/{ZONE}/instances", maxResults="2")
    api.compute("DELETE", f"zones/{ZONE}/instances/gang-0002")
    second = api.compute("GET", f"zones/{ZONE}/instances", maxResults="2", pageToken=first["nextPageToken"])
    assert [one["name"] for one in second["items"]] == ["gang-0003", "gang-0004"]
    assert "nextPageToken" not in second


def test_a_full_last_page_has_no_next_one(api: Api, launch: Any) -> None:
    launch(2)
    assert "nextPageToken" not in api.compute("GET", f"zones/{ZONE}/instances", maxResults="2")


@pytest.mark.parametrize("query", [{"maxResults": "501"}, {"pageToken": "nonsense!"}, {"orderBy": "status"}])
def test_malformed_pages_are_refused(api: Api, query: dict[str, str]) -> None:
    assert api.refused("GET", f"zones/{ZONE}/instances", **query)[0] == 400


def test_operations_can_be_listed_newest_first(api: Api, launch: Any, clock: FakeClock) -> None:
    for number in (1, 2, 3):
        launch(1, pattern=f"gang-{number}-#")
        clock.sleep(seconds(1))
    found: list[str] = []
    query = {"orderBy": "creationTimestamp desc", "maxResults": "2"}
    page = api.compute("GET", f"zones/{ZONE}/operations", **query)
    found += [one["insertTime"] for one in page["items"]]
    page = api.compute("GET", f"zones/{ZONE}/operations", pageToken=page["nextPageToken"], **query)
    found += [one["insertTime"] for one in page["items"]]
    assert found == sorted(found, reverse=True) and len(found) == 3


def test_every_scope_is_listed_with_a_warning_if_it_has_no_results(api: Api, launch: Any) -> None:
    launch(1)
    items = api.compute("GET", "aggregated/instances")["items"]
    assert items["zones/europe-west4-b"]["warning"]["code"] == "NO_RESULTS_ON_PAGE"
    assert "warning" not in items[f"zones/{ZONE}"]


def test_a_zone_that_cannot_be_reached_is_missing_with_a_warning(api: Api, cloud: GcpLocalCloud, launch: Any) -> None:
    launch(1)
    cloud.unreachable = {ZONE}
    page = api.compute("GET", "aggregated/instances")
    assert page["items"][f"zones/{ZONE}"]["warning"]["code"] == "UNREACHABLE"
    assert page["unreachables"] == [f"zones/{ZONE}"]
    cloud.unreachable = set()
    assert len(api.names()) == 1


def test_lists_lag_behind_and_gets_do_not(api: Api, cloud: GcpLocalCloud, clock: FakeClock, launch: Any) -> None:
    cloud.lag = seconds(10)
    launch(1)
    assert api.names() == []
    assert "items" not in api.compute("GET", f"zones/{ZONE}/disks")
    assert api.compute("GET", f"zones/{ZONE}/instances/gang-0001")["status"] == "RUNNING"
    assert [resource.id for resource in cloud.alive()] == ["gang-0001", "gang-0001"]
    clock.sleep(seconds(10))
    assert api.names() == ["gang-0001"]


def test_an_instance_boots_in_steps(api: Api, cloud: GcpLocalCloud, clock: FakeClock, launch: Any) -> None:
    cloud.boot_delay = seconds(40)
    launch(1)
    seen = []
    for _ in range(3):
        seen.append(api.instances()[0]["status"])
        clock.sleep(seconds(20))
    assert seen == ["PROVISIONING", "STAGING", "RUNNING"]
    assert cloud.running_ids() == ["gang-0001"]


def test_the_cloud_offers_what_the_tables_have(api: Api) -> None:
    zones = {zone["name"]: zone["region"].rsplit("/", 1)[-1] for zone in api.compute("GET", "zones")["items"]}
    assert zones[ZONE] == "us-central1" and len(zones) > 100
    regions = {region["name"] for region in api.compute("GET", "regions")["items"]}
    assert regions == set(zones.values())
    machine = api.compute("GET", f"zones/{ZONE}/machineTypes/a3-highgpu-8g")
    assert machine["accelerators"] == [{"guestAcceleratorType": "nvidia-h100-80gb", "guestAcceleratorCount": 8}]
    listed = api.compute("GET", "aggregated/machineTypes", filter="name=a3-highgpu-8g")["items"]
    assert {scope for scope, value in listed.items() if "machineTypes" in value} >= {f"zones/{ZONE}"}
    gpus = api.compute("GET", "aggregated/acceleratorTypes", filter="name=nvidia-tesla-t4")["items"]
    assert gpus[f"zones/{ZONE}"]["acceleratorTypes"][0]["maximumCardsPerInstance"] == 4
    assert api.compute("GET", f"zones/{ZONE}/acceleratorTypes/nvidia-l4")["name"] == "nvidia-l4"
    assert api.compute("GET", f"zones/{ZONE}/acceleratorTypes")["items"]
    assert api.compute("GET", f"zones/{ZONE}/machineTypes", maxResults="5")["nextPageToken"]
    for path in (f"zones/{ZONE}/machineTypes/none", f"zones/{ZONE}/acceleratorTypes/none"):
        assert api.refused("GET", path)[:2] == (404, "notFound")
    assert api.refused("GET", "zones/mars-1-a/machineTypes")[:2] == (400, "invalid")
    assert api.refused("GET", "regions/mars-1")[:2] == (400, "invalid")


def test_images_are_found_by_family_and_by_name(api: Api) -> None:
    base = "/compute/v1/projects/ubuntu-os-cloud/global/images"
    image = api.ok("GET", f"{base}/family/ubuntu-2404-lts-arm64")
    assert (image["architecture"], image["family"]) == ("ARM64", "ubuntu-2404-lts-arm64")
    assert api.ok("GET", f"{base}/{image['name']}")["name"] == image["name"]
    for path in (f"{base}/family/windows", f"{base}/windows-v1", "/compute/v1/projects/nobody/global/images/family/x"):
        assert api.ask("GET", path)[0] == 404
