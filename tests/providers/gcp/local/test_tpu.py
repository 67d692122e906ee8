"""The local Cloud TPU: the queue and its states, slices of several hosts, several slices at once, and refusals."""

from typing import Any

import pytest

from multicompute.testing.clock import FakeClock
from multicompute_gcp.local import GcpLocalCloud
from tests.providers.gcp.local.bare_google import PROJECT, Api, Json, seconds

ZONE = "us-east5-a"
QUEUE, NODES = f"{ZONE}/queuedResources", f"{ZONE}/nodes"
ID = "7f1c8a52-5c1e-4a44-9a53-0d8a2f6f9b11"


def node(**changes: Any) -> Json:
    """Return the body of a v5p slice with four hosts."""
    found: Json = {"acceleratorType": "v5p-32", "runtimeVersion": "v2-alpha-tpuv5", "labels": {"team": "nlp"}}
    return found | changes


def queued(*, slices: int = 1, spec: Json | None = None, **changes: Any) -> Json:
    """Return the body of queuedResources.create; `changes` are fields next to the node."""
    found: Json = {"parent": f"projects/{PROJECT}/locations/{ZONE}", "node": node()}
    found |= {"nodeId": "slice"} if slices == 1 else {"multisliceParams": {"nodeCount": slices, "nodeIdPrefix": "part"}}
    return {"tpu": {"nodeSpec": [found | (spec or {})]}, **changes}


def _state(api: Api, name: str = "train") -> str:
    state: str = api.tpu("GET", f"{QUEUE}/{name}")["state"]["state"]
    return state


def _enter(api: Api, body: Json | None = None, name: str = "train", **query: str) -> Json:
    return api.tpu("POST", QUEUE, body or queued(), queuedResourceId=name, **query)


def _finished(api: Api, operation: Json) -> Json:
    return api.ok("GET", f"/v2/{operation['name']}")


def test_a_queued_resource_becomes_a_slice_with_an_address_for_every_host(api: Api, cloud: GcpLocalCloud) -> None:
    operation = _finished(api, _enter(api))
    assert operation["done"] and operation["response"]["@type"].endswith("QueuedResource")
    assert _state(api) == "ACTIVE"
    found = api.tpu("GET", f"{NODES}/slice")
    assert (found["state"], found["labels"], found["runtimeVersion"]) == ("READY", {"team": "nlp"}, "v2-alpha-tpuv5")
    assert found["queuedResource"] == f"projects/{PROJECT}/locations/{ZONE}/queuedResources/train"
    assert len({endpoint["ipAddress"] for endpoint in found["networkEndpoints"]}) == 4
    assert "accessConfig" not in found["networkEndpoints"][0]
    assert cloud.running_ids() == [f"slice/{host}" for host in range(4)]
    assert [(one.kind, one.id, one.billable) for one in cloud.alive()] == [
        ("queued-resource", "train", False),
        *[("tpu-host", f"slice/{host}", True) for host in range(4)],
    ]


def test_a_queued_resource_passes_through_its_states(api: Api, cloud: GcpLocalCloud, clock: FakeClock) -> None:
    cloud.boot_delay, cloud.operation_delay = seconds(100), seconds(10)
    operation = _enter(api)
    assert not operation["done"]
    seen = [_state(api)]
    for wait in (10, 30, 80):
        clock.sleep(seconds(wait))
        seen.append(_state(api))
    assert seen == ["CREATING", "ACCEPTED", "PROVISIONING", "ACTIVE"]


def test_before_it_is_ready_a_slice_has_no_addresses(api: Api, cloud: GcpLocalCloud) -> None:
    cloud.boot_delay = seconds(100)
    _enter(api)
    found = api.tpu("GET", f"{NODES}/slice")
    assert (found["state"], found.get("networkEndpoints", [])) == ("CREATING", [])
    assert cloud.running_ids() == []


def test_a_slice_has_public_addresses_only_on_request(api: Api) -> None:
    _enter(api, queued(spec={"node": node(networkConfig={"enableExternalIps": True})}))
    endpoints = api.tpu("GET", f"{NODES}/slice")["networkEndpoints"]
    assert len({endpoint["accessConfig"]["externalIp"] for endpoint in endpoints}) == 4


