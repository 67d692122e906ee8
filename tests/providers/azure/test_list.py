"""Listing by tag and by name, and reading what Azure returns."""

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from multicompute.errors import InvalidRequestError
from multicompute.node import NodeState
from multicompute.offer import Offer
from multicompute.provider import LaunchRequest, Selector
from multicompute_azure._list import _state
from multicompute_azure._names import canonical, dependent_name, group_name, scale_set_name, zone_name, zone_number
from multicompute_azure._provider import AzureProvider
from multicompute_azure._sets import ScaleSet
from multicompute_azure._tags import are_selected, tag_filter
from multicompute_azure.local import AzureLocalCloud

Request = Callable[..., LaunchRequest]
CLUSTER = Selector(region="eastus", cluster_id="id-1")
SET = ScaleSet("id", "g", "s", "eastus", "Succeeded", 1, "x", is_spot=False)


def read(provisioning: str, power: str = "", *, failed: str = "", spot: bool = False) -> tuple[NodeState, str]:
    statuses = [{"code": f"ProvisioningState/failed/{failed}", "message": "why"}] if failed else []
    statuses += [{"code": f"PowerState/{power}"}] if power else []
    properties = {"provisioningState": provisioning, "instanceView": {"statuses": statuses}}
    state, _, cause = _state(properties, replace(SET, is_spot=spot))
    return state, cause


@pytest.mark.parametrize(
    ("found", "state", "cause"),
    [
        (read("Creating"), NodeState.PENDING, ""),
        (read("Creating", "running"), NodeState.PENDING, ""),
        (read("Succeeded", "running"), NodeState.RUNNING, ""),
        (read("Updating", "running"), NodeState.RUNNING, ""),
        (read("Succeeded", "stopped"), NodeState.STOPPED, ""),
        (read("Succeeded", "deallocated"), NodeState.STOPPED, ""),
        (read("Succeeded", "deallocating"), NodeState.STOPPING, ""),
        (read("Deleting", "running"), NodeState.STOPPING, ""),
        (read("Deleting", spot=True), NodeState.STOPPING, "preemption"),
        (read("Failed", failed="AllocationFailed"), NodeState.STOPPED, "capacity"),
        (read("Failed", failed="QuotaExceeded"), NodeState.STOPPED, "quota"),
        (read("Failed", failed="ImageNotFound"), NodeState.STOPPED, "request"),
        (read("Failed", "running", failed="OSProvisioningTimedOut"), NodeState.STOPPED, ""),
        (read("Failed", "running", failed="VMExtensionProvisioningError"), NodeState.RUNNING, ""),
    ],
)
def test_provisioning_and_power_together_are_a_nodes_state(found: object, state: NodeState, cause: str) -> None:
    assert found == (state, cause)


def test_a_node_that_was_stopped_is_listed_as_stopped(
    cloud: AzureLocalCloud, provider: AzureProvider, request_of: Request
) -> None:
    nodes = provider.launch(request_of())
    cloud.stop_node(nodes[0].id)
    assert {node.id: node.state for node in provider.nodes(CLUSTER)}[nodes[0].id] is NodeState.STOPPED


def test_the_number_of_calls_does_not_grow_with_the_clusters(
    cloud: AzureLocalCloud, provider: AzureProvider, request_of: Request, offer: Offer
) -> None:
    launched = set()
    for number in range(20):
        name = f"c{number}"
        tags = {**request_of().tags, "multicompute-id": name, "multicompute-attempt": name}
        launched |= {node.id for node in provider.launch(request_of(cluster_id=name, token=name, tags=tags))}
    provider.nodes(Selector(owner="me"))
    before = len(cloud.faults.calls)
    nodes = provider.nodes(Selector(owner="me"))
    assert {node.id for node in nodes} == launched
    assert {node.state for node in nodes} == {NodeState.RUNNING}
    assert all(node.private_ip and node.public_ip for node in nodes)
    assert len(cloud.faults.calls) - before == 3
    before = len(cloud.faults.calls)
    assert len(provider.resources(Selector(owner="me"))) > 100
    # Paged listings of the subscription, and not one listing for each group.
    listings = {"resourceGroups.list", "resources.list", "virtualMachineScaleSets.listAll"}
    assert {call.operation for call in cloud.faults.calls[before:]} == listings


