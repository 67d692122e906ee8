"""Flex-start nodes: one by instances.insert, a gang by a managed instance group and a resize request; never by bulkInsert."""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
import requests

from multicompute import errors
from multicompute.node import NodeState
from multicompute.offer import InstanceType, Offer, Part
from multicompute.provider import LaunchRequest, Selector
from multicompute.testing import FakeClock
from multicompute_gcp._provider import GcpProvider
from multicompute_gcp.local import GcpLocalCloud
from tests.providers.gcp.teardown import tear_down

Request = Callable[..., LaunchRequest]
CLUSTER = Selector(region="us-central1", cluster_id="id-1")
ATTEMPT = replace(CLUSTER, token="tok")
GROUP_KINDS = ["instance-group-manager", "instance-template", "resize-request"]


@pytest.fixture
def gang(request_of: Request, offer: Offer, clock: FakeClock) -> LaunchRequest:
    """A request for two flex-start nodes, which may run for three hours."""
    part = Part(replace(offer, purchase="flex_start"), 2)
    return request_of(parts=(part,), expires_at=clock.now() + timedelta(hours=3))


@pytest.fixture
def single(gang: LaunchRequest) -> LaunchRequest:
    """A request for one flex-start node."""
    return replace(gang, parts=(replace(gang.parts[0], nodes=1),))


def _read(cloud: GcpLocalCloud, path: str) -> Any:
    url = f"{cloud.endpoint_url}/compute/v1/projects/{cloud.project}/{path}"
    return requests.get(url, timeout=10).json()


def _operations(cloud: GcpLocalCloud) -> list[str]:
    return [call.operation for call in cloud.faults.calls]


def _kinds(resources: Any) -> list[str]:
    return sorted(item.kind for item in resources)


def test_a_gang_is_a_group_with_one_request_for_all_its_nodes_by_name(
    cloud: GcpLocalCloud, provider: GcpProvider, gang: LaunchRequest
) -> None:
    nodes = provider.launch(gang)
    assert [node.id for node in nodes] == cloud.running_ids() == ["tok-0-0001", "tok-0-0002"]
    assert not {"instances.bulkInsert", "instances.insert"} & set(_operations(cloud))
    group = "zones/us-central1-a/instanceGroupManagers/tok-0"
    assert _read(cloud, group)["instanceLifecyclePolicy"] == {"defaultActionOnFailure": "DO_NOTHING"}
    request = _read(cloud, f"{group}/resizeRequests/tok-0")
    assert (request["state"], request["requestedRunDuration"]) == ("SUCCEEDED", {"seconds": "10800"})
    instance = _read(cloud, "zones/us-central1-a/instances/tok-0-0001")
    assert instance["scheduling"]["provisioningModel"] == "FLEX_START"
    assert instance["reservationAffinity"] == {"consumeReservationType": "NO_RESERVATION"}
    tear_down(provider, CLUSTER)
    assert cloud.alive() == []


def test_one_node_is_an_instance_without_a_group(
    cloud: GcpLocalCloud, provider: GcpProvider, single: LaunchRequest
) -> None:
    assert [node.id for node in provider.launch(single)] == cloud.running_ids() == ["tok-0-0001"]
    assert "instances.insert" in _operations(cloud) and "instances.bulkInsert" not in _operations(cloud)
    assert _kinds(cloud.alive()) == ["disk", "instance"]
    assert [node.id for node in provider.launch(single)] == cloud.running_ids() == ["tok-0-0001"]


@pytest.mark.parametrize(
    ("name", "accelerator", "count", "zone"),
    [("g2-standard-4", "l4", 1, "us-central1-a"), ("a3-ultragpu-8g", "h200", 8, "us-central1-b")],
)
@pytest.mark.parametrize("nodes", [1, 3])
def test_every_kind_of_machine_is_launched_with_types_in_the_form_of_its_call(
    cloud: GcpLocalCloud,
    provider: GcpProvider,
    gang: LaunchRequest,
    name: str,
    accelerator: str,
    count: int,
    zone: str,
    nodes: int,
) -> None:
    instance = InstanceType("gcp", name, accelerator, count)
    offer = replace(gang.parts[0].offer, instance=instance, zone=zone)
    provider.launch(replace(gang, parts=(Part(offer, nodes),)))
    assert len(cloud.running_ids()) == nodes


