"""Deletes what is selected: a cluster's complete resource group, an attempt's scale sets, or single resources; then lists again."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Final

from multicompute.errors import MulticomputeError, TransientError
from multicompute.provider import Resource, Selector, Teardown
from multicompute.provider_kit.vendor_errors import Place
from multicompute.units import counted
from multicompute_azure._blocked import blocker, foreign_users, is_blocked, joined
from multicompute_azure._errors import answer_behind, is_gone, log, translate_errors
from multicompute_azure._fabric import is_kept, withdraw
from multicompute_azure._list import named_tokens, nodes_of, scale_sets
from multicompute_azure._names import instance_number, parse_id, set_names, token_of
from multicompute_azure._resources import elsewhere, find_group, is_being_deleted, machines_of, owned_groups, resources
from multicompute_azure._session import Clients
from multicompute_azure._sets import ScaleSet
from multicompute_azure._tags import are_selected
from multicompute_azure._uniform import delete_instance

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
        *("ResourceGroupBeingDeleted", "PreconditionFailed", "HTTP412"),
    }
)


# Refusals that name the users of a resource.
_IN_USE: Final = frozenset(
    {
        *("InUseSubnetCannotBeDeleted", "InUseNetworkSecurityGroupCannotBeDeleted", "NetworkSecurityGroupInUse"),
        *("NicInUse", "PublicIPAddressCannotBeDeleted", "OperationNotAllowed"),
    }
)


def terminate(clients: Clients, selector: Selector) -> Teardown:
    """Take one step of the teardown of what is selected, see `Provider.terminate`."""
    if selector.only:
        return _delete_nodes(clients, selector)
    if selector.token is None and clients.settings.resource_group is None:
        return _delete_groups(clients, selector)
    return _delete_resources(clients, selector)


def delete_scale_set(clients: Clients, scale_set: ScaleSet) -> str:
    """Begin to delete a scale set and its machines, and return what blocks that, "" for nothing.

    One that is gone, or is being deleted, counts as deleted.
    """
    sets: Any = clients.compute.virtual_machine_scale_sets
    delete = partial(sets.begin_delete, scale_set.group, scale_set.name, force_deletion=True)
    operation = "virtualMachineScaleSets.delete"
    return _begin(clients, operation, scale_set.id, scale_set.place, delete, is_begun=scale_set.is_being_deleted)


def _begin(
    clients: Clients, operation: str, resource_id: str, place: Place, delete: Callable[..., object], *, is_begun: bool
) -> str:
    """Begin the deletion of a group or a scale set, unless that has begun, and return what blocks it, "" for nothing.

    What blocks it may be known only when the deletion has failed; then it is not begun again until `_forget` is called.
    """
    failure = clients.deletions.refresh(resource_id, place)
    if failure is not None and is_blocked(failure):
        return blocker(failure, resource_id, clients.canonical)
    if is_begun or clients.deletions.is_under_way(resource_id):
        return ""
    status = clients.operation()
    try:
        with translate_errors(operation, place):
            delete(polling=status)
    except MulticomputeError as error:
        answer = answer_behind(error)
        if is_blocked(answer):
            return blocker(answer, resource_id, clients.canonical)
        if not is_gone(error.code) and error.code not in _NOT_YET:
            raise
    else:
        clients.deletions.add(resource_id, status)
    return ""


def _delete_nodes(clients: Clients, selector: Selector) -> Teardown:
    """Delete the machines of `selector.only`; Azure deletes their disks, interfaces and addresses with them."""
    blockers = [_delete(clients, item, is_ours=lambda _: True).blocked_by for item in resources(clients, selector)]
    remaining = resources(clients, selector)
    if not remaining:
        return Teardown()
    return Teardown(remaining, f"{counted(len(remaining), 'machine')} to be deleted", joined(blockers))


def _delete_groups(clients: Clients, selector: Selector) -> Teardown:
    """Delete the resource groups of a cluster, which contain all of its resources; if one is refused, delete what is in it one by one."""
    groups = {str(item["name"]): item for item in owned_groups(clients, selector)}
    for node_id in selector.node_ids:
        name = parse_id(node_id).group.lower()
        if name not in groups:
            hidden = find_group(clients, name, Place("azure", selector.region or ""))
            if hidden is not None and are_selected(hidden.get("tags") or {}, Selector(cluster_id=selector.cluster_id)):
                groups[name] = hidden
    blockers = [text for group in groups.values() if (text := _delete_group(clients, group))]
    if blockers:
        step = _delete_resources(clients, selector)
        if not step.blocked_by and all(item.kind == "resource-group" for item in step.remaining):
            for group in groups.values():
                clients.deletions.forget(clients.canonical(group["id"]))
        blockers.append(step.blocked_by)
    moved = elsewhere(clients, selector)
    if moved:
        blockers.append(_delete_nodes(clients, replace(selector, only=tuple(item.id for item in moved))).blocked_by)
    if not groups and not moved:
        # One answer "not found" proves nothing about machines that are listed.
        machines = machines_of(clients, replace(selector, node_ids=()))
        return Teardown(machines, f"the resource group of {len(machines)} machines to be found" if machines else "")
    remaining = resources(clients, replace(selector, node_ids=()))
    if not remaining:
        return Teardown()
    names = ", ".join(sorted(groups))
    waiting_for = (
        f"the resource group {names} to be deleted" if groups else f"{counted(len(moved), 'machine')} to be deleted"
    )
    return Teardown(remaining, waiting_for, joined(blockers))


def _delete_group(clients: Clients, group: Any) -> str:
    """Begin to delete a group unless that has begun, and return what blocks it, "" for nothing."""
    all_groups: Any = clients.resources.resource_groups
    delete = partial(all_groups.begin_delete, str(group["name"]), force_deletion_types=_FORCED)
    place, group_id = Place("azure", str(group.get("location") or "")), clients.canonical(group["id"])
    return _begin(clients, "resourceGroups.delete", group_id, place, delete, is_begun=is_being_deleted(group))


def _delete_resources(clients: Clients, selector: Selector) -> Teardown:
    """Delete scale sets with their machines, then what remains of them and, for a cluster, its dependent resources."""
    selected = scale_sets(clients, selector)
    sets = [item for item in selected if not _withdrawn(clients, item, selector)]
    refused = {item.id: text for item in sets if (text := delete_scale_set(clients, item))}
    found = resources(clients, selector)
    is_shared = len(sets) < len(selected)
    if sets or (is_shared and any(item.kind in _MACHINES for item in found)):
        # What the machines use can't be deleted until they are gone.
        gone = {item.id for item in sets}
        left = [item for item in scale_sets(clients, selector) if item.id in gone]
        found = _with_scale_sets(found, left)
        if any(item.kind in _MACHINES for item in found):
            texts = _delete_machines(clients, found, selector, refused)
            what = (
                f"{len(left)} scale sets and their machines"
                if left
                else f"{counted(len(found), 'machine')} of a scale set"
            )
            return Teardown(found, f"{what} to be deleted", joined(texts))
    if not found:
        return Teardown()
    is_ours = _membership(clients, found, selector)
    steps = [
        _delete(clients, resource, is_ours)
        for kind in _DELETED_ONE_BY_ONE
        for resource in found
        if resource.kind == kind
    ]
    remaining = resources(clients, selector)
    if not remaining:
        return Teardown()
    in_use = next((step.waiting_for for step in steps if step.waiting_for), f"{len(remaining)} deletes")
    return Teardown(remaining, in_use, joined(step.blocked_by for step in steps))


def _withdrawn(clients: Clients, scale_set: ScaleSet, selector: Selector) -> bool:
    """Return whether a scale set is kept because other launches share it; then only the instances of the selected one are deleted."""
    if selector.token is None or not scale_set.is_shared:
        return False
    if not is_kept(scale_set, nodes_of(clients, scale_set), selector.token):
        return False
    try:
        withdraw(clients, scale_set, selector.token)
    except MulticomputeError as error:
        if error.code not in _NOT_YET:
            raise
    return True


def _delete_machines(
    clients: Clients, found: Sequence[Resource], selector: Selector, refused: Mapping[str, str]
) -> list[str]:
    """Delete the machines of scale sets that can't be deleted one by one, and return what blocks them."""
    if not refused:
        return []
    is_ours = _membership(clients, found, selector)
    steps = [_delete(clients, item, is_ours) for item in found if item.kind == "virtual-machine"]
    texts = [step.blocked_by for step in steps if step.blocked_by]
    if texts:
        return texts
    for set_id in refused:
        # Nothing blocks its machines any more, so it is deleted in the next step.
        clients.deletions.forget(set_id)
    return list(refused.values())