def test_another_process_finds_everything_by_its_tags_only(
    provider: AzureProvider, open_with: Callable[..., AzureProvider], request_of: Request
) -> None:
    launched = {node.id for node in provider.launch(request_of())}
    other = open_with()
    for selector in (Selector(), Selector(token="tok"), Selector(cluster_id="id-1"), CLUSTER, Selector(owner="me")):
        assert {node.id for node in other.nodes(selector)} == launched
        assert {item.id for item in other.resources(selector)} >= launched


def test_an_expiry_is_written_on_nodes_scale_sets_and_group_and_changes_no_other_tag(
    cloud: AzureLocalCloud, provider: AzureProvider, request_of: Request
) -> None:
    provider.launch(request_of())
    provider.set_expiry(CLUSTER, datetime(2027, 1, 1, tzinfo=UTC))
    changed = {item.kind for item in cloud.alive() if item.tags.get("multicompute-expires-at") == "1798761600"}
    assert changed == {"virtualMachines", "virtualMachineScaleSets", "resourceGroups"}
    assert all(item.tags.get("team") == "nlp" for item in cloud.alive())


def test_a_process_that_only_reads_imports_no_management_client(
    cloud: AzureLocalCloud, provider: AzureProvider, request_of: Request
) -> None:
    provider.launch(request_of())
    script = """
import sys
from multicompute.provider import Selector, Settings
from multicompute_azure._provider import AzureProvider
provider = AzureProvider(Settings(values={"endpoint_url": sys.argv[1], "subscription_id": sys.argv[2]}))
print(len(provider.nodes(Selector())), len(provider.resources(Selector())), len(provider.quotas("eastus").quotas) > 0)
print([name for name in ("compute", "network", "resource") if f"azure.mgmt.{name}" in sys.modules])
"""
    command = [sys.executable, "-c", script, cloud.endpoint_url, cloud.subscription_id]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["2 12 True", "[]"]


def test_a_tag_that_azure_does_not_accept_is_refused_before_anything_is_created(
    cloud: AzureLocalCloud, provider: AzureProvider, request_of: Request
) -> None:
    with pytest.raises(InvalidRequestError, match="cost/center"):
        provider.launch(request_of(tags={**request_of().tags, "cost/center": "7"}))
    assert cloud.faults.calls == []


def test_keys_of_tags_are_compared_without_case_and_values_with_it() -> None:
    tags = {"Multicompute-Id": "A", "MULTICOMPUTE-OWNER": "me"}
    assert are_selected(tags, Selector(cluster_id="A", owner="me"))
    assert not are_selected(tags, Selector(cluster_id="a"))
    assert not are_selected({"multicompute-owner": "me"}, Selector(owner="me"))
    assert tag_filter("a", "o'neil") == "tagName eq 'a' and tagValue eq 'o''neil'"


def test_names_are_short_enough_and_unique() -> None:
    assert group_name("id-1", "eastus") == "multicompute-id-1-eastus"
    assert scale_set_name("mc-01", 0) == "mc-01-0"
    names = [
        group_name("X" * 200, "eastus"),
        group_name("x" * 200, "eastus"),
        group_name("a.b", "eastus"),
        group_name("a-b", "eastus"),
    ]
    assert len(set(names)) == 4
    assert all(len(name) <= 90 for name in names)
    assert len(scale_set_name("t" * 200, 12)) <= 54
    assert len(dependent_name("t" * 200, "eastus", "nsg")) <= 80


def test_the_name_of_a_zone_contains_its_region() -> None:
    assert (zone_name("eastus", "2"), zone_number("eastus-2"), zone_number("2"), zone_number("")) == (
        "eastus-2",
        "2",
        "2",
        "",
    )
    assert zone_name("eastus", "") == ""


def test_an_id_has_one_spelling_however_a_listing_writes_it() -> None:
    rest = "/providers/Microsoft.Compute/virtualMachines/v_1"
    assert (
        canonical(f"/subscriptions/s/resourceGroups/MULTICOMPUTE-X{rest}", None)
        == f"/subscriptions/s/resourceGroups/multicompute-x{rest}"
    )
    assert (
        canonical(f"/subscriptions/s/resourcegroups/TEAM-ML{rest}", "Team-ML")
        == f"/subscriptions/s/resourceGroups/Team-ML{rest}"
    )
