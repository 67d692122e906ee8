"""bulkInsert on the local Compute Engine: all or nothing, by name, replayed by request id, and what it refuses."""

from typing import Any

import pytest

from multicompute.testing.clock import FakeClock
from multicompute_gcp.local import GcpLocalCloud
from tests.providers.gcp.local.bare_google import IMAGE, ZONE, Api, alone, bulk, properties, seconds

ID = "7f1c8a52-5c1e-4a44-9a53-0d8a2f6f9b11"
BULK = f"zones/{ZONE}/instances/bulkInsert"


def _codes(operation: dict[str, Any]) -> list[str]:
    return [error["code"] for error in operation["error"]["errors"]]


def test_the_complete_gang_is_named_by_pattern_with_labels_on_instances_and_disks(api: Api, launch: Any) -> None:
    operation = launch(3)
    assert (operation["status"], operation["operationType"]) == ("DONE", "bulkInsert")
    assert [(one["name"], one["status"], one["labels"]) for one in api.instances()] == [
        (f"gang-000{number}", "RUNNING", {"team": "nlp"}) for number in (1, 2, 3)
    ]
    disks = api.compute("GET", f"zones/{ZONE}/disks")["items"]
    assert [(disk["name"], disk["labels"]) for disk in disks] == [(f"gang-000{n}", {"team": "nlp"}) for n in (1, 2, 3)]
    assert api.instances()[0]["guestAccelerators"][0]["acceleratorCount"] == 8
    assert "natIP" not in str(api.instances()[0]["networkInterfaces"])


def test_the_first_response_says_that_the_operation_runs(api: Api) -> None:
    operation = api.compute("POST", BULK, bulk())
    assert operation["status"] == "RUNNING"
    path = f"zones/{ZONE}/operations/{operation['name']}"
    assert api.compute("GET", path)["status"] == "DONE"
    assert [one["name"] for one in api.compute("GET", f"zones/{ZONE}/operations")["items"]] == [operation["name"]]


def test_an_operation_takes_its_time_and_its_polls_and_wait_returns_when_it_is_done(
    api: Api, cloud: GcpLocalCloud, clock: FakeClock
) -> None:
    cloud.operation_delay, cloud.operation_polls = seconds(20), 2
    operation = api.compute("POST", BULK, bulk())
    path = f"zones/{ZONE}/operations/{operation['name']}"
    clock.sleep(seconds(21))
    assert [api.compute("GET", path)["status"] for _ in range(3)] == ["RUNNING", "RUNNING", "DONE"]
    before = clock.now()
    other = api.compute("POST", BULK, bulk(pattern="other-#"))
    assert api.done(other)["status"] == "DONE"
    assert clock.now() - before == seconds(20)


def test_a_wait_returns_after_two_minutes_even_if_the_operation_runs(api: Api, cloud: GcpLocalCloud) -> None:
    cloud.operation_delay = seconds(300)
    operation = api.compute("POST", BULK, bulk())
    assert [api.done(operation)["status"] for _ in range(3)] == ["RUNNING", "RUNNING", "DONE"]


def test_the_same_request_id_returns_the_same_operation_and_launches_nothing(api: Api, clock: FakeClock) -> None:
    first = api.compute("POST", BULK, bulk(), requestId=ID)
    again = api.compute("POST", BULK, bulk(), requestId=ID)
    assert (again["name"], again["status"], again["clientOperationId"]) == (first["name"], "DONE", ID)
    assert api.names() == ["gang-0001", "gang-0002"]
    # Google guarantees to remember it for an hour.
    clock.sleep(seconds(3601))
    assert api.compute("POST", BULK, bulk(), requestId=ID)["name"] != first["name"]
    assert len(api.names()) == 4


def test_a_request_id_that_failed_fails_again(api: Api, cloud: GcpLocalCloud, launch: Any) -> None:
    cloud.set_capacity("a3-highgpu-8g", ZONE, 0)
    failed = launch(request_id=ID)
    cloud.set_capacity("a3-highgpu-8g", ZONE, None)
    assert launch(request_id=ID) == failed
    assert api.names() == []