def _membership(clients: Clients, found: Sequence[Resource], selector: Selector) -> Callable[[str], bool]:
    """Return the test whether a resource is one of ours, perhaps one that is gone already but still named as a user."""
    own = [item.id.lower() for item in found]
    names = set_names(named_tokens(selector))
    is_ours_completely = clients.settings.resource_group is None

    def is_ours(resource_id: str) -> bool:
        named, plain = parse_id(resource_id), resource_id.lower()
        if any((plain + "/").startswith(name + "/") for name in own):
            return True
        groups = {parse_id(name).group.lower() for name in own}
        if is_ours_completely:
            return named.group.lower() in groups
        return not names or bool(token_of(named.name.partition("/")[0], names))

    return is_ours


def _with_scale_sets(found: tuple[Resource, ...], sets: list[ScaleSet]) -> tuple[Resource, ...]:
    """Return what Resource Manager lists, and the scale sets of Compute's listing that Resource Manager does not show, or not yet."""
    known = {item.id.lower() for item in found}
    hidden = [item for item in sets if item.id.lower() not in known]
    return found + tuple(
        Resource("azure", "scale-set", item.id, item.region, billable=False, tags=item.tags) for item in hidden
    )


def _delete(clients: Clients, resource: Resource, is_ours: Callable[[str], bool]) -> Teardown:
    """Delete one resource; return what it waits for or what blocks it."""
    place, named = Place("azure", resource.region), parse_id(resource.id)
    try:
        if instance_number(resource.id)[1]:
            delete_instance(clients, resource.id, place)
            return Teardown()
        with translate_errors(f"delete {resource.kind} {named.name}", place):
            _deletion(clients, resource.kind)(named.group, named.name)
    except MulticomputeError as error:
        answer = answer_behind(error)
        if is_gone(error.code):
            return Teardown()
        if is_blocked(answer):
            return Teardown(blocked_by=blocker(answer, resource.id, clients.canonical))
        if error.code in _NOT_YET or isinstance(error, TransientError):
            log.debug("%s: %s", place, error.message)
            users = foreign_users(answer.message, is_ours, clients.canonical) if error.code in _IN_USE else ""
            blocked_by = f"{resource.id} is used by {users}; detach it there" if users else ""
            return Teardown((), f"{resource.kind} {named.name} is still in use", blocked_by)
        raise
    return Teardown()


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
