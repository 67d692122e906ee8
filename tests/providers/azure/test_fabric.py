"""Gangs on an InfiniBand fabric: one Uniform scale set, which a repair of the cluster enlarges."""

import base64
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from multicompute import errors
from multicompute.node import Node, NodeState
from multicompute.offer import Offer, Part
from multicompute.provider import LaunchRequest, Selector
from multicompute.testing import FakeClock
from multicompute.testing.faults import Fault, FaultKind
from multicompute_azure import _fabric, plugin
from multicompute_azure._provider import AzureProvider
from multicompute_azure._uniform import record, token_in
from multicompute_azure.local import AzureLocalCloud

Request = Callable[..., LaunchRequest]
Open = Callable[..., AzureProvider]
CLUSTER = Selector(region="eastus", cluster_id="id-1")
PUT = "virtualMachineScaleSets.createOrUpdate"
PATCH = "virtualMachineScaleSets.update"


@pytest.fixture
def gang(request_of: Request, offer: Offer) -> LaunchRequest:
    """The first launch of a cluster: three nodes on a fabric."""
    return request_of(fabric=True, parts=(Part(offer, 3),))


@pytest.fixture
def repair(request_of: Request, offer: Offer) -> LaunchRequest:
    """The launch of one more node on the same fabric."""
    tags = {**request_of().tags, "multicompute-attempt": "fix"}
    return request_of(token="fix", tags=tags, fabric=True, peers=("tok",), parts=(Part(offer, 1),))


def ids(nodes: Any) -> set[str]:
    return {node.id for node in nodes}


def by_token(provider: AzureProvider) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for node in provider.nodes(CLUSTER):
        if node.state is not NodeState.GONE:
            found.setdefault(node.token, set()).add(node.id)
    return found


def lose(cloud: AzureLocalCloud, node: Node) -> None:
    cloud.terminate_node(node.id)


def scale_sets(cloud: AzureLocalCloud) -> list[Any]:
    with cloud._state.lock:
        return list(cloud._state.items("Microsoft.Compute/virtualMachineScaleSets"))


def tear_down(provider: AzureProvider, selector: Selector, clock: FakeClock) -> None:
    for _ in range(50):
        if provider.terminate(selector).is_done:
            return
        clock.sleep(provider.poll_interval)
    raise AssertionError("the teardown does not end")


# --- the first launch -------------------------------------------------------------------------------------------------


def test_all_nodes_of_a_gang_are_on_one_fabric(
    cloud: AzureLocalCloud, provider: AzureProvider, gang: LaunchRequest
) -> None:
    nodes = provider.launch(gang)
    fabrics = {cloud.fabric_of(node.id) for node in nodes}
    assert len(nodes) == 3 and len(fabrics) == 1 and "" not in fabrics
    plain = provider.launch(replace(gang, token="plain", fabric=False))
    assert {cloud.fabric_of(node.id) for node in plain} == {""}, "a Flexible scale set has no fabric"


def test_more_than_a_hundred_nodes_on_one_fabric_are_refused_before_anything_is_created(
    cloud: AzureLocalCloud, provider: AzureProvider, request_of: Request, offer: Offer
) -> None:
    with pytest.raises(errors.InvalidRequestError, match=r"101 nodes can't share .* at most 100") as refused:
        provider.launch(request_of(fabric=True, parts=(Part(offer, 101),)))
    assert refused.value.scope == "request"
    assert 'interconnect="any"' in str(refused.value.hint)
    assert cloud.alive() == []
    assert plugin.fabric_limits == {"infiniband": 100}
    assert len(provider.launch(request_of(parts=(Part(offer, 101),)))) == 101


def test_a_gang_of_several_parts_has_no_common_fabric_and_is_refused(
    cloud: AzureLocalCloud, provider: AzureProvider, request_of: Request, offer: Offer
) -> None:
    held = cloud.add_reservation(offer.instance_type, "eastus-1", 1)
    with pytest.raises(errors.InvalidRequestError, match="2 parts of a gang") as refused:
        provider.launch(request_of(fabric=True, parts=(Part(offer, 1, reservation=held), Part(offer, 1))))
    assert refused.value.scope == "request"
    assert cloud.running_ids() == []


