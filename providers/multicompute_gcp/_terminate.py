"""Terminates what is selected: instances and disks first, then what they used; lists again after the last deletion."""

import re
from collections.abc import Callable, Collection, Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from google.api_core import exceptions as sdk

from multicompute.errors import AccessDeniedError
from multicompute.provider import Resource, Selector, Teardown
from multicompute.provider_kit.calls import in_parallel
from multicompute.provider_kit.vendor_errors import Place
from multicompute_gcp import _groups
from multicompute_gcp._errors import answer_of, is_disabled, translate_errors
from multicompute_gcp._gang import AT_ONCE
from multicompute_gcp._list import dependents, disk_resource, disks, instance_resource, instances, zone_of
from multicompute_gcp._names import last_segment, token_of
from multicompute_gcp._operations import find_instance, not_proven_gone
from multicompute_gcp._session import CALL, Clients

if TYPE_CHECKING:
    from google.cloud.compute_v1 import Operation

# Of an instance or a disk that is being deleted.
_ENDING: Final = ("STOPPING", "DEPROVISIONING", "DELETING")
# Codes of a deletion that is not possible yet; the engine repeats the teardown.
_NOT_YET: Final = frozenset(
    {"resourceInUseByAnotherResource", "RESOURCE_IN_USE_BY_ANOTHER_RESOURCE", "resourceNotReady", "RESOURCE_NOT_READY"}
)


# https://github.com/hashicorp/terraform-provider-google/pull/1211: the answer for an instance with deletion protection.
_PROTECTED: Final = "invalidResourceUsage"
# "The disk resource 'projects/...' is already being used by 'projects/.../instances/NAME'".
_USER: Final = re.compile(r"used by '[^']*/instances/([^'/]+)'")
# An event names so many resources that can't be deleted.
_NAMED: Final = 3


class _Found(NamedTuple):
    """An instance or a disk, as a resource and as Google describes it."""

    resource: Resource
    item: dict[str, Any]


class Deletion(NamedTuple):
    """The answer to a request to delete something.

    Attributes:
        is_accepted: Whether it is being deleted, or is gone.
        answer: What Google answered; None without an answer.
        blocked_by: What refuses the deletion and does not pass by itself, and what to do; "" for nothing.
    """

    is_accepted: bool
    answer: Any = None
    blocked_by: str = ""


def terminate(clients: Clients, selector: Selector, place: Place) -> Teardown:
    """Take one step of the teardown of the selected instances, disks and groups, see `Provider.terminate`.

    Groups come first: one that exists could make instances after the last of them was deleted.
    """
    groups = _groups.delete(clients, selector, place)
    existing, _, blocked_by = delete_instances(clients, selector, place)
    if existing or groups:
        # Most deletions take a minute; where they are quicker, this listing saves the engine a step.
        left = tuple(found.resource for found in _existing(clients, selector, place))
        if left or groups:
            what = [f"{len(left)} instances and disks"] if left else []
            what += [f"{len(groups)} instance groups, requests and templates"] if groups else []
            return Teardown((*left, *groups), f"{' and '.join(what)} to be deleted", blocked_by)
    hidden = _delete_unlisted(clients, selector, place)
    return Teardown(hidden, f"{len(hidden)} instances that listings do not show yet" if hidden else "")


def delete_instances(
    clients: Clients, selector: Selector, place: Place, *, zones: Collection[str] = ()
) -> "tuple[list[Resource], list[Operation], str]":
    """Delete the selected instances, and the selected disks that are not attached; `zones` are the only zones to delete in, if any.

    Returns:
        What existed before, the operations that delete it, and what blocks a deletion.
    """
    existing = _existing(clients, selector, place, zones)
    can_go = [found for found in existing if not found.item.get("users") and found.item.get("status") not in _ENDING]
    deletions = in_parallel(lambda found: _delete_zonal(clients, found, place, selector), can_go, at_once=AT_ONCE)
    blocked = [*(deletion.blocked_by for deletion in deletions), *_attached_elsewhere(existing)]
    operations = [deletion.answer for deletion in deletions if deletion.answer is not None]
    return [found.resource for found in existing], operations, summary_of(blocked)


def _attached_elsewhere(existing: Sequence[_Found]) -> list[str]:
    """Return what blocks the deletion of disks that are attached to instances that are not selected."""
    ours = {found.resource.id for found in existing if found.resource.kind == "instance"}
    return [
        f"disk {found.resource.id} is used by {user}, which is not part of the cluster; detach it: "
        f"`gcloud compute instances detach-disk {user} --disk {found.resource.id} --zone {zone_of(found.item)}`"
        for found in existing
        for user in map(last_segment, found.item.get("users") or ())
        if user not in ours
    ]


def summary_of(blocked: Sequence[str]) -> str:
    """Return what blocks the deletion of several resources in one text."""
    reasons = list(dict.fromkeys(filter(None, blocked)))
    more = f"; and {len(reasons) - _NAMED} more" if len(reasons) > _NAMED else ""
    return "; ".join(reasons[:_NAMED]) + more