@pytest.mark.parametrize("wrong", ["not-a-uuid", "00000000-0000-0000-0000-000000000000"])
def test_a_request_id_is_a_uuid(api: Api, wrong: str) -> None:
    assert api.refused("POST", BULK, bulk(), requestId=wrong)[:2] == (400, "invalid")


def test_a_request_id_of_another_request_is_refused(api: Api) -> None:
    api.compute("POST", BULK, bulk(), requestId=ID)
    assert api.refused("POST", f"zones/{ZONE}/instances", alone(), requestId=ID)[:2] == (400, "invalid")


def test_numbers_begin_after_the_largest_that_exists(api: Api, launch: Any) -> None:
    launch(2)
    launch(2)
    assert api.names() == ["gang-0001", "gang-0002", "gang-0003", "gang-0004"]


def test_names_can_be_given_one_by_one(api: Api) -> None:
    body = bulk() | {"perInstanceProperties": {"left": {}, "right": {"hostname": "right.example.com"}}}
    del body["namePattern"]
    api.done(api.compute("POST", BULK, body))
    assert [(one["name"], one.get("hostname")) for one in api.instances()] == [
        ("left", None),
        ("right", "right.example.com"),
    ]


# --- a lack of capacity ---------------------------------------------------------------------------------------------------


def test_a_stockout_arrives_inside_the_operation_and_names_zones_with_capacity(
    api: Api, cloud: GcpLocalCloud, launch: Any
) -> None:
    cloud.set_capacity("a3-highgpu-8g", ZONE, 0)
    cloud.set_capacity("a3-highgpu-8g", "us-central1-b", 1)
    operation = launch(2)
    assert _codes(operation) == ["ZONE_RESOURCE_POOL_EXHAUSTED_WITH_DETAILS"]
    assert operation["httpErrorStatusCode"] == 503
    info = operation["error"]["errors"][0]["errorDetails"][1]["errorInfo"]
    assert (info["reason"], info["metadatas"]["vmType"]) == ("resource_availability", "a3-highgpu-8g")
    assert info["metadatas"]["zonesAvailable"].split(",") == ["us-central1-c"]
    assert cloud.alive() == []


def test_a_stockout_can_have_no_http_status(cloud: GcpLocalCloud, launch: Any) -> None:
    cloud.stockout_has_status = False
    cloud.set_capacity("a3-highgpu-8g", ZONE, 0)
    operation = launch(2)
    assert operation["status"] == "DONE" and "httpErrorStatusCode" not in operation
    assert _codes(operation) == ["ZONE_RESOURCE_POOL_EXHAUSTED_WITH_DETAILS"]


def test_too_few_instances_are_reported_before_the_cause_and_none_stays(
    api: Api, cloud: GcpLocalCloud, launch: Any
) -> None:
    cloud.set_capacity("a3-highgpu-8g", ZONE, 2)
    operation = launch(3)
    assert _codes(operation) == ["VM_MIN_COUNT_NOT_REACHED", "ZONE_RESOURCE_POOL_EXHAUSTED_WITH_DETAILS"]
    status = operation["instancesBulkInsertOperationMetadata"]["perLocationStatus"][f"zones/{ZONE}"]
    assert (status["targetVmCount"], status["createdVmCount"], status["status"]) == (3, 2, "ROLLING_BACK")
    group = api.compute(
        "GET", f"zones/{ZONE}/operations", filter=f'operationGroupId = "{operation["operationGroupId"]}"'
    )
    assert {one["operationType"] for one in group["items"]} == {"bulkInsert", "insert"}
    assert cloud.alive() == []


def test_a_launch_with_a_minimum_gets_what_the_zone_has(api: Api, cloud: GcpLocalCloud) -> None:
    cloud.set_capacity("a3-highgpu-8g", ZONE, 2)
    api.done(api.compute("POST", BULK, bulk(3, minimum=1)))
    assert len(api.names()) == 2


