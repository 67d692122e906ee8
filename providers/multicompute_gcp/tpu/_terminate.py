"""Terminates TPU slices: deletes the queued resource with its nodes, or the node if it has no queued resource."""

import re
from typing import Any, Final

from multicompute.errors import MulticomputeError
from multicompute.provider import Selector, Teardown
from multicompute.provider_kit.vendor_errors import Place
from multicompute_gcp._names import resource_name
from multicompute_gcp._session import CALL, Clients
from multicompute_gcp._terminate import delete_unless_gone
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
        _delete(clients, found, place)
        remaining = tuple(resources_in(find(clients, selector, place)))
        return Teardown(remaining, f"{len(remaining)} TPU slices and requests to be deleted" if remaining else "")
    unlisted = _find_unlisted(clients, selector, place)
    _delete(clients, unlisted, place)
    count = len(unlisted.queued) + len(unlisted.nodes)
    waiting_for = f"{count} TPU slices that listings do not show yet" if count else ""
    return Teardown(tuple(resources_in(unlisted)), waiting_for)


def _delete(clients: Clients, found: Found, place: Place) -> None:
    deleted = {str(item["name"]) for item in found.queued if _delete_queued_resource(clients, item, place)}
    for item in found.nodes:
        if str(item.get("queuedResource") or "") not in deleted:
            _delete_node(clients, item, place)


def _delete_queued_resource(clients: Clients, item: dict[str, Any], place: Place) -> bool:
    """Request the deletion of a queued resource and its nodes; return False if it can't be deleted yet."""
    if (item.get("state") or {}).get("state") == "DELETING":
        return True
    request = {"name": str(item["name"]), "force": True}
    is_accepted, _ = delete_unless_gone(
        lambda: clients.tpu().delete_queued_resource(request=request, **CALL),
        "queuedResources.delete",
        place,
        not_yet=_NOT_YET,
    )
    return is_accepted


def _delete_node(clients: Clients, item: dict[str, Any], place: Place) -> None:
    if item.get("state") == "DELETING":
        return
    request = {"name": str(item["name"])}
    delete_unless_gone(
        lambda: clients.tpu().delete_node(request=request, **CALL), "nodes.delete", place, not_yet=_NOT_YET
    )


def _find_unlisted(clients: Clients, selector: Selector, place: Place) -> Found:
    """Return the slices that are known from a launch and in no listing, read by their names (I4)."""
    if selector.token is None or selector.region is None:
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
        if error.code in NO_QUEUE:
            return None
        raise
