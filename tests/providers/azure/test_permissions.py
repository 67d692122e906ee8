"""The role in the documentation allows exactly what the adapter calls from launch to teardown, and what Azure requires in addition."""

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from multicompute.offer import Offer, Part
from multicompute.provider import LaunchRequest, Selector
from multicompute_azure._provider import AzureProvider
from multicompute_azure.local import AzureLocalCloud

ROLE = Path(__file__).parents[3] / "docs" / "permissions" / "azure-role.json"
NOW = datetime(2026, 11, 26, tzinfo=UTC)
NAMESPACES = {
    "Microsoft.Network": {
        *("networkSecurityGroups", "securityRules", "virtualNetworks", "publicIPAddresses", "networkInterfaces"),
    },
    "Microsoft.Resources/subscriptions": {"resourceGroups", "resources"},
    "Microsoft.Resources": {"tags", "subscriptions"},
    "Microsoft.Insights": {"metrics"},
    "Microsoft.ResourceHealth": {"availabilityStatuses"},
}
# Calls that need no permission of their own: the status of operations, and batches, whose requests are recorded one by one. The price list
# asks for no credentials at all.
WITHOUT_PERMISSION = {"operations.get", "batch", "retailPrices.list"}
VERBS = {
    "createOrUpdate": "write",
    "update": "write",
    "updateAtScope": "write",
    "delete": "delete",
    "start": "start/action",
}
# Where the path of the API is not the name of the plural.
PLACES = {
    "usages": "locations/usages",
    "capacityReservations": "capacityReservationGroups/capacityReservations",
    "galleryImages": "galleries/images",
    "virtualMachineImages": "locations/publishers/artifacttypes/offers/skus/versions",
    "virtualMachineScaleSetVMs": "virtualMachineScaleSets/virtualMachines",
    "securityRules": "networkSecurityGroups/securityRules",
}
# Listings of the parts of a scale set.
LISTINGS = {"listNetworkInterfaces": "networkInterfaces/read", "listPublicIPAddresses": "publicIPAddresses/read"}
# What Azure checks in addition to the call: it creates machines, disks, interfaces and addresses in the caller's name and lets them join
# existing resources; and in a configured group, the adapter deletes what a machine's own delete options left.
ADDITIONAL = {
    "Microsoft.Compute/capacityReservationGroups/deploy/action",
    "Microsoft.Compute/disks/delete",
    "Microsoft.Compute/disks/read",
    "Microsoft.Compute/disks/write",
    "Microsoft.Compute/galleries/images/versions/read",
    "Microsoft.Compute/images/read",
    "Microsoft.Compute/locations/operations/read",
    # Clusters of earlier versions have placement groups.
    "Microsoft.Compute/proximityPlacementGroups/delete",
    "Microsoft.Compute/virtualMachines/delete",
    "Microsoft.Compute/virtualMachines/write",
    "Microsoft.ManagedIdentity/userAssignedIdentities/assign/action",
    "Microsoft.Network/locations/operations/read",
    "Microsoft.Network/networkInterfaces/delete",
    "Microsoft.Network/networkInterfaces/join/action",
    "Microsoft.Network/networkInterfaces/write",
    "Microsoft.Network/networkSecurityGroups/join/action",
    "Microsoft.Network/networkSecurityGroups/read",
    "Microsoft.Network/publicIPAddresses/delete",
    "Microsoft.Network/publicIPAddresses/join/action",
    "Microsoft.Network/publicIPAddresses/write",
    "Microsoft.Network/virtualNetworks/subnets/join/action",
    "Microsoft.Resources/tags/read",
}


IMAGE = "/subscriptions/00000000-0000-0000-0000-00000000a2e0/resourceGroups/g/providers/Microsoft.Compute/galleries/team/images/torch"