def test_a_stockout_leaves_ghosts_for_a_while(api: Api, cloud: GcpLocalCloud, clock: FakeClock, launch: Any) -> None:
    cloud.ghost_time = seconds(30)
    cloud.set_capacity("a3-highgpu-8g", ZONE, 2)
    launch(3)
    assert [(one["name"], one["status"]) for one in api.instances("labels.team=nlp")] == [
        ("gang-0001", "PROVISIONING"),
        ("gang-0002", "PROVISIONING"),
    ]
    api.compute("DELETE", f"zones/{ZONE}/instances/gang-0001")
    assert api.names() == ["gang-0002"]
    clock.sleep(seconds(31))
    assert api.names() == []
    assert cloud.alive() == []


def test_bulk_insert_can_refuse_a_stockout_before_it_begins_an_operation(api: Api, cloud: GcpLocalCloud) -> None:
    cloud.stockout_is_upfront = True
    cloud.set_capacity("a3-highgpu-8g", ZONE, 1)
    assert api.refused("POST", BULK, bulk())[:2] == (503, "insufficientCapacity")


def test_capacity_counts_accelerators_too_and_is_free_again_after_deletion(
    api: Api, cloud: GcpLocalCloud, launch: Any
) -> None:
    cloud.set_capacity("nvidia-h100-80gb", ZONE, 16)
    launch(2)
    assert "error" in launch(1)
    api.compute("DELETE", f"zones/{ZONE}/instances/gang-0001")
    assert "error" not in launch(1)


def test_capacity_of_a_type_that_is_not_offered_is_refused(cloud: GcpLocalCloud) -> None:
    with pytest.raises(ValueError, match="not offered"):
        cloud.set_capacity("a3-highgpu-8g", "europe-north2-a", 1)


# --- quotas ---------------------------------------------------------------------------------------------------------------


def test_bulk_insert_checks_quotas_before_it_begins_an_operation(api: Api, cloud: GcpLocalCloud) -> None:
    cloud.set_quota("PREEMPTIBLE_NVIDIA_L4_GPUS", "us-central1", 8)
    spot = {"provisioningModel": "SPOT", "onHostMaintenance": "TERMINATE"}
    status, reason, message = api.refused("POST", BULK, bulk(2, machineType="g2-standard-96", scheduling=spot))
    assert (status, reason) == (403, "quotaExceeded")
    assert "PREEMPTIBLE_GPUS" not in message
    assert message == "Quota 'PREEMPTIBLE_NVIDIA_L4_GPUS' exceeded. Limit: 8.0 in region us-central1."


def test_accelerators_without_a_metric_count_by_their_family(api: Api, cloud: GcpLocalCloud, launch: Any) -> None:
    cloud.set_quota("NVIDIA_H100_GPUS", "us-central1", 16)
    assert "error" not in launch(2)
    assert api.refused("POST", BULK, bulk(1))[2] == (
        "Quota 'GPUS_PER_GPU_FAMILY' exceeded. Limit: 16.0 in region us-central1."
    )


def test_a_quota_of_the_project_counts_everywhere(api: Api, cloud: GcpLocalCloud, launch: Any) -> None:
    cloud.set_quota("GPUS_ALL_REGIONS", "global", 16)
    launch(2, zone="europe-west4-b")
    assert api.refused("POST", BULK, bulk(1))[2] == "Quota 'GPUS_ALL_REGIONS' exceeded. Limit: 16.0 globally."
    assert api.compute("GET", "")["quotas"][0] == {"metric": "GPUS_ALL_REGIONS", "limit": 16, "usage": 16}


FLEX = {"onHostMaintenance": "TERMINATE", "provisioningModel": "FLEX_START", "maxRunDuration": {"seconds": "3600"}}