def test_a_gang_in_a_reservation_is_one_scale_set_and_a_warning_names_the_missing_placement_group(
    cloud: AzureLocalCloud,
    provider: AzureProvider,
    request_of: Request,
    offer: Offer,
    caplog: pytest.LogCaptureFixture,
) -> None:
    held = cloud.add_reservation(offer.instance_type, "eastus-1", 2)
    assert len(provider.launch(request_of(fabric=True, parts=(Part(offer, 2, reservation=held),)))) == 2
    assert len(scale_sets(cloud)) == 1
    assert ["single placement group" in message for message in caplog.messages] == [True]


def test_an_instance_has_its_token_and_expiry_in_its_user_data(
    cloud: AzureLocalCloud, provider: AzureProvider, gang: LaunchRequest
) -> None:
    end = datetime(2027, 1, 1, tzinfo=UTC)
    nodes = provider.launch(replace(gang, expires_at=end))
    provider.set_expiry(CLUSTER, end.replace(month=2))
    for node in nodes:
        with cloud._state.lock:
            data = cloud._find(node.id)[1].user_data
        assert base64.b64decode(data).decode() == (
            f"multicompute-attempt=tok\nmulticompute-expires-at={int(end.replace(month=2).timestamp())}\n"
        )
    assert {item.tags["multicompute-expires-at"] for item in scale_sets(cloud)} == {
        str(int(end.replace(month=2).timestamp()))
    }


@pytest.mark.parametrize("text", ["", "?", base64.b64encode(b"\xff").decode(), base64.b64encode(b"x=y").decode()])
def test_foreign_user_data_has_no_token(text: str) -> None:
    assert token_in(text) == ""
    assert token_in(record("tok", None)) == "tok"


def test_an_instance_that_has_the_number_of_another_is_another_node(
    cloud: AzureLocalCloud, provider: AzureProvider, gang: LaunchRequest, repair: LaunchRequest
) -> None:
    nodes = provider.launch(gang)
    lose(cloud, nodes[0])
    (new,) = provider.launch(repair)
    # "Instance IDs may be reused for new instances once old instances are deleted."
    assert new.id.partition("@")[0] == nodes[0].id.partition("@")[0] and new.id != nodes[0].id
    assert provider.terminate(replace(CLUSTER, only=(nodes[0].id,))).is_done
    assert new.id in cloud.running_ids(), "the node that has the number now is not deleted for the other one"
    found = {node.id: node for node in provider.nodes(CLUSTER)}
    assert found[new.id].private_ip and found[new.id].public_ip


# --- repairs ------------------------------------------------------------------------------------------------------------


def test_a_repair_adds_its_nodes_to_the_scale_set_of_the_others(
    cloud: AzureLocalCloud, provider: AzureProvider, gang: LaunchRequest, repair: LaunchRequest
) -> None:
    nodes = provider.launch(gang)
    lose(cloud, nodes[1])
    new = provider.launch(repair)
    assert len(new) == 1 and new[0].token == "fix"
    assert by_token(provider) == {"tok": {nodes[0].id, nodes[2].id}, "fix": ids(new)}
    assert len({cloud.fabric_of(node_id) for node_id in cloud.running_ids()}) == 1
    assert len(scale_sets(cloud)) == 1
    assert ids(provider.nodes(replace(CLUSTER, token="fix"))) == ids(new)
    assert ids(provider.nodes(replace(CLUSTER, token="tok"))) == {nodes[0].id, nodes[2].id}
    assert ids(provider.nodes(Selector(token="fix"))) == ids(new)


def test_a_repair_has_its_own_expiry_and_set_up(
    cloud: AzureLocalCloud, provider: AzureProvider, gang: LaunchRequest, repair: LaunchRequest
) -> None:
    (first, *_) = provider.launch(gang)
    end = datetime(2027, 1, 1, tzinfo=UTC)
    (new,) = provider.launch(replace(repair, expires_at=end, setup="echo repaired"))
    setup = base64.b64encode(b"echo repaired")
    assert setup[:-4] in base64.b64decode(cloud.boot_script(new.id))
    assert setup[:-4] not in base64.b64decode(cloud.boot_script(first.id))
    with cloud._state.lock:
        assert f"expires-at={int(end.timestamp())}" in base64.b64decode(cloud._find(new.id)[1].user_data).decode()


@pytest.mark.parametrize("kind", [FaultKind.LOSE_ANSWER, FaultKind.DROP])
def test_a_repair_whose_answer_is_lost_is_bought_once(
    cloud: AzureLocalCloud,
    provider: AzureProvider,
    open_with: Open,
    gang: LaunchRequest,
    repair: LaunchRequest,
    kind: FaultKind,
) -> None:
    provider.launch(gang)
    cloud.faults.add(Fault(kind, PATCH))
    with pytest.raises(errors.TransientError):
        provider.launch(repair)
    for again in (provider, open_with()):
        assert len(again.launch(repair)) == 1
    assert len(cloud.running_ids()) == 4


