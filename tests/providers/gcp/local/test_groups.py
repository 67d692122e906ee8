"""Managed instance groups, resize requests and instance templates of the local Compute Engine, as Google documents them."""

from datetime import timedelta
from typing import Any

import pytest

from multicompute.testing.clock import FakeClock
from multicompute_gcp.local import GcpLocalCloud
from tests.providers.gcp.local.bare_google import ZONE, Api, properties

FLEX = {
    "onHostMaintenance": "TERMINATE",
    "provisioningModel": "FLEX_START",
    "maxRunDuration": {"seconds": "3600"},
    "instanceTerminationAction": "DELETE",
}
NO_RESERVATION = {"consumeReservationType": "NO_RESERVATION"}
TEMPLATES, GROUPS = "regions/us-central1/instanceTemplates", f"zones/{ZONE}/instanceGroupManagers"
REQUESTS = f"{GROUPS}/group/resizeRequests"


def _lay_out(api: Api, *, repairs: bool = False, group: dict[str, Any] | None = None, **changes: Any) -> None:
    made = properties(**{"scheduling": FLEX, "reservationAffinity": NO_RESERVATION, **changes})
    api.done(api.compute("POST", TEMPLATES, {"name": "template", "properties": made}))
    body: dict[str, Any] = {"name": "group", "instanceTemplate": f"{TEMPLATES}/template", "targetSize": 0}
    if not repairs:
        body["instanceLifecyclePolicy"] = {"defaultActionOnFailure": "DO_NOTHING"}
    api.done(api.compute("POST", GROUPS, body | (group or {})))


def _ask(api: Api, *names: str, **more: Any) -> None:
    body = {"name": "request", "instances": [{"name": name} for name in names], **more}
    api.done(api.compute("POST", REQUESTS, body))


def _state(api: Api) -> str:
    return str(api.compute("GET", f"{REQUESTS}/request")["state"])


def test_a_request_creates_all_its_instances_at_once_by_name(api: Api) -> None:
    _lay_out(api)
    _ask(api, "one", "two")
    assert _state(api) == "SUCCEEDED"
    assert api.names() == ["one", "two"]
    (first, _) = api.instances()
    metadata = {item["key"]: item["value"] for item in first["metadata"]["items"]}
    assert metadata["created-by"].endswith(f"{GROUPS}/group")
    assert api.compute("GET", f"{GROUPS}/group")["targetSize"] == 2


def test_a_request_by_number_gets_names_from_the_group(api: Api) -> None:
    _lay_out(api)
    api.done(api.compute("POST", REQUESTS, {"name": "request", "resizeBy": 2}))
    assert len(api.names()) == 2 and all(name.startswith("group-") for name in api.names())


def test_a_request_is_created_then_accepted_and_waits_until_all_of_it_fits(
    api: Api, cloud: GcpLocalCloud, clock: FakeClock
) -> None:
    cloud.set_capacity("a3-highgpu-8g", ZONE, 1)
    _lay_out(api)
    cloud.set_delays(operation=10)
    api.compute("POST", REQUESTS, {"name": "request", "resizeBy": 2})
    assert _state(api) == "CREATING"
    assert "can't be cancelled" in api.refused("POST", f"{REQUESTS}/request/cancel")[2]
    clock.advance(timedelta(seconds=11))
    found = api.compute("GET", f"{REQUESTS}/request")
    assert found["state"] == "ACCEPTED"
    assert found["status"]["lastAttempt"]["error"]["errors"][0]["code"] == "ZONE_RESOURCE_POOL_EXHAUSTED_WITH_DETAILS"
    assert api.names() == []
    cloud.set_capacity("a3-highgpu-8g", ZONE, 2)
    assert _state(api) == "SUCCEEDED" and len(api.names()) == 2


def test_a_quota_keeps_a_request_in_the_queue(api: Api, cloud: GcpLocalCloud) -> None:
    cloud.set_quota("PREEMPTIBLE_NVIDIA_H100_GPUS", "us-central1", 8)
    _lay_out(api)
    _ask(api, "one", "two")
    found = api.compute("GET", f"{REQUESTS}/request")
    assert (found["state"], found["status"]["lastAttempt"]["error"]["errors"][0]["code"]) == (
        "ACCEPTED",
        "QUOTA_EXCEEDED",
    )


def test_an_active_request_is_cancelled_before_it_or_its_group_is_deleted(api: Api, cloud: GcpLocalCloud) -> None:
    cloud.set_capacity("a3-highgpu-8g", ZONE, 0)
    _lay_out(api)
    _ask(api, "one")
    assert "can't be deleted" in api.refused("DELETE", f"{REQUESTS}/request")[2]
    assert api.refused("DELETE", f"{GROUPS}/group")[1] == "resourceNotReady"
    api.done(api.compute("POST", f"{REQUESTS}/request/cancel"))
    assert _state(api) == "CANCELLED"
    cloud.set_capacity("a3-highgpu-8g", ZONE, None)
    assert api.names() == []
    api.done(api.compute("DELETE", f"{REQUESTS}/request"))
    assert "items" not in api.compute("GET", REQUESTS)