def test_a_queued_resource_without_capacity_waits_and_is_granted_when_there_is_some(
    api: Api, cloud: GcpLocalCloud
) -> None:
    cloud.set_capacity("v5p-32", ZONE, 0)
    _enter(api)
    assert _state(api) == "WAITING_FOR_RESOURCES"
    assert [one.kind for one in cloud.alive()] == ["queued-resource"]
    cloud.set_capacity("v5p-32", ZONE, 1)
    assert _state(api) == "ACTIVE"


def test_a_deletion_grants_the_next_request_in_the_queue(api: Api, cloud: GcpLocalCloud, clock: FakeClock) -> None:
    cloud.set_capacity("v5p-32", ZONE, 1)
    for name in ("first", "second", "third"):
        _enter(api, queued(spec={"nodeId": name}), name=name)
        clock.sleep(seconds(1))
    assert [_state(api, name) for name in ("first", "second", "third")] == ["ACTIVE", *["WAITING_FOR_RESOURCES"] * 2]
    api.tpu("DELETE", f"{QUEUE}/first", force="true")
    assert [_state(api, name) for name in ("second", "third")] == ["ACTIVE", "WAITING_FOR_RESOURCES"]


@pytest.mark.parametrize(
    "policy",
    [
        {"validUntilDuration": "600s"},
        {"validUntilTime": "2026-11-24T12:10:00Z"},
        {"validInterval": {"startTime": "2026-11-24T12:00:00Z", "endTime": "2026-11-24T12:10:00Z"}},
    ],
)
def test_a_queued_resource_fails_after_its_deadline(
    api: Api, cloud: GcpLocalCloud, clock: FakeClock, policy: Json
) -> None:
    cloud.set_capacity("v5p-32", ZONE, 0)
    _enter(api, queued(queueingPolicy=policy))
    clock.sleep(seconds(600))
    state = api.tpu("GET", f"{QUEUE}/train")["state"]
    assert (state["state"], state["failedData"]["error"]["code"]) == ("FAILED", 8)
    assert "no more capacity in the zone" in state["failedData"]["error"]["message"]
    api.tpu("DELETE", f"{QUEUE}/train")
    assert cloud.alive() == []


def test_a_queued_resource_can_fail_at_once_without_capacity(api: Api, cloud: GcpLocalCloud) -> None:
    cloud.tpu_fails_without_capacity = True
    cloud.set_capacity("v5p-32", ZONE, 0)
    _enter(api)
    assert _state(api) == "FAILED"


def test_several_slices_are_granted_together_or_not_at_all(api: Api, cloud: GcpLocalCloud) -> None:
    cloud.set_capacity("v5p-32", ZONE, 2)
    _enter(api, queued(slices=3))
    assert _state(api) == "WAITING_FOR_RESOURCES"
    assert api.tpu("GET", NODES).get("nodes", []) == []
    cloud.set_capacity("v5p-32", ZONE, 3)
    found = api.tpu("GET", NODES)["nodes"]
    assert [one["name"].rsplit("/", 1)[-1] for one in found] == ["part-0", "part-1", "part-2"]
    assert all(one["multisliceNode"] for one in found)


def test_slices_without_a_prefix_are_named_by_their_queued_resource(api: Api) -> None:
    _enter(api, queued(slices=2, spec={"multisliceParams": {"nodeCount": 2}}))
    assert [one["name"].rsplit("/", 1)[-1] for one in api.tpu("GET", NODES)["nodes"]] == ["train-0", "train-1"]


def test_a_queued_resource_with_slices_is_deleted_only_by_force(
    api: Api, cloud: GcpLocalCloud, clock: FakeClock
) -> None:
    _enter(api)
    cloud.shutdown_delay = seconds(30)
    assert api.refused("DELETE", f"{QUEUE}/train")[:2] == (400, "FAILED_PRECONDITION")
    operation = api.tpu("DELETE", f"{QUEUE}/train", force="true")
    assert (_state(api), api.tpu("GET", f"{NODES}/slice")["state"]) == ("DELETING", "DELETING")
    clock.sleep(seconds(30))
    assert _finished(api, operation)["response"] == {"@type": "type.googleapis.com/google.protobuf.Empty"}
    assert cloud.alive() == []
    assert api.refused("DELETE", f"{QUEUE}/train", force="true")[:2] == (404, "NOT_FOUND")