def _flex(name: str) -> dict[str, Any]:
    machine = f"zones/{ZONE}/machineTypes/a3-highgpu-8g"
    affinity = {"consumeReservationType": "NO_RESERVATION"}
    return properties(machineType=machine, scheduling=FLEX, reservationAffinity=affinity) | {"name": name}


def test_flex_start_counts_against_the_preemptible_quotas(api: Api, cloud: GcpLocalCloud) -> None:
    cloud.set_quota("PREEMPTIBLE_NVIDIA_H100_GPUS", "us-central1", 8)
    created = [api.done(api.compute("POST", f"zones/{ZONE}/instances", _flex(name))) for name in ("one", "two")]
    assert "error" not in created[0]
    assert "Limit: 8.0" in created[1]["error"]["errors"][0]["message"]


def test_flex_start_in_bulk_is_refused(api: Api) -> None:
    assert "can't be created in bulk" in api.refused("POST", BULK, bulk(2, scheduling=FLEX))[2]


def test_interfaces_of_the_fabric_share_a_network_with_a_subnetwork_for_each(api: Api, cloud: GcpLocalCloud) -> None:
    zone, (one, two) = "us-east4-b", ("rdma-0", "rdma-1")
    cloud.add_network("rdma", ["us-east4"], rdma_zone=zone, subnetworks=[one, two])
    ultra: dict[str, Any] = {
        "machineType": "a3-ultragpu-8g",
        "scheduling": {"onHostMaintenance": "TERMINATE", "provisioningModel": "SPOT"},
    }
    boot = properties()["disks"][0]
    boot["initializeParams"] |= {"diskType": "hyperdisk-balanced"}
    main = {"network": "global/networks/default"}
    cards = [{"subnetwork": f"regions/us-east4/subnetworks/{name}", "nicType": "MRDMA"} for name in (one, two)]
    url = f"zones/{zone}/instances/bulkInsert"

    def body(*interfaces: dict[str, str]) -> dict[str, Any]:
        return bulk(1, disks=[boot], networkInterfaces=list(interfaces), **ultra)

    assert api.done(api.compute("POST", url, body(main, *cards)))["status"] == "DONE"
    assert "must be distinct" in api.refused("POST", url, body(main, cards[0], cards[0]))[2]


def test_the_operation_of_insert_reports_an_exceeded_quota(api: Api, cloud: GcpLocalCloud) -> None:
    cloud.set_quota("CPUS", "us-central1", 1)
    operation = api.done(api.compute("POST", f"zones/{ZONE}/instances", alone()))
    error = operation["error"]["errors"][0]
    assert (error["code"], operation["httpErrorStatusCode"]) == ("QUOTA_EXCEEDED", 403)
    assert error["message"] == "Quota 'CPUS' exceeded.  Limit: 1.0 in region us-central1."
    assert error["errorDetails"][0]["quotaInfo"]["limit"] == 1


def test_a_region_shows_its_quotas_and_their_usage(api: Api, cloud: GcpLocalCloud, launch: Any) -> None:
    cloud.set_quota("NVIDIA_L4_GPUS", "us-central1", 64)
    launch(2, machineType="g2-standard-96")
    quotas = {item["metric"]: item for item in api.compute("GET", "regions/us-central1")["quotas"]}
    assert (quotas["NVIDIA_L4_GPUS"]["limit"], quotas["NVIDIA_L4_GPUS"]["usage"]) == (64, 16)
    assert quotas["INSTANCES"]["usage"] == 2
    assert "NVIDIA_H100_GPUS" not in quotas and "PREEMPTIBLE_NVIDIA_H100_GPUS" in quotas


def test_an_unknown_quota_is_refused(cloud: GcpLocalCloud) -> None:
    with pytest.raises(ValueError, match="NVIDIA_L4_GPUS"):
        cloud.set_quota("L4S", "us-central1", 1)


