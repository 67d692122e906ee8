"""What users, policies and other tools change in Google Cloud is noticed, and neither hides a machine nor stops a teardown."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import requests

from multicompute import errors
from multicompute.node import NodeState
from multicompute.offer import InstanceType, Offer, Part
from multicompute.provider import LaunchRequest, Selector, Teardown
from multicompute_gcp._provider import GcpProvider
from multicompute_gcp.local import GcpLocalCloud

Request = Callable[..., LaunchRequest]
HERE = Selector(region="us-central1", cluster_id="id-1", tokens=("tok",))
NAMES = ("tok-0-0001", "tok-0-0002")


def _terminate(provider: GcpProvider, selector: Selector = HERE) -> Teardown:
    """Take steps until nothing is left or something blocks the teardown."""
    for _ in range(200):
        step = provider.terminate(selector)
        if step.is_done or step.blocked_by:
            return step
    raise AssertionError("the teardown does not finish")


def _states(provider: GcpProvider, selector: Selector = HERE) -> dict[str, NodeState]:
    return {node.id: node.state for node in provider.nodes(selector)}


def _compute(cloud: GcpLocalCloud, method: str, path: str, body: dict[str, Any] | None = None, **query: str) -> None:
    url = f"{cloud.endpoint_url}/compute/v1/projects/{cloud.project}/zones/us-central1-a/{path}"
    requests.request(method, url, json=body, params=query, timeout=10).raise_for_status()


def _slices(
    request_of: Request, offer: Offer, *, nodes: int = 1, slice_type: str = "v6e-8", hosts: int = 1
) -> LaunchRequest:
    instance = InstanceType("gcp", slice_type, "tpu-v6e", 8, hosts=hosts)
    return request_of(parts=(Part(replace(offer, instance=instance, region="us-east5", zone="us-east5-a"), nodes),))


TPU = replace(HERE, region="us-east5")


# --- stopped ----------------------------------------------------------------------------------------------------------


def test_stopped_and_suspended_instances_are_started_and_resumed(
    cloud: GcpLocalCloud, provider: GcpProvider, request_of: Request
) -> None:
    provider.launch(request_of())
    cloud.stop_node(NAMES[0])
    cloud.suspend_node(NAMES[1])
    assert set(_states(provider).values()) == {NodeState.STOPPED}
    assert {node.id for node in provider.launch(request_of(restart=True))} == set(NAMES)
    assert set(_states(provider).values()) == {NodeState.RUNNING}
    called = [call.operation for call in cloud.faults.calls]
    assert (called.count("instances.start"), called.count("instances.resume")) == (1, 1)
    assert called.count("instances.bulkInsert") == 1


def test_an_instance_that_can_not_be_started_now_does_not_keep_the_others_stopped(
    cloud: GcpLocalCloud, provider: GcpProvider, request_of: Request
) -> None:
    provider.launch(request_of())
    for name in NAMES:
        cloud.stop_node(name)
    cloud.set_capacity("a3-highgpu-8g", "us-central1-a", 1)
    with pytest.raises(errors.CapacityError) as caught:
        provider.launch(request_of(restart=True))
    assert caught.value.zone == "us-central1-a"
    assert sorted(_states(provider).values()) == [NodeState.RUNNING, NodeState.STOPPED]


def test_a_spot_instance_that_a_user_has_stopped_is_not_preempted(
    cloud: GcpLocalCloud, provider: GcpProvider, request_of: Request, offer: Offer
) -> None:
    provider.launch(request_of(parts=(Part(replace(offer, purchase="spot"), 2),)))
    cloud.stop_node(NAMES[0])
    (stopped,) = [node for node in provider.nodes(HERE) if node.state is NodeState.STOPPED]
    assert not stopped.is_lost
    cloud.preempt(NAMES[1])
    known = replace(HERE, known_ids=NAMES)
    (lost,) = [node for node in provider.nodes(known) if node.is_lost]
    assert (lost.id, lost.state, lost.cause) == (NAMES[1], NodeState.GONE, "preemption")


def test_a_preempted_instance_that_google_has_stopped_is_lost(
    cloud: GcpLocalCloud, provider: GcpProvider, request_of: Request, offer: Offer
) -> None:
    provider.launch(request_of(parts=(Part(replace(offer, purchase="spot"), 2),)))
    for instance in cloud._state.instances():
        instance.action = "STOP"
    cloud.preempt(NAMES[0])
    (stopped,) = [node for node in provider.nodes(HERE) if node.state is NodeState.STOPPED]
    assert (stopped.cause, stopped.is_lost) == ("preemption", True)
    # It was started again by a user, and stopped.
    cloud.pass_time(timedelta(minutes=1))
    cloud.start_node(NAMES[0])
    cloud.stop_node(NAMES[0])
    assert not any(node.is_lost for node in provider.nodes(HERE))


def test_a_stopped_instance_gets_the_new_expiry(
    cloud: GcpLocalCloud, provider: GcpProvider, request_of: Request
) -> None:
    provider.launch(request_of())
    cloud.stop_node(NAMES[0])
    ends = datetime.now(UTC) + timedelta(hours=3)
    provider.set_expiry(HERE, ends)
    assert {item.tags["multicompute-expires-at"] for item in cloud.alive()} == {str(int(ends.timestamp()))}


def test_a_slice_with_one_host_is_started_again_and_one_with_several_can_not_be_stopped(
    cloud: GcpLocalCloud, provider: GcpProvider, request_of: Request, offer: Offer
) -> None:
    request = _slices(request_of, offer)
    provider.launch(request)
    cloud.stop_node("tok-0/0")
    assert _states(provider, TPU) == {"tok-0/0": NodeState.STOPPED}
    provider.launch(replace(request, restart=True))
    assert _states(provider, TPU) == {"tok-0/0": NodeState.RUNNING}
    provider.launch(replace(_slices(request_of, offer, slice_type="v6e-16", hosts=4), token="tok2"))
    with pytest.raises(ValueError, match="can't be stopped"):
        cloud.stop_node("tok2-0/0")


# --- labels -----------------------------------------------------------------------------------------------------------


def test_instances_and_disks_without_labels_are_found_by_name_and_torn_down(
    cloud: GcpLocalCloud, provider: GcpProvider, request_of: Request
) -> None:
    provider.launch(request_of())
    for name in NAMES:
        cloud.remove_tags(name)
    assert provider.nodes(replace(HERE, tokens=())) == ()
    assert {(node.id, node.token, node.is_tagged) for node in provider.nodes(HERE)} == {
        (name, "tok", False) for name in NAMES
    }
    assert {item.id for item in provider.resources(HERE)} == set(NAMES)
    assert _terminate(provider).is_done
    assert cloud.alive() == []


def test_a_listing_in_which_nothing_is_missing_is_one_call(
    cloud: GcpLocalCloud, provider: GcpProvider, request_of: Request
) -> None:
    provider.launch(request_of())
    cloud.faults.clear()
    provider.nodes(replace(HERE, known_ids=NAMES, instance_types=("a3-highgpu-8g",)))
    assert [call.operation for call in cloud.faults.calls] == ["instances.aggregatedList"]


def test_a_slice_whose_labels_were_removed_is_not_gone(
    cloud: GcpLocalCloud, provider: GcpProvider, request_of: Request, offer: Offer
) -> None:
    provider.launch(_slices(request_of, offer, nodes=2))
    cloud.remove_tags("tok-0-0/0")
    assert _states(provider, replace(TPU, tokens=())) == {f"tok-0-{number}/0": NodeState.RUNNING for number in range(2)}
    assert {node.id: node.is_tagged for node in provider.nodes(TPU)} == {"tok-0-0/0": False, "tok-0-1/0": True}


def test_labels_are_not_restored_on_what_is_only_known_by_its_id(
    cloud: GcpLocalCloud, provider: GcpProvider, request_of: Request
) -> None:
    request = request_of()
    provider.launch(request)
    cloud.remove_tags(NAMES[0])
    provider.set_expiry(replace(HERE, tokens=(), known_ids=NAMES), None, restore=request.tags)
    labels = {item.id: item.tags for item in cloud.alive() if item.kind == "instance"}
    assert labels[NAMES[0]] == {}
    provider.set_expiry(replace(HERE, known_ids=NAMES), None, restore=request.tags)
    assert all("multicompute-id" in item.tags for item in cloud.alive())
    assert all(item.tags["multicompute-owner"] == "me@host" for item in provider.resources(HERE))


# --- what blocks a deletion -------------------------------------------------------------------------------------------


def test_deletion_protection_is_named_with_the_command_that_removes_it_and_the_rest_is_deleted(
    cloud: GcpLocalCloud, provider: GcpProvider, request_of: Request
) -> None:
    provider.launch(request_of())
    cloud.protect(NAMES[0])
    step = _terminate(provider)
    assert f"instance {NAMES[0]} is protected from deletion" in step.blocked_by
    assert (
        f"gcloud compute instances update {NAMES[0]} --zone us-central1-a --no-deletion-protection" in step.blocked_by
    )
    assert {item.id for item in cloud.alive()} == {NAMES[0]}
    cloud.protect(NAMES[0], is_protected=False)
    assert _terminate(provider).is_done
    assert cloud.alive() == []


def test_a_policy_that_denies_a_deletion_is_named_and_the_rest_is_deleted(
    cloud: GcpLocalCloud, provider: GcpProvider, request_of: Request
) -> None:
    provider.launch(request_of())
    text = f"Permission 'compute.instances.delete' denied on resource '{NAMES[0]}' (or it may not exist)."
    cloud.faults.fail("instances.delete", "forbidden", status=403, message=text, times=None, where={"name": NAMES[0]})
    step = _terminate(provider)
    assert f"instance {NAMES[0]}: Google denies the deletion: {text}" in step.blocked_by
    assert {item.id for item in cloud.alive()} == {NAMES[0]}
    cloud.faults.clear()
    assert _terminate(provider).is_done


def test_a_disk_that_others_use_and_a_policy_that_others_use_are_named(
    cloud: GcpLocalCloud, provider: GcpProvider, request_of: Request
) -> None:
    provider.launch(request_of(fabric=True))
    (policy,) = [item.id for item in cloud.alive() if item.kind == "resource-policy"]
    for instance in cloud._state.instances():
        instance.disks = [(disk, False) for disk, _ in instance.disks]
    boot = {"boot": True, "source": f"zones/us-central1-a/disks/{NAMES[0]}"}
    theirs = {
        "name": "theirs",
        "machineType": "zones/us-central1-a/machineTypes/a3-highgpu-8g",
        "networkInterfaces": [{"network": "global/networks/default"}],
        "scheduling": {"onHostMaintenance": "TERMINATE"},
        "resourcePolicies": [f"regions/us-central1/resourcePolicies/{policy}"],
    }
    cloud.terminate_node(NAMES[0])
    _compute(cloud, "POST", "instances", theirs | {"disks": [boot]})
    step = _terminate(provider)
    assert f"disk {NAMES[0]} is used by theirs, which is not part of the cluster; detach it" in step.blocked_by
    assert [item.id for item in cloud.alive() if item.kind == "instance"] == ["theirs"]
    for disk in cloud._state.zone("us-central1-a").disks:
        disk.user = None
    step = _terminate(provider)
    assert f"resource-policy {policy} is used by the instance theirs" in step.blocked_by
    cloud.terminate_node("theirs")
    assert _terminate(provider).is_done
    assert cloud.alive() == []


# --- places that refuse -----------------------------------------------------------------------------------------------


def test_a_teardown_asks_zones_in_which_the_project_has_no_tpus_and_ends(
    cloud: GcpLocalCloud, provider: GcpProvider, request_of: Request, offer: Offer
) -> None:
    # us-central1-f has no TPUs: Google denies the zone, and does not say that it is empty.
    selector = replace(HERE, token="tok", node_ids=("tok-0/0",))
    assert provider.terminate(selector).is_done
    assert any(call.operation == "tpu.nodes.get" for call in cloud.faults.calls)


def test_a_project_that_has_never_used_compute_engine_has_nothing_to_tear_down(
    cloud: GcpLocalCloud, provider: GcpProvider
) -> None:
    text = "Compute Engine API has not been used in project 1 before or it is disabled."
    cloud.faults.fail("instances.aggregatedList", "accessNotConfigured", status=403, message=text, times=None)
    cloud.faults.fail("firewalls.list", "accessNotConfigured", status=403, message=text, times=None)
    assert provider.terminate(HERE).is_done
    with pytest.raises(errors.AccessDeniedError):
        provider.terminate(replace(HERE, known_ids=NAMES))
