"""The complete local Azure: start and stop, environment, faults, the admin interface, the real SDK."""

import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from http.client import RemoteDisconnected
from typing import Any

import pytest
from azure.core.exceptions import HttpResponseError, ResourceExistsError, ResourceNotFoundError

from multicompute.testing import FakeClock
from multicompute_azure.local import AzureLocalCloud
from tests.providers.azure.local.raw_arm import GROUPS, SIZE, Arm, Site, scale_set
from tests.providers.fresh_python import printed

PUT = "virtualMachineScaleSets.createOrUpdate"


def test_it_starts_and_stops_quickly_and_leaves_no_thread() -> None:
    before = set(threading.enumerate())
    cloud = AzureLocalCloud()
    # Of the processor, so that a busy machine makes no difference.
    began = time.process_time()
    cloud.start()
    cloud.start()
    assert time.process_time() - began < 1
    assert cloud.endpoint_url.startswith("http://127.0.0.1:")
    cloud.stop()
    cloud.stop()
    assert set(threading.enumerate()) == before
    with pytest.raises(RuntimeError, match="not started"):
        _ = cloud.environment


def test_importing_it_imports_no_sdk() -> None:
    code = (
        "import sys, multicompute_azure.local; print([name for name in sys.modules if name.split('.')[0] == 'azure'])"
    )
    assert printed(code) == "[]"


def test_without_the_sdk_it_says_which_package_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    # Patched, because a test cannot uninstall a package.
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ModuleNotFoundError) as caught:
        AzureLocalCloud()
    assert caught.value.name == "azure.mgmt.compute"


def test_a_stopped_cloud_starts_again_empty(cloud: AzureLocalCloud, site: Site) -> None:
    site.launch(1)
    cloud.stop()
    cloud.start()
    assert cloud.alive() == []