def test_a_repair_without_capacity_leaves_the_scale_set_as_it_was(
    cloud: AzureLocalCloud, provider: AzureProvider, gang: LaunchRequest, repair: LaunchRequest, offer: Offer
) -> None:
    nodes = provider.launch(gang)
    two = replace(repair, parts=(Part(offer, 2),))
    cloud.set_capacity(offer.instance_type, "eastus-1", 4)
    cloud.stockout = "AllocationFailed"
    with pytest.raises(errors.CapacityError):
        provider.launch(two)
    assert set(cloud.running_ids()) == ids(nodes), "the one machine that Azure had is given back, and no other"
    assert [item.body["sku"]["capacity"] for item in scale_sets(cloud)] == [3]
    assert {node.state for node in provider.nodes(CLUSTER)} == {NodeState.RUNNING}


def test_a_repair_is_rolled_back_by_its_token_and_the_others_stay(
    cloud: AzureLocalCloud, provider: AzureProvider, clock: FakeClock, gang: LaunchRequest, repair: LaunchRequest
) -> None:
    nodes = provider.launch(gang)
    new = provider.launch(repair)
    selector = replace(CLUSTER, token="fix", tokens=("fix",))
    assert ids(provider.resources(selector)) == ids(new)
    tear_down(provider, selector, clock)
    assert set(cloud.running_ids()) == ids(nodes)
    assert [item.body["sku"]["capacity"] for item in scale_sets(cloud)] == [3]
    tear_down(provider, CLUSTER, clock)
    assert cloud.alive() == []


def test_the_first_launch_is_deleted_by_its_token_and_the_repair_stays(
    cloud: AzureLocalCloud, provider: AzureProvider, clock: FakeClock, gang: LaunchRequest, repair: LaunchRequest
) -> None:
    provider.launch(gang)
    new = provider.launch(repair)
    tear_down(provider, replace(CLUSTER, token="tok", tokens=("tok",)), clock)
    assert set(cloud.running_ids()) == ids(new)
    tear_down(provider, replace(CLUSTER, token="fix"), clock)
    assert cloud.running_ids() == [] and scale_sets(cloud) == []


def test_the_deletion_of_another_launch_leaves_a_scale_set_that_has_lost_all_its_instances(
    cloud: AzureLocalCloud, provider: AzureProvider, gang: LaunchRequest, repair: LaunchRequest
) -> None:
    nodes = [*provider.launch(gang), *provider.launch(repair)]
    for node in nodes:
        lose(cloud, node)
    assert provider.terminate(Selector(token="unknown")).is_done
    assert len(scale_sets(cloud)) == 1


def test_a_second_repair_joins_the_scale_set_of_the_first_launch(
    cloud: AzureLocalCloud, provider: AzureProvider, open_with: Open, gang: LaunchRequest, repair: LaunchRequest
) -> None:
    nodes = provider.launch(gang)
    lose(cloud, nodes[0])
    first = provider.launch(repair)
    for node in nodes[1:]:
        lose(cloud, node)
    tags = {**repair.tags, "multicompute-attempt": "fix2"}
    other = open_with()
    second = other.launch(
        replace(repair, token="fix2", tags=tags, peers=("fix",), parts=(replace(repair.parts[0], nodes=2),))
    )
    assert by_token(other) == {"fix": ids(first), "fix2": ids(second)}
    assert len({cloud.fabric_of(node_id) for node_id in cloud.running_ids()}) == 1


def test_two_repairs_at_the_same_time_do_not_overwrite_each_other(
    cloud: AzureLocalCloud, provider: AzureProvider, gang: LaunchRequest, repair: LaunchRequest
) -> None:
    provider.launch(gang)
    (owner,) = scale_sets(cloud)
    # Another process enlarges the scale set between our read and our write.
    original = _fabric.begin_join

    def late(*arguments: Any) -> None:
        with cloud._state.lock:
            owner.body["_version"] += 1
        original(*arguments)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("multicompute_azure._launch.begin_join", late)
        with pytest.raises(errors.TransientError, match="has changed since it was read"):
            provider.launch(repair)
    assert len(cloud.running_ids()) == 3
    assert len(provider.launch(repair)) == 1