def test_the_deletion_of_the_last_slice_suspends_its_queued_resource(api: Api) -> None:
    _enter(api, queued(slices=2))
    api.tpu("DELETE", f"{NODES}/part-0")
    assert _state(api) == "ACTIVE"
    api.tpu("DELETE", f"{NODES}/part-1")
    state = api.tpu("GET", f"{QUEUE}/train")["state"]
    assert (state["state"], state["stateInitiator"]) == ("SUSPENDED", "USER")
    api.tpu("DELETE", f"{QUEUE}/train")
    assert api.tpu("GET", QUEUE).get("queuedResources", []) == []


def test_a_preempted_slice_suspends_its_queued_resource(api: Api, cloud: GcpLocalCloud, clock: FakeClock) -> None:
    _enter(api, queued(spot={}))
    assert api.tpu("GET", f"{NODES}/slice")["schedulingConfig"]["spot"] is True
    cloud.shutdown_delay = seconds(30)
    cloud.preempt("slice/2")
    assert _state(api) == "SUSPENDING"
    clock.sleep(seconds(30))
    state = api.tpu("GET", f"{QUEUE}/train")["state"]
    assert (state["state"], state["stateInitiator"]) == ("SUSPENDED", "SERVICE")
    assert [one.id for one in cloud.alive()] == ["train"]


def test_after_the_preemption_of_one_slice_the_others_keep_running(api: Api, cloud: GcpLocalCloud) -> None:
    _enter(api, queued(slices=2, spot={}))
    cloud.preempt("part-0")
    assert [one["state"] for one in api.tpu("GET", NODES)["nodes"]] == ["PREEMPTED", "READY"]
    assert _state(api) == "ACTIVE"
    cloud.preempt("part-1/3")
    assert _state(api) == "SUSPENDED"
    assert api.tpu("GET", NODES).get("nodes", []) == []


def test_a_preempted_node_without_a_queued_resource_stays_preempted(api: Api, cloud: GcpLocalCloud) -> None:
    api.tpu("POST", NODES, node(schedulingConfig={"spot": True}), nodeId="slice")
    cloud.preempt("slice")
    assert api.tpu("GET", f"{NODES}/slice")["state"] == "PREEMPTED"
    assert {one.billable for one in cloud.alive()} == {False}


def test_an_on_demand_slice_is_not_preempted_but_can_be_deleted_from_outside(api: Api, cloud: GcpLocalCloud) -> None:
    _enter(api)
    with pytest.raises(ValueError, match="slice"):
        cloud.preempt("slice")
    cloud.terminate_node("slice/0")
    assert _state(api) == "SUSPENDED"


@pytest.mark.parametrize("leaves_nodes", [False, True])
def test_a_queued_resource_can_fail_and_leave_its_slices(api: Api, cloud: GcpLocalCloud, leaves_nodes: bool) -> None:
    _enter(api)
    cloud.fail_queued_resource("train", 13, "an internal error", leaves_nodes=leaves_nodes)
    assert api.tpu("GET", f"{QUEUE}/train")["state"]["failedData"]["error"] == {
        "code": 13,
        "message": "an internal error",
    }
    assert len(api.tpu("GET", NODES).get("nodes", [])) == int(leaves_nodes)
    api.tpu("DELETE", f"{QUEUE}/train", force="true")
    assert cloud.alive() == []
    with pytest.raises(ValueError, match="nobody"):
        cloud.fail_queued_resource("nobody", 13, "")


def test_the_same_request_id_returns_the_same_operation(api: Api) -> None:
    first = _enter(api, requestId=ID)
    assert _enter(api, requestId=ID)["name"] == first["name"]
    assert api.refused("POST", QUEUE, queued(), queuedResourceId="train")[:2] == (409, "ALREADY_EXISTS")
    assert api.refused("POST", QUEUE, queued(), queuedResourceId="other")[:2] == (409, "ALREADY_EXISTS")
    assert api.refused("POST", QUEUE, queued(), queuedResourceId="x", requestId="no")[0] == 400


