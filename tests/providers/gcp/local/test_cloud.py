"""The complete local Google Cloud: faults on the wire, the admin interface, the real SDK, start and stop, size."""

import json
import os
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from http.client import HTTPConnection, RemoteDisconnected
from typing import Any
from urllib.error import HTTPError

import pytest
import requests
from google.api_core import exceptions
from google.cloud import compute_v1, tpu_v2

from multicompute.testing import local_clouds
from multicompute_gcp.local import GcpLocalCloud
from tests.providers.gcp.local.bare_google import PROJECT, ZONE, Api, bulk, seconds

BULK = f"zones/{ZONE}/instances/bulkInsert"
ID = "7f1c8a52-5c1e-4a44-9a53-0d8a2f6f9b11"


# --- faults ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["instances.bulkInsert", "compute.instances.bulkInsert", "*"])
def test_an_injected_refusal_comes_with_its_status_and_does_nothing(api: Api, cloud: GcpLocalCloud, name: str) -> None:
    cloud.faults.fail(name, "backendError", message="come back later", status=503, where={"zone": ZONE})
    assert api.refused("POST", BULK, bulk()) == (503, "backendError", "come back later")
    assert cloud.alive() == []
    api.compute("POST", BULK, bulk())
    assert cloud.faults.count(name) == 2


@pytest.mark.parametrize(("status", "shown"), [(503, 503), (200, None)])
def test_a_code_in_capitals_makes_an_operation_fail(
    api: Api, cloud: GcpLocalCloud, launch: Any, status: int, shown: int | None
) -> None:
    cloud.faults.fail("instances.bulkInsert", "ZONE_RESOURCE_POOL_EXHAUSTED", message="none left", status=status)
    operation = launch(request_id=ID)
    assert operation["error"]["errors"] == [{"code": "ZONE_RESOURCE_POOL_EXHAUSTED", "message": "none left"}]
    assert operation.get("httpErrorStatusCode") == shown
    assert launch(request_id=ID)["name"] == operation["name"]
    assert cloud.alive() == []


def test_operations_of_regions_and_of_the_project_can_fail_too(api: Api, cloud: GcpLocalCloud) -> None:
    cloud.faults.fail("resourcePolicies.insert", "QUOTA_EXCEEDED", status=403)
    cloud.faults.fail("firewalls.insert", "QUOTA_EXCEEDED", status=403)
    policy = {"name": "near", "groupPlacementPolicy": {"collocation": "COLLOCATED"}}
    for path, body in (("regions/us-central1/resourcePolicies", policy), ("global/firewalls", {"name": "x"})):
        operation = api.done(api.compute("POST", path, body))
        assert operation["error"]["errors"][0]["code"] == "QUOTA_EXCEEDED"
    assert cloud.alive() == []


def test_faults_can_be_bound_to_region_count_type_and_name(api: Api, cloud: GcpLocalCloud) -> None:
    fields = {"region": "us-central1", "count": 2, "instance_type": "a3-highgpu-8g", "spot": False}
    cloud.faults.fail("instances.bulkInsert", "backendError", status=503, where=fields)
    cloud.faults.fail("instances.get", "backendError", status=503, where={"name": "gang-0002"})
    api.compute("POST", BULK, bulk(1))
    assert api.refused("POST", BULK, bulk(2))[0] == 503
    api.compute("POST", BULK, bulk(1))
    api.compute("GET", f"zones/{ZONE}/instances/gang-0001")
    assert api.refused("GET", f"zones/{ZONE}/instances/gang-0002")[0] == 503


def test_throttling_has_googles_message(api: Api, cloud: GcpLocalCloud) -> None:
    cloud.faults.throttle("*", times=2, retry_after=seconds(3))
    assert api.refused("GET", "zones") == (403, "rateLimitExceeded", "Rate Limit Exceeded")
    status, code, message = api.refused("GET", "us-east5-a/nodes")
    assert (status, code) == (429, "RESOURCE_EXHAUSTED")
    assert "Requests per minute" in message


