"""Deletes what is selected: a cluster's resource group whole, an attempt's scale sets, or one by one what is tagged; then asks again."""

from collections.abc import Callable
from functools import partial
from typing import Any, Final

from multicompute.errors import MulticomputeError, TransientError
from multicompute.provider import Resource, Selector, Teardown
from multicompute_azure._discover import Discovery
from multicompute_azure._errors import Place, is_gone, log, translate_errors
from multicompute_azure._inventory import Inventory
from multicompute_azure._names import parse_id
from multicompute_azure._network import is_ours
from multicompute_azure._session import Clients

# Deleted without shutting the guest down first: minutes less of a bill.
_FORCED: Final = "Microsoft.Compute/virtualMachines,Microsoft.Compute/virtualMachineScaleSets"
# What an attempt leaves behind when its machines' delete options did not hold, and what a cluster has beside, in the order of deletion:
# nothing in it is used by what comes later.
_LEAVINGS: Final = (
    "virtual-machine",
    "network-interface",
    "public-ip-address",
    "disk",
    "proximity-placement-group",
    "virtual-network",
    "network-security-group",
)
_MACHINES: Final = ("scale-set", "virtual-machine")
# Refusals that mean "not yet"; the caller comes again.
_NOT_YET: Final = frozenset(
    {
        *(
            "InUseSubnetCannotBeDeleted",
            "InUseNetworkSecurityGroupCannotBeDeleted",
            "NicReservedForAnotherVm",
            "NicInUse",
        ),
        *(
            "PublicIPAddressCannotBeDeleted",
            "OperationNotAllowed",
            "Conflict",
            "AnotherOperationInProgress",
            "CannotDeleteResource",
        ),
        *("RetryableError", "OperationPreempted", "ResourceGroupBeingDeleted", "NetworkSecurityGroupInUse"),
    }
)


def delete_scale_set(clients: Clients, group: str, name: str, place: Place) -> None:
    """Have a scale set and its machines deleted; one that is gone, or on its way, counts as deleted."""
    sets = clients.compute.virtual_machine_scale_sets
    try:
        with translate_errors("delete the scale set", place):
            sets.begin_delete(group, name, force_deletion=True, polling=False)
    except MulticomputeError as error:
        if not is_gone(error.code) and error.code not in _NOT_YET:
            raise


class Deleter:
    """Takes one step of a teardown at a time."""

    def __init__(self, clients: Clients, discovery: Discovery, inventory: Inventory) -> None:
        self._clients = clients
        self._discovery = discovery
        self._inventory = inventory

    def step(self, selector: Selector) -> Teardown:
        """One step of the teardown of what is selected; see `Provider.terminate`."""
        if selector.token is None and self._clients.settings.resource_group is None:
            return self._delete_groups(selector)
        return self._delete_resources(selector)

    def _delete_groups(self, selector: Selector) -> Teardown:
        """A cluster's groups hold everything of it, so that nothing can be left behind."""
        groups = {str(item["name"]): item for item in self._inventory.groups(selector)}
        for node_id in selector.node_ids:
            group, place = parse_id(node_id).group.lower(), Place(selector.region or "")
            if group not in groups:
                hidden = self._inventory.group(group, place)
                if hidden is not None and is_ours(hidden, selector.cluster_id or ""):
                    groups[group] = hidden
        for name, item in groups.items():
            if _state(item) != "deleting":
                self._delete_group(name, Place(str(item.get("location") or "")))
        if not groups:
            return Teardown()
        remaining = self._inventory.resources(Selector(region=selector.region, cluster_id=selector.cluster_id))
        names = ", ".join(sorted(groups))
        return Teardown(tuple(remaining), f"the resource group {names} to be deleted" if remaining else "")

    def _delete_group(self, name: str, place: Place) -> None:
        try:
            with translate_errors("delete the resource group", place):
                self._clients.resources.resource_groups.begin_delete(name, force_deletion_types=_FORCED, polling=False)
        except MulticomputeError as error:
            if not is_gone(error.code) and error.code not in _NOT_YET:
                raise

    def _delete_resources(self, selector: Selector) -> Teardown:
        """An attempt's machines, then what they left; for a whole cluster in a given group also what was made around them."""
        sets = self._discovery.scale_sets(selector)
        for item in sets:
            if item.state.lower() != "deleting":
                delete_scale_set(self._clients, item.group, item.name, item.place)
        found = self._inventory.resources(selector)
        if sets:
            # What lies beside the machines is in use until they are gone.
            still = self._discovery.scale_sets(selector)
            found = _with_sets(
                found,
                [
                    Resource("azure", "scale-set", item.id, item.region, billable=False, tags=item.tags)
                    for item in still
                ],
            )
            if any(item.kind in _MACHINES for item in found):
                return Teardown(tuple(found), f"{len(still)} scale sets and their machines to be deleted")
        said = ""
        for kind in _LEAVINGS:
            for left in found:
                if left.kind == kind:
                    said = self._delete(left) or said
        if not found:
            return Teardown()
        remaining = self._inventory.resources(selector)
        return Teardown(tuple(remaining), (said or f"{len(remaining)} deletes") if remaining else "")

    def _delete(self, item: Resource) -> str:
        """Delete one resource; returns why not yet, or ""."""
        place, named = Place(item.region), parse_id(item.id)
        try:
            with translate_errors(f"delete {item.kind} {named.name}", place):
                self._deletion(item.kind)(named.group, named.name)
        except MulticomputeError as error:
            if is_gone(error.code):
                return ""
            if error.code in _NOT_YET or isinstance(error, TransientError):
                log.debug("%s: %s", place, error.message)
                return f"{item.kind} {named.name} is still in use"
            raise
        return ""

    def _deletion(self, kind: str) -> Callable[[str, str], Any]:
        """The call that has a resource of this kind deleted, by group and name; none of them waits for it."""
        compute, network = self._clients.compute, self._clients.network
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


def _with_sets(found: list[Resource], sets: list[Resource]) -> list[Resource]:
    """What Resource Manager lists, and what Compute knows and that listing may not show any more, or not yet."""
    known = {item.id.lower() for item in found}
    return found + [item for item in sets if item.id.lower() not in known]


def _state(group: Any) -> str:
    return str((group.get("properties") or {}).get("provisioningState") or "").lower()
