"""Terminates TPU slices: deletes the queued resource with its nodes, or the node if it has no queued resource."""

import re
from typing import Any, Final

from multicompute.errors import CapacityError, MulticomputeError
from multicompute.provider import Selector, Teardown
from multicompute.provider_kit.vendor_errors import Place
from multicompute_gcp._names import last_segment, resource_name
from multicompute_gcp._session import CALL, Clients
from multicompute_gcp._terminate import Deletion, delete_unless_gone, summary_of
from multicompute_gcp.tpu._list import Found, find, resources_in

NO_QUEUE: Final = frozenset({"UNIMPLEMENTED", "HTTP501"})
"""The codes with which a zone without a queue answers."""
# Codes of a deletion that is not possible yet, because another operation on the resource runs.
_NOT_YET: Final = frozenset({"FAILED_PRECONDITION", "ABORTED"})


def terminate(clients: Clients, selector: Selector, place: Place) -> Teardown:
    """Take one step of the teardown of the selected slices, see `Provider.terminate`.

    The nodes of a queued resource are deleted with it, by force. A node whose queued resource is gone, or can't be deleted yet, is
    deleted by itself.
    """
    found = find(clients, selector, place)
    if found.queued or found.nodes:
        blocked_by = _delete(clients, found, place)
        remaining = tuple(resources_in(find(clients, selector, place)))
        waiting_for = f"{len(remaining)} TPU slices and requests to be deleted" if remaining else ""
        return Teardown(remaining, waiting_for, blocked_by)
    unlisted = _find_unlisted(clients, selector, place)
    blocked_by = _delete(clients, unlisted, place)
    count = len(unlisted.queued) + len(unlisted.nodes)
    waiting_for = f"{count} TPU slices that listings do not show yet" if count else ""
    return Teardown(tuple(resources_in(unlisted)), waiting_for, blocked_by)


def _delete(clients: Clients, found: Found, place: Place) -> str:
    """Delete what was found, and return what blocks a deletion."""
    deletions = {str(item["name"]): _delete_queued_resource(clients, item, place) for item in found.queued}
    blocked = [deletion.blocked_by for deletion in deletions.values()]
    accepted = {name for name, deletion in deletions.items() if deletion.is_accepted}
    for item in found.nodes:
        if str(item.get("queuedResource") or "") not in accepted:
            blocked.append(_delete_node(clients, item, place).blocked_by)
    return summary_of(blocked)


def _delete_queued_resource(clients: Clients, item: dict[str, Any], place: Place) -> Deletion:
    """Request the deletion of a queued resource and its nodes."""
    if (item.get("state") or {}).get("state") == "DELETING":
        return Deletion(is_accepted=True)
    request = {"name": str(item["name"]), "force": True}
    return delete_unless_gone(
        lambda: clients.tpu().delete_queued_resource(request=request, **CALL),
        f"queued resource {last_segment(item['name'])}",
        place,
        not_yet=_NOT_YET,
    )


def _delete_node(clients: Clients, item: dict[str, Any], place: Place) -> Deletion:
    if item.get("state") == "DELETING":
        return Deletion(is_accepted=True)
    request = {"name": str(item["name"])}
    return delete_unless_gone(
        lambda: clients.tpu().delete_node(request=request, **CALL),
        f"TPU node {last_segment(item['name'])}",
        place,
        not_yet=_NOT_YET,
    )


def _find_unlisted(clients: Clients, selector: Selector, place: Place) -> Found:
    """Return the slices that are known from a launch and in no listing, read by their names (I4)."""
    if selector.token is None or selector.region is None or selector.only:
        return Found()
    part = re.compile(f"{re.escape(resource_name(selector.token))}-[0-9]+")
    node_names = sorted({node_id.partition("/")[0] for node_id in selector.node_ids if "/" in node_id})
    parts = sorted({found[0] for name in node_names if (found := part.match(name))})
    zones = clients.zones(selector.region) if node_names else ()

    def read(kind: str, names: list[str]) -> tuple[dict[str, Any], ...]:
        found = (_get(clients, clients.tpu_name(zone, kind, name), kind, place) for zone in zones for name in names)
        return tuple(item for item in found if item is not None)

    # A part may have been created without a queue.
    return Found(nodes=read("nodes", node_names), queued=read("queuedResources", parts))


def _get(clients: Clients, name: str, kind: str, place: Place) -> dict[str, Any] | None:
    try:
        return clients.get(clients.tpu_url(name), f"{kind}.get", place)
    except MulticomputeError as error:
        # Where the project can't use TPUs in a zone at all, it has none there.
        if error.code in NO_QUEUE or (isinstance(error, CapacityError) and not error.is_offered):
            return None
        raise