# --- what is refused ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"machineType": "p5.48xlarge"}, "Machine type with name 'p5.48xlarge' does not exist in zone 'us-central1-a'"),
        ({"machineType": "a4-highgpu-8g"}, "does not exist in zone"),
        ({"scheduling": {}}, "do not support live migration"),
        ({"scheduling": {"onHostMaintenance": "MIGRATE"}}, "do not support live migration"),
        ({"scheduling": {"provisioningModel": "SPOT", "automaticRestart": True}}, "automaticRestart be false"),
        ({"scheduling": {"onHostMaintenance": "TERMINATE", "provisioningModel": "FLEX_START"}}, "10 minutes to 7 days"),
        (
            {
                "scheduling": {
                    "onHostMaintenance": "TERMINATE",
                    "provisioningModel": "FLEX_START",
                    "maxRunDuration": {"seconds": "599"},
                }
            },
            "10 minutes to 7 days",
        ),
        (
            {"scheduling": {"onHostMaintenance": "TERMINATE", "maxRunDuration": {"seconds": "29"}}},
            "from 30 seconds to 120 days",
        ),
        (
            {"scheduling": {"onHostMaintenance": "TERMINATE", "instanceTerminationAction": "DELETE"}},
            "or a time limit",
        ),
        ({"machineType": "a3-highgpu-1g"}, "only sold as flex_start, spot"),
        ({"labels": {"Team": "nlp"}}, "Label keys must match"),
        ({"labels": {"team": "NLP"}}, "Label values must match"),
        ({"labels": {f"key-{n}": "" for n in range(65)}}, "at most 64 labels"),
        ({"disks": []}, "Boot disk must be the first disk"),
        ({"disks": [{"boot": True, "initializeParams": {}}]}, "needs an image"),
        ({"networkInterfaces": []}, "At least one network interface"),
        ({"networkInterfaces": [{"network": "global/networks/nowhere"}]}, "network resource cannot be found"),
        ({"networkInterfaces": [{}, {}]}, "Networks must be distinct"),
        ({"resourcePolicies": ["nowhere"]}, "resourcePolicies/nowhere' was not found"),
        ({"resourcePolicies": ["projects/p/regions/r/resourcePolicies/x"]}, "Must be a match of regex"),
        ({"guestAccelerators": [{"acceleratorType": "nvidia-l4", "acceleratorCount": 1}]}, "comes with 8"),
        ({"metadata": {"items": [{"key": "a", "value": "1"}, {"key": "a", "value": "2"}]}}, "a key of its own"),
        ({"metadata": {"items": [{"key": "a", "value": "x" * 300_000}]}}, "too large"),
    ],
)
def test_a_launch_that_compute_engine_would_refuse_is_refused(
    api: Api, changes: dict[str, Any], says: str | None
) -> None:
    status, _, message = api.refused("POST", BULK, bulk(**changes))
    assert status in (400, 404)
    assert says is None or says in message


@pytest.mark.parametrize(
    ("params", "says"),
    [
        ({"sourceImage": "ubuntu"}, "URL is malformed"),
        ({"sourceImage": "projects/ubuntu-os-cloud/global/images/family/windows"}, "image resource cannot be found"),
        ({"sourceImage": "projects/ubuntu-os-cloud/global/images/family/ubuntu-2404-lts-arm64"}, "not compatible"),
        ({"sourceImage": IMAGE, "diskSizeGb": "5"}, "cannot be smaller than the image size"),
        ({"sourceImage": IMAGE, "diskType": f"zones/{ZONE}/diskTypes/pd-ssd"}, "Must be a match of regex"),
        ({"sourceImage": IMAGE, "diskType": "pd-imaginary"}, "disk type cannot be found"),
    ],
)
def test_boot_disks_are_checked_against_their_image_and_type(api: Api, params: dict[str, Any], says: str) -> None:
    body = bulk(disks=[{"boot": True, "autoDelete": True, "initializeParams": params}])
    status, _, message = api.refused("POST", BULK, body)
    assert status == 400
    assert says in message


