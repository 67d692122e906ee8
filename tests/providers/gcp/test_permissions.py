"""The role in the documentation allows what the adapter calls, and nothing that it never calls."""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from multicompute import errors
from multicompute.node import Metric
from multicompute.offer import InstanceType, Offer, Part
from multicompute.provider import LaunchRequest, Selector
from multicompute_gcp._provider import GcpProvider
from multicompute_gcp.local import GcpLocalCloud
from tests.providers.gcp.teardown import tear_down

ROLE = Path(__file__).parents[3] / "docs" / "permissions" / "gcp-role.yaml"
# A permission has the name of its method, with these exceptions.
NAMED_OTHERWISE = {
    "instances.bulkInsert": "instances.create",
    "firewalls.insert": "firewalls.create",
    "resourcePolicies.insert": "resourcePolicies.create",
    "instances.aggregatedList": "instances.list",
    "disks.aggregatedList": "disks.list",
    "machineTypes.aggregatedList": "machineTypes.list",
    "reservations.aggregatedList": "reservations.list",
    "resourcePolicies.aggregatedList": "resourcePolicies.list",
    "globalOperations.aggregatedList": "globalOperations.list",
    "instanceGroupManagers.aggregatedList": "instanceGroupManagers.list",
    "instanceTemplates.aggregatedList": "instanceTemplates.list",
    "instanceGroupManagers.insert": "instanceGroupManagers.create",
    "instanceGroupManagers.deleteInstances": "instanceGroupManagers.update",
    "regionInstanceTemplates.insert": "instanceTemplates.create",
    "regionInstanceTemplates.get": "instanceTemplates.get",
    "regionInstanceTemplates.delete": "instanceTemplates.delete",
    # Resize requests have no permissions of their own (https://cloud.google.com/iam/docs/roles-permissions/compute).
    "instanceGroupManagerResizeRequests.insert": "instanceGroupManagers.update",
    "instanceGroupManagerResizeRequests.cancel": "instanceGroupManagers.update",
    "instanceGroupManagerResizeRequests.delete": "instanceGroupManagers.update",
    "instanceGroupManagerResizeRequests.get": "instanceGroupManagers.get",
    "instanceGroupManagerResizeRequests.list": "instanceGroupManagers.get",
    "instances.insert": "instances.create",
    "zoneOperations.wait": "zoneOperations.get",
    "regionOperations.wait": "regionOperations.get",
    "tpu.nodes.patch": "tpu.nodes.update",
    # https://cloud.google.com/iam/docs/roles-permissions/tpu lists no separate permission for it.
    "tpu.nodes.getGuestAttributes": "tpu.nodes.get",
}


def _allowed() -> set[str]:
    lines = ROLE.read_text().splitlines()
    return {line.strip().removeprefix("- ") for line in lines if line.strip().startswith("- ")}


def _permission(operation: str) -> str:
    name = NAMED_OTHERWISE.get(operation, operation)
    if name.startswith("monitoring."):
        return name
    return name.lower() if name.startswith("tpu.") else f"compute.{name}"


def test_the_role_allows_every_call_from_launch_to_teardown(
    cloud: GcpLocalCloud, provider: GcpProvider, request_of: Callable[..., LaunchRequest], offer: Offer
) -> None:
    machines = request_of(fabric=True, ssh_public_key="ssh-ed25519 AAAA me")
    slices = Part(
        replace(offer, instance=InstanceType("gcp", "v6e-8", "tpu-v6e", 8), region="us-east5", zone="us-east5-a"), 1
    )
    provider.check()
    provider.quotas("us-central1", reservations=["none"])
    provider.launch(machines)
    provider.launch(replace(machines, parts=(Part(replace(offer, zone=""), 1),), token="tok3"))
    provider.launch(replace(machines, parts=(slices,), token="tok2"))
    nodes, now = provider.nodes(Selector(cluster_id="id-1", with_health=True)), provider._clock.now()
    for node in nodes:
        cloud.measure(node.id, {Metric.ACCELERATOR: 50.0})
    assert provider.metrics(nodes, since=now - timedelta(minutes=5), until=now)
    cloud.stop_node("tok-0-0001")
    cloud.suspend_node("tok-0-0002")
    provider.launch(replace(machines, restart=True))
    cloud.stop_node("tok2-0/0")
    provider.launch(replace(machines, parts=(slices,), token="tok2", restart=True))
    cloud.remove_tags("tok-0-0001")
    assert provider.nodes(Selector(cluster_id="id-1", tokens=("tok",), known_ids=("tok-0-0001",)))
    provider.set_expiry(Selector(cluster_id="id-1"), provider._clock.now() + timedelta(hours=1))
    tear_down(provider, Selector(cluster_id="id-1", tokens=("tok", "tok2", "tok3")))
    assert cloud.alive() == []
    called = {_permission(call.operation) for call in cloud.faults.calls}
    assert called <= _allowed()
    assert {
        "monitoring.timeSeries.list",
        "compute.instances.create",
        "tpu.queuedresources.create",
        "compute.resourcePolicies.delete",
        "compute.instances.start",
        "compute.instances.resume",
        "tpu.nodes.start",
    } <= called


def test_the_role_allows_every_call_for_flex_start_and_for_a_subnetwork(
    cloud: GcpLocalCloud,
    provider_of: Callable[..., GcpProvider],
    request_of: Callable[..., LaunchRequest],
    offer: Offer,
) -> None:
    cloud.add_network("ours", subnetworks=["nodes"])
    provider = provider_of(subnetwork="nodes")
    ends = provider._clock.now() + timedelta(hours=3)

    def flex(token: str, nodes: int) -> LaunchRequest:
        parts = (Part(replace(offer, purchase="flex_start"), nodes),)
        return request_of(token=token, parts=parts, fabric=True, private=True, expires_at=ends)

    provider.launch(flex("tok", 2))
    provider.launch(flex("tok2", 1))
    provider.terminate(Selector(region="us-central1", cluster_id="id-1", tokens=("tok",), only=("tok-0-0001",)))
    cloud.set_capacity(offer.instance_type, offer.zone, 0)
    waiting = tuple(node.id for node in provider.launch(flex("tok3", 2)))
    assert len(provider.nodes(Selector(cluster_id="id-1", token="tok3", node_ids=waiting))) == 2
    cloud.fail_resize_request("tok3-0", "INTERNAL_ERROR", "try again")
    with pytest.raises(errors.TransientError):
        provider.launch(flex("tok3", 2))
    provider.launch(flex("tok3", 2))
    tear_down(provider, Selector(cluster_id="id-1", tokens=("tok", "tok2", "tok3")))
    assert cloud.alive() == []
    called = {_permission(call.operation) for call in cloud.faults.calls}
    assert called <= _allowed()
    # With those of the other tests these are all that the role has for flex-start, networks and routes.
    added = {
        name
        for name in _allowed()
        if name.split(".")[1] in ("instanceGroupManagers", "instanceTemplates", "routes", "routers")
    }
    used_by_google = {"compute.instanceTemplates.useReadOnly"}
    assert (added | {"compute.subnetworks.get"}) - used_by_google <= called


def test_the_role_has_no_wildcard() -> None:
    assert _allowed()
    assert not any("*" in permission for permission in _allowed())
