"""A node that is READY can be reached and can reach the internet: its public address, the rules for SSH, and the way out."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from multicompute import errors
from multicompute.node import NodeState
from multicompute.provider import LaunchRequest, Selector
from multicompute.testing import FakeClock
from multicompute_azure._provider import AzureProvider
from multicompute_azure.local import AzureLocalCloud

Request = Callable[..., LaunchRequest]
Open = Callable[..., AzureProvider]
CLUSTER = Selector(region="eastus", cluster_id="id-1")
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJdD7y3aLq454yWBdwLWbieU1ebz9/cu7/QEXn9OIeZJ me"
LAPTOP, SERVER = "203.0.113.7/32", "198.51.100.9/32"


def security_group(cloud: AzureLocalCloud) -> Any:
    with cloud._state.lock:
        (found,) = cloud._state.items("Microsoft.Network/networkSecurityGroups")
        return found


def rules(cloud: AzureLocalCloud) -> Mapping[str, Any]:
    """Return the blocks that each rule of the only security group allows."""
    found = security_group(cloud).body["properties"]["securityRules"]
    return {rule["name"]: rule["properties"] for rule in found}


def allowed(cloud: AzureLocalCloud) -> set[str]:
    return {block for rule in rules(cloud).values() for block in rule.get("sourceAddressPrefixes") or ()}


# --- addresses ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fabric", [False, True])
def test_a_node_that_runs_is_pending_until_it_has_a_public_address(
    cloud: AzureLocalCloud, provider: AzureProvider, clock: FakeClock, request_of: Request, fabric: bool
) -> None:
    cloud.address_delay = timedelta(minutes=1)
    provider.launch(request_of(fabric=fabric))
    found = provider.nodes(CLUSTER)
    assert {(node.state, node.reason) for node in found} == {
        (NodeState.PENDING, "it runs, but has no public address yet")
    }
    clock.sleep(timedelta(minutes=2))
    found = provider.nodes(CLUSTER)
    assert {node.state for node in found} == {NodeState.RUNNING}
    assert all(node.public_ip for node in found)


@pytest.mark.parametrize("fabric", [False, True])
def test_a_private_node_needs_no_public_address(provider: AzureProvider, request_of: Request, fabric: bool) -> None:
    provider.launch(request_of(fabric=fabric, private=True))
    found = provider.nodes(CLUSTER)
    assert {(node.state, node.public_ip) for node in found} == {(NodeState.RUNNING, None)}
    assert all(node.private_ip for node in found)


# --- rules --------------------------------------------------------------------------------------------------------------


def test_a_process_at_another_address_adds_its_address_and_takes_no_other_away(
    cloud: AzureLocalCloud, open_with: Open, request_of: Request
) -> None:
    open_with(ssh_from=LAPTOP).launch(request_of(ssh_public_key=KEY))
    assert allowed(cloud) == {LAPTOP}
    open_with(ssh_from=SERVER).launch(request_of(token="heal", ssh_public_key=KEY))
    assert allowed(cloud) == {LAPTOP, SERVER}
    assert len({rule["priority"] for rule in rules(cloud).values()}) == 2
    before = len(cloud.faults.calls)
    open_with(ssh_from=SERVER).launch(request_of(token="again", ssh_public_key=KEY))
    assert allowed(cloud) == {LAPTOP, SERVER}
    written = {call.operation for call in cloud.faults.calls[before:]}
    assert not written & {"networkSecurityGroups.createOrUpdate", "securityRules.createOrUpdate"}


def test_a_rule_that_the_user_has_added_is_kept(cloud: AzureLocalCloud, open_with: Open, request_of: Request) -> None:
    open_with(ssh_from=LAPTOP).launch(request_of(ssh_public_key=KEY))
    theirs = {
        "name": "jupyter",
        "properties": {
            **next(iter(rules(cloud).values())),
            "priority": 1001,
            "destinationPortRange": "8888",
        },
    }
    security_group(cloud).body["properties"]["securityRules"].append(theirs)
    security_group(cloud).tags["costcenter"] = "7"
    open_with(ssh_from=SERVER).launch(request_of(token="heal", ssh_public_key=KEY))
    assert rules(cloud)["jupyter"]["destinationPortRange"] == "8888"
    assert allowed(cloud) == {LAPTOP, SERVER}
    assert security_group(cloud).tags["costcenter"] == "7"


def test_a_launch_without_a_key_opens_no_port_and_closes_none(
    cloud: AzureLocalCloud, open_with: Open, request_of: Request
) -> None:
    open_with(ssh_from=LAPTOP).launch(request_of(ssh_public_key=KEY))
    open_with(ssh_from=SERVER).launch(request_of(token="heal"))
    assert allowed(cloud) == {LAPTOP}


def test_a_priority_that_another_process_took_is_a_reason_to_repeat_the_launch(
    cloud: AzureLocalCloud, open_with: Open, request_of: Request
) -> None:
    open_with(ssh_from=LAPTOP).launch(request_of(ssh_public_key=KEY))
    cloud.faults.fail("securityRules.createOrUpdate", "SecurityRuleConflict", status=400)
    other = open_with(ssh_from=SERVER)
    with pytest.raises(errors.TransientError, match="has changed the security group"):
        other.launch(request_of(token="heal", ssh_public_key=KEY))
    assert len(other.launch(request_of(token="heal", ssh_public_key=KEY))) == 2
    assert allowed(cloud) == {LAPTOP, SERVER}


def test_nodes_that_nobody_could_reach_are_refused_before_anything_is_created(
    cloud: AzureLocalCloud, provider: AzureProvider, request_of: Request, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As on a machine that may not ask the service for its address.
    monkeypatch.setattr("multicompute_azure._security_group.SshSources.blocks", lambda *_: ())
    with pytest.raises(errors.InvalidRequestError, match="nobody could reach the nodes") as refused:
        provider.launch(request_of(ssh_public_key=KEY))
    assert "ssh_from" in str(refused.value.hint)
    assert cloud.alive() == []
    assert len(provider.launch(request_of(ssh_public_key=KEY, private=True))) == 2
    assert len(provider.launch(request_of(cluster_id="id-2", token="b"))) == 2


# --- the network --------------------------------------------------------------------------------------------------------


def test_a_network_that_exists_is_not_written_again(
    cloud: AzureLocalCloud, provider: AzureProvider, open_with: Open, request_of: Request
) -> None:
    provider.launch(request_of())
    with cloud._state.lock:
        (subnet,) = cloud._state.items("Microsoft.Network/virtualNetworks/subnets")
        # A NAT gateway that the user has attached.
        subnet.body["properties"]["natGateway"] = {"id": "/subscriptions/s/nat"}
    open_with().launch(request_of(token="heal"))
    assert subnet.body["properties"]["natGateway"] == {"id": "/subscriptions/s/nat"}
    assert cloud.faults.count("virtualNetworks.createOrUpdate") == 1


def test_a_network_has_no_default_outbound_access_whatever_the_version_of_the_api(
    cloud: AzureLocalCloud, provider: AzureProvider, request_of: Request
) -> None:
    provider.launch(request_of())
    with cloud._state.lock:
        (subnet,) = cloud._state.items("Microsoft.Network/virtualNetworks/subnets")
        assert subnet.body["properties"]["defaultOutboundAccess"] is False


# --- tags ---------------------------------------------------------------------------------------------------------------


def test_nodes_whose_scale_set_does_not_pass_its_tags_on_are_found_and_tagged(
    cloud: AzureLocalCloud, provider: AzureProvider, open_with: Open, request_of: Request
) -> None:
    cloud.copies_tags = False
    request = request_of()
    nodes = provider.launch(request)
    found = open_with().nodes(CLUSTER)
    assert [(node.id, node.token, node.is_tagged) for node in found] == [(node.id, "tok", False) for node in nodes]
    known = replace(CLUSTER, known_ids=tuple(node.id for node in nodes), tokens=("tok",))
    provider.set_expiry(known, None, restore=request.tags)
    assert all(node.is_tagged and node.token == "tok" for node in open_with().nodes(CLUSTER))
    tags = {item.id: item.tags for item in cloud.alive() if item.kind in ("virtualMachines", "disks")}
    assert all(request.tags.items() <= found.items() for found in tags.values())


def test_the_users_tags_leave_room_for_those_that_azure_and_multicompute_add(
    cloud: AzureLocalCloud, provider: AzureProvider, request_of: Request
) -> None:
    from multicompute_azure import plugin

    ours = {name: value for name, value in request_of().tags.items() if name.startswith("multicompute-")}
    most = {f"t{number}": "x" for number in range(plugin.tag_limits.count)}
    for number, fabric in enumerate((False, True)):
        request = request_of(
            token=f"t{number}", fabric=fabric, tags={**ours, "multicompute-attempt": f"t{number}", **most}
        )
        assert len(provider.launch(request)) == 2
    repair = replace(request, token="fix", peers=("t1",), tags={**request.tags, "multicompute-attempt": "fix"})
    assert len(provider.launch(repair)) == 2