def test_everything_of_a_gang_is_tagged_at_birth_and_listed(
    cloud: GcpLocalCloud, provider: GcpProvider, gang: LaunchRequest
) -> None:
    provider.launch(gang)
    listed = provider.resources(CLUSTER)
    assert _kinds(listed) == ["disk", "disk", "instance", "instance", *GROUP_KINDS]
    assert {(item.kind, item.id) for item in listed} == {(item.kind, item.id) for item in cloud.alive()}
    for item in listed:
        assert item.tags["multicompute-id"] == "id-1"
        assert item.tags["multicompute-attempt"] == "tok"
    assert _kinds(provider.resources(Selector(region="europe-west4"))) == []
    assert _kinds(provider.resources(Selector(owner="someone-else"))) == []


def test_a_repeated_launch_of_a_gang_buys_nothing_more(
    cloud: GcpLocalCloud, provider: GcpProvider, provider_of: Callable[..., GcpProvider], gang: LaunchRequest
) -> None:
    first = provider.launch(gang)
    again = provider_of().launch(gang)
    assert [node.id for node in again] == [node.id for node in first] == cloud.running_ids()
    assert _kinds(cloud.alive()).count("instance-group-manager") == 1


@pytest.mark.parametrize(
    "call",
    ["regionInstanceTemplates.insert", "instanceGroupManagers.insert", "instanceGroupManagerResizeRequests.insert"],
)
def test_a_gang_whose_call_lost_its_answer_is_completed_by_the_repeated_launch(
    cloud: GcpLocalCloud, provider: GcpProvider, gang: LaunchRequest, call: str
) -> None:
    cloud.faults.lose_answer(call)
    with pytest.raises(errors.TransientError):
        provider.launch(gang)
    assert len(provider.launch(gang)) == len(cloud.running_ids()) == 2


@pytest.mark.parametrize(
    "call",
    ["regionInstanceTemplates.insert", "instanceGroupManagers.insert", "instanceGroupManagerResizeRequests.insert"],
)
@pytest.mark.parametrize("code", ["forbidden", "QUOTA_EXCEEDED"])
def test_a_refused_gang_leaves_nothing_behind(
    cloud: GcpLocalCloud, provider: GcpProvider, gang: LaunchRequest, call: str, code: str
) -> None:
    cloud.faults.fail(call, code, status=403, message="Required permission, or quota 'X' exceeded")
    with pytest.raises((errors.AccessDeniedError, errors.QuotaError)):
        provider.launch(gang)
    assert cloud.alive() == []


def test_an_operation_that_failed_for_a_reason_that_passes_is_not_replayed(
    cloud: GcpLocalCloud, provider: GcpProvider, gang: LaunchRequest
) -> None:
    cloud.faults.fail("instanceGroupManagers.insert", "INTERNAL_ERROR", status=500)
    with pytest.raises(errors.TransientError):
        provider.launch(gang)
    assert len(provider.launch(gang)) == len(cloud.running_ids()) == 2


def test_a_gang_waits_in_the_queue_until_there_is_capacity_for_all_of_it(
    cloud: GcpLocalCloud, provider: GcpProvider, gang: LaunchRequest
) -> None:
    cloud.set_capacity("a3-highgpu-8g", "us-central1-a", 1)
    nodes = provider.launch(gang)
    known = replace(CLUSTER, node_ids=tuple(node.id for node in nodes))
    assert cloud.running_ids() == []
    waiting = provider.nodes(known)
    assert [(node.id, node.state) for node in waiting] == [
        ("tok-0-0001", NodeState.PENDING),
        ("tok-0-0002", NodeState.PENDING),
    ]
    assert all((node.reason or "").startswith("ACCEPTED: in the queue") for node in waiting)
    assert {node.instance_type for node in waiting} == {"a3-highgpu-8g"}
    # Another process that knows the token only finds them as well.
    assert [node.id for node in provider.nodes(ATTEMPT)] == [node.id for node in nodes]
    cloud.set_capacity("a3-highgpu-8g", "us-central1-a", 2)
    assert [node.state for node in provider.nodes(known)] == [NodeState.RUNNING] * 2