def test_a_quota_is_checked_before_a_request_waits(api: Api, cloud: GcpLocalCloud) -> None:
    cloud.set_quota("TPUV5PPerProjectPerZoneForTPUAPI", ZONE, 32)
    _enter(api)
    status, code, message = api.refused("POST", QUEUE, queued(spec={"nodeId": "more"}), queuedResourceId="more")
    assert (status, code) == (429, "RESOURCE_EXHAUSTED")
    assert message == f"Quota limit 'TPUV5PPerProjectPerZoneForTPUAPI' has been exceeded. Limit: 32 in zone {ZONE}."
    _enter(api, queued(spec={"nodeId": "more"}, spot={}), name="more")


# --- nodes without a queue ------------------------------------------------------------------------------------------------


def test_a_node_is_created_directly_patched_and_deleted(api: Api, cloud: GcpLocalCloud) -> None:
    operation = _finished(api, api.tpu("POST", NODES, node(), nodeId="slice"))
    assert operation["response"]["@type"].endswith(".Node")
    assert api.refused("POST", NODES, node(), nodeId="slice")[:2] == (409, "ALREADY_EXISTS")
    api.tpu("PATCH", f"{NODES}/slice", {"labels": {"a": "b"}}, updateMask="labels")
    assert api.tpu("GET", f"{NODES}/slice")["labels"] == {"a": "b"}
    assert api.refused("PATCH", f"{NODES}/slice", {}, updateMask="acceleratorType")[:2] == (400, "INVALID_ARGUMENT")
    api.tpu("DELETE", f"{NODES}/slice")
    assert cloud.alive() == []
    assert api.refused("GET", f"{NODES}/slice")[:2] == (404, "NOT_FOUND")


def test_a_lack_of_capacity_for_a_node_arrives_in_its_operation(api: Api, cloud: GcpLocalCloud) -> None:
    cloud.set_capacity("v5p-32", ZONE, 0)
    operation = _finished(api, api.tpu("POST", NODES, node(), nodeId="slice"))
    assert (operation["done"], operation["error"]["code"]) == (True, 8)
    assert "There is no more capacity in the zone" in operation["error"]["message"]
    assert cloud.alive() == []


def test_an_operation_runs_for_its_number_of_polls(api: Api, cloud: GcpLocalCloud) -> None:
    cloud.operation_polls = 2
    operation = api.tpu("POST", NODES, node(), nodeId="slice")
    assert [_finished(api, operation)["done"] for _ in range(3)] == [False, False, True]
    listed = api.tpu("GET", f"{ZONE}/operations")["operations"]
    assert [one["name"] for one in listed] == [operation["name"]]
    assert api.ask("GET", f"/v2/projects/{PROJECT}/locations/{ZONE}/operations/none")[0] == 404


# --- lists ----------------------------------------------------------------------------------------------------------------


def test_lists_go_over_all_zones_and_pages(api: Api, cloud: GcpLocalCloud) -> None:
    for number in range(3):
        api.tpu("POST", NODES, node(), nodeId=f"slice-{number}")
    api.tpu("POST", "us-central1-a/nodes", node(), nodeId="central")
    found: list[str] = []
    token = ""
    while True:
        page = api.tpu("GET", "-/nodes", pageSize="2", **({"pageToken": token} if token else {}))
        found += [one["name"].rsplit("/", 1)[-1] for one in page["nodes"]]
        token = page.get("nextPageToken", "")
        if not token:
            break
    assert found == ["central", "slice-0", "slice-1", "slice-2"]
    cloud.unreachable = {ZONE}
    page = api.tpu("GET", "-/nodes")
    assert (len(page["nodes"]), page["unreachable"]) == (1, [ZONE])


def test_lists_lag_behind(api: Api, cloud: GcpLocalCloud, clock: FakeClock) -> None:
    cloud.lag = seconds(5)
    _enter(api)
    assert (api.tpu("GET", QUEUE)["queuedResources"], api.tpu("GET", "-/nodes")["nodes"]) == ([], [])
    assert _state(api) == "ACTIVE"
    clock.sleep(seconds(5))
    assert len(api.tpu("GET", "-/queuedResources")["queuedResources"]) == 1