def _existing(clients: Clients, selector: Selector, place: Place, zones: Collection[str] = ()) -> list[_Found]:
    found = [_Found(instance_resource(item), item) for item in instances(clients, selector, place)]
    found += [_Found(disk_resource(item), item) for item in disks(clients, selector, place)]
    return [one for one in found if not zones or zone_of(one.item) in zones]


def _delete_unlisted(clients: Clients, selector: Selector, place: Place) -> tuple[Resource, ...]:
    """Delete by name the instances that are known from a launch and in no listing, and return those that may exist (I4)."""
    names = [node_id for node_id in selector.node_ids if "/" not in node_id]
    if not names or selector.region is None or selector.only:
        return ()
    remaining = not_proven_gone(clients, names, selector, place)
    shown = [item for name in remaining if (item := find_instance(clients, name, place)) is not None]
    can_go = [_Found(instance_resource(item), item) for item in shown if item.get("status") not in _ENDING]
    in_parallel(lambda found: _delete_zonal(clients, found, place, selector), can_go, at_once=AT_ONCE)
    return tuple(Resource("gcp", "instance", name, selector.region, billable=True) for name in remaining)


def delete_dependents(clients: Clients, selector: Selector, place: Place) -> Teardown:
    """Delete what no instance uses any more; it belongs to the cluster and stays if the selector names an attempt."""
    items = dependents(clients, selector, place)
    blocked = []
    for item in items:
        where = {"region": item.region} if item.kind == "resource-policy" else {}
        blocked.append(_delete(clients, item, where, place, selector).blocked_by)
    remaining = tuple(dependents(clients, selector, place)) if items else ()
    return Teardown(remaining, f"{len(remaining)} deletes" if remaining else "", summary_of(blocked))


def _delete_zonal(clients: Clients, found: _Found, place: Place, selector: Selector) -> Deletion:
    is_flex = (found.item.get("scheduling") or {}).get("provisioningModel") == "FLEX_START"
    if (
        selector.only
        and is_flex
        and (operation := _groups.delete_member(clients, found.resource.id, zone_of(found.item), place))
    ):
        return Deletion(is_accepted=True, answer=operation)
    return _delete(clients, found.resource, {"zone": zone_of(found.item)}, place, selector)


def _delete(clients: Clients, item: Resource, where: dict[str, str], place: Place, selector: Selector) -> Deletion:
    """Request the deletion of a resource."""
    services: dict[str, Callable[[], Any]] = {
        "instance": clients.instances,
        "disk": clients.disks,
        "firewall": clients.firewalls,
        "resource-policy": clients.policies,
    }
    call = {"project": clients.project, item.kind.replace("-", "_"): item.id, **where}
    service = services[item.kind]()
    what = f"{item.kind} {item.id}"
    unprotect = f"`gcloud compute instances update {item.id} --zone {where.get('zone')} --no-deletion-protection`"
    return delete_unless_gone(
        lambda: service.delete_unary(request=call, **CALL),
        what,
        place,
        not_yet=_NOT_YET,
        in_use=lambda message: _used_by_others(what, message, selector),
        unprotect=unprotect if item.kind == "instance" else "",
    )


def delete_unless_gone(
    delete: Callable[[], Any],
    what: str,
    place: Place,
    *,
    not_yet: Collection[str],
    in_use: Callable[[str], str] = lambda _: "",
    unprotect: str = "",
) -> Deletion:
    """Call `delete` for a resource that may be gone already.

    Args:
        delete: The call.
        what: The kind and name of the resource.
        place: The place of the resource.
        not_yet: The codes that mean that the resource can't be deleted yet.
        in_use: Returns what blocks the deletion by the message of such an answer; "" where it passes by itself.
        unprotect: The command that removes the deletion protection of the resource; "" if it can't have one.
    """
    try:
        with translate_errors(f"delete {what}", place):
            try:
                return Deletion(is_accepted=True, answer=delete())
            except sdk.NotFound:
                return Deletion(is_accepted=True)
            except sdk.GoogleAPICallError as error:
                answer = answer_of(error)
                if unprotect and (answer.code == _PROTECTED or "protected against deletion" in answer.message):
                    text = f"{what} is protected from deletion; remove the protection: {unprotect}"
                    return Deletion(is_accepted=False, blocked_by=text)
                if answer.code in not_yet:
                    return Deletion(is_accepted=False, blocked_by=in_use(answer.message))
                raise
    except AccessDeniedError as error:
        if is_disabled(error):
            raise
        # A policy that denies it (https://cloud.google.com/iam/docs/deny-overview) must not keep the rest of the cluster running.
        text = f"{what}: Google denies the deletion: {error.vendor_message or error.message}; allow it to this identity"
        return Deletion(is_accepted=False, blocked_by=text)


def _used_by_others(what: str, message: str, selector: Selector) -> str:
    """Return what blocks a deletion if Google names an instance of others that uses the resource; our own are deleted as well."""
    found = _USER.search(message)
    if found is None or not selector.tokens:
        return ""
    user = found[1]
    if token_of(user, selector.tokens) or user in (*selector.known_ids, *selector.node_ids):
        return ""
    return f"{what} is used by the instance {user}, which is not part of the cluster; remove it from {user}"