def test_a_repair_beyond_a_hundred_machines_or_elsewhere_is_refused_before_anything_is_bought(
    cloud: AzureLocalCloud, provider: AzureProvider, gang: LaunchRequest, repair: LaunchRequest, offer: Offer
) -> None:
    provider.launch(gang)
    elsewhere = replace(offer, zone="eastus-2")
    for wrong, text in (
        (replace(repair, parts=(Part(offer, 98),)), "3 of at most 100"),
        (replace(repair, parts=(Part(elsewhere, 1),)), "the fabric of the cluster is the scale set"),
        (replace(repair, parts=(Part(replace(offer, purchase="spot"), 1),)), "the fabric of the cluster is"),
        (replace(repair, peers=("unknown",)), "in 0 scale sets"),
    ):
        with pytest.raises(errors.InvalidRequestError, match=text) as refused:
            provider.launch(wrong)
        assert (refused.value.scope, refused.value.code) == ("request", "FabricNotPossible")
    assert len(cloud.running_ids()) == 3


def test_nodes_of_a_flexible_scale_set_can_not_be_joined(
    cloud: AzureLocalCloud, provider: AzureProvider, gang: LaunchRequest, repair: LaunchRequest
) -> None:
    provider.launch(replace(gang, fabric=False))
    with pytest.raises(errors.InvalidRequestError, match="is Flexible, and has no InfiniBand fabric"):
        provider.launch(repair)
    assert len(cloud.running_ids()) == 3


def test_a_repair_waits_until_a_preempted_instance_is_gone(
    cloud: AzureLocalCloud, provider: AzureProvider, clock: FakeClock, gang: LaunchRequest, repair: LaunchRequest
) -> None:
    nodes = provider.launch(gang)
    cloud.set_delays(shutdown=30)
    provider.terminate(replace(CLUSTER, only=(nodes[0].id,)))
    with pytest.raises(errors.TransientError, match="being deleted or stopped"):
        provider.launch(repair)
    clock.sleep(timedelta(minutes=1))
    assert len(provider.launch(repair)) == 1
    assert [item.body["sku"]["capacity"] for item in scale_sets(cloud)] == [3]


def test_stopped_nodes_of_a_repair_are_started_again(
    cloud: AzureLocalCloud, provider: AzureProvider, gang: LaunchRequest, repair: LaunchRequest
) -> None:
    provider.launch(gang)
    (new,) = provider.launch(repair)
    cloud.stop_node(new.id)
    assert ids(provider.launch(replace(repair, restart=True))) == {new.id}
    assert {node.state for node in provider.nodes(CLUSTER)} == {NodeState.RUNNING}


def test_without_the_tags_of_the_scale_set_the_nodes_of_a_repair_are_still_told_apart(
    cloud: AzureLocalCloud, provider: AzureProvider, open_with: Open, gang: LaunchRequest, repair: LaunchRequest
) -> None:
    nodes = provider.launch(gang)
    new = provider.launch(repair)
    with cloud._state.lock:
        scale_sets(cloud)[0].tags = {}
    known = tuple(ids([*nodes, *new]))
    found = open_with().nodes(replace(CLUSTER, known_ids=known, tokens=("tok", "fix")))
    assert {node.id: node.token for node in found} == {
        **{node.id: "tok" for node in nodes},
        **{node.id: "fix" for node in new},
    }


def test_a_scale_set_that_lost_its_tags_gets_them_again_and_is_deleted_by_the_ids_of_its_nodes(
    cloud: AzureLocalCloud, provider: AzureProvider, clock: FakeClock, gang: LaunchRequest
) -> None:
    nodes = provider.launch(gang)
    known = replace(CLUSTER, known_ids=tuple(node.id for node in nodes), tokens=("tok",))
    cloud.remove_tags(nodes[0].id)
    found = provider.nodes(known)
    assert ids(found) == ids(nodes) and {node.state for node in found} == {NodeState.RUNNING}
    assert not any(node.is_tagged for node in found), "an instance has the tags of its scale set only"
    provider.set_expiry(known, None, restore=gang.tags)
    assert all(node.is_tagged and node.token == "tok" for node in provider.nodes(CLUSTER))
    assert all(gang.tags.items() <= item.tags.items() for item in scale_sets(cloud))
    cloud.remove_tags(nodes[0].id)
    tear_down(provider, known, clock)
    assert cloud.alive() == []