def test_the_cloud_offers_what_the_tables_have(api: Api) -> None:
    zones = [
        one["locationId"] for one in api.ok("GET", f"/v2/projects/{PROJECT}/locations", pageSize="1000")["locations"]
    ]
    assert ZONE in zones
    assert api.tpu("GET", ZONE)["locationId"] == ZONE
    types = api.tpu("GET", f"{ZONE}/acceleratorTypes", pageSize="1000")["acceleratorTypes"]
    assert "v5p-128" in {one["type"] for one in types}
    assert api.tpu("GET", f"{ZONE}/acceleratorTypes/v5p-128")["type"] == "v5p-128"
    versions = api.tpu("GET", f"{ZONE}/runtimeVersions")["runtimeVersions"]
    assert api.tpu("GET", f"{ZONE}/runtimeVersions/{versions[0]['version']}") == versions[0]
    for path in (f"{ZONE}/acceleratorTypes/v99-8", f"{ZONE}/runtimeVersions/none", f"{QUEUE}/none"):
        assert api.ask("GET", f"/v2/projects/{PROJECT}/locations/{path}")[0] == 404
    # https://github.com/dstackai/gpuhunt/issues/98: a zone in which the project can't use TPUs is denied, and not missing.
    assert api.ask("GET", f"/v2/projects/{PROJECT}/locations/mars-1-a/nodes")[0] == 403


# --- what is refused ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (queued(spec={"node": node(acceleratorType="v99-8")}), "could not be found in the zonal accelerator"),
        (queued(spec={"node": node(acceleratorType="v4-8")}), "could not be found in the zonal accelerator"),
        (queued(spec={"node": node(runtimeVersion="v2-alpha-tpuv6e")}), "not available for accelerator type"),
        (queued(spec={"node": node(runtimeVersion="")}), "not available for accelerator type"),
        (queued(spec={"node": node(labels={"Team": "x"})}), "alphabet of labels"),
        (queued(spec={"node": node(schedulingConfig={"spot": True, "reserved": True})}), "Only one of"),
        (queued(spec={"node": node(acceleratorConfig={"type": "V5P", "topology": "2x2x4"})}), "acceleratorConfig"),
        (queued(spec={"parent": "projects/other/locations/x"}), "not that of the queued resource"),
        (queued(spec={"nodeId": ""}), "Exactly one of node_id and multislice_params"),
        (queued(spec={"multisliceParams": {"nodeCount": 2}}), "Exactly one of node_id and multislice_params"),
        (queued(slices=2, spec={"multisliceParams": {"nodeCount": 1}}), "needs to be > 1"),
        (queued(spec={"nodeId": "Slice_1"}), "must match"),
        (queued(spot={}, guaranteed={}), "Only one of spot and guaranteed"),
        (queued(queueingPolicy={"validUntilDuration": "1s", "validUntilTime": "2027-01-01T00:00:00Z"}), "Only one of"),
        ({}, "exactly one node_spec"),
    ],
)
def test_a_request_that_the_tpu_api_would_refuse_is_refused(api: Api, body: Json, says: str) -> None:
    status, code, message = api.refused("POST", QUEUE, body, queuedResourceId="train")
    assert (status, code) == (400, "INVALID_ARGUMENT")
    assert says in message


def test_every_generation_boots_its_runtime(api: Api) -> None:
    for zone, kind, runtime in (
        ("us-central2-b", "v4-8", "tpu-ubuntu2204-base"),
        ("us-west4-a", "v5litepod-8", "v2-alpha-tpuv5-lite"),
        ("us-east5-a", "v5p-8", "v2-alpha-tpuv5"),
        ("us-east5-b", "v6e-8", "v2-alpha-tpuv6e"),
        ("us-central1-b", "v2-8", "tpu-ubuntu2204-base"),
        ("us-central1-a", "v3-8", "tpu-ubuntu2204-base"),
    ):
        body = node(acceleratorType=kind, runtimeVersion=runtime)
        api.tpu("POST", f"{zone}/nodes", body, nodeId=f"slice-{kind}")
        assert api.tpu("GET", f"{zone}/nodes/slice-{kind}")["state"] == "READY"