def test_a_group_is_deleted_with_its_instances_and_only_then_its_template(api: Api) -> None:
    _lay_out(api)
    _ask(api, "one", "two")
    assert api.refused("DELETE", f"{TEMPLATES}/template")[1] == "resourceInUseByAnotherResource"
    api.done(api.compute("DELETE", f"{GROUPS}/group"))
    assert api.names() == []
    api.done(api.compute("DELETE", f"{TEMPLATES}/template"))
    assert "items" not in api.compute("GET", TEMPLATES)


@pytest.mark.parametrize("repairs", [True, False])
def test_a_group_makes_a_deleted_member_again_unless_it_was_told_to_do_nothing(api: Api, repairs: bool) -> None:
    _lay_out(api, repairs=repairs)
    _ask(api, "one", "two")
    api.done(api.compute("DELETE", f"zones/{ZONE}/instances/one"))
    assert api.names() == (["one", "two"] if repairs else ["two"])
    api.done(api.compute("POST", f"{GROUPS}/group/deleteInstances", {"instances": [f"zones/{ZONE}/instances/two"]}))
    assert api.names() == (["one"] if repairs else [])


def test_the_run_duration_of_a_request_replaces_that_of_the_template(api: Api, cloud: GcpLocalCloud) -> None:
    _lay_out(api)
    _ask(api, "one", requestedRunDuration={"seconds": "7200"})
    cloud.pass_time(timedelta(hours=1, minutes=30))
    assert api.names() == ["one"]
    cloud.pass_time(timedelta(hours=1))
    assert api.names() == []


@pytest.mark.parametrize(
    ("template", "request_", "says"),
    [
        ({}, {"resizeBy": 1, "instances": [{"name": "one"}]}, "Exactly one of"),
        ({}, {}, "Exactly one of"),
        ({}, {"instances": [{"name": "one"}, {"name": "one"}]}, "a name of its own"),
        ({}, {"resizeBy": 1, "requestedRunDuration": {"seconds": "599"}}, "10 minutes to 7 days"),
        ({"reservationAffinity": {}}, {"resizeBy": 1}, "NO_RESERVATION"),
        ({"machineType": "a4-highgpu-8g"}, {"resizeBy": 1}, "does not exist in zone"),
        ({"scheduling": {"provisioningModel": "SPOT"}}, {"resizeBy": 1}, "can't create spot"),
    ],
)
def test_a_request_that_compute_engine_would_refuse_is_refused(
    api: Api, template: dict[str, Any], request_: dict[str, Any], says: str
) -> None:
    _lay_out(api, **template)
    assert says in api.refused("POST", REQUESTS, {"name": "request", **request_})[2]


def test_flex_start_alone_waits_for_as_long_as_it_was_asked_to(api: Api, cloud: GcpLocalCloud) -> None:
    cloud.set_capacity("a3-highgpu-8g", ZONE, 0)
    body = properties(scheduling=FLEX, reservationAffinity=NO_RESERVATION)
    body |= {"name": "one", "machineType": f"zones/{ZONE}/machineTypes/a3-highgpu-8g"}
    refused = api.done(api.compute("POST", f"zones/{ZONE}/instances", body))
    assert refused["error"]["errors"][0]["code"].startswith("ZONE_RESOURCE_POOL_EXHAUSTED")
    waiting = body | {"params": {"requestValidForDuration": {"seconds": "600"}}}
    api.compute("POST", f"zones/{ZONE}/instances", waiting)
    assert api.instances()[0]["status"] == "PENDING"
    cloud.pass_time(timedelta(minutes=11))
    assert api.names() == []
    assert (
        "90 seconds"
        in api.refused(
            "POST", f"zones/{ZONE}/instances", body | {"params": {"requestValidForDuration": {"seconds": "10"}}}
        )[2]
    )


def test_a_slice_in_a_subnetwork_of_another_network_is_refused(api: Api, cloud: GcpLocalCloud) -> None:
    cloud.add_network("ours", ["us-east5"])
    node = {
        "acceleratorType": "v6e-8",
        "runtimeVersion": "v2-alpha-tpuv6e",
        "networkConfig": {"subnetwork": f"projects/{cloud.project}/regions/us-east5/subnetworks/ours"},
    }
    assert "is not in the network" in api.refused("POST", "us-east5-a/nodes", node, nodeId="one")[2]