def test_an_answer_is_lost_after_the_work_and_a_dropped_call_does_no_work(api: Api, cloud: GcpLocalCloud) -> None:
    cloud.faults.drop("instances.bulkInsert")
    with pytest.raises(RemoteDisconnected):
        api.ask("POST", f"/compute/v1/projects/{PROJECT}/{BULK}", bulk(), requestId=ID)
    assert cloud.running_ids() == []
    cloud.faults.lose_answer("instances.bulkInsert")
    with pytest.raises(RemoteDisconnected):
        api.ask("POST", f"/compute/v1/projects/{PROJECT}/{BULK}", bulk(), requestId=ID)
    assert cloud.running_ids() == ["gang-0001", "gang-0002"]
    assert api.done(api.compute("POST", BULK, bulk(), requestId=ID))["status"] == "DONE"
    assert cloud.running_ids() == ["gang-0001", "gang-0002"]


def test_faults_of_the_tpu_api_refuse_a_call_or_fail_its_operation(api: Api, cloud: GcpLocalCloud) -> None:
    path = "us-east5-a/queuedResources"
    cloud.faults.fail("tpu.queuedResources.create", "PERMISSION_DENIED", status=403)
    assert api.refused("POST", path, {}, queuedResourceId="x")[:2] == (403, "PERMISSION_DENIED")
    cloud.faults.fail("tpu.projects.locations.queuedResources.create", "FAILED_PRECONDITION", status=200)
    operation = api.tpu("POST", path, {}, queuedResourceId="x")
    assert api.ok("GET", f"/v2/{operation['name']}")["error"]["code"] == 9
    assert cloud.alive() == []


def test_a_delayed_answer_is_late_by_the_clouds_own_clock(api: Api, cloud: GcpLocalCloud, clock: Any) -> None:
    before = clock.now()
    cloud.faults.delay("zones.list", seconds(5))
    api.compute("GET", "zones")
    assert clock.now() - before == seconds(5)


def test_calls_are_on_record_with_what_they_asked_for(api: Api, cloud: GcpLocalCloud) -> None:
    api.compute("POST", BULK, bulk(2), requestId=ID)
    api.refused("POST", BULK, {"colour": "red"})
    call, malformed = cloud.faults.calls
    assert (call.operation, call.region) == ("instances.bulkInsert", "us-central1")
    assert (call.fields["zone"], call.fields["count"], call.fields["request_id"]) == (ZONE, 2, ID)
    assert malformed.operation == "instances.bulkInsert"


# --- the admin interface ---------------------------------------------------------------------------------------


def _http(url: str, body: dict[str, Any] | None = None, **headers: str) -> Any:
    data = None if body is None else json.dumps(body).encode()
    with urllib.request.urlopen(urllib.request.Request(url, data, headers)) as answer:
        return json.load(answer)


def test_the_admin_interface_injects_faults_and_shows_what_is_alive(
    api: Api, cloud: GcpLocalCloud, launch: Any
) -> None:
    url = cloud.endpoint_url + "/_local/"
    _http(url + "faults", {"kind": "fail", "operation": "instances.bulkInsert", "code": "nope", "where": {"count": 1}})
    assert api.refused("POST", BULK, bulk(1))[1] == "nope"
    launch(1, scheduling={"provisioningModel": "SPOT", "instanceTerminationAction": "DELETE"})
    assert [item["id"] for item in _http(url + "alive") if item["kind"] == "instance"] == ["gang-0001"]
    assert "instances.bulkInsert" in {call["operation"] for call in _http(url + "calls")}
    _http(url + "preempt", {"node_id": "gang-0001"})
    _http(url + "delays", {"boot": 30})
    _http(url + "quota", {"quota": "NVIDIA_H100_GPUS", "region": "us-central1", "value": 0})
    assert api.refused("POST", BULK, bulk(1))[1] == "quotaExceeded"
    _http(url + "capacity", {"instance_type": "g2-standard-4", "place": ZONE, "nodes": 0})
    assert "error" in launch(1, machineType="g2-standard-4")
    _http(url + "clear", {})
    assert cloud.faults.calls == [] and cloud.boot_delay == seconds(30)


