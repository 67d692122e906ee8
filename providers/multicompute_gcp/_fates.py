"""Reads from Compute Engine's operations what became of machines that no listing shows any more, or yet.

An instance that is gone leaves no trace of its own, but the operations that concerned it are kept for two weeks.
"""

from collections.abc import Sequence
from typing import Any, Final

from multicompute.node import Node, NodeState
from multicompute.provider import Selector
from multicompute_gcp._errors import SAYS_LITTLE, Place, Said, cause_of
from multicompute_gcp._labels import bulk_id, last_of, region_of
from multicompute_gcp._session import PAGE, Clients

PREEMPTED: Final = "compute.instances.preempted"
_DELETED: Final = ("delete", "compute.instances.delete", PREEMPTED)
_BULK: Final = ("bulkInsert", "compute.instances.bulkInsert")
# Newest first; what lies further back does not concern a machine that was just missed.
_MOST_PAGES: Final = 4
# Parts of one launch: an offer for each zone of a region at most.
_MOST_PARTS: Final = 16
# A launch is repeated at most so often.
_MOST_FAILURES: Final = 8


def operations(clients: Clients, place: Place, *, types: Sequence[str]) -> list[dict[str, Any]]:
    """The latest operations of these types in all zones."""
    wanted = " OR ".join(f'(operationType = "{kind}")' for kind in types)
    found: list[dict[str, Any]] = []
    pages = clients.pages(
        clients.compute_url("aggregated", "operations"),
        "globalOperations.aggregatedList",
        place,
        filter=wanted,
        orderBy="creationTimestamp desc",
        maxResults=PAGE,
    )
    for _, page in zip(range(_MOST_PAGES), pages, strict=False):
        for scope in page.get("items", {}).values():
            found += scope.get("operations", ())
    return found


def ended(clients: Clients, missing: Sequence[str], selector: Selector, place: Place) -> list[Node]:
    """The missing nodes that are gone for a reason: taken back, or never made by a launch that failed after it was accepted."""
    found: dict[str, Node] = {}
    for item in operations(clients, place, types=(PREEMPTED, *_BULK)):
        zone = last_of(item.get("zone", ""))
        if item.get("operationType") == PREEMPTED:
            said = Said(PREEMPTED, item.get("statusMessage") or "Instance was preempted.")
            names: Sequence[str] = [last_of(item.get("targetLink", ""))]
        elif _is_ours(item, selector) and (item.get("error") or {}).get("errors"):
            listed = item["error"]["errors"]
            first = next((error for error in listed if error.get("code") != SAYS_LITTLE), listed[0])
            said = Said(str(first.get("code", "")), str(first.get("message", "")))
            names = missing
        else:
            continue
        for name in names:
            found.setdefault(name, _gone(name, zone, said, selector.token or ""))
    return [found[name] for name in missing if name in found]


def unproven(clients: Clients, missing: Sequence[str], selector: Selector, place: Place) -> list[str]:
    """Of machines that no listing shows, those of which it is not certain that they are gone (I4).

    Gone is what a finished deletion tells of, and what is not there when it is asked for by its name, unless the call that makes it
    is still at work.
    """
    proven: set[str] = set()
    is_at_work = False
    for item in operations(clients, place, types=(*_DELETED, *_BULK)):
        if item.get("operationType") in _DELETED:
            if item.get("status") == "DONE" and not item.get("error"):
                proven.add(last_of(item.get("targetLink", "")))
        elif _is_ours(item, selector) and item.get("status") != "DONE":
            is_at_work = True
    rest = [name for name in missing if name not in proven]
    if is_at_work:
        return rest
    return [name for name in rest if find(clients, name, place) is not None]


def find(clients: Clients, name: str, place: Place) -> dict[str, Any] | None:
    """The machine of this name in whichever zone of the region; None where it is in none."""
    for zone in clients.zones(place.region):
        url = clients.compute_url("zones", zone, "instances", name)
        item = clients.get(url, "instances.get", place, fields="name,zone,status")
        if item is not None:
            return item
    return None


def _is_ours(item: dict[str, Any], selector: Selector) -> bool:
    """Whether a bulkInsert is that of the selected attempt."""
    made, zone = item.get("clientOperationId"), last_of(item.get("zone", ""))
    if selector.token is None or not made or item.get("operationType") not in _BULK:
        return False
    ids = (bulk_id(selector.token, part, zone, n) for n in range(_MOST_FAILURES) for part in range(_MOST_PARTS))
    return made in ids


def _gone(name: str, zone: str, said: Said, token: str) -> Node:
    return Node(
        id=name,
        rank=-1,
        provider="gcp",
        instance_type="",
        region=region_of(zone),
        zone=zone,
        state=NodeState.GONE,
        token=token,
        reason=f"{said.code}: {said.message}",
        cause=cause_of(said),
    )