def test_the_default_credential_of_the_sdk_gets_a_token(
    cloud: AzureLocalCloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    from azure.identity import DefaultAzureCredential

    for name in ("AZURE_CLIENT_ID", "AZURE_CLIENT_SECRET", "AZURE_USERNAME", "AZURE_PASSWORD"):
        monkeypatch.setenv(name, "of-the-user")
    for name, value in cloud.environment.items():
        monkeypatch.setenv(name, value)
    with DefaultAzureCredential() as credential:
        token = credential.get_token("https://management.azure.com/.default")
    assert token.token.count(".") == 2
    assert token.expires_on > 0


def test_a_token_needs_the_identity_header(arm: Arm) -> None:
    path = "/msi/token?resource=https://management.azure.com&api-version=2019-08-01"
    assert arm.url("GET", path).status == 401
    arm.headers["X-IDENTITY-HEADER"] = arm.cloud.environment["IDENTITY_HEADER"]
    assert arm.url("GET", path).status == 200
    assert arm.url("GET", "/msi/token?resource=x&api-version=2017-09-01").status == 400


def test_the_real_sdk_creates_finds_and_deletes_a_gang(cloud: AzureLocalCloud, sdk: Any) -> None:
    sdk.resources.resource_groups.create_or_update("sdk", {"location": "eastus"})
    space = {
        "addressSpace": {"addressPrefixes": ["10.0.0.0/16"]},
        "subnets": [{"name": "s", "properties": {"addressPrefix": "10.0.0.0/20"}}],
    }
    network = sdk.network.virtual_networks.begin_create_or_update(
        "sdk", "net", {"location": "eastus", "properties": space}
    ).result()
    made = sdk.compute.virtual_machine_scale_sets.begin_create_or_update(
        "sdk", "gang", scale_set(network.subnets[0].id, 3)
    ).result()
    assert made.provisioning_state == "Succeeded"
    machines = list(sdk.compute.virtual_machines.list("sdk"))
    assert [machine.provisioning_state for machine in machines] == ["Succeeded"] * 3
    viewed = sdk.compute.virtual_machines.get("sdk", machines[0].name, expand="instanceView")
    assert [status.code for status in viewed.instance_view.statuses] == [
        "ProvisioningState/succeeded",
        "PowerState/running",
    ]
    assert len(list(sdk.resources.resources.list(filter="tagName eq 'team'"))) == 10
    assert len(list(sdk.network.network_interfaces.list("sdk"))) == 3
    assert {usage.name.value for usage in sdk.compute.usage.list("eastus")} >= {"cores", "lowPriorityCores"}
    sdk.compute.virtual_machine_scale_sets.begin_delete("sdk", "gang", force_deletion=True).result()
    assert cloud.running_ids() == []
    sdk.resources.resource_groups.begin_delete("sdk").result()
    assert not sdk.resources.resource_groups.check_existence("sdk")
    assert cloud.alive() == []


def code_of(error: HttpResponseError) -> str | None:
    return error.error.code if error.error else None


def test_the_real_sdk_raises_its_own_errors(cloud: AzureLocalCloud, sdk: Any, site: Site) -> None:
    with pytest.raises(ResourceNotFoundError) as missing:
        sdk.compute.virtual_machines.get("site", "none")
    assert code_of(missing.value) == "ResourceNotFound"
    cloud.set_quota("cores", "eastus", 0)
    begin = sdk.compute.virtual_machine_scale_sets.begin_create_or_update
    with pytest.raises(ResourceExistsError) as quota:
        begin("site", "gang", scale_set(site.subnet))
    assert code_of(quota.value) == "OperationNotAllowed"
    cloud.set_quota("cores", "eastus", 1000)
    cloud.set_capacity(SIZE, "eastus-1", 1)
    with pytest.raises(HttpResponseError) as stockout:
        begin("site", "gang", scale_set(site.subnet)).result()
    assert (stockout.value.status_code, code_of(stockout.value)) == (200, "ZonalAllocationFailed")


def test_a_fault_hits_the_calls_that_it_is_bound_to(cloud: AzureLocalCloud, site: Site) -> None:
    where = {"region": "eastus", "size": SIZE, "count": 2, "name": "gang", "zone": "1", "spot": False}
    cloud.faults.fail(PUT, "InternalServerError", status=500, where=where)
    assert site.launch(3).status == 201
    assert (site.launch(2).status, site.launch(2).status) == (500, 200)
    assert cloud.faults.count(PUT) == 3


def test_a_throttled_call_says_when_to_retry(cloud: AzureLocalCloud, site: Site) -> None:
    cloud.faults.throttle(PUT, retry_after=timedelta(seconds=17))
    answer = site.launch()
    assert (answer.status, answer.code, answer.headers["retry-after"]) == (429, "TooManyRequests", "17")
    assert cloud.running_ids() == []


def test_an_answer_can_be_lost_after_the_work_and_a_connection_dropped_before_it(
    cloud: AzureLocalCloud, site: Site
) -> None:
    cloud.faults.drop(PUT)
    cloud.faults.lose_answer(PUT)
    for machines in (0, 2):
        with pytest.raises((RemoteDisconnected, ConnectionError)):
            site.launch(2)
        assert len(cloud.running_ids()) == machines


def test_a_late_answer_lets_time_pass(cloud: AzureLocalCloud, clock: FakeClock, site: Site) -> None:
    before = clock.now()
    cloud.faults.delay(PUT, timedelta(minutes=5))
    assert site.launch().status == 201
    assert clock.now() - before == timedelta(minutes=5)


@pytest.mark.parametrize("operation", ["createOrUpdate", "delete"])
def test_an_operation_can_be_broken_after_it_was_accepted(cloud: AzureLocalCloud, site: Site, operation: str) -> None:
    cloud.faults.fail(
        f"virtualMachineScaleSets.{operation}.operation", "InternalExecutionError", message="It broke.", status=500
    )
    answer = site.launch(4)
    if operation == "delete":
        site.outcome(answer)
        answer = site.arm("DELETE", f"{site.compute}/virtualMachineScaleSets/gang")
    outcome = site.outcome(answer)
    assert (outcome["status"], outcome["error"]) == (
        "Failed",
        {"code": "InternalExecutionError", "message": "It broke."},
    )
    assert len(cloud.running_ids()) == (4 if operation == "createOrUpdate" else 2)
    assert (
        site.arm("GET", f"{site.compute}/virtualMachineScaleSets/gang").body["properties"]["provisioningState"]
        == "Failed"
    )


def test_operations_report_progress_for_the_set_number_of_polls(cloud: AzureLocalCloud, site: Site) -> None:
    cloud.operation_polls, cloud.retry_after = 3, timedelta(seconds=5)
    answer = site.launch(1)
    assert answer.headers["retry-after"] == "5"
    url = answer.headers["azure-asyncoperation"]
    statuses = [site.arm.url("GET", url).body["status"] for _ in range(4)]
    assert statuses == ["InProgress"] * 3 + ["Succeeded"]
    assert site.arm.url("GET", url.replace("-4000-", "-4001-")).code == "OperationNotFound"


def test_listings_show_foreign_resources_and_alive_does_not(cloud: AzureLocalCloud, arm: Arm) -> None:
    cloud.seed_foreign()
    assert cloud.alive() == []
    assert cloud.running_ids() == []
    machines = arm.all("/providers/Microsoft.Compute/virtualMachines")
    assert len(machines) == 4
    assert cloud.foreign_intact()
    arm("PATCH", machines[0]["id"].partition(cloud.subscription_id)[2], {"tags": {}})
    assert not cloud.foreign_intact()


def test_foreign_resources_can_be_in_an_existing_group(cloud: AzureLocalCloud, site: Site) -> None:
    before = cloud.alive()
    cloud.seed_foreign(resource_group="site")
    assert cloud.alive() == before
    site.arm("DELETE", site.group, version=GROUPS)
    assert not cloud.foreign_intact()


def test_the_admin_interface_injects_faults_and_shows_calls_and_what_is_alive(
    cloud: AzureLocalCloud, site: Site
) -> None:
    fault = {"kind": "fail", "operation": PUT, "code": "Conflict", "status": 409}
    assert site.arm.url("POST", "/_local/faults", fault).status == 200
    assert site.launch().code == "Conflict"
    assert (
        site.arm.url("POST", "/_local/capacity", {"instance_type": SIZE, "place": "eastus-1", "nodes": 0}).status == 200
    )
    assert site.launch().code == "SkuNotAvailable"
    assert site.arm.url("POST", "/_local/capacity", {"instance_type": SIZE, "place": "mars", "nodes": 0}).status == 400
    reserved = site.arm.url("POST", "/_local/reserve", {"instance_type": SIZE, "place": "eastus-1", "nodes": 1})
    assert "/capacityReservationGroups/" in reserved.body["result"]
    assert {resource["kind"] for resource in site.arm.url("GET", "/_local/alive").body} == {
        "resourceGroups",
        "virtualNetworks",
    }
    calls = site.arm.url("GET", "/_local/calls").body
    assert [call["region"] for call in calls if call["operation"] == PUT] == ["eastus", "eastus"]
    assert site.arm.url("POST", "/_local/delays", {"boot": 60}).status == 200
    assert cloud.boot_delay == timedelta(minutes=1)
    assert site.arm.url("POST", "/_local/clear", {}).status == 200
    assert cloud.faults.calls == []
    assert site.arm.url("POST", "/_local/nothing", {}).status == 404
    site.arm.headers["Host"] = "evil.example"
    assert site.arm.url("GET", "/_local/alive").status == 403


@pytest.mark.parametrize(
    ("size", "place"), [("Standard_Nonsense", "eastus"), (SIZE, "atlantis"), (SIZE, "eastus-4"), (SIZE, "northeurope")]
)
def test_a_condition_for_an_unknown_size_or_place_is_refused(cloud: AzureLocalCloud, size: str, place: str) -> None:
    for switch in (cloud.set_capacity, cloud.add_reservation):
        with pytest.raises(ValueError, match="is not sold|neither a region"):
            switch(size, place, 0)
    with pytest.raises(ValueError, match="must be one of"):
        cloud.set_quota("cheese", "eastus", 1)
    with pytest.raises(ValueError, match="no such virtual machine"):
        cloud.preempt("none")


def test_many_callers_at_once_get_what_they_asked_for_and_no_more(cloud: AzureLocalCloud, site: Site) -> None:
    cloud.set_capacity(SIZE, "eastus-1", 20)
    with ThreadPoolExecutor(8) as pool:
        same = list(pool.map(lambda _: site.launch(4).status, range(8)))
        others = list(pool.map(lambda number: site.launch(4, f"gang-{number}").status, range(4)))
    assert sorted(same) == [200] * 7 + [201]
    assert others == [201] * 4
    assert len(cloud.running_ids()) == 20


def test_ten_thousand_machines_are_created_listed_and_deleted_in_seconds(cloud: AzureLocalCloud, site: Site) -> None:
    began = time.monotonic()
    for number in range(10):
        assert site.launch(1000, f"gang-{number}", size="Standard_D2s_v5").status == 201
    assert len(site.machines()) == 10_000
    assert len(cloud.alive()) == 30_012
    site.arm("DELETE", site.group, version=GROUPS)
    assert cloud.alive() == []
    # Measured on two cores: 1.5 s.
    assert time.monotonic() - began < 20


def test_every_call_can_be_written_as_json(cloud: AzureLocalCloud, site: Site) -> None:
    site.launch()
    assert json.loads(json.dumps([dict(call.fields) for call in cloud.faults.calls]))