def test_a_gang_in_the_queue_is_withdrawn_by_its_teardown(
    cloud: GcpLocalCloud, provider: GcpProvider, gang: LaunchRequest
) -> None:
    cloud.set_capacity("a3-highgpu-8g", "us-central1-a", 0)
    provider.launch(gang)
    assert _kinds(provider.resources(CLUSTER)) == GROUP_KINDS
    tear_down(provider, ATTEMPT)
    assert "instanceGroupManagerResizeRequests.cancel" in _operations(cloud)
    cloud.set_capacity("a3-highgpu-8g", "us-central1-a", None)
    cloud.pass_time(timedelta(hours=1))
    assert cloud.alive() == []


def test_a_request_that_is_just_being_created_is_withdrawn_as_soon_as_that_is_possible(
    cloud: GcpLocalCloud, provider: GcpProvider, gang: LaunchRequest, clock: FakeClock
) -> None:
    cloud.set_capacity("a3-highgpu-8g", "us-central1-a", 0)
    cloud.set_delays(operation=20)
    cloud.faults.lose_answer("instanceGroupManagerResizeRequests.insert")
    with pytest.raises(errors.TransientError):
        provider.launch(gang)
    step = provider.terminate(ATTEMPT)
    assert "instance-group-manager" in _kinds(step.remaining)
    for _ in range(5):
        clock.advance(timedelta(seconds=30))
        step = provider.terminate(ATTEMPT)
    assert step.is_done and cloud.alive() == []


def test_a_quota_that_keeps_a_gang_in_the_queue_is_a_quota_error_at_once(
    cloud: GcpLocalCloud, provider: GcpProvider, gang: LaunchRequest
) -> None:
    cloud.set_quota("PREEMPTIBLE_NVIDIA_H100_GPUS", "us-central1", 8)
    with pytest.raises(errors.QuotaError, match="GPUS_PER_GPU_FAMILY|NVIDIA_H100"):
        provider.launch(gang)
    assert cloud.alive() == []


def test_a_request_that_fails_in_the_queue_is_reported_with_its_cause(
    cloud: GcpLocalCloud, provider: GcpProvider, gang: LaunchRequest
) -> None:
    cloud.set_capacity("a3-highgpu-8g", "us-central1-a", 0)
    nodes = provider.launch(gang)
    cloud.fail_resize_request("tok-0", "ZONE_RESOURCE_POOL_EXHAUSTED", "no capacity")
    found = provider.nodes(replace(CLUSTER, node_ids=tuple(node.id for node in nodes)))
    assert [(node.state, node.cause) for node in found] == [(NodeState.GONE, "capacity")] * 2
    assert "ZONE_RESOURCE_POOL_EXHAUSTED: no capacity" in (found[0].reason or "")


def test_one_node_waits_for_capacity_for_as_long_as_the_attempt_may_take(
    cloud: GcpLocalCloud, provider: GcpProvider, single: LaunchRequest
) -> None:
    cloud.set_capacity("a3-highgpu-8g", "us-central1-a", 0)
    (node,) = provider.launch(replace(single, attempt_timeout=timedelta(minutes=20)))
    known = replace(CLUSTER, node_ids=(node.id,))
    assert [one.state for one in provider.nodes(known)] == [NodeState.PENDING]
    cloud.set_capacity("a3-highgpu-8g", "us-central1-a", 1)
    assert [one.state for one in provider.nodes(known)] == [NodeState.RUNNING]


def test_one_node_without_capacity_in_time_is_reported_as_a_lack_of_capacity(
    cloud: GcpLocalCloud, provider: GcpProvider, single: LaunchRequest
) -> None:
    cloud.set_capacity("a3-highgpu-8g", "us-central1-a", 0)
    (node,) = provider.launch(replace(single, attempt_timeout=timedelta(minutes=20)))
    cloud.pass_time(timedelta(minutes=21))
    (found,) = provider.nodes(replace(CLUSTER, node_ids=(node.id,)))
    assert (found.state, found.cause) == (NodeState.GONE, "capacity")
    assert cloud.alive() == []


def test_a_node_in_the_queue_is_withdrawn_by_its_teardown(
    cloud: GcpLocalCloud, provider: GcpProvider, single: LaunchRequest
) -> None:
    cloud.set_capacity("a3-highgpu-8g", "us-central1-a", 0)
    (node,) = provider.launch(replace(single, attempt_timeout=timedelta(hours=1)))
    tear_down(provider, replace(ATTEMPT, node_ids=(node.id,)))
    cloud.set_capacity("a3-highgpu-8g", "us-central1-a", None)
    cloud.pass_time(timedelta(minutes=5))
    assert cloud.alive() == []


