"""Deletes what is selected: a cluster's complete resource group, an attempt's scale sets, or single resources by their tags; then lists again."""

from collections.abc import Callable
from functools import partial
from typing import Any, Final

from multicompute.errors import MulticomputeError, TransientError
from multicompute.provider import Resource, Selector, Teardown
from multicompute.provider_kit.vendor_errors import Place
from multicompute_azure._errors import is_gone, log, translate_errors
from multicompute_azure._list import ScaleSet, scale_sets
from multicompute_azure._names import parse_id
from multicompute_azure._resources import find_group, is_being_deleted, owned_groups, resources
from multicompute_azure._session import Clients
from multicompute_azure._tags import are_selected

# Deleted without shutting the guest down first, which saves minutes of the bill.
_FORCED: Final = "Microsoft.Compute/virtualMachines,Microsoft.Compute/virtualMachineScaleSets"
# What remains of an attempt if the delete options of its machines failed, and the dependent resources of a cluster, in the order of
# deletion: each is used only by those before it.
_DELETED_ONE_BY_ONE: Final = (
    "virtual-machine",
    "network-interface",
    "public-ip-address",
    "disk",
    "proximity-placement-group",
    "virtual-network",
    "network-security-group",
)
_MACHINES: Final = ("scale-set", "virtual-machine")
# Codes of a deletion that is not possible yet; the engine repeats the teardown.
_NOT_YET: Final = frozenset(
    {
        *("InUseSubnetCannotBeDeleted", "InUseNetworkSecurityGroupCannotBeDeleted", "NetworkSecurityGroupInUse"),
        *("NicReservedForAnotherVm", "NicInUse", "PublicIPAddressCannotBeDeleted", "CannotDeleteResource"),
        *("OperationNotAllowed", "Conflict", "AnotherOperationInProgress", "RetryableError", "OperationPreempted"),
        "ResourceGroupBeingDeleted",
    }
)


def terminate(clients: Clients, selector: Selector) -> Teardown:
    """Take one step of the teardown of what is selected, see `Provider.terminate`."""
    if selector.token is None and clients.settings.resource_group is None:
        return _delete_groups(clients, selector)
    return _delete_resources(clients, selector)


def delete_scale_set(clients: Clients, scale_set: ScaleSet) -> None:
    """Begin to delete a scale set and its machines; one that is gone, or is being deleted, counts as deleted."""
    sets = clients.compute.virtual_machine_scale_sets
    delete = partial(sets.begin_delete, scale_set.group, scale_set.name, force_deletion=True, polling=False)
    _begin("virtualMachineScaleSets.delete", scale_set.place, delete)


def _begin(operation: str, place: Place, delete: Callable[[], object]) -> None:
    try:
        with translate_errors(operation, place):
            delete()
    except MulticomputeError as error:
        if not is_gone(error.code) and error.code not in _NOT_YET:
            raise


def _delete_groups(clients: Clients, selector: Selector) -> Teardown:
    """Delete the resource groups of a cluster, which contain all of its resources."""
    groups = {str(item["name"]): item for item in owned_groups(clients, selector)}
    for node_id in selector.node_ids:
        name = parse_id(node_id).group.lower()
        if name not in groups:
            hidden = find_group(clients, name, Place("azure", selector.region or ""))
            if hidden is not None and are_selected(hidden.get("tags") or {}, Selector(cluster_id=selector.cluster_id)):
                groups[name] = hidden
    for name, group in groups.items():
        if not is_being_deleted(group):
            all_groups = clients.resources.resource_groups
            delete = partial(all_groups.begin_delete, name, force_deletion_types=_FORCED, polling=False)
            _begin("resourceGroups.delete", Place("azure", str(group.get("location") or "")), delete)
    if not groups:
        return Teardown()
    remaining = resources(clients, Selector(region=selector.region, cluster_id=selector.cluster_id))
    names = ", ".join(sorted(groups))
    return Teardown(remaining, f"the resource group {names} to be deleted" if remaining else "")


def _delete_resources(clients: Clients, selector: Selector) -> Teardown:
    """Delete an attempt's machines, then what remains of them; for a cluster in a configured group, also its dependent resources."""
    sets = scale_sets(clients, selector)
    for item in sets:
        if not item.is_being_deleted:
            delete_scale_set(clients, item)
    found = resources(clients, selector)
    if sets:
        # What the machines use can't be deleted until they are gone.
        left = scale_sets(clients, selector)
        found = _with_scale_sets(found, left)
        if any(item.kind in _MACHINES for item in found):
            return Teardown(found, f"{len(left)} scale sets and their machines to be deleted")
    if not found:
        return Teardown()
    in_use = ""
    for kind in _DELETED_ONE_BY_ONE:
        for resource in found:
            if resource.kind == kind:
                in_use = _delete(clients, resource) or in_use
    remaining = resources(clients, selector)
    return Teardown(remaining, (in_use or f"{len(remaining)} deletes") if remaining else "")


def _with_scale_sets(found: tuple[Resource, ...], sets: list[ScaleSet]) -> tuple[Resource, ...]:
    """Return what Resource Manager lists, and the scale sets of Compute's listing that Resource Manager does not show, or not yet."""
    known = {item.id.lower() for item in found}
    hidden = [item for item in sets if item.id.lower() not in known]
    return found + tuple(
        Resource("azure", "scale-set", item.id, item.region, billable=False, tags=item.tags) for item in hidden
    )


def _delete(clients: Clients, resource: Resource) -> str:
    """Delete one resource; return why it can't be deleted yet, or ""."""
    place, named = Place("azure", resource.region), parse_id(resource.id)
    try:
        with translate_errors(f"delete {resource.kind} {named.name}", place):
            _deletion(clients, resource.kind)(named.group, named.name)
    except MulticomputeError as error:
        if is_gone(error.code):
            return ""
        if error.code in _NOT_YET or isinstance(error, TransientError):
            log.debug("%s: %s", place, error.message)
            return f"{resource.kind} {named.name} is still in use"
        raise
    return ""


def _deletion(clients: Clients, kind: str) -> Callable[[str, str], Any]:
    """Return the call that begins to delete a resource of this kind, by group and name."""
    compute, network = clients.compute, clients.network
    if kind == "virtual-machine":
        return partial(compute.virtual_machines.begin_delete, force_deletion=True, polling=False)
    if kind == "proximity-placement-group":
        return compute.proximity_placement_groups.delete
    begin: dict[str, Callable[..., Any]] = {
        "disk": compute.disks.begin_delete,
        "network-interface": network.network_interfaces.begin_delete,
        "public-ip-address": network.public_ip_addresses.begin_delete,
        "virtual-network": network.virtual_networks.begin_delete,
        "network-security-group": network.network_security_groups.begin_delete,
    }
    return partial(begin[kind], polling=False)