@pytest.mark.parametrize(
    ("path", "body", "headers", "status"),
    [
        ("alive", None, {"Host": "evil.example:80"}, 403),
        ("nonsense", None, {}, 404),
        ("nonsense", {}, {}, 404),
        ("faults", {"kind": "explode", "operation": "x"}, {}, 400),
        ("preempt", {"node_id": "nobody"}, {}, 400),
    ],
)
def test_the_admin_interface_refuses_other_hosts_and_unknown_commands(
    cloud: GcpLocalCloud, path: str, body: dict[str, Any] | None, headers: dict[str, str], status: int
) -> None:
    with pytest.raises(HTTPError) as caught:
        _http(f"{cloud.endpoint_url}/_local/{path}", body, **headers)
    with caught.value as answer:
        assert answer.code == status
        assert json.load(answer)["error"]


# --- the real SDK ---------------------------------------------------------------------------------------------------------


def _gang(**changes: Any) -> compute_v1.BulkInsertInstanceResource:
    parsed = compute_v1.BulkInsertInstanceResource.from_json(json.dumps(bulk(**changes)))
    assert isinstance(parsed, compute_v1.BulkInsertInstanceResource)
    return parsed


def test_googles_compute_clients_launch_list_and_delete(cloud: GcpLocalCloud, sdk: Any) -> None:
    instances, operations = compute_v1.InstancesClient(**sdk), compute_v1.ZoneOperationsClient(**sdk)
    where: dict[str, Any] = {"project": PROJECT, "zone": ZONE}
    operation = instances.bulk_insert_unary(**where, bulk_insert_instance_resource_resource=_gang(count=3))
    done = operations.wait(**where, operation=operation.name)
    assert done.status == compute_v1.Operation.Status.DONE
    request = compute_v1.AggregatedListInstancesRequest(project=PROJECT, filter="labels.team=nlp", max_results=2)
    found = [one for _, scope in instances.aggregated_list(request=request) for one in scope.instances]
    assert [(one.name, one.status) for one in found] == [(f"gang-000{number}", "RUNNING") for number in (1, 2, 3)]
    for one in found:
        operation = instances.delete_unary(**where, instance=one.name)
        operations.wait(**where, operation=operation.name)
    assert cloud.alive() == []
    with pytest.raises(exceptions.NotFound) as caught:
        instances.get(**where, instance="gang-0001")
    assert caught.value.errors[0]["reason"] == "notFound"


def test_googles_clients_read_a_stockout_a_quota_and_a_malformed_request(cloud: GcpLocalCloud, sdk: Any) -> None:
    instances, operations = compute_v1.InstancesClient(**sdk), compute_v1.ZoneOperationsClient(**sdk)
    where: dict[str, Any] = {"project": PROJECT, "zone": ZONE}
    cloud.set_capacity("a3-highgpu-8g", ZONE, 0)
    operation = instances.bulk_insert_unary(**where, bulk_insert_instance_resource_resource=_gang())
    done = operations.wait(**where, operation=operation.name)
    assert [error.code for error in done.error.errors] == ["ZONE_RESOURCE_POOL_EXHAUSTED_WITH_DETAILS"]
    assert done.error.errors[0].error_details[1].error_info.metadatas["vmType"] == "a3-highgpu-8g"
    cloud.set_quota("NVIDIA_H100_GPUS", "us-central1", 0)
    with pytest.raises(exceptions.Forbidden) as caught:
        instances.bulk_insert_unary(**where, bulk_insert_instance_resource_resource=_gang())
    assert caught.value.errors[0]["reason"] == "quotaExceeded"
    region = compute_v1.RegionsClient(**sdk).get(project=PROJECT, region="us-central1")
    assert {quota.metric for quota in region.quotas} >= {"NVIDIA_L4_GPUS"}


