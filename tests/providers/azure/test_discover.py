"""Nodes, expiry, quotas and checks, as Azure's listings tell them."""

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from multicompute.errors import InvalidRequestError
from multicompute.node import NodeState
from multicompute.offer import Offer, Part
from multicompute.provider import LaunchRequest, Selector
from multicompute_azure._discover import ScaleSet, _state
from multicompute_azure._names import beside_name, canonical, group_name, scale_set_name, zone_name, zone_number
from multicompute_azure._provider import AzureProvider
from multicompute_azure._tags import are_meant, tag_filter
from multicompute_azure.local import AzureLocalCloud

Request = Callable[..., LaunchRequest]
CLUSTER = Selector(region="eastus", cluster_id="id-1")
SET = ScaleSet("id", "g", "s", "eastus", "Succeeded", 1, "x", is_spot=False)


def seen(provisioning: str, power: str = "", *, failed: str = "", spot: bool = False) -> tuple[NodeState, str]:
    statuses = [{"code": f"ProvisioningState/failed/{failed}", "message": "so"}] if failed else []
    statuses += [{"code": f"PowerState/{power}"}] if power else []
    properties = {"provisioningState": provisioning, "instanceView": {"statuses": statuses}}
    state, _, cause = _state(properties, replace(SET, is_spot=spot))
    return state, cause


@pytest.mark.parametrize(
    ("found", "state", "cause"),
    [
        (seen("Creating"), NodeState.PENDING, ""),
        (seen("Creating", "running"), NodeState.PENDING, ""),
        (seen("Succeeded", "running"), NodeState.RUNNING, ""),
        (seen("Updating", "running"), NodeState.RUNNING, ""),
        (seen("Succeeded", "stopped"), NodeState.STOPPED, ""),
        (seen("Succeeded", "deallocated"), NodeState.STOPPED, ""),
        (seen("Succeeded", "deallocating"), NodeState.STOPPING, ""),
        (seen("Deleting", "running"), NodeState.STOPPING, ""),
        (seen("Deleting", spot=True), NodeState.STOPPING, "preemption"),
        (seen("Failed", failed="AllocationFailed"), NodeState.STOPPED, "capacity"),
        (seen("Failed", failed="QuotaExceeded"), NodeState.STOPPED, "quota"),
        (seen("Failed", failed="ImageNotFound"), NodeState.STOPPED, "request"),
        (seen("Failed", "running", failed="OSProvisioningTimedOut"), NodeState.STOPPED, ""),
        (seen("Failed", "running", failed="VMExtensionProvisioningError"), NodeState.RUNNING, ""),
    ],
)
def test_provisioning_and_power_together_are_a_nodes_state(found: object, state: NodeState, cause: str) -> None:
    assert found == (state, cause)


def test_a_node_that_somebody_stopped_is_seen_as_stopped(
    cloud: AzureLocalCloud, provider: AzureProvider, request_of: Request
) -> None:
    nodes = provider.launch(request_of())
    cloud.stop_node(nodes[0].id)
    assert {node.id: node.state for node in provider.nodes(CLUSTER)}[nodes[0].id] is NodeState.STOPPED


