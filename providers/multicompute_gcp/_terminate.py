"""Terminates what is selected: instances and disks first, then what they used; lists again after the last deletion."""

from collections.abc import Callable, Collection
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeVar

from google.api_core import exceptions as sdk

from multicompute.provider import Resource, Selector, Teardown
from multicompute.provider_kit.calls import in_parallel
from multicompute.provider_kit.vendor_errors import Place
from multicompute_gcp._errors import answer_of, translate_errors
from multicompute_gcp._gang import AT_ONCE
from multicompute_gcp._list import dependents, disk_resource, disks, instance_resource, instances, zone_of
from multicompute_gcp._operations import find_instance, not_proven_gone
from multicompute_gcp._session import CALL, Clients

if TYPE_CHECKING:
    from google.cloud.compute_v1 import Operation

Answer = TypeVar("Answer")

# Of an instance or a disk that is being deleted.
_ENDING: Final = ("STOPPING", "DEPROVISIONING", "DELETING")
# Codes of a deletion that is not possible yet; the engine repeats the teardown.
_NOT_YET: Final = frozenset(
    {"resourceInUseByAnotherResource", "RESOURCE_IN_USE_BY_ANOTHER_RESOURCE", "resourceNotReady", "RESOURCE_NOT_READY"}
)


class _Found(NamedTuple):
    """An instance or a disk, as a resource and as Google describes it."""

    resource: Resource
    item: dict[str, Any]


def terminate(clients: Clients, selector: Selector, place: Place) -> Teardown:
    """Take one step of the teardown of the selected instances and disks, see `Provider.terminate`."""
    existing, _ = delete_instances(clients, selector, place)
    if existing:
        # Most deletions take a minute; where they are quicker, this listing saves the engine a step.
        left = tuple(found.resource for found in _existing(clients, selector, place))
        if left:
            return Teardown(left, f"{len(left)} instances and disks to be deleted")
    hidden = _delete_unlisted(clients, selector, place)
    return Teardown(hidden, f"{len(hidden)} instances that listings do not show yet" if hidden else "")


def delete_instances(
    clients: Clients, selector: Selector, place: Place, *, zones: Collection[str] = ()
) -> "tuple[list[Resource], list[Operation]]":
    """Delete the selected instances, and the selected disks that are not attached; `zones` are the only zones to delete in, if any.

    Returns:
        What existed before, and the operations that delete it.
    """
    existing = _existing(clients, selector, place, zones)
    can_go = [found for found in existing if not found.item.get("users") and found.item.get("status") not in _ENDING]
    operations = in_parallel(lambda found: _delete_zonal(clients, found, place), can_go, at_once=AT_ONCE)
    return [found.resource for found in existing], [item for item in operations if item is not None]


def _existing(clients: Clients, selector: Selector, place: Place, zones: Collection[str] = ()) -> list[_Found]:
    found = [_Found(instance_resource(item), item) for item in instances(clients, selector, place)]
    found += [_Found(disk_resource(item), item) for item in disks(clients, selector, place)]
    return [one for one in found if not zones or zone_of(one.item) in zones]


def _delete_unlisted(clients: Clients, selector: Selector, place: Place) -> tuple[Resource, ...]:
    """Delete by name the instances that are known from a launch and in no listing, and return those that may exist (I4)."""
    names = [node_id for node_id in selector.node_ids if "/" not in node_id]
    if not names or selector.region is None:
        return ()
    remaining = not_proven_gone(clients, names, selector, place)
    shown = [item for name in remaining if (item := find_instance(clients, name, place)) is not None]
    can_go = [_Found(instance_resource(item), item) for item in shown if item.get("status") not in _ENDING]
    in_parallel(lambda found: _delete_zonal(clients, found, place), can_go, at_once=AT_ONCE)
    return tuple(Resource("gcp", "instance", name, selector.region, billable=True) for name in remaining)


def delete_dependents(clients: Clients, selector: Selector, place: Place) -> Teardown:
    """Delete what no instance uses any more; it belongs to the cluster and stays if the selector names an attempt."""
    items = dependents(clients, selector, place)
    for item in items:
        where = {"region": item.region} if item.kind == "resource-policy" else {}
        _delete(clients, item, where, place)
    remaining = tuple(dependents(clients, selector, place)) if items else ()
    return Teardown(remaining, f"{len(remaining)} deletes" if remaining else "")


def _delete_zonal(clients: Clients, found: _Found, place: Place) -> "Operation | None":
    return _delete(clients, found.resource, {"zone": zone_of(found.item)}, place)


def _delete(clients: Clients, item: Resource, where: dict[str, str], place: Place) -> "Operation | None":
    """Request the deletion of a resource; return the operation, None if the resource is gone or can't be deleted yet."""
    services: dict[str, Callable[[], Any]] = {
        "instance": clients.instances,
        "disk": clients.disks,
        "firewall": clients.firewalls,
        "resource-policy": clients.policies,
    }
    call = {"project": clients.project, item.kind.replace("-", "_"): item.id, **where}
    service = services[item.kind]()
    _, operation = delete_unless_gone(
        lambda: service.delete_unary(request=call, **CALL), f"delete {item.kind} {item.id}", place, not_yet=_NOT_YET
    )
    return operation


def delete_unless_gone(
    delete: Callable[[], Answer], operation: str, place: Place, *, not_yet: Collection[str]
) -> tuple[bool, Answer | None]:
    """Call `delete` for a resource that may be gone already.

    Args:
        delete: the call.
        operation: the name of the call.
        place: the place of the resource.
        not_yet: the codes that mean that the resource can't be deleted yet.

    Returns:
        False if the resource can't be deleted yet, and the answer, None without one.
    """
    with translate_errors(operation, place):
        try:
            return True, delete()
        except sdk.NotFound:
            return True, None
        except sdk.GoogleAPICallError as error:
            if answer_of(error).code in not_yet:
                return False, None
            raise
