"""Deletes TPU slices: the queued resource with what it has made, or the node where there is no queue."""

import re
from collections.abc import Callable
from typing import Any, Final

import requests
from google.api_core import exceptions as sdk

from multicompute.errors import MulticomputeError
from multicompute.provider import Selector, Teardown
from multicompute_gcp._errors import Place, said_in, translate_errors
from multicompute_gcp._labels import name_of
from multicompute_gcp._session import CALL, Clients
from multicompute_gcp._tpu_discover import Found, find, resources

# Answers that mean "not yet": something else is being done to it.
_NOT_YET: Final = frozenset({"FAILED_PRECONDITION", "ABORTED"})
# A zone without a queue says so in one of these ways.
NO_QUEUE: Final = frozenset({"UNIMPLEMENTED", "501"})


def delete_slices(clients: Clients, selector: Selector, place: Place) -> Teardown:
    """One step of the teardown of the selected slices: ask for every deletion, and list what is still there.

    A node of a queued resource goes with it, by force; one whose queued resource is gone, or refuses, is deleted by itself.
    """
    found = find(clients, selector, place)
    if not found.queued and not found.nodes:
        unlisted = _hidden(clients, selector, place)
        found = Found(
            tuple(item for item in unlisted if "/queuedResources/" in item["name"]),
            tuple(item for item in unlisted if "/nodes/" in item["name"]),
        )
        if not unlisted:
            return Teardown()
        _delete(clients, found, place)
        return Teardown(tuple(resources(found)), f"{len(unlisted)} TPU slices that listings do not show yet")
    _delete(clients, found, place)
    remaining = tuple(resources(find(clients, selector, place)))
    return Teardown(remaining, f"{len(remaining)} TPU slices and requests to be deleted" if remaining else "")


def _delete(clients: Clients, found: Found, place: Place) -> None:
    refused = _delete_queued(clients, found, place)
    queued = {str(item["name"]) for item in found.queued}
    for item in found.nodes:
        owner = str(item.get("queuedResource") or "")
        if item.get("state") == "DELETING" or (owner in queued and owner not in refused):
            continue
        _unless_gone(_deleting_node(clients, item), "nodes.delete", place)


def _hidden(clients: Clients, selector: Selector, place: Place) -> list[dict[str, Any]]:
    """Slices that are known from a launch and in no listing, asked for by their names (I4)."""
    if selector.token is None or selector.region is None:
        return []
    part = re.compile(f"{re.escape(name_of(selector.token))}-[0-9]+")
    hosts = [node_id.partition("/")[0] for node_id in selector.node_ids if "/" in node_id]
    parts = sorted({found[0] for name in hosts if (found := part.match(name))})
    # Where there is no queue, which a zone tells only when it is asked, a part is no thing of its own.
    names = {"nodes": sorted(set(hosts)), "queuedResources": parts}
    shown: list[dict[str, Any]] = []
    for kind, wanted in names.items():
        for zone in clients.zones(selector.region) if wanted else ():
            shown += [item for name in wanted if (item := _shown(clients, zone, kind, name, place)) is not None]
    return shown


def _shown(clients: Clients, zone: str, kind: str, name: str, place: Place) -> dict[str, Any] | None:
    try:
        return clients.get(clients.tpu_url(zone, kind, name), f"{kind}.get", place)
    except MulticomputeError as error:
        if error.code in NO_QUEUE:
            return None
        raise


def _delete_queued(clients: Clients, found: Found, place: Place) -> set[str]:
    """Ask for the deletion of the queued resources; returns those that can't be deleted yet."""
    refused: set[str] = set()
    for item in found.queued:
        if (item.get("state") or {}).get("state") == "DELETING":
            continue
        name = str(item["name"])
        if not _unless_gone(_deleting_queued(clients, name), "queuedResources.delete", place):
            refused.add(name)
    return refused


def _deleting_queued(clients: Clients, name: str) -> Callable[[], Any]:
    return lambda: clients.tpu().delete_queued_resource(request={"name": name, "force": True}, **CALL)


def _deleting_node(clients: Clients, item: dict[str, Any]) -> Callable[[], Any]:
    return lambda: clients.tpu().delete_node(request={"name": str(item["name"])}, **CALL)


def _unless_gone(delete: Callable[[], Any], operation: str, place: Place) -> bool:
    """Delete one thing; what is gone counts as deleted. False where it can't be done yet."""
    with translate_errors(operation, place):
        try:
            delete()
        except sdk.NotFound:
            return True
        except sdk.GoogleAPICallError as error:
            response = error.response if isinstance(error.response, requests.Response) else None
            if said_in(response).code in _NOT_YET:
                return False
            raise
    return True
