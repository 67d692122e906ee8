"""Waits for Compute Engine's operations, and reads from past ones what happened to instances that no listing shows.

An instance that is gone leaves no record, but the operations on it are kept for two weeks.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import requests
from google.api_core import exceptions as sdk

from multicompute.clock import Clock
from multicompute.node import Node, NodeState
from multicompute.provider import Selector
from multicompute.provider_kit.vendor_errors import Place, VendorAnswer, retryable
from multicompute_gcp._errors import answer_of_operation, cause_of, main_error, refusal, translate_errors
from multicompute_gcp._names import bulk_insert_id, last_segment, region_of
from multicompute_gcp._session import PAGE, Clients

if TYPE_CHECKING:
    from google.cloud.compute_v1 import Operation

PREEMPTED: Final = "compute.instances.preempted"
# How long a small change may take: labels, metadata and placement policies are written within seconds.
CHANGED_WITHIN: Final = timedelta(seconds=45)
# The API holds a wait call open for up to two minutes; with shorter calls the deadline can be checked.
_ONE_WAIT: Final = 20.0
# A proxy may refuse to wait at once and every time, so the calls must not follow each other without a pause.
_PAUSE: Final = timedelta(seconds=5)
_SLOW: Final = (sdk.DeadlineExceeded, sdk.GatewayTimeout, requests.Timeout)
_DELETIONS: Final = ("delete", "compute.instances.delete", PREEMPTED)
_INSERT: Final = "insert"
_BULK_INSERTS: Final = ("bulkInsert", "compute.instances.bulkInsert")
# The listing starts with the newest; an instance that was just missed is not far back.
_MAX_PAGES: Final = 4
# The parts of one launch: at most one for each zone of a region.
_MAX_PARTS: Final = 16
# A launch is repeated at most so often.
_MAX_FAILURES: Final = 8


class Outcome(NamedTuple):
    """The outcome of an operation: whether it has finished, and the error with which it has failed."""

    is_done: bool
    error: VendorAnswer | None = None

    def check(self, operation: str, place: Place) -> None:
        """Raise an error unless the operation has succeeded; `operation` is the name of the call that started it.

        Raises:
            MulticomputeError: It failed.
            TransientError: It has not finished.
        """
        if self.error is not None:
            raise refusal(self.error, operation, place)
        if not self.is_done:
            raise retryable(f"{operation} has not finished yet", code="NotReady", place=place)


def wait(
    clients: Clients, operation: "Operation", place: Place, *, clock: Clock, at_most: timedelta = CHANGED_WITHIN
) -> Outcome:
    """Wait until the operation has finished, but not longer than `at_most`."""
    end = clock.now() + at_most
    while not _is_done(operation):
        left = (end - clock.now()).total_seconds()
        if left <= 0:
            return Outcome(is_done=False)
        with translate_errors("operations.wait", place):
            try:
                operation = _wait_once(clients, operation, min(left, _ONE_WAIT))
            except _SLOW:
                clock.sleep(min(_PAUSE, max(end - clock.now(), timedelta(0))))
    return Outcome(is_done=True, error=answer_of_operation(operation))


def _is_done(operation: "Operation") -> bool:
    # Imported here, because a process that only lists must not load the package.
    from google.cloud.compute_v1 import Operation

    return operation.status is not None and int(operation.status) == int(Operation.Status.DONE)


def _wait_once(clients: Clients, operation: "Operation", seconds: float) -> "Operation":
    where, scope = {"project": clients.project, "operation": operation.name}, "Global"
    if operation.zone:
        where, scope = {**where, "zone": last_segment(operation.zone)}, "Zone"
    elif operation.region:
        where, scope = {**where, "region": last_segment(operation.region)}, "Region"
    waited: Operation = clients.operations(scope).wait(request=where, retry=None, timeout=max(seconds, 0.05))
    return waited


def list_operations(clients: Clients, place: Place, *, types: Sequence[str]) -> list[dict[str, Any]]:
    """Return the latest operations of these types in all zones."""
    pages = clients.pages(
        clients.compute_url("aggregated", "operations"),
        "globalOperations.aggregatedList",
        place,
        filter=" OR ".join(f'(operationType = "{kind}")' for kind in types),
        orderBy="creationTimestamp desc",
        maxResults=PAGE,
    )
    return [
        item
        for _, page in zip(range(_MAX_PAGES), pages, strict=False)
        for scope in page.get("items", {}).values()
        for item in scope.get("operations", ())
    ]


def ended_nodes(clients: Clients, missing: Sequence[str], selector: Selector, place: Place) -> list[Node]:
    """Return those of the missing nodes that are known to be gone: preempted, or of a launch that failed after it was accepted."""
    found: dict[str, Node] = {}
    for item in list_operations(clients, place, types=(PREEMPTED, *_BULK_INSERTS)):
        errors = (item.get("error") or {}).get("errors")
        if item.get("operationType") == PREEMPTED:
            answer = VendorAnswer(PREEMPTED, item.get("statusMessage") or "Instance was preempted.")
            names: Sequence[str] = [last_segment(item.get("targetLink", ""))]
        elif errors and _is_selected(item, selector):
            answer = VendorAnswer(*main_error([(str(e.get("code", "")), str(e.get("message", ""))) for e in errors]))
            names = missing
        else:
            continue
        for name in names:
            found.setdefault(name, _gone(name, last_segment(item.get("zone", "")), answer, selector.token or ""))
    rest = [name for name in missing if name not in found]
    return [found[name] for name in missing if name in found] + _refused_inserts(clients, rest, selector, place)


def _refused_inserts(clients: Clients, missing: Sequence[str], selector: Selector, place: Place) -> list[Node]:
    """Return those of the missing nodes that waited for capacity alone, until their request was not valid any more."""
    found: dict[str, Node] = {}
    for item in list_operations(clients, place, types=(_INSERT,)) if missing else ():
        name, errors = last_segment(item.get("targetLink", "")), (item.get("error") or {}).get("errors")
        if name in missing and errors and "/instances/" in str(item.get("targetLink")):
            answer = VendorAnswer(*main_error([(str(e.get("code", "")), str(e.get("message", ""))) for e in errors]))
            # An instance of this name exists or existed: a repeated launch, which says nothing about the first.
            if answer.code != "RESOURCE_ALREADY_EXISTS":
                zone = last_segment(item.get("zone", ""))
                found.setdefault(name, _gone(name, zone, answer, selector.token or ""))
    return list(found.values())


def preemptions(clients: Clients, place: Place) -> dict[tuple[str, str], datetime]:
    """Return when Google has preempted instances, the latest time by zone and name."""
    found: dict[tuple[str, str], datetime] = {}
    for item in list_operations(clients, place, types=(PREEMPTED,)):
        key = (last_segment(item.get("zone", "")), last_segment(item.get("targetLink", "")))
        at = datetime.fromisoformat(str(item["insertTime"]))
        found[key] = max(at, found.get(key, at))
    return found


def not_proven_gone(clients: Clients, missing: Sequence[str], selector: Selector, place: Place) -> list[str]:
    """Return those of the instances that no listing shows that may still exist (I4).

    An instance is gone if a finished deletion names it, or if it is not found by its name and the call that creates it has finished.
    """
    deleted: set[str] = set()
    is_creating = False
    for item in list_operations(clients, place, types=(*_DELETIONS, *_BULK_INSERTS)):
        is_done = item.get("status") == "DONE"
        if item.get("operationType") not in _DELETIONS:
            is_creating |= not is_done and _is_selected(item, selector)
        elif is_done and not item.get("error"):
            deleted.add(last_segment(item.get("targetLink", "")))
    rest = [name for name in missing if name not in deleted]
    if is_creating:
        return rest
    waiting = {
        last_segment(item.get("targetLink", ""))
        for item in (list_operations(clients, place, types=(_INSERT,)) if rest else ())
        if item.get("status") != "DONE"
    }
    return [name for name in rest if name in waiting or find_instance(clients, name, place) is not None]


def find_instance(clients: Clients, name: str, place: Place) -> dict[str, Any] | None:
    """Return the instance of this name in any zone of the region, None if it is in no zone."""
    for zone in clients.zones(place.region):
        url = clients.compute_url("zones", zone, "instances", name)
        item = clients.get(url, "instances.get", place, fields="name,zone,status")
        if item is not None:
            return item
    return None


def _is_selected(item: dict[str, Any], selector: Selector) -> bool:
    """Return whether an operation is a bulkInsert of the selected attempt."""
    used, zone = item.get("clientOperationId"), last_segment(item.get("zone", ""))
    if selector.token is None or not used or item.get("operationType") not in _BULK_INSERTS:
        return False
    ids = (
        bulk_insert_id(selector.token, part, zone, failures)
        for failures in range(_MAX_FAILURES)
        for part in range(_MAX_PARTS)
    )
    return used in ids


def _gone(name: str, zone: str, answer: VendorAnswer, token: str) -> Node:
    return Node(
        id=name,
        rank=-1,
        provider="gcp",
        instance_type="",
        region=region_of(zone),
        zone=zone,
        state=NodeState.GONE,
        token=token,
        reason=f"{answer.code}: {answer.message}",
        cause=cause_of(answer),
    )