def test_googles_tpu_client_queues_reads_and_deletes(cloud: GcpLocalCloud, sdk: Any) -> None:
    client: Any = tpu_v2.TpuClient(**sdk)
    parent = f"projects/{PROJECT}/locations/us-east5-a"
    node = {"accelerator_type": "v5p-32", "runtime_version": "v2-alpha-tpuv5", "labels": {"team": "nlp"}}
    several = {"node_count": 2, "node_id_prefix": "part"}
    queued = {
        "tpu": {"node_spec": [{"parent": parent, "node": node, "multislice_params": several}]},
        "queueing_policy": {"valid_until_duration": {"seconds": 600}},
        "spot": {},
    }
    request = {"parent": parent, "queued_resource_id": "train", "queued_resource": queued, "request_id": ID}
    answered = client.create_queued_resource(request=request).result()
    assert answered.name.endswith("/train")
    found = client.get_queued_resource(name=f"{parent}/queuedResources/train")
    assert found.state.state.name == "ACTIVE"
    nodes = list(client.list_nodes(parent=f"projects/{PROJECT}/locations/-"))
    assert [len(one.network_endpoints) for one in nodes] == [4, 4]
    with pytest.raises(exceptions.BadRequest):
        client.delete_queued_resource(name=found.name)
    client.delete_queued_resource(request={"name": found.name, "force": True}).result()
    assert cloud.alive() == []


# --- the complete cloud -----------------------------------------------------------------------------------------------------------


def test_foreign_resources_are_left_out_of_what_is_alive_and_watched(api: Api, cloud: GcpLocalCloud) -> None:
    cloud.seed_foreign("us-east5")
    assert cloud.alive() == [] and cloud.running_ids() == []
    assert cloud.foreign_intact()
    zone = "us-east5-a"
    assert len(api.names("name:foreign*")) == 3
    assert len(api.tpu("GET", "-/queuedResources")["queuedResources"]) == 4
    (current,) = (one for one in api.instances() if one["name"] == "foreign-0")
    changed = {"labels": {}, "labelFingerprint": current["labelFingerprint"]}
    api.compute("POST", f"zones/{zone}/instances/foreign-0/setLabels", changed)
    assert not cloud.foreign_intact()
    (fingerprint,) = (one["labelFingerprint"] for one in api.instances() if one["name"] == "foreign-0")
    back = {"labels": current["labels"], "labelFingerprint": fingerprint}
    api.compute("POST", f"zones/{zone}/instances/foreign-0/setLabels", back)
    assert cloud.foreign_intact()
    api.compute("DELETE", f"zones/{zone}/disks/foreign-1-data")
    assert not cloud.foreign_intact()


def test_it_serves_this_machine_only_and_leaves_no_thread_and_no_port() -> None:
    before = set(threading.enumerate())
    cloud = GcpLocalCloud()
    cloud.start()
    cloud.start()
    host, port = cloud.endpoint_url.removeprefix("http://").split(":")
    assert host == "127.0.0.1"
    held = HTTPConnection(host, int(port))
    held.request("GET", "/_local/alive")
    assert json.load(held.getresponse()) == []
    folder = cloud.environment["CLOUDSDK_CONFIG"]
    cloud.stop()
    cloud.stop()
    assert set(threading.enumerate()) <= before
    assert held.sock.recv(1) == b""
    held.close()
    assert not os.path.exists(folder)
    with pytest.raises(OSError, match=r"refused"):
        socket.create_connection((host, int(port)))
    with pytest.raises(RuntimeError, match="not started"):
        _ = cloud.environment


