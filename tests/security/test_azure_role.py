"""The role in the documentation has exactly the actions that the calls need."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from multicompute.node import Metric
from multicompute.offer import InstanceType, Offer, Part, Quote
from multicompute.provider import TAG_ATTEMPT, LaunchRequest, Selector, Settings
from multicompute.testing.provider_harness import launch_request
from multicompute_azure._provider import AzureProvider
from multicompute_azure.local import AzureLocalCloud

ROLE = Path(__file__).parents[2] / "docs" / "permissions" / "azure-role.json"
# The pages that list the actions of each resource provider.
PAGES: Mapping[str, str] = {
    "Microsoft.Compute": "https://learn.microsoft.com/azure/role-based-access-control/permissions/compute",
    "Microsoft.Insights": "https://learn.microsoft.com/azure/role-based-access-control/permissions/monitor",
    "Microsoft.ManagedIdentity": "https://learn.microsoft.com/azure/role-based-access-control/permissions/identity",
    "Microsoft.Network": "https://learn.microsoft.com/azure/role-based-access-control/permissions/networking",
    "Microsoft.ResourceHealth": "https://learn.microsoft.com/azure/role-based-access-control/permissions/management-and-governance",
    "Microsoft.Resources": "https://learn.microsoft.com/azure/role-based-access-control/permissions/management-and-governance",
}
C, N, R = "Microsoft.Compute/", "Microsoft.Network/", "Microsoft.Resources/"
GROUPS = R + "subscriptions/resourceGroups/"
# Azure checks what a scale set creates and joins as if the caller did it: machines with disks, interfaces and addresses, which join the
# subnet and the security group, start from an image, use a reservation and have an identity.
SCALE_SET = {
    C + "galleries/images/read",
    C + "galleries/images/versions/read",
    C + "images/read",
    C + "virtualMachineScaleSets/write",
    C + "virtualMachines/write",
    C + "disks/write",
    C + "disks/read",
    C + "capacityReservationGroups/deploy/action",
    N + "networkInterfaces/write",
    N + "networkInterfaces/join/action",
    N + "publicIPAddresses/write",
    N + "publicIPAddresses/join/action",
    N + "networkSecurityGroups/read",
    N + "networkSecurityGroups/join/action",
    N + "virtualNetworks/subnets/join/action",
    "Microsoft.ManagedIdentity/userAssignedIdentities/assign/action",
}
# The state of a long operation is read at the URL in the call's answer.
OPERATIONS = {C + "locations/operations/read", N + "locations/operations/read"}
METHODS: Mapping[str, set[str]] = {
    "operations.get": OPERATIONS,
    "galleryImages.get": {C + "galleries/images/read"},
    "virtualMachineImages.list": {C + "locations/publishers/artifacttypes/offers/skus/versions/read"},
    "virtualMachineImages.get": {C + "locations/publishers/artifacttypes/offers/skus/versions/read"},
    # The price list is public.
    "retailPrices.list": set(),
    "subscriptions.listLocations": {R + "subscriptions/locations/read"},
    "skus.list": {C + "skus/read"},
    "usages.list": {C + "locations/usages/read"},
    "virtualMachineScaleSets.createOrUpdate": SCALE_SET,
    # An update of the model checks what the model refers to again.
    "virtualMachineScaleSets.update": SCALE_SET,
    "virtualMachineScaleSets.listNetworkInterfaces": {C + "virtualMachineScaleSets/networkInterfaces/read"},
    "virtualMachineScaleSets.listPublicIPAddresses": {C + "virtualMachineScaleSets/publicIPAddresses/read"},
    "virtualMachineScaleSetVMs.list": {C + "virtualMachineScaleSets/virtualMachines/read"},
    "virtualMachineScaleSetVMs.get": {C + "virtualMachineScaleSets/virtualMachines/read"},
    "virtualMachineScaleSetVMs.update": {C + "virtualMachineScaleSets/virtualMachines/write"},
    "virtualMachineScaleSetVMs.delete": {C + "virtualMachineScaleSets/virtualMachines/delete"},
    "virtualMachineScaleSetVMs.start": {C + "virtualMachineScaleSets/virtualMachines/start/action"},
    "virtualMachineScaleSets.get": {C + "virtualMachineScaleSets/read"},
    "virtualMachineScaleSets.list": {C + "virtualMachineScaleSets/read"},
    "virtualMachineScaleSets.listAll": {C + "virtualMachineScaleSets/read"},
    "virtualMachineScaleSets.delete": {C + "virtualMachineScaleSets/delete"},
    "virtualMachines.list": {C + "virtualMachines/read"},
    "virtualMachines.listAll": {C + "virtualMachines/read"},
    "virtualMachines.get": {C + "virtualMachines/read"},
    "virtualMachines.start": {C + "virtualMachines/start/action"},
    "subscriptions.get": {R + "subscriptions/read"},
    "virtualMachines.delete": {C + "virtualMachines/delete"},
    "disks.delete": {C + "disks/delete"},
    "proximityPlacementGroups.delete": {C + "proximityPlacementGroups/delete"},
    "capacityReservationGroups.get": {C + "capacityReservationGroups/read"},
    "capacityReservationGroups.listAll": {C + "capacityReservationGroups/read"},
    "capacityReservations.list": {C + "capacityReservationGroups/capacityReservations/read"},
    "networkInterfaces.list": {N + "networkInterfaces/read"},
    "networkInterfaces.delete": {N + "networkInterfaces/delete"},
    "publicIPAddresses.list": {N + "publicIPAddresses/read"},
    "publicIPAddresses.delete": {N + "publicIPAddresses/delete"},
    "networkSecurityGroups.createOrUpdate": {N + "networkSecurityGroups/write"},
    "securityRules.createOrUpdate": {N + "networkSecurityGroups/securityRules/write"},
    "networkSecurityGroups.get": {N + "networkSecurityGroups/read"},
    "networkSecurityGroups.delete": {N + "networkSecurityGroups/delete"},
    "virtualNetworks.createOrUpdate": {N + "virtualNetworks/write", N + "networkSecurityGroups/join/action"},
    "virtualNetworks.get": {N + "virtualNetworks/read"},
    "virtualNetworks.listAll": {N + "virtualNetworks/read"},
    "virtualNetworks.delete": {N + "virtualNetworks/delete"},
    "resourceGroups.createOrUpdate": {GROUPS + "write"},
    "resourceGroups.get": {GROUPS + "read"},
    "resourceGroups.list": {GROUPS + "read"},
    "resourceGroups.delete": {GROUPS + "delete"},
    "resources.list": {R + "subscriptions/resources/read"},
    "resources.listByResourceGroup": {R + "subscriptions/resources/read"},
    # Tags are merged with the existing ones.
    "tags.updateAtScope": {R + "tags/write", R + "tags/read"},
    # Several requests in one; each needs its own permission, and all of ours are of this kind.
    "batch": {"Microsoft.Insights/metrics/read"},
    "metrics.list": {"Microsoft.Insights/metrics/read"},
    "metrics.getBatch": {"Microsoft.Insights/metrics/read"},
    "availabilityStatuses.list": {"Microsoft.ResourceHealth/availabilityStatuses/read"},
    "availabilityStatuses.listByResourceGroup": {"Microsoft.ResourceHealth/availabilityStatuses/read"},
}
# In a configured group, what outlives a machine despite its delete options is deleted by calls of its own; that never happens on the local
# Azure. Clusters of earlier versions have proximity placement groups.
NOT_CALLED_HERE = {
    C + "proximityPlacementGroups/delete",
    C + "virtualMachines/delete",
    C + "disks/delete",
    N + "networkInterfaces/delete",
    N + "publicIPAddresses/delete",
}
ND = InstanceType("azure", "Standard_ND96isr_H100_v5", "h100", 8, 80.0, 96, 1900, fabric="infiniband")
OFFER = Offer(ND, "eastus", "eastus-1", "on_demand", Quote(98.32, date(2026, 6, 18), "list"))
IMAGE = "/subscriptions/00000000-0000-0000-0000-00000000a2e0/resourceGroups/g/providers/Microsoft.Compute/galleries/team/images/torch"
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJdD7y3aLq454yWBdwLWbieU1ebz9/cu7/QEXn9OIeZJ me"


@pytest.fixture(name="cloud")
def _cloud() -> Iterator[AzureLocalCloud]:
    cloud = AzureLocalCloud()
    cloud.start()
    yield cloud
    cloud.stop()


def opened(cloud: AzureLocalCloud, **values: object) -> AzureProvider:
    named = {"endpoint_url": cloud.endpoint_url, "subscription_id": cloud.subscription_id}
    return AzureProvider(Settings({**named, **values}, cloud.environment))


def use_everything(cloud: AzureLocalCloud, provider: AzureProvider, cluster: str, held: str) -> None:
    """Make every kind of call of the provider once."""
    here = Selector(region="eastus", cluster_id=f"id-{cluster}")
    provider.check()
    provider.quotas("eastus", reservations=[held])
    provider.availability("eastus")
    provider.quotes([OFFER])
    parts = (Part(OFFER, 1), Part(OFFER, 1, reservation=held))
    request = launch_request(OFFER, cluster=cluster, token=cluster)
    provider.launch(replace(request, parts=parts, ssh_public_key=KEY, setup="true"))
    use_fabric(cloud, provider, replace(request, token=f"{cluster}-fabric", ssh_public_key=KEY))
    own = replace(request, token=f"{cluster}-own", image=IMAGE)
    provider.launch(replace(own, tags={**own.tags, "multicompute-attempt": own.token}))
    nodes = provider.nodes(replace(here, with_health=True))
    for node in nodes:
        cloud.measure(node.id, {Metric.CPU: 50.0})
    provider.metrics(nodes, since=datetime.now(UTC) - timedelta(minutes=5), until=datetime.now(UTC))
    provider.nodes(Selector())
    provider.resources(Selector(owner=request.owner))
    provider.resources(Selector(token=cluster))
    provider.set_expiry(here, datetime(2027, 1, 1, tzinfo=UTC))
    assert provider.account.ids
    flexible = [node for node in nodes if node.token == cluster]
    cloud.stop_node(flexible[0].id)
    provider.launch(replace(request, parts=parts, restart=True))
    assert any(provider.terminate(here).is_done for _ in range(50))


def use_fabric(cloud: AzureLocalCloud, provider: AzureProvider, request: LaunchRequest) -> None:
    """Launch a gang on a fabric from another address, repair it, start a node again, and delete the repair."""
    again = opened(cloud, ssh_from="203.0.113.7/32", resource_group=provider._clients.settings.resource_group)
    gang = replace(request, fabric=True, tags={**request.tags, TAG_ATTEMPT: request.token})
    (node, *_) = again.launch(gang)
    token = f"{gang.token}-repair"
    repair = replace(gang, token=token, tags={**gang.tags, TAG_ATTEMPT: token}, peers=(gang.token,))
    (new, *_) = again.launch(repair)
    cloud.stop_node(node.id)
    again.launch(replace(gang, restart=True))
    here = Selector(region="eastus", cluster_id=gang.cluster_id)
    again.terminate(replace(here, only=(new.id,)))
    assert any(again.terminate(replace(here, token=repair.token)).is_done for _ in range(50))


def test_the_role_has_exactly_what_the_calls_need(cloud: AzureLocalCloud) -> None:
    client: Any = opened(cloud)._clients.resources
    client.resource_groups.create_or_update("team", {"location": "eastus"})
    held = cloud.add_reservation(ND.name, "eastus-1", 4)
    cloud.faults.clear()
    for cluster, provider in (("one", opened(cloud)), ("two", opened(cloud, resource_group="team"))):
        use_everything(cloud, provider, cluster, held)
    called = {call.operation for call in cloud.faults.calls}
    assert called - METHODS.keys() == set(), "called, and its actions are not in the table above"
    needed = {action for method in called for action in METHODS[method]}
    allowed = set(json.loads(ROLE.read_text())["Actions"])
    assert needed - allowed == set(), "needed, and not in docs/permissions/azure-role.json"
    assert allowed - needed == NOT_CALLED_HERE, "in docs/permissions/azure-role.json, and not needed"


def test_every_action_belongs_to_a_resource_provider_with_a_documentation_page() -> None:
    for actions in METHODS.values():
        for action in actions:
            assert action.partition("/")[0] in PAGES
            assert action.rpartition("/")[2] in ("read", "write", "delete", "action")