@pytest.mark.parametrize(
    ("machine", "zone", "disk", "is_taken"),
    [
        ("g4-standard-48", "us-central1-b", "pd-balanced", False),
        ("g4-standard-48", "us-central1-b", "hyperdisk-balanced", True),
        ("g2-standard-4", ZONE, "hyperdisk-balanced", False),
        ("g2-standard-4", ZONE, "pd-balanced", True),
        ("g2-standard-4", ZONE, None, True),
    ],
)
def test_machine_series_accept_only_some_disk_types(
    api: Api, machine: str, zone: str, disk: str | None, is_taken: bool
) -> None:
    params = {"sourceImage": IMAGE} | ({"diskType": disk} if disk else {})
    body = bulk(1, machineType=machine, disks=[{"boot": True, "autoDelete": True, "initializeParams": params}])
    path = f"/compute/v1/projects/multicompute-local/zones/{zone}/instances/bulkInsert"
    status, answer = api.ask("POST", path, body)
    assert (status == 200) is is_taken, answer


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"count": "0"}, "from 1 to 5000"),
        ({"minCount": "3"}, "from 1 to the count 2"),
        ({"namePattern": "gang"}, "one continuous sequence of #"),
        ({"namePattern": "Gang-#"}, "Must be a match of regex"),
        ({"namePattern": "g" * 70 + "#"}, "Must be a match of regex"),
        ({"perInstanceProperties": {"a": {}}}, "and not both"),
        ({"instanceProperties": {}}, "instanceProperties' not specified"),
    ],
)
def test_a_malformed_gang_is_refused(api: Api, change: dict[str, Any], says: str) -> None:
    status, _, message = api.refused("POST", BULK, bulk() | change)
    assert status == 400
    assert says in message


def test_a_machine_type_by_url_fails_with_an_internal_error(api: Api, launch: Any) -> None:
    operation = launch(1, machineType=f"zones/{ZONE}/machineTypes/a3-highgpu-8g")
    assert _codes(operation) == ["INTERNAL_ERROR"]
    assert api.names() == []


def test_insert_takes_urls_where_bulk_insert_takes_names(api: Api) -> None:
    path = f"zones/{ZONE}/instances"
    assert "URL is malformed" in api.refused("POST", path, alone() | {"machineType": "e2-standard-2"})[2]
    elsewhere = alone() | {"machineType": "zones/us-east1-b/machineTypes/e2-standard-2"}
    assert "another place" in api.refused("POST", path, elsewhere)[2]
    api.done(api.compute("POST", path, alone()))
    assert api.refused("POST", path, alone())[:2] == (409, "alreadyExists")
    assert api.refused("POST", path, properties())[:2] == (400, "required")


def test_attached_accelerators_go_with_n1_in_powers_of_two(api: Api, launch: Any) -> None:
    def attached(machine: str, count: int) -> dict[str, Any]:
        gpu = {"acceleratorType": "nvidia-tesla-t4", "acceleratorCount": count}
        return {"machineType": machine, "guestAccelerators": [gpu]}

    assert "error" not in launch(1, **attached("n1-standard-8", 2))
    assert api.instances()[0]["guestAccelerators"][0]["acceleratorCount"] == 2
    for machine, count in (("n1-standard-8", 3), ("n1-standard-8", 8), ("e2-standard-8", 1)):
        assert "not compatible" in api.refused("POST", BULK, bulk(1, **attached(machine, count)))[2]
    assert "live migration" in api.refused("POST", BULK, bulk(1, **attached("n1-standard-8", 1), scheduling={}))[2]


def test_no_more_than_ten_bulk_operations_run_at_once(api: Api, cloud: GcpLocalCloud) -> None:
    cloud.operation_delay = seconds(10)
    for number in range(10):
        api.compute("POST", BULK, bulk(1, pattern=f"gang-{number}-#"))
    assert api.refused("POST", BULK, bulk(1, pattern="more-#"))[:2] == (403, "rateLimitExceeded")