def action(operation: str) -> str:
    """Return the permission that a call in the record of calls needs."""
    plural, _, verb = operation.partition(".")
    if operation == "subscriptions.listLocations":
        return "Microsoft.Resources/subscriptions/locations/read"
    namespace = next((name for name, plurals in NAMESPACES.items() if plural in plurals), "Microsoft.Compute")
    return f"{namespace}/{PLACES.get(plural, plural)}/{LISTINGS.get(verb) or VERBS.get(verb, 'read')}"


def tear_down(provider: AzureProvider, cluster_id: str) -> None:
    selector = Selector(region="eastus", cluster_id=cluster_id)
    assert any(provider.terminate(selector).is_done for _ in range(50))


def use_fabric(
    cloud: AzureLocalCloud, provider: AzureProvider, open_with: Callable[..., AzureProvider], gang: LaunchRequest
) -> None:
    """Launch a gang on a fabric from another address, start a node again, and launch and delete a repair."""
    key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJdD7y3aLq454yWBdwLWbieU1ebz9/cu7/QEXn9OIeZJ me"
    again = open_with(ssh_from="203.0.113.7/32", resource_group=provider._clients.settings.resource_group)
    gang = replace(gang, tags={**gang.tags, "multicompute-attempt": gang.token}, ssh_public_key=key)
    (node, *_) = again.launch(gang)
    token = f"{gang.token}-repair"
    repair = replace(gang, token=token, tags={**gang.tags, "multicompute-attempt": token}, peers=(gang.token,))
    again.launch(repair)
    cloud.stop_node(node.id)
    again.launch(replace(gang, restart=True))
    selector = Selector(region="eastus", cluster_id=gang.cluster_id, token=repair.token)
    assert any(again.terminate(selector).is_done for _ in range(50))


def test_the_role_names_exactly_what_is_called_and_what_azure_requires_in_addition(
    cloud: AzureLocalCloud,
    provider: AzureProvider,
    open_with: Callable[..., AzureProvider],
    request_of: Callable[..., LaunchRequest],
    offer: Offer,
) -> None:
    resources: Any = provider._clients.resources
    resources.resource_groups.create_or_update("team", {"location": "eastus"})
    cloud.faults.clear()
    held = cloud.add_reservation(offer.instance_type, "eastus-1", 2)
    for each, name in ((provider, "id-1"), (open_with(resource_group="team"), "id-2")):
        tags = {**request_of().tags, "multicompute-id": name, "multicompute-attempt": name}
        parts = (Part(offer, 1), Part(offer, 1, reservation=held))
        request = request_of(cluster_id=name, token=name, tags=tags, parts=parts)
        each.launch(request)
        use_fabric(
            cloud, each, open_with, replace(request, token=f"{name}-fabric", parts=(Part(offer, 2),), fabric=True)
        )
        nodes = each.nodes(Selector(with_health=True))
        each.metrics(nodes, since=NOW - timedelta(minutes=5), until=NOW)
        assert each.availability("eastus").offered
        assert each.quotes([offer])
        each.launch(request_of(cluster_id=name, token=f"{name}-own", tags=tags, parts=(Part(offer, 1),), image=IMAGE))
        each.resources(Selector(owner="me"))
        each.resources(Selector(token=name))
        each.set_expiry(Selector(region="eastus", cluster_id=name), datetime(2027, 1, 1, tzinfo=UTC))
        assert each.account.ids
        cloud.stop_node(next(node.id for node in nodes if node.token == name))
        each.launch(replace(request, restart=True))
        each.check()
        tear_down(each, name)
    called = {action(call.operation) for call in cloud.faults.calls if call.operation not in WITHOUT_PERMISSION}
    assert called | ADDITIONAL == set(json.loads(ROLE.read_text())["Actions"])


def test_the_role_has_no_wildcard() -> None:
    role = json.loads(ROLE.read_text())
    assert not [action for action in role["Actions"] if "*" in action]
    assert role["Actions"] == sorted(role["Actions"], key=str)
