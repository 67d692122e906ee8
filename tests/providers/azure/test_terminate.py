"""A teardown deletes everything of a cluster or an attempt and nothing else, and can be resumed."""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from multicompute import errors
from multicompute.node import NodeState
from multicompute.offer import Offer, Part
from multicompute.provider import LaunchRequest, Selector, Teardown
from multicompute_azure._provider import AzureProvider
from multicompute_azure.local import AzureLocalCloud

Request = Callable[..., LaunchRequest]
Open = Callable[..., AzureProvider]
CLUSTER = Selector(region="eastus", cluster_id="id-1")


def tear_down(provider: AzureProvider, selector: Selector) -> int:
    """Repeat steps until nothing remains, and return how many it took."""
    clock = provider._clients.clock
    deadline = clock.now() + timedelta(seconds=10)
    steps = 1
    while not (step := provider.terminate(selector)).is_done:
        assert clock.now() < deadline, step
        steps += 1
        clock.sleep(timedelta(milliseconds=10))
    return steps


def count(cloud: AzureLocalCloud, operation: str) -> int:
    return cloud.faults.count(operation)


@pytest.fixture
def in_team_group(open_with: Open, provider: AzureProvider, cloud: AzureLocalCloud) -> AzureProvider:
    """A provider that may use one existing group only, which has foreign resources, too."""
    resources: Any = provider._clients.resources
    resources.resource_groups.create_or_update("Team-ML", {"location": "westus2", "tags": {"team": "ml"}})
    cloud.seed_foreign(resource_group="Team-ML")
    return open_with(resource_group="Team-ML")


def test_a_clusters_group_is_deleted_in_one_call_however_long_it_takes(
    cloud: AzureLocalCloud, provider: AzureProvider, request_of: Request
) -> None:
    provider.launch(request_of())
    cloud.shutdown_delay = timedelta(milliseconds=150)
    step = provider.terminate(CLUSTER)
    assert {item.kind for item in step.remaining} >= {"resource-group", "virtual-machine"}
    assert "multicompute-id-1-eastus" in step.waiting_for
    assert tear_down(provider, CLUSTER) > 1
    assert count(cloud, "resourceGroups.delete") == 1
    assert cloud.alive() == []


def test_a_deletion_that_failed_half_way_is_started_again(
    cloud: AzureLocalCloud, provider: AzureProvider, request_of: Request
) -> None:
    provider.launch(request_of())
    cloud.faults.fail("resourceGroups.delete.operation", "Conflict", message="a resource could not be deleted")
    tear_down(provider, CLUSTER)
    assert count(cloud, "resourceGroups.delete") == 2
    assert cloud.alive() == []


def test_a_group_of_our_name_without_our_tag_is_never_deleted(cloud: AzureLocalCloud, provider: AzureProvider) -> None:
    resources: Any = provider._clients.resources
    resources.resource_groups.create_or_update("multicompute-id-1-eastus", {"location": "eastus", "tags": {"a": "b"}})
    assert provider.terminate(CLUSTER) == Teardown()
    assert provider.terminate(replace(CLUSTER, region=None)).is_done
    assert [item.kind for item in cloud.alive()] == ["resourceGroups"]


def test_the_teardown_of_an_attempt_leaves_the_network_of_its_cluster(
    cloud: AzureLocalCloud, provider: AzureProvider, request_of: Request
) -> None:
    provider.launch(request_of())
    tear_down(provider, replace(CLUSTER, token="tok"))
    left = {item.kind for item in cloud.alive()}
    assert left == {"resourceGroups", "networkSecurityGroups", "virtualNetworks"}


def test_machines_that_a_failed_scale_set_deletion_left_are_deleted_too(
    cloud: AzureLocalCloud, provider: AzureProvider, request_of: Request, offer: Offer
) -> None:
    provider.launch(request_of(parts=(Part(offer, 4),)))
    cloud.faults.fail("virtualMachineScaleSets.delete.operation", "InternalExecutionError", message="half way")
    tear_down(provider, replace(CLUSTER, token="tok"))
    assert cloud.running_ids() == []
    assert not any(item.billable for item in cloud.alive())