def test_a_stopped_cloud_starts_again_empty(cloud: GcpLocalCloud) -> None:
    for _ in range(2):
        cloud.seed_foreign()
        assert cloud.foreign_intact()
        Api(cloud).compute("POST", BULK, bulk(1))
        cloud.stop()
        cloud.start()
        assert cloud.alive() == [] and Api(cloud).names() == []


def test_two_clouds_in_one_process_do_not_see_each_other(cloud: GcpLocalCloud, api: Api) -> None:
    other = GcpLocalCloud()
    other.start()
    try:
        api.compute("POST", BULK, bulk(1))
        assert (len(cloud.alive()), other.alive()) == (2, [])
    finally:
        other.stop()


def test_local_clouds_changes_the_environment_and_restores_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GOOGLE_CLOUD_PROJECT", "production")
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", "/home/me/key.json")
    cloud = GcpLocalCloud()
    cloud.start()
    try:
        assert cloud.environment["GOOGLE_CLOUD_PROJECT"] == cloud.project
        assert cloud.environment["GOOGLE_APPLICATION_CREDENTIALS"] == ""
        assert os.listdir(cloud.environment["CLOUDSDK_CONFIG"]) == []
    finally:
        cloud.stop()
    with local_clouds("gcp", lag=seconds(0), operation_polls=1) as clouds:
        assert os.environ["MULTICOMPUTE_GCP__ENDPOINT_URL"] == clouds.gcp.endpoint_url
        assert clouds.of(GcpLocalCloud).operation_polls == 1 and clouds.alive() == []
    assert os.environ["GOOGLE_CLOUD_PROJECT"] == "production"


def test_a_process_that_does_not_stop_the_cloud_still_exits() -> None:
    script = (
        "import urllib.request; from multicompute_gcp.local import GcpLocalCloud; c = GcpLocalCloud(); c.start();"
        "urllib.request.urlopen(c.endpoint_url + '/_local/alive').read()"
    )
    done = subprocess.run([sys.executable, "-c", script], timeout=60, capture_output=True, text=True, check=False)
    assert done.returncode == 0


def test_it_imports_no_sdk() -> None:
    script = (
        "import sys; import multicompute_gcp.local;"
        "print([name for name in ('google', 'googleapiclient', 'requests') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], timeout=60, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_many_callers_at_once_get_what_each_of_them_asked_for(api: Api, cloud: GcpLocalCloud) -> None:
    failures: list[object] = []

    def work(number: int) -> None:
        try:
            api.done(api.compute("POST", BULK, bulk(5, pattern=f"gang-{number}-#", labels={"gang": str(number)})))
            names = api.names(f"labels.gang={number}")
            assert names == [f"gang-{number}-{index}" for index in range(1, 6)]
            for name in names:
                api.compute("DELETE", f"zones/{ZONE}/instances/{name}")
        except BaseException as error:  # noqa: BLE001 - whatever it is, the test is to see it
            failures.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == [] and cloud.alive() == []


@pytest.fixture
def held(cloud: GcpLocalCloud) -> Iterator[requests.Session]:
    with requests.Session() as session:
        yield session


def test_ten_thousand_instances_are_created_and_listed_in_seconds(cloud: GcpLocalCloud, held: requests.Session) -> None:
    url = f"{cloud.endpoint_url}/compute/v1/projects/{PROJECT}"
    begun = time.perf_counter()
    for number in range(10):
        body = bulk(1000, pattern=f"gang-{number}-####")
        assert held.post(f"{url}/{BULK}", json=body, timeout=30).status_code == 200
    names: list[str] = []
    query = {"filter": "labels.team=nlp"}
    while True:
        page = held.get(f"{url}/aggregated/instances", params=query, timeout=30).json()
        names += [one["name"] for scope in page["items"].values() for one in scope.get("instances", [])]
        if "nextPageToken" not in page:
            break
        query["pageToken"] = page["nextPageToken"]
    assert len(set(names)) == 10_000
    assert len(cloud.alive()) == 20_000
    # Half a second on an idle machine.
    assert time.perf_counter() - begun < 15