def test_many_clusters_are_listed_in_a_number_of_calls_that_does_not_grow_with_them(
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
    # The subscription's listing comes in pages, and not group by group.
    assert {call.operation for call in cloud.faults.calls[before:]} == {"resourceGroups.list", "resources.list"}


def test_another_process_finds_everything_by_tag_alone(
    provider: AzureProvider, open_with: Callable[..., AzureProvider], request_of: Request
) -> None:
    launched = {node.id for node in provider.launch(request_of())}
    stranger = open_with()
    for selector in (Selector(), Selector(token="tok"), Selector(cluster_id="id-1"), CLUSTER, Selector(owner="me")):
        assert {node.id for node in stranger.nodes(selector)} == launched
        assert {item.id for item in stranger.resources(selector)} >= launched


def test_an_expiry_is_written_to_nodes_scale_sets_and_group_and_to_no_other_tag(
    cloud: AzureLocalCloud, provider: AzureProvider, request_of: Request
) -> None:
    provider.launch(request_of())
    provider.set_expiry(CLUSTER, datetime(2027, 1, 1, tzinfo=UTC))
    changed = {item.kind for item in cloud.alive() if item.tags.get("multicompute-expires-at") == "1798761600"}
    assert changed == {"virtualMachines", "virtualMachineScaleSets", "resourceGroups"}
    assert all(item.tags.get("team") == "nlp" for item in cloud.alive())


def test_quotas_name_the_sizes_that_count_against_them(
    cloud: AzureLocalCloud, provider: AzureProvider, request_of: Request, offer: Offer
) -> None:
    cloud.set_quota(offer.instance_type, "eastus", 960)
    cloud.set_quota("lowPriorityCores", "eastus", 96)
    provider.launch(request_of())
    found = provider.quotas("eastus").quotas
    mine = [quota for quota in found if quota.purchase == "on_demand" and offer.instance_type in quota.families]
    assert [(quota.limit, quota.used, quota.unit) for quota in mine] == [(960, 192, "vcpus")]
    spot = [quota for quota in found if quota.purchase == "spot"]
    assert [(quota.limit, quota.used, quota.families) for quota in spot] == [(96, 0, ("*",))]
    assert [quota.families for quota in found if quota.name and quota.families == ("*",)] == [("*",), ("*",)]


def test_a_reservation_tells_what_is_free_of_it_in_two_calls_whatever_it_holds(
    cloud: AzureLocalCloud, provider: AzureProvider, request_of: Request, offer: Offer
) -> None:
    held = cloud.add_reservation(offer.instance_type, "eastus-1", 3)
    provider.launch(request_of(parts=(Part(offer, 1, reservation=held),)))
    before = len(cloud.faults.calls)
    found = provider.quotas("eastus", reservations=[held]).reservations
    assert [(item.id, item.zone, item.instance_type, item.available) for item in found] == [
        (held, "eastus-1", offer.instance_type, 2)
    ]
    asked = [call.operation for call in cloud.faults.calls[before:] if call.operation.startswith("capacity")]
    assert asked == ["capacityReservationGroups.get", "capacityReservations.list"]
    assert provider.quotas("westus2", reservations=[held, "no-such-group"]).reservations == ()


def test_quotas_that_may_not_be_read_are_a_note(cloud: AzureLocalCloud, provider: AzureProvider) -> None:
    cloud.faults.fail("usages.list", "AuthorizationFailed", status=403, message="no")
    answer = provider.quotas("eastus")
    assert answer.quotas == ()
    assert "could not be read" in answer.notes[0]


def test_the_check_tells_what_is_not_allowed_and_what_to_do(cloud: AzureLocalCloud, provider: AzureProvider) -> None:
    cloud.faults.fail("virtualNetworks.listAll", "AuthorizationFailed", status=403, message="no")
    bad = [finding for finding in provider.check() if not finding.ok]
    assert [finding.name for finding in bad] == ["list networks"]
    assert "azure-role.json" in bad[0].hint
    cloud.faults.fail("resourceGroups.list", "ExpiredAuthenticationToken", status=401, message="no")
    assert [(finding.name, finding.ok) for finding in provider.check()] == [("subscription", False)]


def test_a_configured_group_that_is_not_there_is_told(open_with: Callable[..., AzureProvider]) -> None:
    found = open_with(resource_group="no-such-group").check()
    assert [(finding.name, finding.ok) for finding in found] == [("subscription", False)]
    assert "no-such-group" in found[0].detail


def test_what_only_looks_imports_none_of_the_heavy_clients(
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


def test_tags_that_azure_does_not_take_are_refused_before_anything_is_made(
    cloud: AzureLocalCloud, provider: AzureProvider, request_of: Request
) -> None:
    with pytest.raises(InvalidRequestError, match="cost/center"):
        provider.launch(request_of(tags={**request_of().tags, "cost/center": "7"}))
    assert cloud.faults.calls == []


def test_names_of_tags_are_compared_without_case_and_values_with_it() -> None:
    tags = {"Multicompute-Id": "A", "MULTICOMPUTE-OWNER": "me"}
    assert are_meant(tags, Selector(cluster_id="A", owner="me"))
    assert not are_meant(tags, Selector(cluster_id="a"))
    assert not are_meant({"multicompute-owner": "me"}, Selector(owner="me"))
    assert tag_filter("a", "o'neil") == "tagName eq 'a' and tagValue eq 'o''neil'"


def test_names_are_short_enough_and_different_for_what_is_different() -> None:
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
    assert len(beside_name("t" * 200, "eastus", "nsg")) <= 80


def test_zones_carry_their_region() -> None:
    assert (zone_name("eastus", "2"), zone_number("eastus-2"), zone_number("2"), zone_number("")) == (
        "eastus-2",
        "2",
        "2",
        "",
    )
    assert zone_name("eastus", "") == ""


def test_an_id_has_one_spelling_whatever_the_listing_writes() -> None:
    rest = "/providers/Microsoft.Compute/virtualMachines/v_1"
    assert (
        canonical(f"/subscriptions/s/resourceGroups/MULTICOMPUTE-X{rest}", None)
        == f"/subscriptions/s/resourceGroups/multicompute-x{rest}"
    )
    assert (
        canonical(f"/subscriptions/s/resourcegroups/TEAM-ML{rest}", "Team-ML")
        == f"/subscriptions/s/resourceGroups/Team-ML{rest}"
    )