def test_in_a_configured_group_everything_of_the_cluster_is_deleted_and_nothing_else(
    cloud: AzureLocalCloud, in_team_group: AzureProvider, request_of: Request
) -> None:
    before = {item.id for item in cloud.alive()}
    nodes = in_team_group.launch(request_of(fabric=True))
    assert all("/resourceGroups/Team-ML/" in node.id for node in nodes)
    listed = in_team_group.resources(CLUSTER)
    assert {item.id for item in listed} == {item.id for item in cloud.alive()} - before
    tear_down(in_team_group, CLUSTER)
    assert {item.id for item in cloud.alive()} == before
    assert cloud.foreign_intact()
    assert count(cloud, "resourceGroups.delete") == 0


def test_in_a_configured_group_other_clusters_stay(
    cloud: AzureLocalCloud, in_team_group: AzureProvider, request_of: Request, offer: Offer
) -> None:
    in_team_group.launch(request_of())
    tags = {**request_of().tags, "multicompute-id": "id-2", "multicompute-attempt": "b"}
    there = replace(offer, region="westus2", zone="westus2-1")
    other = in_team_group.launch(request_of(cluster_id="id-2", token="b", tags=tags, parts=(Part(there, 2),)))
    tear_down(in_team_group, CLUSTER)
    assert {node.id for node in in_team_group.nodes(Selector(owner="me"))} == {node.id for node in other}
    assert {node.region for node in in_team_group.nodes(Selector(owner="me"))} == {"westus2"}


def test_an_interface_that_azure_keeps_for_a_while_is_waited_for(
    cloud: AzureLocalCloud, in_team_group: AzureProvider, request_of: Request
) -> None:
    before = {item.id for item in cloud.alive()}
    cloud.nic_reservation = timedelta(milliseconds=100)
    in_team_group.launch(request_of())
    tear_down(in_team_group, CLUSTER)
    assert {item.id for item in cloud.alive()} == before


def test_a_configured_network_is_used_and_stays(
    cloud: AzureLocalCloud, in_team_group: AzureProvider, open_with: Open, request_of: Request, offer: Offer
) -> None:
    network: Any = in_team_group._clients.network
    body = {
        "location": "eastus",
        "properties": {
            "addressSpace": {"addressPrefixes": ["10.9.0.0/16"]},
            "subnets": [{"name": "gpu", "properties": {"addressPrefix": "10.9.0.0/24"}}],
        },
    }
    network.virtual_networks.begin_create_or_update("Team-ML", "net", body, polling=False)
    provider = open_with(resource_group="Team-ML", vnet="net", subnet="gpu")
    before = {item.id for item in cloud.alive()}
    provider.launch(request_of())
    running = [node for node in provider.nodes(CLUSTER) if node.state is NodeState.RUNNING]
    assert {(node.private_ip or "").rpartition(".")[0] for node in running} == {"10.9.0"}
    tear_down(provider, CLUSTER)
    assert {item.id for item in cloud.alive()} == before
    elsewhere = replace(offer, region="westus2", zone="westus2-1")
    with pytest.raises(errors.CapacityError, match="is in eastus"):
        provider.launch(request_of(parts=(Part(elsewhere, 1),)))


def test_a_configured_network_that_does_not_exist_is_a_configuration_error(
    cloud: AzureLocalCloud, in_team_group: AzureProvider, open_with: Open, request_of: Request
) -> None:
    with pytest.raises(errors.ConfigError, match="no such network"):
        open_with(resource_group="Team-ML", vnet="net", subnet="gpu").launch(request_of())
    assert cloud.running_ids() == []


def test_a_network_that_is_named_without_its_group_is_a_configuration_error(
    open_with: Open, request_of: Request
) -> None:
    with pytest.raises(errors.ConfigError, match="resource_group"):
        open_with(vnet="net").launch(request_of())


def test_a_cluster_that_was_torn_down_can_be_launched_again_by_the_same_process(
    cloud: AzureLocalCloud, provider: AzureProvider, request_of: Request
) -> None:
    provider.launch(request_of())
    tear_down(provider, CLUSTER)
    assert len(provider.launch(request_of(token="again"))) == 2


def test_a_launch_into_a_group_that_was_deleted_meanwhile_is_transient(
    cloud: AzureLocalCloud, provider: AzureProvider, open_with: Open, request_of: Request
) -> None:
    provider.launch(request_of())
    tear_down(open_with(), CLUSTER)
    with pytest.raises(errors.TransientError):
        provider.launch(request_of(token="again"))
    assert len(provider.launch(request_of(token="again"))) == 2