def test_a_terminated_node_of_a_gang_is_not_made_again(
    cloud: GcpLocalCloud, provider: GcpProvider, gang: LaunchRequest
) -> None:
    provider.launch(gang)
    provider.terminate(replace(CLUSTER, only=("tok-0-0001",), tokens=("tok",)))
    cloud.pass_time(timedelta(minutes=10))
    assert cloud.running_ids() == ["tok-0-0002"]
    assert "instanceGroupManagers.deleteInstances" in _operations(cloud)
    assert _kinds(provider.resources(CLUSTER)).count("instance-group-manager") == 1


def test_the_machines_of_a_gang_end_with_their_run_duration_whatever_happens_to_the_timer(
    cloud: GcpLocalCloud, provider: GcpProvider, gang: LaunchRequest
) -> None:
    provider.launch(gang)
    cloud.pass_time(timedelta(hours=3, minutes=1))
    assert cloud.running_ids() == []
    assert _kinds(cloud.alive()) == GROUP_KINDS
    tear_down(provider, replace(CLUSTER, known_ids=("tok-0-0001", "tok-0-0002"), tokens=("tok",)))
    assert cloud.alive() == []


def test_a_gang_with_a_fabric_gets_a_workload_policy_and_no_placement_policy(
    cloud: GcpLocalCloud, provider: GcpProvider, gang: LaunchRequest
) -> None:
    provider.launch(replace(gang, fabric=True))
    group = _read(cloud, "zones/us-central1-a/instanceGroupManagers/tok-0")
    policy = group["resourcePolicies"]["workloadPolicy"].rpartition("/")[2]
    (found,) = _read(cloud, "regions/us-central1/resourcePolicies")["items"]
    assert (found["name"], found["workloadPolicy"]) == (policy, {"type": "HIGH_THROUGHPUT"})
    assert not _read(cloud, "zones/us-central1-a/instances/tok-0-0001").get("resourcePolicies")
    tear_down(provider, CLUSTER)
    assert cloud.alive() == []


def test_an_identity_that_may_not_list_groups_launches_none_and_tears_everything_else_down(
    cloud: GcpLocalCloud, provider: GcpProvider, gang: LaunchRequest, request_of: Request
) -> None:
    denied = "Required 'compute.instanceGroupManagers.list' permission for 'projects/p'"
    cloud.faults.fail("instanceGroupManagers.aggregatedList", "forbidden", status=403, message=denied, times=100)
    with pytest.raises(errors.AccessDeniedError):
        provider.launch(gang)
    assert cloud.alive() == []
    provider.launch(request_of())
    tear_down(provider, CLUSTER)
    assert cloud.alive() == []


def test_groups_and_templates_of_others_are_never_touched(
    cloud: GcpLocalCloud, provider: GcpProvider, gang: LaunchRequest
) -> None:
    cloud.seed_foreign()
    assert {"instance-group-manager", "instance-template"} <= {item.kind for item in cloud._everything()}
    provider.launch(gang)
    tear_down(provider, replace(CLUSTER, tokens=("tok",)))
    tear_down(provider, ATTEMPT)
    assert cloud.foreign_intact()
    assert cloud.alive() == []


def test_an_open_zone_that_has_the_group_already_is_used_again(
    cloud: GcpLocalCloud, provider: GcpProvider, provider_of: Callable[..., GcpProvider], gang: LaunchRequest
) -> None:
    cloud.set_capacity("a3-highgpu-8g", "us-central1-a", 0)
    part = replace(gang.parts[0], offer=replace(gang.parts[0].offer, zone=""))
    anywhere = replace(gang, parts=(part,))
    provider.launch(anywhere)
    provider_of().launch(anywhere)
    assert _kinds(cloud.alive()).count("instance-group-manager") == 1


@pytest.mark.parametrize("nodes", [1, 2])
def test_a_gang_of_several_parts_does_not_run_one_while_another_waits(
    cloud: GcpLocalCloud, provider: GcpProvider, gang: LaunchRequest, nodes: int
) -> None:
    cloud.set_capacity("a3-highgpu-8g", "us-central1-c", 0)
    here = gang.parts[0]
    there = replace(here, offer=replace(here.offer, zone="us-central1-c"), nodes=nodes)
    with pytest.raises(errors.CapacityError):
        provider.launch(replace(gang, parts=(here, there)))
    assert cloud.alive() == []
